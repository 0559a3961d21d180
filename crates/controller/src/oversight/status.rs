//! What is said of a policy: whether it is understood, whether it has what it asks for, and who its backends are.

use std::{collections::BTreeSet, sync::Arc};

use api::policy::PolicyStatus;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use model::{Cluster, Family, Pod, Policy, PolicyBackends, PolicyFrontend, RedirectMode};

use super::claims::Claims;

/// Names in a message.
const NAMED: usize = 5;
/// Characters of a message.
const LONGEST: usize = 1000;

/// A condition, without the time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) kind: &'static str,
    pub(super) is_so: bool,
    pub(super) reason: &'static str,
    pub(super) message: String,
    /// Whether people are to be told when it becomes so.
    pub(super) is_trouble: bool,
}

/// What is to be said of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    frontend: Option<String>,
    mode: Option<&'static str>,
    /// All, and those that are ready.
    backends: Option<(usize, usize)>,
    pub(super) findings: Vec<Finding>,
}

impl Standing {
    /// Of a policy that is understood.
    pub(super) fn of(policy: &Policy, cluster: &Cluster, claims: &Claims) -> Self {
        let (mut accepted, redirects) = (accepted(policy), cluster.redirects(policy));
        if let Some(service) = policy.service().filter(|_| redirects.is_empty()) {
            (accepted.reason, accepted.message) = match cluster.service(service) {
                None => (
                    "ServiceNotFound",
                    format!("Service {service} does not exist; it takes effect when it does"),
                ),
                Some(found) if found.cluster_ips.is_empty() => (
                    "ServiceWithoutClusterIP",
                    format!("Service {service} has no cluster IP; nothing is redirected"),
                ),
                Some(_) => (
                    "NoPortMatches",
                    format!(
                        "Service {service} has no port that this asks for and has backends for; nothing is redirected"
                    ),
                ),
            };
        }
        let families: BTreeSet<Family> = redirects.iter().map(|it| Family::of(it.ip)).collect();
        let (ready, backends) = backends(policy, cluster, &families);
        Self {
            frontend: Some(match &policy.frontend {
                PolicyFrontend::Service { service, .. } => service.to_string(),
                PolicyFrontend::Address { ip, .. } => ip.to_string(),
            }),
            mode: mode(policy),
            backends: Some(backends),
            findings: vec![accepted, conflict(policy, claims), ready],
        }
    }

    /// Of one that is not.
    pub(super) fn invalid(problem: &str) -> Self {
        let accepted = Finding {
            kind: "Accepted",
            is_so: false,
            reason: "Invalid",
            message: cut(format!("{problem}; what it said before stays in force, if anything")),
            is_trouble: true,
        };
        Self { frontend: None, mode: None, backends: None, findings: vec![accepted] }
    }

    /// The status that says so; what has not changed keeps its time.
    pub(super) fn status(
        &self,
        before: &PolicyStatus,
        generation: Option<i64>,
        now: Timestamp,
    ) -> PolicyStatus {
        let condition = |finding: &Finding| {
            let status = if finding.is_so { "True" } else { "False" };
            let since = before.conditions.iter().find(|it| it.type_ == finding.kind && it.status == status);
            // A Time of the API has no fractions.
            let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
            Condition {
                type_: finding.kind.into(),
                status: status.into(),
                reason: finding.reason.into(),
                message: finding.message.clone(),
                observed_generation: generation,
                last_transition_time: since.map_or(Time(now), |it| it.last_transition_time.clone()),
            }
        };
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let mut said: Vec<Condition> = self.findings.iter().map(condition).collect();
        // What is not known now, and what others say.
        let others =
            before.conditions.iter().filter(|it| self.findings.iter().all(|ours| ours.kind != it.type_));
        said.extend(others.cloned());
        said.sort_by(|a, b| a.type_.cmp(&b.type_));
        PolicyStatus {
            observed_generation: generation,
            conditions: said,
            frontend: self.frontend.clone().or_else(|| before.frontend.clone()),
            mode: self
                .mode
                .map(str::to_owned)
                .or_else(|| before.mode.clone().filter(|_| self.frontend.is_none())),
            backends: self.backends.map(|(all, _)| count(all)).or(before.backends),
            ready_backends: self.backends.map(|(_, ready)| count(ready)).or(before.ready_backends),
        }
    }
}

fn accepted(policy: &Policy) -> Finding {
    let message = match &policy.frontend {
        PolicyFrontend::Service { .. } => "the service's cluster IPs are redirected",
        PolicyFrontend::Address { .. } => "the address is redirected",
    };
    let (kind, message) = ("Accepted", message.into());
    Finding { kind, is_so: true, reason: "Accepted", message, is_trouble: false }
}

