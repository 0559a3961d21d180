//! v1 Service.
//!
//! Defaults: kubernetes 1.36 pkg/apis/core/v1/defaults.go; checks: pkg/apis/core/validation.

use std::{collections::HashSet, hash::Hash, net::IpAddr};

use ipnet::IpNet;
use k8s_openapi::{
    api::core::v1::{self, ServiceSpec},
    apimachinery::pkg::util::intstr::IntOrString,
};
use model::{
    Family, Kind, ObjectId, Protocol, Service, ServicePort, ServiceType, TargetPort, TrafficDistribution,
    TrafficPolicy,
};

use crate::{
    Invalid, Notice,
    field::{Field, set},
    identity::{identify, is_label, is_port_name},
};

const POLICIES: [(&str, TrafficPolicy); 2] =
    [("Cluster", TrafficPolicy::Cluster), ("Local", TrafficPolicy::Local)];
const NO_ALLOCATION: &str = "nothing allocates addresses without an API server";

/// A Service with its defaults. What is valid but has no effect here goes to `notices`.
///
/// # Errors
///
/// [`Invalid`] for what the API server would refuse, and for a cluster IP that it would have to allocate.
pub fn from_service(it: &v1::Service, notices: &mut Vec<Notice>) -> Result<Service, Invalid> {
    let id = identify(Kind::Service, &it.metadata)?;
    let at = Field::of(&id, "spec");
    let default = ServiceSpec::default();
    let spec = it.spec.as_ref().unwrap_or(&default);
    let kind = at.field("type").one_of(
        set(&spec.type_).unwrap_or("ClusterIP"),
        &[
            ("ClusterIP", ServiceType::ClusterIp),
            ("NodePort", ServiceType::NodePort),
            ("LoadBalancer", ServiceType::LoadBalancer),
            ("ExternalName", ServiceType::ExternalName),
        ],
    )?;
    let policy = |name: &str, value: &Option<String>| {
        at.field(name).one_of(set(value).unwrap_or("Cluster"), &POLICIES)
    };
    let cluster_ips = match kind {
        ServiceType::ExternalName => Vec::new(),
        _ => cluster_ips(&at, spec)?,
    };
    let ports = ports(&at.field("ports"), spec, kind, notices)?;
    if ports.is_empty() && !cluster_ips.is_empty() && spec.ports.as_ref().is_none_or(Vec::is_empty) {
        return Err(at.field("ports").invalid("is empty; a service with a cluster IP needs a port"));
    }
    let external_policy = policy("externalTrafficPolicy", &spec.external_traffic_policy)?;
    let has_health_check = kind == ServiceType::LoadBalancer && external_policy == TrafficPolicy::Local;
    let health_check_node_port =
        at.field("healthCheckNodePort").port_or_zero(spec.health_check_node_port.unwrap_or(0))?;
    let labels = it.metadata.labels.as_ref();

    Ok(Service {
        uid: it.metadata.uid.clone().unwrap_or_default(),
        created: it.metadata.creation_timestamp.as_ref().map(|time| time.0.as_second()),
        kind,
        proxy_name: labels.and_then(|l| l.get("service.kubernetes.io/service-proxy-name")).cloned(),
        cluster_ips,
        external_ips: ips(&at.field("externalIPs"), spec.external_ips.as_deref())?,
        load_balancer_ips: load_balancer_ips(&id, it)?,
        source_ranges: source_ranges(
            &at.field("loadBalancerSourceRanges"),
            spec.load_balancer_source_ranges.as_deref(),
        )?,
        ports,
        selector: spec.selector.clone().unwrap_or_default(),
        internal_policy: policy("internalTrafficPolicy", &spec.internal_traffic_policy)?,
        external_policy,
        affinity_seconds: affinity(&at, spec)?,
        publish_not_ready: spec.publish_not_ready_addresses.unwrap_or(false),
        distribution: distribution(&at, spec, notices),
        // The API server clears it where it means nothing.
        health_check_node_port: if has_health_check { health_check_node_port } else { 0 },
        name: id.name,
    })
}

