//! Selectors resolved to slices, where no API server does it.
//!
//! As the EndpointSlice controller of kubernetes 1.36 does (staging/src/k8s.io/endpointslice: `reconciler.go`,
//! `utils.go`, `trafficdist/trafficdist.go`), with two liberties: slices are not cut at 100 endpoints, and a
//! pod whose Node is unknown stays, without a zone, since manifests seldom come with Nodes.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use crate::{
    object::{
        Endpoint, EndpointSlice, Family, ObjectName, Pod, Protocol, Service, SlicePort, TargetPort,
        TrafficDistribution,
    },
    policy::Policy,
};

/// The slices of `service` over those of `pods` that its selector picks, whatever else is among them.
/// `zone_of` gives the zone of a node. The result depends on the set of pods only, not on their order.
pub fn resolve<'a>(
    service: &Service,
    pods: impl IntoIterator<Item = &'a Pod>,
    zone_of: impl Fn(&str) -> Option<String>,
) -> Vec<EndpointSlice> {
    let picked = pods.into_iter().filter(|pod| service.selects(&pod.name, &pod.labels));
    let wanted = Wanted {
        families: service.families().collect(),
        ports: service.ports.iter().map(|port| (&port.name, port.protocol, &port.target)).collect(),
        publish_not_ready: service.publish_not_ready,
        distribution: service.distribution,
    };
    let slice = |number: usize| EndpointSlice {
        service: Some(service.name.name.clone()),
        ..unowned(&service.name.namespace, &service.name.name, number)
    };
    wanted.slices(picked.collect(), zone_of, slice)
}

/// The same for a policy: all pods of all namespaces that its selector picks, whatever their node.
pub fn resolve_policy<'a>(
    policy: &Policy,
    pods: impl IntoIterator<Item = &'a Pod>,
    zone_of: impl Fn(&str) -> Option<String>,
) -> Vec<EndpointSlice> {
    let Some(backends) = policy.pods() else { return Vec::new() };
    let picked = pods.into_iter().filter(|pod| backends.selector.matches(&pod.labels));
    let wanted = Wanted {
        families: vec![Family::V4, Family::V6],
        ports: backends.ports.iter().map(|port| (&port.name, port.protocol, &port.target)).collect(),
        publish_not_ready: false,
        distribution: None,
    };
    let slice =
        |number: usize| EndpointSlice { policy: Some(policy.id()), ..unowned("", &policy.name, number) };
    wanted.slices(picked.collect(), zone_of, slice)
}

fn unowned(namespace: &str, name: &str, number: usize) -> EndpointSlice {
    EndpointSlice {
        // Not a valid object name, so that it is nobody else's.
        name: ObjectName::new(namespace, format!("{name}:selector:{number}")),
        service: None,
        policy: None,
        headless: false,
        triggered: None,
        family: Family::V4,
        ports: Vec::new(),
        endpoints: Vec::new(),
    }
}

/// What slices are made of.
struct Wanted<'a> {
    families: Vec<Family>,
    ports: Vec<(&'a Arc<str>, Protocol, &'a TargetPort)>,
    publish_not_ready: bool,
    distribution: Option<TrafficDistribution>,
}

impl Wanted<'_> {
    fn slices(
        &self,
        mut members: Vec<&Pod>,
        zone_of: impl Fn(&str) -> Option<String>,
        slice: impl Fn(usize) -> EndpointSlice,
    ) -> Vec<EndpointSlice> {
        members.retain(|pod| !pod.finished);
        members.sort_by(|a, b| a.name.cmp(&b.name));
        // Pods whose named ports resolve differently can't share a slice.
        let mut groups: BTreeMap<(Family, Vec<PortKey>), Vec<Endpoint>> = BTreeMap::new();
        for family in &self.families {
            for pod in &members {
                let ports: Vec<PortKey> =
                    self.ports.iter().filter_map(|port| resolve_port(*port, pod)).collect();
                let Some(address) = pod.ips.iter().copied().find(|ip| Family::of(*ip) == *family) else {
                    continue;
                };
                if !ports.is_empty() {
                    let zone = pod.node.as_deref().and_then(&zone_of).map(Arc::from);
                    groups.entry((*family, ports)).or_default().push(self.endpoint(pod, address, zone));
                }
            }
        }
        let port = |(name, protocol, port)| SlicePort { name, protocol, port: Some(port) };
        let slices = groups.into_iter().enumerate().map(|(number, ((family, ports), endpoints))| {
            EndpointSlice { family, ports: ports.into_iter().map(port).collect(), endpoints, ..slice(number) }
        });
        slices.collect()
    }

    fn endpoint(&self, pod: &Pod, address: IpAddr, zone: Option<Arc<str>>) -> Endpoint {
        let ready = self.publish_not_ready || (pod.ready && !pod.terminating);
        // Only ready endpoints get hints.
        let distribution = self.distribution.filter(|_| ready);
        let node_hints = match distribution {
            Some(TrafficDistribution::SameNode) => pod.node.iter().cloned().collect(),
            _ => Vec::new(),
        };
        let zone_hints = match distribution {
            Some(_) => zone.iter().cloned().collect(),
            None => Vec::new(),
        };
        Endpoint {
            address,
            ready,
            serving: pod.ready,
            terminating: pod.terminating,
            node: pod.node.clone(),
            zone,
            zone_hints,
            node_hints,
            pod: Some(pod.name.clone()),
        }
    }
}

type PortKey = (Arc<str>, Protocol, u16);

/// `None` where the pod has no port of that name: it takes no part in this port, only in others.
fn resolve_port((name, protocol, target): (&Arc<str>, Protocol, &TargetPort), pod: &Pod) -> Option<PortKey> {
    let number = match target {
        TargetPort::Number(number) => *number,
        TargetPort::Name(name) => pod.ports.iter().find(|p| p.name == *name && p.protocol == protocol)?.port,
    };
    Some((name.clone(), protocol, number))
}

#[cfg(test)]
mod tests;
