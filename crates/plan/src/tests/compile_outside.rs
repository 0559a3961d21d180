//! From the model to tables: what is meant for the outside, who may use it, and what addresses are.

use std::{collections::BTreeMap, net::IpAddr};

use abi::{
    frontend::{
        backend_flag::{CLUSTER, INTERNAL, USABLE},
        mode::{CLUSTER_IP, EXTERNAL_IP, LOAD_BALANCER, NODE_PORT},
        record_flag::{EXTERNAL_LOCAL, HAS_ANY, RESTRICTED},
    },
    space::address_use,
};
use model::{
    EndpointSlice, Family, Outside, Protocol, Service, ServicePort, ServiceType, TargetPort, TrafficPolicy,
    View,
};

use super::compile::{DRAINING, READY, compiled, compiled_in, endpoint, ip, slice, web};
use crate::{ServiceTables, describe};

/// A service of type LoadBalancer: one TCP port, node port 30080, in both families.
fn balancer() -> Service {
    Service {
        kind: ServiceType::LoadBalancer,
        external_ips: vec![ip("198.51.100.1"), ip("2001:db8:2::1")],
        load_balancer_ips: vec![ip("192.0.2.1"), ip("2001:db8::1")],
        ports: vec![port("http", Protocol::Tcp, 80, 30_080)],
        ..web()
    }
}

fn port(name: &str, protocol: Protocol, port: u16, node_port: u16) -> ServicePort {
    ServicePort { name: name.into(), protocol, port, node_port, target: TargetPort::Number(1) }
}

fn endpoints() -> [EndpointSlice; 1] {
    [slice("a", [endpoint("10.1.0.1", "there", READY), endpoint("10.1.0.2", "here", READY)])]
}

fn tables(service: Service) -> ServiceTables {
    compiled(service, endpoints())
}

/// Mode, flags without HAS_ANY, and how many backends of each frontend.
fn fronts(tables: &ServiceTables) -> BTreeMap<String, (u8, u32, usize)> {
    let fronts = tables.frontends.iter();
    fronts.map(|(key, it)| (describe::key(key), (it.mode, it.flags & !HAS_ANY, it.list.len()))).collect()
}

fn named<T: Copy>(all: &[(&str, T)]) -> BTreeMap<String, T> {
    all.iter().map(|(text, it)| ((*text).to_owned(), *it)).collect()
}

#[test]
fn r14_r15_each_way_to_a_service_is_a_frontend_in_its_family() {
    assert_eq!(
        fronts(&tables(balancer())),
        named(&[
            ("0.0.0.0:30080/TCP", (NODE_PORT, 0, 2)),
            ("10.96.0.1:80/TCP", (CLUSTER_IP, 0, 2)),
            ("192.0.2.1:80/TCP", (LOAD_BALANCER, 0, 2)),
            ("198.51.100.1:80/TCP", (EXTERNAL_IP, 0, 2)),
            ("[2001:db8:2::1]:80/TCP", (EXTERNAL_IP, 0, 0)),
            ("[2001:db8::1]:80/TCP", (LOAD_BALANCER, 0, 0)),
            ("[::]:30080/TCP", (NODE_PORT, 0, 0)),
            ("[fd00::1]:80/TCP", (CLUSTER_IP, 0, 0)),
        ])
    );
}

#[test]
fn p11_a_machine_outside_of_the_cluster_has_its_cluster_ips_and_the_rest_if_wanted() {
    let service = Service { source_ranges: vec!["10.1.7.0/24".parse().unwrap()], ..balancer() };
    let of = |external| {
        let outside = Some(Outside { external, ..Outside::default() });
        compiled_in(View { node: "here".into(), outside, ..View::default() }, service.clone(), endpoints())
    };
    let some = of(false);
    let cluster_ips = [("10.96.0.1:80/TCP", (CLUSTER_IP, 0, 2)), ("[fd00::1]:80/TCP", (CLUSTER_IP, 0, 0))];
    assert_eq!(fronts(&some), named(&cluster_ips));
    assert!(some.ports.values().all(|port| port.sources.is_empty()));
    let addresses = ["10.96.0.1", "fd00::1"].map(|text| (ip(text), address_use::CLUSTER_IP));
    assert_eq!(some.addresses, addresses.into());
    assert_eq!(of(true), tables(service.clone()));
}

