//! Selectors resolved to slices, where no API server does it.
//!
//! As the EndpointSlice controller of kubernetes 1.36 does (staging/src/k8s.io/endpointslice: `reconciler.go`,
//! `utils.go`, `trafficdist/trafficdist.go`), with two liberties: slices are not cut at 100 endpoints, and a
//! pod whose Node is unknown stays, without a zone, since manifests seldom come with Nodes.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use crate::object::{
    Endpoint, EndpointSlice, Family, ObjectName, Pod, Protocol, Service, ServicePort, SlicePort, TargetPort,
    TrafficDistribution,
};

/// The slices of `service` over those of `pods` that its selector picks, whatever else is among them.
/// `zone_of` gives the zone of a node. The result depends on the set of pods only, not on their order.
pub fn resolve<'a>(
    service: &Service,
    pods: impl IntoIterator<Item = &'a Pod>,
    zone_of: impl Fn(&str) -> Option<String>,
) -> Vec<EndpointSlice> {
    let mut members: Vec<&Pod> =
        pods.into_iter().filter(|pod| !pod.finished && service.selects(&pod.name, &pod.labels)).collect();
    members.sort_by(|a, b| a.name.cmp(&b.name));

    // Pods whose named ports resolve differently can't share a slice.
    let mut groups: BTreeMap<(Family, Vec<PortKey>), Vec<Endpoint>> = BTreeMap::new();
    for family in service.families() {
        for pod in &members {
            let ports: Vec<PortKey> =
                service.ports.iter().filter_map(|port| resolve_port(port, pod)).collect();
            let Some(address) = pod.ips.iter().copied().find(|ip| Family::of(*ip) == family) else {
                continue;
            };
            if !ports.is_empty() {
                let zone = pod.node.as_deref().and_then(&zone_of).map(Arc::from);
                groups.entry((family, ports)).or_default().push(endpoint_of(service, pod, address, zone));
            }
        }
    }
    groups
        .into_iter()
        .enumerate()
        .map(|(number, ((family, ports), endpoints))| EndpointSlice {
            // Not a valid object name, so that it is nobody else's.
            name: ObjectName::new(
                service.name.namespace.clone(),
                format!("{}:selector:{number}", service.name.name),
            ),
            service: Some(service.name.name.clone()),
            headless: false,
            triggered: None,
            family,
            ports: ports
                .into_iter()
                .map(|(name, protocol, port)| SlicePort { name, protocol, port: Some(port) })
                .collect(),
            endpoints,
        })
        .collect()
}

type PortKey = (Arc<str>, Protocol, u16);

/// `None` where the pod has no port of that name: it takes no part in this port, only in others.
fn resolve_port(port: &ServicePort, pod: &Pod) -> Option<PortKey> {
    let number = match &port.target {
        TargetPort::Number(number) => *number,
        TargetPort::Name(name) => {
            pod.ports.iter().find(|p| p.name == *name && p.protocol == port.protocol)?.port
        }
    };
    Some((port.name.clone(), port.protocol, number))
}

fn endpoint_of(service: &Service, pod: &Pod, address: IpAddr, zone: Option<Arc<str>>) -> Endpoint {
    let ready = service.publish_not_ready || (pod.ready && !pod.terminating);
    // Only ready endpoints get hints.
    let distribution = service.distribution.filter(|_| ready);
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

#[cfg(test)]
mod tests;
