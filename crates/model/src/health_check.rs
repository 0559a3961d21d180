//! R24: what load balancers in front of the cluster ask each node: does it have endpoints of a service of its own?
//!
//! As kubernetes 1.36 pkg/proxy/healthcheck/service_health.go and pkg/proxy/endpointschangetracker.go
//! (`LocalReadyEndpoints`) do. Ready means ready: terminating endpoints may still get traffic (R5), but no new node should be
//! sent there for their sake.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use crate::{
    cluster::Cluster,
    object::{Family, ObjectName, Service, ServiceType, TrafficPolicy},
};

/// The health check of one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// `healthCheckNodePort`, not 0.
    pub port: u16,
    /// Distinct addresses of ready endpoints on this node, in each family of the service.
    pub local: BTreeMap<Family, usize>,
}

impl Cluster {
    /// The health check of a service of ours; `None` if it has none, or this machine is no node.
    pub fn health_check(&self, name: &ObjectName) -> Option<HealthCheck> {
        if self.view().outside.is_some() {
            return None;
        }
        let service = self.service(name).filter(|service| self.is_ours(service) && is_checked(service))?;
        let families: BTreeSet<Family> = service.families().collect();
        let local = families.into_iter().map(|family| (family, self.local_ready(service, family).len()));
        Some(HealthCheck { port: service.health_check_node_port, local: local.collect() })
    }

    /// Not `ip:port`: an endpoint that serves two ports of the service is one.
    fn local_ready(&self, service: &Service, family: Family) -> BTreeSet<IpAddr> {
        let node = self.here().node;
        let ports = service.ports.iter().map(|port| service.port_name(port, family));
        ports
            .flat_map(|port| self.endpoints(&port))
            .map(|candidate| candidate.endpoint)
            .filter(|endpoint| endpoint.ready && endpoint.node.as_deref() == Some(&node))
            .map(|endpoint| endpoint.address)
            .collect()
    }
}

fn is_checked(service: &Service) -> bool {
    service.kind == ServiceType::LoadBalancer
        && service.external_policy == TrafficPolicy::Local
        && service.health_check_node_port != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cluster::{Outside, View},
        object::*,
        sample::{endpoint, ip, name, service, slice, terminating},
    };

    fn checked() -> Service {
        Service {
            kind: ServiceType::LoadBalancer,
            external_policy: TrafficPolicy::Local,
            health_check_node_port: 30_100,
            ..service()
        }
    }

    /// What `default/web` on node n1 says, with these endpoints.
    fn check(service: Service, slices: Vec<EndpointSlice>) -> Option<HealthCheck> {
        let mut cluster = Cluster::new(View { node: "n1".into(), ..View::default() });
        let slices = slices.into_iter().map(Object::from);
        cluster.apply_all(slices.chain([service.into()]).map(Change::Upsert));
        cluster.health_check(&name("web"))
    }

    fn counts(service: Service, slices: Vec<EndpointSlice>) -> Vec<(Family, usize)> {
        check(service, slices).unwrap().local.into_iter().collect()
    }

    fn here(address: &str) -> Endpoint {
        Endpoint { node: Some("n1".into()), ..endpoint(address) }
    }

    #[test]
    fn r24_only_load_balancers_with_policy_local_are_checked() {
        assert_eq!(check(checked(), vec![]).unwrap().port, 30_100);
        for other in [
            Service { kind: ServiceType::NodePort, ..checked() },
            Service { external_policy: TrafficPolicy::Cluster, ..checked() },
            Service { health_check_node_port: 0, ..checked() },
            Service { proxy_name: Some("other".into()), ..checked() },
            Service { cluster_ips: vec![], ..checked() },
        ] {
            assert_eq!(check(other.clone(), vec![]), None, "{other:?}");
        }
        assert_eq!(Cluster::new(View::default()).health_check(&name("web")), None);
        let mut host = Cluster::new(View { outside: Some(Outside::default()), ..View::default() });
        host.apply(Change::Upsert(checked().into()));
        assert_eq!(host.health_check(&name("web")), None, "nobody asks a machine that is no node");
    }

    #[test]
    fn r24_ready_endpoints_of_this_node_count() {
        let elsewhere = Endpoint { node: Some("n2".into()), ..endpoint("10.0.0.5") };
        let leaving = Endpoint { node: Some("n1".into()), ..terminating("10.0.0.6") };
        let endpoints =
            vec![here("10.0.0.1"), here("10.0.0.2"), endpoint("10.0.0.4"), elsewhere, leaving.clone()];
        assert_eq!(counts(checked(), vec![slice("a", endpoints)]), [(Family::V4, 2)]);
        assert_eq!(
            counts(checked(), vec![slice("a", vec![leaving])]),
            [(Family::V4, 0)],
            "serving, not ready"
        );
    }

    #[test]
    fn r24_addresses_are_counted_once_whatever_their_ports_and_slices() {
        let mut two = checked();
        two.ports.push(ServicePort { name: "tls".into(), port: 443, ..two.ports[0].clone() });
        let mut tls = slice("b", vec![here("10.0.0.1"), here("10.0.0.3")]);
        tls.ports = vec![SlicePort { name: "tls".into(), protocol: Protocol::Tcp, port: Some(8443) }];
        let same = slice("c", vec![here("10.0.0.1")]);
        let slices = vec![slice("a", vec![here("10.0.0.1"), here("10.0.0.2")]), tls, same];
        assert_eq!(counts(two, slices), [(Family::V4, 3)]);
    }

    #[test]
    fn r24_families_are_counted_apart() {
        let mut dual = checked();
        dual.cluster_ips.push(ip("fd00::1"));
        let mut v6 = slice("b", vec![here("fd00:1::1"), here("fd00:1::2")]);
        v6.family = Family::V6;
        let v4 = slice("a", vec![here("10.0.0.1")]);
        assert_eq!(counts(dual, vec![v4.clone(), v6.clone()]), [(Family::V4, 1), (Family::V6, 2)]);
        assert_eq!(counts(checked(), vec![v4, v6]), [(Family::V4, 1)], "a family that it does not have");
    }
}
