//! Objects for tests: as little said as possible.

use std::{collections::BTreeMap, net::IpAddr};

use crate::{object::*, policy::*, selector::Selector};

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
}

pub(crate) fn name(name: &str) -> ObjectName {
    ObjectName::new("default", name)
}

/// `default/web`, 10.96.0.1:80/TCP named http, target 8080, selecting app=web.
pub(crate) fn service() -> Service {
    Service {
        name: name("web"),
        uid: String::new(),
        created: None,
        kind: ServiceType::ClusterIp,
        proxy_name: None,
        cluster_ips: vec![ip("10.96.0.1")],
        external_ips: vec![],
        load_balancer_ips: vec![],
        source_ranges: vec![],
        ports: vec![ServicePort {
            name: "http".into(),
            protocol: Protocol::Tcp,
            port: 80,
            node_port: 0,
            target: TargetPort::Number(8080),
        }],
        selector: map(&[("app", "web")]),
        internal_policy: TrafficPolicy::Cluster,
        external_policy: TrafficPolicy::Cluster,
        affinity_seconds: None,
        publish_not_ready: false,
        distribution: None,
        health_check_node_port: 0,
    }
}

/// The only port of [`service`] in IPv4.
pub(crate) fn http() -> ServicePortName {
    ServicePortName {
        kind: Kind::Service,
        service: name("web"),
        port: "http".into(),
        protocol: Protocol::Tcp,
        family: Family::V4,
    }
}

/// Ready, without node, zone or hints.
pub(crate) fn endpoint(address: &str) -> Endpoint {
    Endpoint {
        address: ip(address),
        ready: true,
        serving: true,
        terminating: false,
        node: None,
        zone: None,
        zone_hints: vec![],
        node_hints: vec![],
        pod: None,
    }
}

pub(crate) fn terminating(address: &str) -> Endpoint {
    Endpoint { ready: false, terminating: true, ..endpoint(address) }
}

pub(crate) fn not_ready(address: &str) -> Endpoint {
    Endpoint { ready: false, serving: false, ..endpoint(address) }
}

/// An IPv4 slice of `default/web` with port http = 8080.
pub(crate) fn slice(slice: &str, endpoints: Vec<Endpoint>) -> EndpointSlice {
    EndpointSlice {
        name: name(slice),
        service: Some("web".into()),
        policy: None,
        headless: false,
        triggered: None,
        family: Family::V4,
        ports: vec![SlicePort { name: "http".into(), protocol: Protocol::Tcp, port: Some(8080) }],
        endpoints,
    }
}

/// A ready pod of `default` on node n1 with the label app=web.
pub(crate) fn pod(pod: &str, address: &str) -> Pod {
    Pod {
        name: name(pod),
        labels: map(&[("app", "web")]),
        node: Some("n1".into()),
        uid: String::new(),
        host_network: false,
        ips: vec![ip(address)],
        ready: true,
        finished: false,
        terminating: false,
        ports: vec![],
        containers: vec![],
        socket_lb: None,
    }
}

pub(crate) fn node(name: &str, zone: &str) -> Node {
    Node { name: name.into(), labels: map(&[("topology.kubernetes.io/zone", zone)]), ..Node::default() }
}

/// A LocalRedirectPolicy of 169.254.0.90:80/TCP to port 8080 of pods with app=web.
pub(crate) fn policy(name: &str) -> Policy {
    Policy {
        name: name.into(),
        uid: String::new(),
        created: None,
        frontend: PolicyFrontend::Address { ip: ip("169.254.0.90"), ports: vec![frontend_port("http", 80)] },
        backends: PolicyBackends::Local(pods()),
        nodes: None,
        outside: true,
        limit: None,
    }
}

/// Port 8080 of pods with app=web.
pub(crate) fn pods() -> PodBackends {
    let selector = Selector { labels: map(&[("app", "web")]), ..Selector::default() };
    PodBackends { selector, ports: vec![backend_port("http", 8080)] }
}

pub(crate) fn frontend_port(name: &str, port: u16) -> FrontendPort {
    FrontendPort { name: name.into(), protocol: Protocol::Tcp, port }
}

pub(crate) fn backend_port(name: &str, port: u16) -> BackendPort {
    BackendPort { name: name.into(), protocol: Protocol::Tcp, target: TargetPort::Number(port) }
}

/// The cluster IPs of `default/web`, all ports.
pub(crate) fn of_web() -> PolicyFrontend {
    PolicyFrontend::Service { service: name("web"), ports: vec![] }
}