#[test]
fn r2_a_service_of_one_family_has_nothing_in_the_other() {
    let service = Service { cluster_ips: vec![ip("10.96.0.1")], ..balancer() };
    let keys: Vec<_> = fronts(&tables(service)).into_keys().collect();
    assert_eq!(keys, ["0.0.0.0:30080/TCP", "10.96.0.1:80/TCP", "192.0.2.1:80/TCP", "198.51.100.1:80/TCP"]);
}

#[test]
fn r14_r15_inside_the_external_policy_chooses_no_list() {
    let service = Service { external_policy: TrafficPolicy::Local, ..balancer() };
    let all = fronts(&tables(service));
    assert_eq!(all["0.0.0.0:30080/TCP"], (NODE_PORT, EXTERNAL_LOCAL, 2));
    // Another node's VIP there is none.
    assert_eq!(all["192.0.2.1:80/TCP"], (LOAD_BALANCER, 0, 2));
    assert_eq!(all["198.51.100.1:80/TCP"], (EXTERNAL_IP, 0, 2));
    assert_eq!(all["10.96.0.1:80/TCP"], (CLUSTER_IP, 0, 2));
}

#[test]
fn r5_r23_the_internal_policy_counts_for_the_cluster_ip_only_and_backends_say_which_list_they_are_in() {
    let service = Service { internal_policy: TrafficPolicy::Local, ..balancer() };
    let tables = tables(service);
    let all = fronts(&tables);
    assert_eq!(all["10.96.0.1:80/TCP"], (CLUSTER_IP, 0, 1));
    for outside in ["0.0.0.0:30080/TCP", "192.0.2.1:80/TCP", "198.51.100.1:80/TCP"] {
        assert_eq!(all[outside].2, 2, "{outside}");
    }
    let v4 = tables.ports.values().find(|it| it.name.family == Family::V4).unwrap();
    let flags: Vec<u16> = v4.backends.values().copied().collect();
    assert_eq!(flags, [USABLE | CLUSTER, USABLE | INTERNAL | CLUSTER]);
    // What R23 looks for are exactly the members of the list.
    for spec in tables.frontends.values() {
        let member = if spec.mode == CLUSTER_IP { INTERNAL } else { CLUSTER };
        let backends = &tables.ports[&spec.port].backends;
        let members: Vec<_> =
            backends.iter().filter(|(_, flags)| *flags & member != 0).map(|it| *it.0).collect();
        assert_eq!(spec.list, members, "{}", spec.mode);
    }
}

#[test]
fn r23_a_backend_that_drains_is_a_member_of_no_list() {
    let slices =
        [slice("a", [endpoint("10.1.0.1", "there", READY), endpoint("10.1.0.3", "there", DRAINING)])];
    let tables = compiled(balancer(), slices);
    let v4 = tables.ports.values().find(|it| it.name.family == Family::V4).unwrap();
    assert_eq!(v4.backends.values().copied().collect::<Vec<_>>(), [USABLE | INTERNAL | CLUSTER, USABLE]);
}

#[test]
fn r20_one_node_port_number_for_tcp_and_udp_is_two_frontends() {
    let ports = vec![port("http", Protocol::Tcp, 80, 30_080), port("dns", Protocol::Udp, 80, 30_080)];
    let tables = tables(Service { ports, cluster_ips: vec![ip("10.96.0.1")], ..balancer() });
    let of = |text: &str| {
        let (_, spec) = tables.frontends.iter().find(|(key, _)| describe::key(key) == text).unwrap();
        (spec.port.port.to_string(), spec.list[0].port())
    };
    assert_eq!(of("0.0.0.0:30080/TCP"), ("http".to_owned(), 8080));
    assert_eq!(of("0.0.0.0:30080/UDP"), ("dns".to_owned(), 53));
}

fn ranges(texts: &[&str]) -> Service {
    Service { source_ranges: texts.iter().map(|text| text.parse().unwrap()).collect(), ..balancer() }
}