fn mode(policy: &Policy) -> Option<&'static str> {
    match &policy.backends {
        PolicyBackends::Local(_) => None,
        PolicyBackends::Pods(_, RedirectMode::PodEndpoint) => Some("podEndpoint"),
        PolicyBackends::Pods(_, RedirectMode::HostPort) => Some("hostPort"),
        PolicyBackends::Pods(_, RedirectMode::NodeProxy) => Some("nodeProxy"),
        PolicyBackends::Addresses(_) => Some("address"),
    }
}

fn conflict(policy: &Policy, claims: &Claims) -> Finding {
    let id = policy.id();
    let lost: Vec<String> =
        claims.lost(&id).map(|(frontend, holder)| format!("{frontend} is of {} {holder}", id.kind)).collect();
    let is_so = !lost.is_empty();
    let (reason, message) = match is_so {
        false => ("NoConflict", "no older policy has its frontend".into()),
        true => {
            ("FrontendTaken", format!("{}, which is older; it is taken over when that goes", some(&lost)))
        }
    };
    Finding { kind: "Conflict", is_so, reason, message: cut(message), is_trouble: is_so }
}

/// Whether there are backends, and how many are, and are ready.
fn backends(policy: &Policy, cluster: &Cluster, families: &BTreeSet<Family>) -> (Finding, (usize, usize)) {
    let ready = |is_so, reason, message| Finding {
        kind: "BackendsReady",
        is_so,
        reason,
        message: cut(message),
        is_trouble: !is_so,
    };
    if let PolicyBackends::Addresses(addresses) = &policy.backends {
        let listed = addresses.addresses.len();
        let checked = if addresses.probe.is_some() { "; each agent checks their health" } else { "" };
        let message = format!("addresses are listed: {listed}{checked}");
        return (ready(true, "AddressesListed", message), (listed, listed));
    }
    let pods: Vec<&Pod> = cluster.pods_selected(policy).filter(|pod| !pod.finished).collect();
    let is_ready = |pod: &&Pod| pod.ready && !pod.terminating && !pod.ips.is_empty();
    let all_ready: Vec<&Pod> = pods.iter().copied().filter(is_ready).collect();
    let nodes: BTreeSet<&Arc<str>> = all_ready.iter().filter_map(|pod| pod.node.as_ref()).collect();
    let counts = (pods.len(), all_ready.len());
    let what = format!("{} of {} matching pods are ready", counts.1, counts.0);
    let finding = match counts {
        (0, _) => ready(false, "NoPodMatches", "no pod matches the endpointSelector".into()),
        (_, 0) => ready(false, "NoPodReady", what),
        _ => match skipped(policy, cluster, families, nodes) {
            None => ready(true, "PodsReady", what),
            Some((true, why)) => ready(false, "NodesSkipped", format!("{what}; {why}")),
            Some((false, why)) => ready(true, "PodsReady", format!("{what}; {why}")),
        },
    };
    (finding, counts)
}

/// Those of `nodes` that have no address of the kind that is asked for (P8): whether they are all, and which they are.
fn skipped<'a>(
    policy: &Policy,
    cluster: &Cluster,
    families: &BTreeSet<Family>,
    nodes: impl IntoIterator<Item = &'a Arc<str>>,
) -> Option<(bool, String)> {
    let PolicyBackends::Pods(_, mode @ (RedirectMode::HostPort | RedirectMode::NodeProxy)) = policy.backends
    else {
        return None;
    };
    let nodes: Vec<&str> = nodes.into_iter().map(|node| &**node).collect();
    let (mut all, mut texts) = (true, Vec::new());
    for family in families {
        let has_none =
            |name: &&&str| cluster.node(name).and_then(|node| mode.node_address(node, *family)).is_none();
        let without: Vec<String> = nodes.iter().filter(has_none).map(ToString::to_string).collect();
        all &= without.len() == nodes.len();
        if !without.is_empty() {
            let lack = match (mode.annotation(*family), family) {
                (Some(annotation), _) => format!("annotation {annotation}"),
                (None, Family::V4) => "InternalIP of IPv4".into(),
                (None, Family::V6) => "InternalIP of IPv6".into(),
            };
            texts.push(format!("nodes without {lack} are skipped: {}", some(&without)));
        }
    }
    (!texts.is_empty()).then(|| (all, texts.join("; ")))
}

/// The first of them, and how many more there are.
fn some(all: &[String]) -> String {
    let mut text = all.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    if all.len() > NAMED {
        text += &format!(" and {} more", all.len() - NAMED);
    }
    text
}

fn cut(text: String) -> String {
    if text.chars().count() <= LONGEST { text } else { text.chars().take(LONGEST).chain(['…']).collect() }
}

#[cfg(test)]
mod tests;
