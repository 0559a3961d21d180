//! Services, and what one is in one IP family (R2).

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use ipnet::IpNet;

use crate::object::{Family, Kind, ObjectName, Protocol, ServicePortName};

/// `spec.type` of a Service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServiceType {
    /// Only the cluster IP.
    #[default]
    ClusterIp,
    /// Cluster IP and a port on each node.
    NodePort,
    /// Node port and load balancer VIPs.
    LoadBalancer,
    /// A DNS alias: no VIP, never ours (R1).
    ExternalName,
}

/// Internal or external traffic policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TrafficPolicy {
    /// Any endpoint of the cluster.
    #[default]
    Cluster,
    /// Only endpoints on this node.
    Local,
}

/// `spec.trafficDistribution`: read only where selectors are resolved to slices (it becomes hints there);
/// selection itself looks at hints alone (R5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrafficDistribution {
    /// `PreferClose` or `PreferSameZone`.
    SameZone,
    /// `PreferSameNode`.
    SameNode,
}

/// `targetPort` of a service port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetPort {
    /// A number.
    Number(u16),
    /// The name of a container port, resolved per pod.
    Name(String),
}

/// One entry of `spec.ports`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Port name, `""` where unset.
    pub name: Arc<str>,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Port on the VIP, 1-65535.
    pub port: u16,
    /// Node port, 0 where there is none.
    pub node_port: u16,
    /// Where pods listen; only used to resolve selectors (R3).
    pub target: TargetPort,
}

/// A Service, with the API server's defaults applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Namespace and name.
    pub name: ObjectName,
    /// `metadata.uid`, empty in most manifests.
    pub uid: String,
    /// `metadata.creationTimestamp`, seconds since 1970; manifests have none.
    pub created: Option<i64>,
    /// `spec.type`.
    pub kind: ServiceType,
    /// Value of the label `service.kubernetes.io/service-proxy-name`.
    pub proxy_name: Option<String>,
    /// `spec.clusterIPs`, at most one per family; empty for headless services (`None`).
    pub cluster_ips: Vec<IpAddr>,
    /// `spec.externalIPs`.
    pub external_ips: Vec<IpAddr>,
    /// `status.loadBalancer.ingress[].ip` whose `ipMode` is not `Proxy`.
    pub load_balancer_ips: Vec<IpAddr>,
    /// `spec.loadBalancerSourceRanges`.
    pub source_ranges: Vec<IpNet>,
    /// `spec.ports`, TCP and UDP only.
    pub ports: Vec<ServicePort>,
    /// `spec.selector`; empty = endpoints are somebody else's business.
    pub selector: BTreeMap<String, String>,
    /// `spec.internalTrafficPolicy`.
    pub internal_policy: TrafficPolicy,
    /// `spec.externalTrafficPolicy`.
    pub external_policy: TrafficPolicy,
    /// `sessionAffinity: ClientIP` with its timeout in seconds; `None` = no affinity.
    pub affinity_seconds: Option<u32>,
    /// `spec.publishNotReadyAddresses`.
    pub publish_not_ready: bool,
    /// `spec.trafficDistribution`.
    pub distribution: Option<TrafficDistribution>,
    /// `spec.healthCheckNodePort`, 0 where unset.
    pub health_check_node_port: u16,
}

impl Service {
    /// The families that this service has a cluster IP in, in the order of `clusterIPs`.
    ///
    /// A service exists in these families only: an external IP of another family is not served, as in
    /// kubernetes 1.36 pkg/proxy/serviceport.go.
    pub fn families(&self) -> impl Iterator<Item = Family> + '_ {
        self.cluster_ips.iter().map(|ip| Family::of(*ip))
    }

    /// The cluster IP of a family.
    pub fn cluster_ip(&self, family: Family) -> Option<IpAddr> {
        in_family(&self.cluster_ips, family).next()
    }

    /// The external IPs of a family.
    pub fn external_ips_in(&self, family: Family) -> impl Iterator<Item = IpAddr> + '_ {
        in_family(&self.external_ips, family)
    }

    /// The load balancer VIPs of a family.
    pub fn load_balancer_ips_in(&self, family: Family) -> impl Iterator<Item = IpAddr> + '_ {
        in_family(&self.load_balancer_ips, family)
    }

    /// The source ranges that clients of load balancer VIPs of a family must be in; none = no restriction.
    pub fn source_ranges_in(&self, family: Family) -> impl Iterator<Item = IpNet> + '_ {
        self.source_ranges.iter().copied().filter(move |range| Family::of(range.addr()) == family)
    }

    /// The identity of one of this service's ports in one family.
    pub fn port_name(&self, port: &ServicePort, family: Family) -> ServicePortName {
        ServicePortName {
            kind: Kind::Service,
            service: self.name.clone(),
            port: port.name.clone(),
            protocol: port.protocol,
            family,
        }
    }

    /// Every port in every family of this service.
    pub fn ports_by_family(&self) -> impl Iterator<Item = (&ServicePort, Family)> + '_ {
        self.families().flat_map(|family| self.ports.iter().map(move |port| (port, family)))
    }

    /// Whether clients outside the cluster can reach this port in this family (R5).
    pub fn externally_accessible(&self, port: &ServicePort, family: Family) -> bool {
        port.node_port != 0
            || self.load_balancer_ips_in(family).next().is_some()
            || self.external_ips_in(family).next().is_some()
    }

    /// R1: whether this service is proxied at all, and by whoever goes by the name `proxy` (`None` = the
    /// cluster's ordinary service proxy).
    pub fn is_proxied_by(&self, proxy: Option<&str>) -> bool {
        !self.cluster_ips.is_empty()
            && self.kind != ServiceType::ExternalName
            && self.proxy_name.as_deref() == proxy
    }

    /// Whether the selector picks the pod of this name and with these labels. No selector picks nothing.
    pub fn selects(&self, pod: &ObjectName, labels: &BTreeMap<String, String>) -> bool {
        !self.selector.is_empty()
            && pod.namespace == self.name.namespace
            && self.selector.iter().all(|(key, value)| labels.get(key) == Some(value))
    }
}

fn in_family(ips: &[IpAddr], family: Family) -> impl Iterator<Item = IpAddr> + '_ {
    ips.iter().copied().filter(move |ip| Family::of(*ip) == family)
}
