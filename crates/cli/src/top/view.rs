//! A picture of how connections go, made of what the agent counts.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use agent::{Status, local::PortEndpoints, status::MapUse};
use observe::{Usage, usage::Count};
use serde::Serialize;

use crate::target::{Target, is_failure, who};

/// What was asked for, to be made a picture of.
#[derive(Clone, Debug)]
pub(crate) struct Answers {
    pub(crate) usage: Usage,
    pub(crate) status: Status,
    /// Endpoints of all services, or of those that matter now.
    pub(crate) endpoints: Vec<PortEndpoints>,
    /// What policies did not take, as the programs count it.
    pub(crate) policies: Vec<Stepped>,
}

/// How often a policy stood back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stepped {
    pub(crate) policy: Target,
    pub(crate) fallbacks: u64,
    pub(crate) spills: u64,
    pub(crate) own: u64,
}

/// The picture.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct View {
    /// Name of the node.
    pub(crate) node: String,
    /// When the counts were read.
    pub(crate) time: Option<String>,
    /// Decisions a second.
    pub(crate) per_second: f64,
    /// Failed ones.
    pub(crate) failed_per_second: f64,
    /// Decisions that were counted for no client or backend.
    pub(crate) unattributed: u64,
    /// What is wrong with the agent.
    pub(crate) problems: Vec<String>,
    /// `balancing pause` is in force.
    pub(crate) paused: bool,
    /// Service ports and policies, the busiest first.
    pub(crate) services: Vec<Busy>,
    /// Connections that failed, by what for, why and who; the most frequent first.
    pub(crate) failures: Vec<Failure>,
    /// Who uses what, the busiest first.
    pub(crate) clients: Vec<ClientRow>,
    /// Policies.
    pub(crate) policies: Vec<PolicyRow>,
    /// Maps, the fullest first.
    pub(crate) maps: Vec<MapRow>,
}

/// A service port or policy that is used.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Busy {
    pub(crate) target: Target,
    #[serde(flatten)]
    pub(crate) figures: Figures,
    #[serde(flatten)]
    pub(crate) failed: Failed,
    /// How many clients it has had in the last minute.
    pub(crate) clients: usize,
    /// Its backends, the most used first. Where endpoints are known, also those that get nothing.
    pub(crate) backends: Vec<Share>,
    /// Why connections failed, the most frequent reason first.
    pub(crate) failures: Vec<Why>,
}

/// How often something happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Figures {
    pub(crate) per_second: f64,
    pub(crate) minute: u64,
    pub(crate) total: u64,
}

/// Connections that failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Failed {
    /// Of the last minute.
    #[serde(rename = "failedMinute")]
    pub(crate) minute: u64,
    /// Of all that is counted.
    #[serde(rename = "failedTotal")]
    pub(crate) total: u64,
}

/// What a backend gets.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Share {
    pub(crate) address: SocketAddr,
    /// Of the service's connections of the last minute, in percent; null if there were none.
    pub(crate) percent: Option<f64>,
    #[serde(flatten)]
    pub(crate) figures: Figures,
    /// Is it chosen for traffic of this node? Null where the agent was not asked, or knows of no such endpoint.
    pub(crate) selected: Option<bool>,
    /// Why, or why not.
    pub(crate) standing: Option<String>,
    /// `namespace/name`.
    pub(crate) pod: Option<String>,
    pub(crate) node: Option<String>,
}

/// A reason, and how often it was one.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Why {
    pub(crate) verdict: String,
    pub(crate) reason: String,
    #[serde(flatten)]
    pub(crate) figures: Figures,
    /// Whom it met most.
    pub(crate) client: String,
}

/// Connections that failed.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Failure {
    pub(crate) target: Target,
    pub(crate) client: String,
    pub(crate) verdict: String,
    pub(crate) reason: String,
    #[serde(flatten)]
    pub(crate) figures: Figures,
}

/// A client of something.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ClientRow {
    pub(crate) client: String,
    pub(crate) target: Target,
    #[serde(flatten)]
    pub(crate) figures: Figures,
    #[serde(flatten)]
    pub(crate) failed: Failed,
}

/// A policy.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PolicyRow {
    pub(crate) policy: Target,
    /// What it took.
    #[serde(flatten)]
    pub(crate) figures: Figures,
    /// It had no backend.
    pub(crate) fallbacks: u64,
    /// It had reached its limit.
    pub(crate) spills: u64,
    /// The client was one of its own backends.
    pub(crate) own: u64,
}

/// A map.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MapRow {
    #[serde(flatten)]
    pub(crate) map: MapUse,
    pub(crate) percent: u64,
}

impl MapRow {
    /// R30: it is filling up.
    pub(crate) fn is_filling(&self) -> bool {
        self.percent >= MapUse::WARN_PERCENT
    }
}

/// Counts that are added up.
#[derive(Clone, Copy, Default)]
struct Sum {
    count: Count,
    failed: Failed,
}

