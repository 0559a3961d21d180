//! What a policy is on this machine: whether it applies, and which backends it has.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use super::Cluster;
use crate::{
    object::{Family, Kind, Node, ObjectName, TargetPort},
    policy::{AddressBackends, BackendPort, Policy, PolicyBackends, Probe, Redirect, RedirectMode},
};

/// Why a policy does nothing on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absence {
    /// Its `nodeLabelSelector` does not pick this node.
    OtherNodes,
    /// This machine is no node of the cluster, and it has `enableOutCluster: false` (P11).
    InsideOnly,
    /// This machine is no node of the cluster, and no pod is local to it (P11).
    NothingLocal,
}

impl fmt::Display for Absence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OtherNodes => "its nodeLabelSelector does not pick this node",
            Self::InsideOnly => "it is not for hosts outside of the cluster",
            Self::NothingLocal => "no pod is local to a host outside of the cluster",
        })
    }
}

/// A backend of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyBackend {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its share of the connections; 0 = it gets none.
    pub weight: u32,
    /// R4: whether an existing flow may stay on it.
    pub usable: bool,
    /// Why it gets none.
    pub why_not: Option<WhyNot>,
    /// Its node.
    pub node: Option<Arc<str>>,
    /// Its pod, where it is one.
    pub pod: Option<ObjectName>,
}

/// Why a backend of a policy gets no connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhyNot {
    /// The pod is not ready, or none of those on the node is.
    NotReady,
    /// It does not answer its health checks.
    Unhealthy,
}

impl fmt::Display for WhyNot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotReady => "not ready",
            Self::Unhealthy => "unhealthy: it does not answer its health checks",
        })
    }
}

/// The backends of one backend port of a policy in one family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicySelection {
    /// By address, each once.
    pub backends: Vec<PolicyBackend>,
    /// Nodes that run pods of it and have no address of the kind that it asks for (P8).
    pub skipped: BTreeSet<Arc<str>>,
}

/// Addresses that this machine is to ask whether they are well, for one policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probed {
    /// How.
    pub probe: Probe,
    /// Which.
    pub addresses: BTreeSet<IpAddr>,
}

impl Cluster {
    /// Whom `policy` has this machine ask: nobody where it does nothing, and of the families that it redirects here only.
    pub fn probed(&self, policy: &Policy) -> Option<Probed> {
        let PolicyBackends::Addresses(backends) = &policy.backends else { return None };
        let probe = backends.probe.as_ref().filter(|_| self.absence(policy).is_none())?;
        let families: BTreeSet<Family> =
            self.redirects(policy).into_iter().map(|redirect| Family::of(redirect.ip)).collect();
        let addresses = backends.addresses.keys().filter(|ip| families.contains(&Family::of(**ip)));
        let addresses: BTreeSet<IpAddr> = addresses.copied().collect();
        (!addresses.is_empty()).then(|| Probed { probe: probe.clone(), addresses })
    }

    /// Why `policy` does nothing on this machine; `None`: it applies.
    pub fn absence(&self, policy: &Policy) -> Option<Absence> {
        let labels = match &self.view.outside {
            Some(_) if policy.kind() == Kind::LocalRedirectPolicy => return Some(Absence::NothingLocal),
            Some(_) if !policy.outside => return Some(Absence::InsideOnly),
            Some(outside) => Some(&outside.labels),
            None => self.own_node().map(|node| &node.labels),
        };
        let picks = |labels: Option<&BTreeMap<_, _>>| match &policy.nodes {
            Some(selector) => selector.matches(labels.unwrap_or(&BTreeMap::new())),
            None => true,
        };
        (!picks(labels)).then_some(Absence::OtherNodes)
    }

