//! What a node owes to those who ask it: how the agent is, and, where it replaces kube-proxy, what kube-proxy says and sets
//! (R24, R25, R26).

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use host::{
    Conntrack, KubeProxy,
    kube_proxy::{HEALTH_PORT, METRICS_PORT},
};
use jiff::Timestamp;
use kernel::Attached;
use model::{Change, Cluster, Family, HealthCheck, ObjectName};
use observe::Metrics;
use source::Severity;

use super::{Agent, ROUND};
use crate::{
    Config, Error, doctor,
    health::{Condition, Face, Health, Trouble, Wanted},
    status::MapUse,
    triggers::Triggers,
};

/// An activity that can fail.
const SYSCTLS: &str = "setting kube-proxy's sysctls (R26)";
/// How often that is tried again.
const AGAIN: Duration = Duration::from_secs(15);

/// What is kept of it.
pub(super) struct Contract {
    health: Arc<Health>,
    triggers: Triggers,
    replaces_kube_proxy: bool,
    /// Addresses that are listened on whatever there is to serve.
    always: Wanted,
    /// Addresses of this node on which load balancers ask.
    addresses: BTreeSet<IpAddr>,
    /// What they are to hear.
    checks: Arc<BTreeMap<ObjectName, HealthCheck>>,
    /// When everything was as it should be last.
    updated: Option<Timestamp>,
    /// Since when something waits to be written.
    waiting: Option<Instant>,
    /// What the source is.
    source: &'static str,
    /// Since when the source has not been read well, or not completely.
    stale: Option<Instant>,
    /// How full the tables were at the last look.
    tables: Arc<[MapUse]>,
    /// Hooks without a program, at the last look.
    hooks_off: usize,
    /// This node has had a Node object.
    was_node: bool,
    /// Connection tracking that is still to be set, and when that is tried next.
    conntrack: Option<(Conntrack, Instant)>,
}

impl Contract {
    /// Begins to answer those who ask how the agent is.
    pub(super) fn start(config: &Config) -> Result<Self, Error> {
        let everywhere = |port| SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port);
        let mut always = Wanted::default();
        for (port, face) in [(config.health_port, Face::Agent), (config.metrics_port, Face::Metrics)] {
            if port != 0 {
                always.add(everywhere(port), face);
            }
        }
        if config.replace_kube_proxy {
            always.add(everywhere(HEALTH_PORT), Face::ProxyHealth);
            // kube-proxy's own default is loopback.
            for ip in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
                always.add(SocketAddr::new(ip, METRICS_PORT), Face::ProxyMetrics);
            }
            tracing::warn!("{}", doctor::UNSERVED);
        }
        let health =
            Health::start(config.bpffs.clone(), config.metrics_services as usize).map_err(Error::Health)?;
        let now = i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX);
        Ok(Self {
            health,
            triggers: Triggers::new(now),
            replaces_kube_proxy: config.replace_kube_proxy,
            always,
            addresses: BTreeSet::new(),
            checks: Arc::default(),
            updated: None,
            waiting: None,
            source: if config.manifests.is_some() { "manifests" } else { "kubernetes" },
            stale: Some(Instant::now()),
            tables: Arc::new([]),
            hooks_off: 0,
            was_node: false,
            conntrack: config.replace_kube_proxy.then(|| (Conntrack::own(), Instant::now())),
        })
    }

    /// What HTTP reads.
    pub(super) fn health(&self) -> Arc<Health> {
        self.health.clone()
    }

    /// Where to say what happens.
    pub(super) fn metrics(&self) -> &Metrics {
        &self.health.metrics
    }

    /// The task that owns the tables turns.
    pub(super) fn turned(&self) {
        self.health.turned();
    }

    /// Sees changes before `cluster` does.
    pub(super) fn see(&mut self, cluster: &Cluster, changes: &[Change]) {
        // At once: it may get stuck in writing it.
        self.health.waits(*self.waiting.get_or_insert_with(Instant::now));
        self.metrics().queued(Timestamp::now());
        self.triggers.see(cluster, changes);
    }

    /// What can't be served.
    pub(super) fn troubles(&self) -> Vec<Trouble> {
        self.health.troubles()
    }

    /// What is wrong with it, beside this kube-proxy.
    pub(super) fn problems(&self, kube_proxy: &KubeProxy) -> impl Iterator<Item = String> {
        let twice = (self.replaces_kube_proxy && kube_proxy.pid.is_some())
            .then(|| format!("{kube_proxy} runs, and is to be replaced: delete its DaemonSet"));
        self.troubles().into_iter().map(|trouble| trouble.to_string()).chain(twice)
    }

    /// What is to be known of it.
    pub(super) fn notices(&self) -> impl Iterator<Item = String> {
        let left = self.replaces_kube_proxy.then(doctor::leftovers).flatten();
        self.replaces_kube_proxy.then(|| doctor::UNSERVED.into()).into_iter().chain(left)
    }

    fn wanted(&self) -> Wanted {
        let mut wanted = self.always.clone();
        for (name, check) in &*self.checks {
            for ip in self.addresses.iter().filter(|ip| check.local.contains_key(&Family::of(**ip))) {
                wanted.add(SocketAddr::new(*ip, check.port), Face::Service(name.clone(), Family::of(*ip)));
            }
        }
        wanted
    }
}