/// One address per family; none for a headless service.
fn cluster_ips(at: &Field<'_>, spec: &ServiceSpec) -> Result<Vec<IpAddr>, Invalid> {
    let list = at.field("clusterIPs");
    let texts: &[String] = spec.cluster_ips.as_deref().unwrap_or_default();
    let first = set(&spec.cluster_ip);
    if let (Some(one), Some(other)) = (first, texts.first())
        && one != other
    {
        return Err(list.item(0).invalid(format!("{other:?} must be the same as spec.clusterIP, {one:?}")));
    }
    let texts: Vec<&str> = match first {
        Some(first) if texts.is_empty() => vec![first],
        _ => texts.iter().map(String::as_str).collect(),
    };
    if texts == ["None"] {
        return Ok(Vec::new());
    }
    if texts.is_empty() {
        let problem = format!("is empty; {NO_ALLOCATION}, give one or \"None\"");
        return Err(at.field("clusterIP").invalid(problem));
    }
    let mut ips: Vec<IpAddr> = Vec::with_capacity(texts.len());
    for (index, text) in texts.iter().enumerate() {
        // As written: most manifests have clusterIP only.
        let place = if spec.cluster_ips.is_some() { list.item(index) } else { at.field("clusterIP") };
        let ip = place.ip(text)?;
        if ips.iter().any(|other| Family::of(*other) == Family::of(ip)) {
            return Err(
                place.invalid(format!("{ip} is the second address of its family; give one per family"))
            );
        }
        ips.push(ip);
    }
    let families = at.field("ipFamilies");
    for (place, text) in families.items(spec.ip_families.as_deref().unwrap_or_default()) {
        let family = place.one_of(text, &[("IPv4", Family::V4), ("IPv6", Family::V6)])?;
        if !ips.iter().any(|ip| Family::of(*ip) == family) {
            let problem = format!("{text} has no address in spec.clusterIPs; {NO_ALLOCATION}");
            return Err(place.invalid(problem));
        }
    }
    Ok(ips)
}

fn ports(
    at: &Field<'_>,
    spec: &ServiceSpec,
    kind: ServiceType,
    notices: &mut Vec<Notice>,
) -> Result<Vec<ServicePort>, Invalid> {
    let list = spec.ports.as_deref().unwrap_or_default();
    let has_node_ports = matches!(kind, ServiceType::NodePort | ServiceType::LoadBalancer);
    let mut seen = Seen::default();
    let mut ports = Vec::with_capacity(list.len());
    for (at, it) in at.items(list) {
        let name = it.name.clone().unwrap_or_default();
        if name.is_empty() && list.len() > 1 {
            return Err(at.field("name").invalid("is empty; of several ports each needs a name"));
        }
        if !name.is_empty() && !is_label(&name) {
            let problem = format!("{name:?} is not a port name; use lower case letters, digits and '-'");
            return Err(at.field("name").invalid(problem));
        }
        seen.names.check(&at.field("name"), name.clone())?;
        let port = at.field("port").port(it.port)?;
        let Some(protocol) = at.field("protocol").protocol(set(&it.protocol))? else {
            notices.push(at.skipped("SCTP is not balanced; this port is skipped"));
            continue;
        };
        seen.ports.check(&at.field("port"), (port, protocol))?;
        let node_port = at.field("nodePort").port_or_zero(it.node_port.unwrap_or(0))?;
        if node_port != 0 {
            if !has_node_ports {
                let problem = "needs spec.type NodePort or LoadBalancer; change the type or remove it";
                return Err(at.field("nodePort").invalid(problem));
            }
            seen.node_ports.check(&at.field("nodePort"), (node_port, protocol))?;
        } else if kind == ServiceType::NodePort {
            notices.push(
                at.field("nodePort").skipped(
                    "is empty; nothing allocates node ports without an API server, so there is none",
                ),
            );
        }
        let target = target_port(&at.field("targetPort"), it.target_port.as_ref(), port)?;
        ports.push(ServicePort { name: name.into(), protocol, port, node_port, target });
    }
    Ok(ports)
}

/// What must not be there twice in one service.
#[derive(Default)]
struct Seen {
    names: Unique<String>,
    ports: Unique<(u16, Protocol)>,
    node_ports: Unique<(u16, Protocol)>,
}

struct Unique<T>(HashSet<T>);

impl<T> Default for Unique<T> {
    fn default() -> Self {
        Self(HashSet::new())
    }
}