    /// What `policy` redirects ([`Policy::redirects`]).
    pub fn redirects<'a>(&self, policy: &'a Policy) -> Vec<Redirect<'a>> {
        policy.redirects(policy.service().and_then(|name| self.service(name)))
    }

    /// The backends of a backend port of `policy` in a family (P4, P8).
    pub fn policy_backends(&self, policy: &Policy, port: &BackendPort, family: Family) -> PolicySelection {
        match &policy.backends {
            PolicyBackends::Local(_) | PolicyBackends::Pods(_, RedirectMode::PodEndpoint) => {
                self.pods_of(policy, port, family)
            }
            PolicyBackends::Pods(_, mode @ (RedirectMode::HostPort | RedirectMode::NodeProxy)) => {
                self.nodes_of(policy, port, |node| mode.node_address(node, family))
            }
            PolicyBackends::Addresses(addresses) => self.addresses_of(policy, addresses, port, family),
        }
    }

    fn pods_of(&self, policy: &Policy, port: &BackendPort, family: Family) -> PolicySelection {
        let name = policy.port_name(port, family);
        let backends = self.endpoints(&name).into_iter().map(|candidate| {
            let ready = candidate.endpoint.ready;
            PolicyBackend {
                address: candidate.address,
                weight: u32::from(ready),
                usable: candidate.is_usable(),
                why_not: (!ready).then_some(WhyNot::NotReady),
                node: candidate.endpoint.node.clone(),
                pod: candidate.endpoint.pod.clone(),
            }
        });
        PolicySelection { backends: backends.collect(), skipped: BTreeSet::new() }
    }

    /// Nodes that run pods of a policy, whichever family these have.
    fn nodes_of(
        &self,
        policy: &Policy,
        port: &BackendPort,
        address: impl Fn(&Node) -> Option<IpAddr>,
    ) -> PolicySelection {
        let TargetPort::Number(number) = port.target else { return PolicySelection::default() };
        // Pods of two families are in slices of both: each pod, and whether it is ready and usable.
        let mut nodes: BTreeMap<&Arc<str>, BTreeMap<&ObjectName, (bool, bool)>> = BTreeMap::new();
        let slices: Vec<_> = self.slices_of_policy(&policy.id()).collect();
        for endpoint in slices.iter().flat_map(|slice| &slice.endpoints) {
            let (Some(node), Some(pod)) = (&endpoint.node, &endpoint.pod) else { continue };
            let (ready, usable) = nodes.entry(node).or_default().entry(pod).or_default();
            *ready |= endpoint.ready;
            *usable |= endpoint.serving;
        }
        let mut selection = PolicySelection::default();
        let mut at: BTreeMap<SocketAddr, PolicyBackend> = BTreeMap::new();
        for (name, pods) in nodes {
            let ready = pods.values().filter(|(ready, _)| *ready).count();
            let Some(ip) = self.node(name).and_then(&address) else {
                if ready > 0 {
                    selection.skipped.insert(name.clone());
                }
                continue;
            };
            let address = SocketAddr::new(ip, number);
            // Two nodes of one address are one backend: that of the first by name.
            at.entry(address).or_insert_with(|| PolicyBackend {
                address,
                weight: u32::try_from(ready).unwrap_or(u32::MAX),
                usable: pods.values().any(|(_, usable)| *usable),
                why_not: (ready == 0).then_some(WhyNot::NotReady),
                node: Some(name.clone()),
                pod: None,
            });
        }
        selection.backends = at.into_values().collect();
        selection
    }

    fn addresses_of(
        &self,
        policy: &Policy,
        addresses: &AddressBackends,
        port: &BackendPort,
        family: Family,
    ) -> PolicySelection {
        let TargetPort::Number(number) = port.target else { return PolicySelection::default() };
        let none = BTreeSet::new();
        let unhealthy = match &addresses.probe {
            Some(_) => self.unhealthy.get(&policy.id()).unwrap_or(&none),
            None => &none,
        };
        let backends = addresses.addresses.iter().filter(|(ip, _)| Family::of(**ip) == family);
        let mut backends: Vec<PolicyBackend> = backends
            .map(|(ip, weight)| {
                let address = SocketAddr::new(*ip, number);
                let healthy = !unhealthy.contains(ip);
                PolicyBackend {
                    address,
                    weight: if healthy { *weight } else { 0 },
                    usable: healthy,
                    why_not: (!healthy).then_some(WhyNot::Unhealthy),
                    node: None,
                    pod: None,
                }
            })
            .collect();
        let use_all = addresses.probe.as_ref().is_some_and(|probe| probe.use_all);
        if use_all && backends.iter().all(|it| it.weight == 0) {
            for backend in &mut backends {
                let weight = addresses.addresses.get(&backend.address.ip()).copied();
                (backend.weight, backend.usable) = (weight.unwrap_or(1), true);
            }
        }
        PolicySelection { backends, skipped: BTreeSet::new() }
    }
}

#[cfg(test)]
mod tests;
