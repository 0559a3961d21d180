//! R3: the endpoints of one service port, from all of its slices.

use std::{cmp::Ordering, net::SocketAddr};

use crate::object::{Backend, Endpoint, EndpointSlice, Family, Kind, ObjectName, ServicePortName};

/// An endpoint of a service port: where it listens and what its slice says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate<'a> {
    /// The endpoint's address and the slice's port.
    pub address: SocketAddr,
    /// The endpoint.
    pub endpoint: &'a Endpoint,
    /// The slice that it was taken from.
    pub slice: &'a ObjectName,
}

impl Candidate<'_> {
    /// R4: whether an existing flow may stay on it.
    pub fn is_usable(&self) -> bool {
        self.endpoint.serving
    }

    /// Not ready, but good enough where nothing ready is left (R5).
    pub fn is_last_resort(&self) -> bool {
        !self.endpoint.ready && self.endpoint.serving && self.endpoint.terminating
    }

    /// Itself, without borrowing from a slice.
    pub fn backend(&self) -> Backend {
        Backend {
            address: self.address,
            usable: self.is_usable(),
            terminating: self.is_last_resort(),
            node: self.endpoint.node.clone(),
            pod: self.endpoint.pod.clone(),
        }
    }

    /// Which of two entries for one address counts: not terminating, then ready, then the smallest slice
    /// name (R3). What follows only makes the order total, for an address that is in one slice twice.
    fn preference(&self, other: &Self) -> Ordering {
        let (a, b) = (self.endpoint, other.endpoint);
        a.terminating
            .cmp(&b.terminating)
            .then_with(|| b.ready.cmp(&a.ready))
            .then_with(|| self.slice.cmp(other.slice))
            .then_with(|| b.serving.cmp(&a.serving))
            .then_with(|| a.node.cmp(&b.node))
            .then_with(|| a.zone.cmp(&b.zone))
            .then_with(|| a.zone_hints.cmp(&b.zone_hints))
            .then_with(|| a.node_hints.cmp(&b.node_hints))
            .then_with(|| a.pod.cmp(&b.pod))
    }
}

/// The endpoints of `port`, sorted by address, each address once. `slices` may be any slices: those of other
/// services, families and proxies are left out.
pub fn candidates<'a>(
    port: &ServicePortName,
    slices: impl IntoIterator<Item = &'a EndpointSlice>,
) -> Vec<Candidate<'a>> {
    let owner = (port.kind, &*port.service.namespace, port.service.name.as_str());
    let mut found: Vec<Candidate<'a>> = slices
        .into_iter()
        .filter(|slice| slice.owner() == Some(owner) && slice.family == port.family)
        .flat_map(|slice| listed(port, slice))
        .collect();
    found.sort_by(|a, b| a.address.cmp(&b.address).then_with(|| a.preference(b)));
    found.dedup_by_key(|candidate| candidate.address);
    found
}

impl EndpointSlice {
    /// Kind, namespace and name of what it holds endpoints of (R1, R3, P10), which need not exist.
    pub fn owner(&self) -> Option<(Kind, &str, &str)> {
        if let Some(policy) = &self.policy {
            return Some((policy.kind, &policy.name.namespace, &policy.name.name));
        }
        let service = self.service.as_deref().filter(|_| !self.headless)?;
        Some((Kind::Service, &self.name.namespace, service))
    }

    /// Whether it says of endpoints what `other` does, whenever it was made so.
    pub fn is_like(&self, other: &Self) -> bool {
        let Self { name, service, policy, headless, family, ports, endpoints, triggered: _ } = self;
        (name, service, policy, headless) == (&other.name, &other.service, &other.policy, &other.headless)
            && (family, ports, endpoints) == (&other.family, &other.ports, &other.endpoints)
    }
}

fn listed<'a>(
    port: &ServicePortName,
    slice: &'a EndpointSlice,
) -> impl Iterator<Item = Candidate<'a>> + use<'a> {
    let numbers: Vec<u16> = slice
        .ports
        .iter()
        .filter(|entry| entry.name == port.port && entry.protocol == port.protocol)
        .filter_map(|entry| entry.port.filter(|number| *number != 0))
        .collect();
    numbers.into_iter().flat_map(move |number| {
        slice.endpoints.iter().filter(|endpoint| Family::of(endpoint.address) == slice.family).map(
            move |endpoint| Candidate {
                address: SocketAddr::new(endpoint.address, number),
                endpoint,
                slice: &slice.name,
            },
        )
    })
}

#[cfg(test)]
mod tests;