impl Agent {
    /// Everything is written.
    pub(super) fn contract_is_kept(&mut self) {
        if self.contract.updated.is_none() || self.contract.hooks_off > 0 {
            // Ours are attached now.
            self.count_hooks(&kernel::attached(&self.config.bpffs).unwrap_or_default());
        }
        let now = Timestamp::now();
        let waited = self.contract.waiting.take().map(|since| since.elapsed());
        self.contract.updated = Some(now);
        self.contract.metrics().synced(now, waited);
        for (family, at) in self.contract.triggers.take() {
            // Another machine's clock said when it happened: it may be ahead of ours.
            let took = u64::try_from(now.as_nanosecond() - i128::from(at)).unwrap_or_default();
            self.contract.metrics().programmed(family, Duration::from_nanos(took));
        }
        let asked_anew = self.contract.replaces_kube_proxy && self.take_checks();
        self.say_how_it_is();
        if asked_anew {
            self.contract.health.want(self.contract.wanted());
        }
    }

    /// Every second.
    pub(super) fn look_at_contract(&mut self, attached: &[Attached]) {
        self.adopt_sysctls();
        self.count_hooks(attached);
        self.contract.tables = self.tables().into();
        self.say_how_it_is();
        self.contract.health.want(self.contract.wanted());
        self.tell();
    }

    /// Takes over what load balancers are to hear, and where; is any of it new?
    fn take_checks(&mut self) -> bool {
        let (checks, addresses) = (self.reconciler.health_checks(), self.reconciler.node_port_addresses());
        let contract = &mut self.contract;
        let is_new = *contract.checks != *checks || contract.addresses != addresses;
        if is_new {
            (contract.checks, contract.addresses) = (Arc::new(checks.clone()), addresses);
        }
        is_new
    }

    fn count_hooks(&mut self, attached: &[Attached]) {
        self.contract.hooks_off = attached.iter().filter(|hook| hook.program_id.is_none()).count();
    }

    fn say_how_it_is(&mut self) {
        let node = self.reconciler.cluster().own_node();
        self.contract.was_node |= node.is_some();
        // One object that is not understood says nothing of the others.
        let is_stale = !self.synced
            || self.sources.iter().any(|it| it.severity == Severity::Error && it.object.is_none());
        let stale = self.contract.stale.filter(|_| is_stale);
        self.contract.stale = stale.or_else(|| is_stale.then(Instant::now));
        let contract = &self.contract;
        let errors = self.sources.iter().filter(|problem| problem.severity == Severity::Error);
        let condition = Condition {
            synced: self.synced,
            in_force: self.in_force,
            hooks_off: contract.hooks_off,
            paused: self.paused,
            source: Some(contract.source),
            stale: contract.stale,
            tables: contract.tables.clone(),
            // What can't be written before the sources have synced need not be.
            waiting: contract.waiting.filter(|_| self.synced),
            failure: self.failures.get(ROUND).cloned(),
            updated: contract.updated,
            // One whose Node has been deleted is no longer any.
            leaving: node.map_or(contract.was_node, |node| node.leaving),
            sources: errors.map(ToString::to_string).collect(),
            checks: contract.checks.clone(),
            sinks: self.log.standings().to_vec(),
        };
        contract.metrics().source_problems(condition.sources.len());
        contract.health.say(condition);
    }

    /// Sets what kube-proxy would set, once; where there is no connection tracking, when there is.
    fn adopt_sysctls(&mut self) {
        let now = Instant::now();
        let Some((conntrack, due)) = self.contract.conntrack.as_mut().filter(|(_, due)| *due <= now) else {
            return;
        };
        *due = now + AGAIN;
        let Some(adopted) = conntrack.adopt() else { return };
        for it in &adopted.changed {
            tracing::info!("{} set from {} to {} (R26)", it.path.display(), it.from, it.to);
        }
        let failed: Vec<String> = adopted.failed.iter().map(ToString::to_string).collect();
        if failed.is_empty() {
            self.contract.conntrack = None;
            self.failures.remove(SYSCTLS);
        } else {
            self.failed_with(SYSCTLS, failed.join("; "));
        }
    }
}
