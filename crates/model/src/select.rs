//! R5: which endpoints of a service port get traffic. No other place decides.
//!
//! As kubernetes 1.36 pkg/proxy/topology.go (`CategorizeEndpoints`) does.

use std::fmt;

use crate::{
    endpoints::Candidate,
    object::{Family, Service, ServicePort, TrafficPolicy},
};

/// The node that selects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Here {
    /// Name of the node.
    pub node: String,
    /// Its zone, where its labels tell.
    pub zone: Option<String>,
}

/// How hints narrow the ready endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Not at all.
    All,
    /// To those with a hint for this zone.
    Zone,
    /// To those with a hint for this node.
    Node,
}

/// Where traffic comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// From inside, to the cluster IP.
    Internal,
    /// From outside, to a node port, load balancer VIP or external IP.
    External,
    /// From inside, to a node port, load balancer VIP or external IP (R14, R15).
    ShortCircuit,
}

/// The endpoints that get traffic, as indices into the candidates, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// How hints narrowed `cluster`.
    pub mode: Mode,
    /// Some endpoint anywhere could take traffic. If not, clients are refused (R10); if so and the list for
    /// their traffic is empty, there is none on this node (R11).
    pub has_any: bool,
    /// For internal traffic.
    pub internal: Vec<usize>,
    /// For traffic from outside; empty where the port can't be reached from outside.
    pub external: Vec<usize>,
    /// For short-circuit traffic; empty where no traffic can ever use it.
    pub cluster: Vec<usize>,
}

/// What became of one endpoint, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Gets traffic.
    Selected,
    /// Gets traffic though terminating: nothing better is left.
    LastResort,
    /// Not ready.
    NotReady,
    /// Terminating, and serves no more.
    NotServing,
    /// Terminating, and others are ready.
    Terminating,
    /// Hints keep it for other nodes.
    OtherNode,
    /// Hints keep it for other zones.
    OtherZone,
    /// Not on this node, which the traffic policy Local demands.
    NotLocal,
}

impl Standing {
    /// Whether it gets traffic.
    pub fn is_selected(self) -> bool {
        matches!(self, Self::Selected | Self::LastResort)
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Selected => "selected",
            Self::LastResort => "last resort: terminating",
            Self::NotReady => "not ready",
            Self::NotServing => "terminating, not serving",
            Self::Terminating => "terminating, not needed",
            Self::OtherNode => "hinted for other nodes",
            Self::OtherZone => "hinted for other zones",
            Self::NotLocal => "remote, policy is Local",
        })
    }
}

/// Selects among `candidates`, the endpoints of `port` of `service` in `family` (see
/// [`candidates`](crate::candidates)).
pub fn select(
    service: &Service,
    port: &ServicePort,
    family: Family,
    candidates: &[Candidate<'_>],
    here: &Here,
) -> Selection {
    let accessible = service.externally_accessible(port, family);
    let uses_cluster = service.internal_policy != TrafficPolicy::Local || accessible;
    // R5's `uses_local` needs no name: no list but those of traffic whose policy is Local is made of it.
    let mode = mode(candidates, here);
    let chosen = |policy| -> Vec<usize> {
        let standings = judge(policy, mode, candidates, here);
        standings.iter().enumerate().filter(|(_, s)| s.is_selected()).map(|(i, _)| i).collect()
    };
    let cluster = if uses_cluster { chosen(TrafficPolicy::Cluster) } else { Vec::new() };
    let list = |traffic| match policy_for(service, traffic) {
        TrafficPolicy::Cluster => cluster.clone(),
        TrafficPolicy::Local => chosen(TrafficPolicy::Local),
    };
    Selection {
        mode,
        has_any: candidates.iter().any(|c| c.endpoint.ready || c.is_last_resort()),
        internal: list(Traffic::Internal),
        external: if accessible { list(Traffic::External) } else { Vec::new() },
        cluster,
    }
}

/// Why each of `candidates` is in the list for `traffic`, or is not.
pub fn standings(
    service: &Service,
    traffic: Traffic,
    candidates: &[Candidate<'_>],
    here: &Here,
) -> Vec<Standing> {
    judge(policy_for(service, traffic), mode(candidates, here), candidates, here)
}

fn policy_for(service: &Service, traffic: Traffic) -> TrafficPolicy {
    match traffic {
        Traffic::Internal => service.internal_policy,
        Traffic::External => service.external_policy,
        Traffic::ShortCircuit => TrafficPolicy::Cluster,
    }
}

/// Hints are followed only where every ready endpoint has them and someone is meant for us: half-written
/// hints must not overload those that have them.
fn mode(candidates: &[Candidate<'_>], here: &Here) -> Mode {
    let ready = || candidates.iter().filter(|c| c.endpoint.ready);
    let all = |hinted: fn(&Candidate<'_>) -> bool| ready().all(hinted);
    if all(|c| !c.endpoint.node_hints.is_empty()) && ready().any(|c| is_for_node(c, here)) {
        Mode::Node
    } else if all(|c| !c.endpoint.zone_hints.is_empty()) && ready().any(|c| is_for_zone(c, here)) {
        Mode::Zone
    } else {
        Mode::All
    }
}

fn judge(policy: TrafficPolicy, mode: Mode, candidates: &[Candidate<'_>], here: &Here) -> Vec<Standing> {
    // Before the fallback: the terminating ones stand back.
    let mut standings: Vec<Standing> =
        candidates.iter().map(|candidate| stand(policy, mode, candidate, here)).collect();
    if !standings.contains(&Standing::Selected) {
        for standing in standings.iter_mut().filter(|s| **s == Standing::Terminating) {
            *standing = Standing::LastResort;
        }
    }
    standings
}

fn stand(policy: TrafficPolicy, mode: Mode, candidate: &Candidate<'_>, here: &Here) -> Standing {
    let endpoint = candidate.endpoint;
    if policy == TrafficPolicy::Local && !is_local(candidate, here) {
        Standing::NotLocal
    } else if candidate.is_last_resort() {
        Standing::Terminating
    } else if !endpoint.ready {
        if endpoint.terminating { Standing::NotServing } else { Standing::NotReady }
    } else if policy == TrafficPolicy::Local {
        Standing::Selected
    } else {
        match mode {
            Mode::Node if !is_for_node(candidate, here) => Standing::OtherNode,
            Mode::Zone if !is_for_zone(candidate, here) => Standing::OtherZone,
            _ => Standing::Selected,
        }
    }
}

fn is_local(candidate: &Candidate<'_>, here: &Here) -> bool {
    candidate.endpoint.node.as_deref() == Some(&here.node)
}

fn is_for_node(candidate: &Candidate<'_>, here: &Here) -> bool {
    candidate.endpoint.node_hints.iter().any(|node| **node == *here.node)
}

fn is_for_zone(candidate: &Candidate<'_>, here: &Here) -> bool {
    here.zone.as_ref().is_some_and(|zone| candidate.endpoint.zone_hints.iter().any(|it| **it == **zone))
}

#[cfg(test)]
mod tests;
