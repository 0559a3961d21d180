//! R2: what a Service is in one IP family.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;

use crate::object::{Family, Kind, ObjectName, Service, ServicePort, ServicePortName, ServiceType};

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