impl<T: Hash + Eq> Unique<T> {
    fn check(&mut self, at: &Field<'_>, value: T) -> Result<(), Invalid> {
        if self.0.insert(value) {
            Ok(())
        } else {
            Err(at.invalid("is the same as that of another port of this service; make it different"))
        }
    }
}

fn target_port(at: &Field<'_>, it: Option<&IntOrString>, port: u16) -> Result<TargetPort, Invalid> {
    match it {
        None | Some(IntOrString::Int(0)) => Ok(TargetPort::Number(port)),
        Some(IntOrString::String(name)) if name.is_empty() => Ok(TargetPort::Number(port)),
        Some(IntOrString::Int(number)) => Ok(TargetPort::Number(at.port(*number)?)),
        Some(IntOrString::String(name)) if is_port_name(name) => Ok(TargetPort::Name(name.clone())),
        Some(IntOrString::String(name)) => {
            Err(at.invalid(format!("{name:?} is neither a port number nor the name of a container port")))
        }
    }
}

fn ips(at: &Field<'_>, texts: Option<&[String]>) -> Result<Vec<IpAddr>, Invalid> {
    at.items(texts.unwrap_or_default()).map(|(at, text)| at.ip(text)).collect()
}

/// R2: only where `ipMode` is not `Proxy`; those ask for their traffic to go through the load balancer.
fn load_balancer_ips(id: &ObjectId, it: &v1::Service) -> Result<Vec<IpAddr>, Invalid> {
    let ingress = it.status.as_ref().and_then(|status| status.load_balancer.as_ref()?.ingress.as_deref());
    let at = Field::of(id, "status.loadBalancer.ingress");
    at.items(ingress.unwrap_or_default())
        .filter(|(_, ingress)| ingress.ip_mode.as_deref() != Some("Proxy"))
        .filter_map(|(at, ingress)| Some((at, set(&ingress.ip)?)))
        .map(|(at, ip)| at.field("ip").ip(ip))
        .collect()
}

/// R2: blanks around a range don't count, and a zero-length prefix lifts the restriction in its family.
fn source_ranges(at: &Field<'_>, texts: Option<&[String]>) -> Result<Vec<IpNet>, Invalid> {
    let ranges: Vec<IpNet> = at
        .items(texts.unwrap_or_default())
        .map(|(at, text)| (at, text.trim()))
        .filter(|(_, text)| !text.is_empty())
        .map(|(at, text)| at.cidr(text))
        .collect::<Result<_, _>>()?;
    let family = |range: &IpNet| Family::of(range.addr());
    let is_open = |wanted| ranges.iter().any(|range| range.prefix_len() == 0 && family(range) == wanted);
    Ok(ranges.iter().filter(|range| !is_open(family(range))).copied().collect())
}

fn affinity(at: &Field<'_>, spec: &ServiceSpec) -> Result<Option<u32>, Invalid> {
    let sticky = at
        .field("sessionAffinity")
        .one_of(set(&spec.session_affinity).unwrap_or("None"), &[("None", false), ("ClientIP", true)])?;
    if !sticky {
        return Ok(None);
    }
    let config = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
    let seconds = config.and_then(|client_ip| client_ip.timeout_seconds).unwrap_or(10_800);
    match u32::try_from(seconds) {
        Ok(seconds @ 1..=86_400) => Ok(Some(seconds)),
        _ => Err(at
            .field("sessionAffinityConfig.clientIP.timeoutSeconds")
            .invalid(format!("{seconds} is out of range; use 1-86400"))),
    }
}

/// A word that a newer API server may know must not take the service away.
fn distribution(
    at: &Field<'_>,
    spec: &ServiceSpec,
    notices: &mut Vec<Notice>,
) -> Option<TrafficDistribution> {
    match set(&spec.traffic_distribution)? {
        "PreferClose" | "PreferSameZone" => Some(TrafficDistribution::SameZone),
        "PreferSameNode" => Some(TrafficDistribution::SameNode),
        other => {
            let reason = format!("{other:?} is not known; traffic is not kept close");
            notices.push(at.field("trafficDistribution").skipped(reason));
            None
        }
    }
}

#[cfg(test)]
mod tests;
