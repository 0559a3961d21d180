//! From the model to tables.

use std::net::IpAddr;

use abi::frontend::{
    backend_flag::{CLUSTER, INTERNAL, TERMINATING, USABLE},
    mode, record_flag,
};
use model::{
    Change, Cluster, Endpoint, EndpointSlice, Family, Kind, Object, ObjectId, ObjectName, Protocol, Service,
    ServicePort, ServiceType, SlicePort, TargetPort, TrafficPolicy, View,
};
use proptest::prelude::*;

use crate::{ServiceTables, compile};

pub(super) fn name() -> ObjectName {
    ObjectName::new("default", "web")
}

pub(super) fn web() -> Service {
    let port = |name: &str, protocol, port| ServicePort {
        name: name.into(),
        protocol,
        port,
        node_port: 0,
        target: TargetPort::Number(1),
    };
    Service {
        name: name(),
        uid: "uid".into(),
        created: Some(1),
        kind: ServiceType::ClusterIp,
        proxy_name: None,
        cluster_ips: vec![ip("10.96.0.1"), ip("fd00::1")],
        external_ips: Vec::new(),
        load_balancer_ips: Vec::new(),
        source_ranges: Vec::new(),
        ports: vec![port("http", Protocol::Tcp, 80), port("dns", Protocol::Udp, 80)],
        selector: Default::default(),
        internal_policy: TrafficPolicy::Cluster,
        external_policy: TrafficPolicy::Cluster,
        affinity_seconds: None,
        publish_not_ready: false,
        distribution: None,
        health_check_node_port: 0,
    }
}

pub(super) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(super) fn endpoint(
    address: &str,
    node: &str,
    (ready, serving, terminating): (bool, bool, bool),
) -> Endpoint {
    Endpoint {
        address: ip(address),
        ready,
        serving,
        terminating,
        node: Some(node.into()),
        zone: None,
        zone_hints: Vec::new(),
        node_hints: Vec::new(),
        pod: None,
    }
}

pub(super) const READY: (bool, bool, bool) = (true, true, false);
const UNREADY: (bool, bool, bool) = (false, false, false);
pub(super) const DRAINING: (bool, bool, bool) = (false, true, true);

pub(super) fn slice(n: &str, endpoints: impl IntoIterator<Item = Endpoint>) -> EndpointSlice {
    let port = |name: &str, protocol, port| SlicePort { name: name.into(), protocol, port: Some(port) };
    EndpointSlice {
        name: ObjectName::new("default", n),
        service: Some("web".into()),
        policy: None,
        headless: false,
        triggered: None,
        family: Family::V4,
        ports: vec![port("http", Protocol::Tcp, 8080), port("dns", Protocol::Udp, 53)],
        endpoints: endpoints.into_iter().collect(),
    }
}

pub(super) fn compiled(service: Service, slices: impl IntoIterator<Item = EndpointSlice>) -> ServiceTables {
    compiled_in(View { node: "here".into(), ..View::default() }, service, slices)
}

pub(super) fn compiled_in(
    view: View,
    service: Service,
    slices: impl IntoIterator<Item = EndpointSlice>,
) -> ServiceTables {
    let mut cluster = Cluster::new(view);
    cluster.apply(Change::Upsert(Object::from(service)));
    for slice in slices {
        cluster.apply(Change::Upsert(Object::from(slice)));
    }
    compile(&cluster, &name())
}

/// Frontends and backends, one a line.
fn text(tables: &ServiceTables) -> Vec<String> {
    let mut lines = Vec::new();
    for (key, spec) in &tables.frontends {
        assert_eq!(spec.mode, mode::CLUSTER_IP);
        let (key, any) =
            (crate::describe::key(key), if spec.flags & record_flag::HAS_ANY != 0 { "some" } else { "none" });
        lines.push(format!("{key} {} {any} {:?}", spec.port, spec.list));
        for backend in &spec.list {
            assert!(tables.ports[&spec.port].backends.contains_key(backend));
        }
    }
    for port in tables.ports.values().filter(|it| it.name.protocol == Protocol::Tcp) {
        let family = port.name.family;
        lines.extend(port.backends.iter().map(|(addr, flags)| format!("{family:?} {addr} {flags}")));
    }
    lines.sort();
    lines
}