impl Sum {
    fn add(&mut self, count: Count) {
        let Count { total, recent, minute } = &mut self.count;
        *total = total.saturating_add(count.total);
        *recent = recent.saturating_add(count.recent);
        *minute = minute.saturating_add(count.minute);
    }

    fn add_of(&mut self, verdict: &str, count: Count) {
        self.add(count);
        if is_failure(verdict) {
            let Failed { minute, total } = self.failed;
            self.failed = Failed {
                minute: minute.saturating_add(count.minute),
                total: total.saturating_add(count.total),
            };
        }
    }
}

fn rate(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
}

fn figures(count: Count, seconds: f64) -> Figures {
    Figures { per_second: rate(count.recent, seconds), minute: count.minute, total: count.total }
}

/// The busiest first: now, in the last minute, ever.
fn busiest<T, N: Ord>(rows: &mut [T], of: impl Fn(&T) -> Figures, name: impl Fn(&T) -> N) {
    rows.sort_by(|a, b| {
        let (x, y) = (of(a), of(b));
        let busier = y.per_second.total_cmp(&x.per_second);
        let busier = busier.then(y.minute.cmp(&x.minute)).then(y.total.cmp(&x.total));
        busier.then_with(|| name(a).cmp(&name(b)))
    });
}

impl View {
    /// Of what the agent answered.
    pub(crate) fn new(answers: &Answers) -> Self {
        let Answers { usage, status, endpoints, policies } = answers;
        let seconds = usage.seconds;
        let (mut all, mut failed) = (Sum::default(), Sum::default());
        for it in &usage.clients {
            all.add(it.count);
            if is_failure(&it.verdict) {
                failed.add(it.count);
            }
        }
        let mut maps: Vec<MapRow> =
            status.maps.iter().map(|map| MapRow { map: map.clone(), percent: map.percent() }).collect();
        maps.sort_by(|a, b| b.percent.cmp(&a.percent).then_with(|| a.map.name.cmp(&b.map.name)));
        let services = services(usage, endpoints);
        Self {
            node: status.node.clone(),
            time: usage.time.map(|time| time.to_string()),
            per_second: rate(all.count.recent, seconds),
            failed_per_second: rate(failed.count.recent, seconds),
            unattributed: usage.unattributed,
            problems: status.problems.clone(),
            paused: status.paused,
            failures: failures(usage),
            clients: clients(usage),
            policies: policy_rows(&services, policies),
            services,
            maps,
        }
    }
}

fn services(usage: &Usage, endpoints: &[PortEndpoints]) -> Vec<Busy> {
    let seconds = usage.seconds;
    let mut sums: BTreeMap<Target, Sum> = BTreeMap::new();
    let mut clients: BTreeMap<Target, BTreeSet<String>> = BTreeMap::new();
    for it in &usage.clients {
        let target = Target::from(it);
        if it.count.minute > 0 {
            clients.entry(target.clone()).or_default().insert(who(&it.client));
        }
        sums.entry(target).or_default().add_of(&it.verdict, it.count);
    }
    // A backend that is counted has been used, whatever is left of its clients.
    for it in &usage.backends {
        sums.entry(Target::from(it)).or_default();
    }
    let mut backends = shares(usage, endpoints, &sums.keys().collect());
    let mut failures = whys(usage);
    let mut rows: Vec<Busy> = sums
        .into_iter()
        .map(|(target, sum)| Busy {
            figures: figures(sum.count, seconds),
            failed: sum.failed,
            clients: clients.get(&target).map_or(0, BTreeSet::len),
            backends: backends.remove(&target).unwrap_or_default(),
            failures: failures.remove(&target).unwrap_or_default(),
            target,
        })
        .collect();
    busiest(&mut rows, |row| row.figures, |row| row.target.clone());
    rows
}

/// Backends of what is used, with those that the agent knows and that get nothing.
fn shares(
    usage: &Usage,
    endpoints: &[PortEndpoints],
    used: &BTreeSet<&Target>,
) -> BTreeMap<Target, Vec<Share>> {
    let mut found: BTreeMap<Target, BTreeMap<SocketAddr, Share>> = BTreeMap::new();
    for it in &usage.backends {
        let address = SocketAddr::new(it.ip, it.port);
        let pod = it.namespace.as_ref().zip(it.pod.as_ref());
        let share = Share {
            address,
            percent: None,
            figures: figures(it.count, usage.seconds),
            selected: None,
            standing: None,
            pod: pod.map(|(namespace, pod)| format!("{namespace}/{pod}")),
            node: it.node.clone(),
        };
        found.entry(Target::from(it)).or_default().insert(address, share);
    }
    for port in endpoints {
        let PortEndpoints { namespace, service: name, port: number, endpoints, .. } = port;
        let target = if namespace.is_empty() {
            // A policy, whose ports are not told apart.
            used.iter().find(|it| it.to_string() == *name).map(|it| (*it).clone())
        } else {
            let port = number.clone();
            Some(Target::Service { namespace: namespace.clone(), name: name.clone(), port })
        };
        let Some(target) = target.filter(|it| used.contains(it)) else { continue };
        let shares = found.entry(target).or_default();
        for it in endpoints {
            let share = shares.entry(it.address).or_insert_with(|| Share {
                address: it.address,
                percent: None,
                figures: Figures::default(),
                selected: None,
                standing: None,
                pod: None,
                node: None,
            });
            share.selected = Some(it.selected);
            share.standing = Some(it.standing.clone());
            share.pod = it.pod.clone().or(share.pod.take());
            share.node = it.node.clone().or(share.node.take());
        }
    }
    let all = found.into_iter().map(|(target, shares)| {
        let mut shares: Vec<Share> = shares.into_values().collect();
        let sum: u64 = shares.iter().map(|share| share.figures.minute).sum();
        for share in &mut shares {
            share.percent = (sum > 0).then(|| share.figures.minute as f64 * 100.0 / sum as f64);
        }
        shares.sort_by(|a, b| {
            let more = b.figures.minute.cmp(&a.figures.minute).then(b.figures.total.cmp(&a.figures.total));
            more.then(a.address.cmp(&b.address))
        });
        (target, shares)
    });
    all.collect()
}

