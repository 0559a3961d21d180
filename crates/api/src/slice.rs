//! discovery.k8s.io/v1 EndpointSlice.

use std::{collections::HashSet, sync::Arc};

use k8s_openapi::{api::discovery::v1, apimachinery::pkg::apis::meta::v1::ObjectMeta, jiff::Timestamp};
use model::{Endpoint, EndpointSlice, Family, Kind, ObjectId, ObjectName, SlicePort};

use crate::{
    Invalid, Notice,
    field::{Field, set},
    identity::identify,
};

/// Value of the label `endpointslice.kubernetes.io/managed-by` of slices that the controller makes for policies.
pub const SLICE_MANAGER: &str = "balancing-controller";

/// An EndpointSlice with its defaults; `None` for one of names instead of addresses (`FQDN`), which nobody
/// can balance. What is valid but has no effect here goes to `notices`.
///
/// # Errors
///
/// [`Invalid`] for what the API server would refuse and selection can't work with.
pub fn from_slice(
    it: &v1::EndpointSlice,
    notices: &mut Vec<Notice>,
) -> Result<Option<EndpointSlice>, Invalid> {
    let id = identify(Kind::EndpointSlice, &it.metadata)?;
    let at = Field::of(&id, "addressType");
    let types = [("IPv4", Some(Family::V4)), ("IPv6", Some(Family::V6)), ("FQDN", None)];
    let Some(family) = at.one_of(&it.address_type, &types)? else {
        notices.push(at.skipped("FQDN endpoints are not balanced; the slice is ignored"));
        return Ok(None);
    };
    let labels = it.metadata.labels.as_ref();
    let service = labels.and_then(|labels| labels.get("kubernetes.io/service-name"));
    Ok(Some(EndpointSlice {
        service: service.filter(|service| !service.is_empty()).cloned(),
        policy: made_for(&it.metadata),
        triggered: triggered(&it.metadata),
        headless: labels.is_some_and(|labels| labels.contains_key("service.kubernetes.io/headless")),
        family,
        ports: ports(&Field::of(&id, "ports"), it, notices)?,
        endpoints: from_endpoints(
            &Field::of(&id, "endpoints"),
            it.endpoints.as_deref().unwrap_or_default(),
            family,
            &id.name,
        )?,
        name: id.name,
    }))
}

/// The BalancingPolicy that our controller made it for: that of its owner reference, which needs no label that all names fit
/// into.
fn made_for(metadata: &ObjectMeta) -> Option<ObjectId> {
    let labels = metadata.labels.as_ref()?;
    labels.get("endpointslice.kubernetes.io/managed-by").filter(|by| *by == SLICE_MANAGER)?;
    let owners = metadata.owner_references.iter().flatten();
    let mut policies = owners.filter(|owner| {
        owner.kind == "BalancingPolicy" && owner.api_version.starts_with("balancing.elf.io/")
    });
    policies
        .next()
        .map(|owner| ObjectId { kind: Kind::BalancingPolicy, name: ObjectName::new("", &owner.name) })
}

/// What is no time counts as none, as in kubernetes 1.36 pkg/proxy/endpointschangetracker.go.
fn triggered(metadata: &ObjectMeta) -> Option<i64> {
    let text = metadata.annotations.as_ref()?.get("endpoints.kubernetes.io/last-change-trigger-time")?;
    text.parse::<Timestamp>().ok()?.as_nanosecond().try_into().ok()
}

/// A port of 0 is kept: it names no port, and is passed over (R3).
fn ports(
    at: &Field<'_>,
    it: &v1::EndpointSlice,
    notices: &mut Vec<Notice>,
) -> Result<Vec<SlicePort>, Invalid> {
    let list = it.ports.as_deref().unwrap_or_default();
    let mut names = HashSet::new();
    let mut ports = Vec::with_capacity(list.len());
    for (at, port) in at.items(list) {
        let name = port.name.clone().unwrap_or_default();
        if !names.insert(name.clone()) {
            let problem = "is the same as that of another port of this slice; make it different";
            return Err(at.field("name").invalid(problem));
        }
        let number = port.port.map(|number| at.field("port").port_or_zero(number)).transpose()?;
        match at.field("protocol").protocol(set(&port.protocol))? {
            Some(protocol) => ports.push(SlicePort { name: name.into(), protocol, port: number }),
            None => notices.push(at.skipped("SCTP is not balanced; this port is skipped")),
        }
    }
    Ok(ports)
}

fn from_endpoints(
    at: &Field<'_>,
    list: &[v1::Endpoint],
    family: Family,
    slice: &ObjectName,
) -> Result<Vec<Endpoint>, Invalid> {
    // Not collected, which would leave room for half as many again: these are most of what a cluster is.
    let mut endpoints = Vec::with_capacity(list.len());
    for (at, endpoint) in at.items(list) {
        endpoints.push(from_endpoint(&at, endpoint, family, slice)?);
    }
    Ok(endpoints)
}

fn from_endpoint(
    at: &Field<'_>,
    it: &v1::Endpoint,
    family: Family,
    slice: &ObjectName,
) -> Result<Endpoint, Invalid> {
    let addresses = at.field("addresses");
    let Some(text) = it.addresses.first() else {
        return Err(addresses.invalid("is empty; every endpoint needs an address"));
    };
    let at = addresses.item(0);
    let address = at.ip(text)?;
    if Family::of(address) != family {
        return Err(
            at.invalid(format!("{address} is not of the slice's addressType; put it into another slice"))
        );
    }
    let conditions = it.conditions.as_ref();
    let hints = it.hints.as_ref();
    let pod = it.target_ref.as_ref().filter(|target| target.kind.as_deref() == Some("Pod"));
    Ok(Endpoint {
        address,
        ready: conditions.and_then(|c| c.ready).unwrap_or(true),
        serving: conditions.and_then(|c| c.serving).unwrap_or(true),
        terminating: conditions.and_then(|c| c.terminating).unwrap_or(false),
        node: set(&it.node_name).map(Arc::from),
        zone: set(&it.zone).map(Arc::from),
        zone_hints: hints
            .and_then(|hints| hints.for_zones.as_ref())
            .map(|zones| zones.iter().map(|zone| zone.name.as_str().into()).collect())
            .unwrap_or_default(),
        node_hints: hints
            .and_then(|hints| hints.for_nodes.as_ref())
            .map(|nodes| nodes.iter().map(|node| node.name.as_str().into()).collect())
            .unwrap_or_default(),
        pod: pod.and_then(|target| {
            let other = set(&target.namespace).filter(|namespace| **namespace != *slice.namespace);
            let namespace = other.map_or_else(|| slice.namespace.clone(), Arc::from);
            Some(ObjectName::new(namespace, set(&target.name)?))
        }),
    })
}

#[cfg(test)]
mod tests;