fn sources(tables: &ServiceTables) -> BTreeMap<Family, Vec<String>> {
    let text = |port: &crate::PortTable| port.sources.iter().map(ToString::to_string).collect();
    tables.ports.values().map(|port| (port.name.family, text(port))).collect()
}

#[test]
fn r22_source_ranges_restrict_load_balancer_vips_only_each_in_its_family() {
    let tables = tables(ranges(&["10.1.7.9/24", "10.1.8.0/24", "10.1.7.0/24"]));
    assert_eq!(
        sources(&tables),
        [(Family::V4, vec!["10.1.7.0/24".to_owned(), "10.1.8.0/24".to_owned()]), (Family::V6, Vec::new())]
            .into()
    );
    for (key, (mode, flags, _)) in fronts(&tables) {
        let expected = if key == "192.0.2.1:80/TCP" { RESTRICTED } else { 0 };
        assert_eq!((key.as_str(), flags), (key.as_str(), expected), "{mode}");
    }
    let tables = self::tables(ranges(&["fd00:1::/64"]));
    assert_eq!(fronts(&tables)["[2001:db8::1]:80/TCP"].1, RESTRICTED);
    assert_eq!(fronts(&tables)["192.0.2.1:80/TCP"].1, 0);
}

#[test]
fn r22_a_vip_that_is_an_external_ip_too_stays_restricted() {
    let service = Service { external_ips: vec![ip("192.0.2.1")], ..ranges(&["10.1.7.0/24"]) };
    assert_eq!(fronts(&tables(service))["192.0.2.1:80/TCP"], (LOAD_BALANCER, RESTRICTED, 2));
}

#[test]
fn r23_all_frontends_of_a_service_have_its_affinity() {
    for (seconds, expected) in [(None, 0), (Some(10_800), 10_800), (Some(1), 1)] {
        let tables = tables(Service { affinity_seconds: seconds, ..balancer() });
        assert_eq!(tables.frontends.len(), 8);
        assert!(tables.frontends.values().all(|spec| spec.affinity == expected));
    }
}

fn addresses(service: Service) -> BTreeMap<IpAddr, u32> {
    tables(service).addresses
}

#[test]
fn r12_what_the_addresses_of_a_service_are() {
    use address_use::{CLUSTER_IP, FOREIGN, VIP};
    let of = |cluster_ip, all: &[&str]| -> BTreeMap<IpAddr, u32> {
        let cluster_ips = ["10.96.0.1", "fd00::1"].map(|text| (ip(text), cluster_ip));
        all.iter().map(|text| (ip(text), VIP)).chain(cluster_ips).collect()
    };
    let outside = ["192.0.2.1", "2001:db8::1", "198.51.100.1", "2001:db8:2::1"];
    assert_eq!(addresses(balancer()), of(CLUSTER_IP, &outside));
    assert_eq!(addresses(web()), of(CLUSTER_IP, &[]));
    // Somebody else's.
    let foreign = |service| Service { proxy_name: Some("other".into()), ..service };
    let tables = tables(foreign(balancer()));
    assert_eq!(tables.addresses, of(FOREIGN, &outside));
    assert!(tables.ports.is_empty() && tables.frontends.is_empty() && !tables.is_empty());
    // None that counts.
    for service in [
        Service { cluster_ips: Vec::new(), ..balancer() },
        Service { kind: ServiceType::ExternalName, ..balancer() },
    ] {
        assert!(addresses(service.clone()).is_empty());
        assert!(addresses(foreign(service)).is_empty());
    }
    // One that is both.
    let both = Service { external_ips: vec![ip("10.96.0.1")], ..balancer() };
    assert_eq!(addresses(both)[&ip("10.96.0.1")], CLUSTER_IP | VIP);
}

#[test]
fn r10_a_service_without_endpoints_has_all_its_frontends() {
    let tables = compiled(balancer(), []);
    assert_eq!(tables.frontends.len(), 8);
    assert!(tables.frontends.values().all(|spec| spec.flags & HAS_ANY == 0 && spec.list.is_empty()));
}