#[test]
fn r7_each_cluster_ip_and_port_is_a_frontend() {
    let tables = compiled(web(), [slice("a", [endpoint("10.1.0.1", "there", READY)])]);
    assert_eq!(
        text(&tables),
        [
            "10.96.0.1:80/TCP default/web:http/TCP some [10.1.0.1:8080]",
            "10.96.0.1:80/UDP default/web:dns/UDP some [10.1.0.1:53]",
            &format!("V4 10.1.0.1:8080 {}", USABLE | INTERNAL | CLUSTER),
            "[fd00::1]:80/TCP default/web:http/TCP none []",
            "[fd00::1]:80/UDP default/web:dns/UDP none []",
        ]
    );
    let port = tables.ports.values().next().unwrap();
    assert_eq!((port.uid.as_str(), port.port), ("uid", 80));
}

#[test]
fn r4_usable_endpoints_are_backends_even_if_not_selected() {
    let endpoints = [
        endpoint("10.1.0.1", "there", READY),
        endpoint("10.1.0.2", "there", UNREADY),
        endpoint("10.1.0.3", "there", DRAINING),
    ];
    let tables = compiled(Service { cluster_ips: vec![ip("10.96.0.1")], ..web() }, [slice("a", endpoints)]);
    let backends = text(&tables).into_iter().filter(|line| line.starts_with('V')).collect::<Vec<_>>();
    assert_eq!(
        backends,
        [format!("V4 10.1.0.1:8080 {}", USABLE | INTERNAL | CLUSTER), format!("V4 10.1.0.3:8080 {USABLE}")]
    );
    let list = &tables.frontends.values().next().unwrap().list;
    assert_eq!(list.len(), 1);
}

#[test]
fn r5_terminating_backends_are_marked_where_nothing_better_is_left() {
    let tables = compiled(web(), [slice("a", [endpoint("10.1.0.3", "there", DRAINING)])]);
    assert!(
        text(&tables).contains(&format!("V4 10.1.0.3:8080 {}", USABLE | TERMINATING | INTERNAL | CLUSTER))
    );
}

#[test]
fn r11_local_policy_with_none_local_is_an_empty_list_of_something() {
    let service = Service { internal_policy: TrafficPolicy::Local, ..web() };
    let tables = compiled(service, [slice("a", [endpoint("10.1.0.1", "there", READY)])]);
    assert!(text(&tables).contains(&"10.96.0.1:80/TCP default/web:http/TCP some []".into()));
}

#[test]
fn r1_what_is_not_ours_or_gone_is_nothing() {
    let slices = || [slice("a", [endpoint("10.1.0.1", "there", READY)])];
    for service in
        [Service { cluster_ips: Vec::new(), ..web() }, Service { kind: ServiceType::ExternalName, ..web() }]
    {
        assert!(compiled(service, slices()).is_empty());
    }
    assert!(compile(&Cluster::new(View::default()), &name()).is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_order_of_arrival_does_not_matter(
        order in Just((0..6usize).collect::<Vec<_>>()).prop_shuffle(),
        conditions in prop::collection::vec((0..4u8, any::<(bool, bool, bool)>()), 1..9),
        swap in any::<bool>(),
    ) {
        let slices: Vec<EndpointSlice> = (0..3)
            .map(|n| {
                let own = conditions.iter().skip(n).step_by(3);
                let endpoints = own.map(|(a, c)| endpoint(&format!("10.1.0.{a}"), "here", *c));
                slice(&format!("s{n}"), endpoints)
            })
            .collect();
        let expected = compiled(web(), slices.clone());

        let mut service = web();
        if swap {
            service.ports.reverse();
        }
        let stray = slice("stray", [endpoint("10.1.0.77", "here", READY)]);
        let mut changes = vec![
            Change::Upsert(Object::from(service)),
            Change::Upsert(Object::from(stray.clone())),
            Change::Upsert(Object::from(Service { name: ObjectName::new("default", "other"), ..web() })),
        ];
        changes.extend(slices.into_iter().map(|it| Change::Upsert(Object::from(it))));
        let mut cluster = Cluster::new(View { node: "here".into(), ..View::default() });
        for at in order {
            cluster.apply(changes[at].clone());
        }
        cluster.apply(Change::Delete(ObjectId { kind: Kind::EndpointSlice, name: stray.name }));
        prop_assert_eq!(compile(&cluster, &name()), expected);
    }
}