/// Why connections failed, by what they were for.
fn whys(usage: &Usage) -> BTreeMap<Target, Vec<Why>> {
    // What became of it, why; then by client.
    type Reasons = BTreeMap<(String, String), (Sum, BTreeMap<String, u64>)>;
    let mut found: BTreeMap<Target, Reasons> = BTreeMap::new();
    for it in usage.clients.iter().filter(|it| is_failure(&it.verdict)) {
        let reasons = found.entry(Target::from(it)).or_default();
        let (sum, clients) = reasons.entry((it.verdict.clone(), it.reason.clone())).or_default();
        sum.add(it.count);
        *clients.entry(who(&it.client)).or_default() += it.count.total;
    }
    let all = found.into_iter().map(|(target, reasons)| {
        let why = |((verdict, reason), (sum, clients)): (_, (Sum, BTreeMap<String, u64>))| Why {
            verdict,
            reason,
            figures: figures(sum.count, usage.seconds),
            client: clients.into_iter().max_by_key(|(_, count)| *count).map_or("?".into(), |(who, _)| who),
        };
        let mut whys: Vec<Why> = reasons.into_iter().map(why).collect();
        busiest(&mut whys, |why| why.figures, |why| why.reason.clone());
        (target, whys)
    });
    all.collect()
}

fn failures(usage: &Usage) -> Vec<Failure> {
    let mut sums: BTreeMap<(Target, String, &str, &str), Sum> = BTreeMap::new();
    for it in usage.clients.iter().filter(|it| is_failure(&it.verdict)) {
        let key = (Target::from(it), who(&it.client), it.verdict.as_str(), it.reason.as_str());
        sums.entry(key).or_default().add(it.count);
    }
    let row = |((target, client, verdict, reason), sum): ((Target, String, &str, &str), Sum)| Failure {
        target,
        client,
        verdict: verdict.into(),
        reason: reason.into(),
        figures: figures(sum.count, usage.seconds),
    };
    let mut rows: Vec<Failure> = sums.into_iter().map(row).collect();
    busiest(&mut rows, |row| row.figures, |row| (row.target.clone(), row.client.clone()));
    rows
}

fn clients(usage: &Usage) -> Vec<ClientRow> {
    let mut sums: BTreeMap<(String, Target), Sum> = BTreeMap::new();
    for it in &usage.clients {
        sums.entry((who(&it.client), Target::from(it))).or_default().add_of(&it.verdict, it.count);
    }
    let row = |((client, target), sum): ((String, Target), Sum)| ClientRow {
        client,
        target,
        figures: figures(sum.count, usage.seconds),
        failed: sum.failed,
    };
    let mut rows: Vec<ClientRow> = sums.into_iter().map(row).collect();
    busiest(&mut rows, |row| row.figures, |row| (row.client.clone(), row.target.clone()));
    rows
}

/// Policies that are used, and those that are known not to be.
fn policy_rows(services: &[Busy], stepped: &[Stepped]) -> Vec<PolicyRow> {
    let mut rows: BTreeMap<&Target, PolicyRow> = BTreeMap::new();
    let row = |policy: &Target, figures| PolicyRow {
        policy: policy.clone(),
        figures,
        fallbacks: 0,
        spills: 0,
        own: 0,
    };
    for busy in services.iter().filter(|busy| busy.target.policy().is_some()) {
        rows.insert(&busy.target, row(&busy.target, busy.figures));
    }
    for it in stepped {
        let entry = rows.entry(&it.policy).or_insert_with(|| row(&it.policy, Figures::default()));
        (entry.fallbacks, entry.spills, entry.own) = (it.fallbacks, it.spills, it.own);
    }
    let mut rows: Vec<PolicyRow> = rows.into_values().collect();
    busiest(&mut rows, |row| row.figures, |row| row.policy.clone());
    rows
}
