//! R2, R12, R14: who keeps a contested frontend, and what addresses are.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use abi::{
    frontend::mode,
    space::{address_use, prefix_flag},
};
use model::Family;

use super::world::{PortSketch, Sketch, edit, service, vip};
use crate::{Desired, ServiceTables, Touched};

fn claiming(created: Option<i64>) -> Option<Sketch> {
    Some(Sketch { created, ..Sketch::new("", [PortSketch::v4(80, 1, [1])]) })
}

fn holder(desired: &Desired) -> Option<String> {
    desired.frontend(&vip(Family::V4, 1, 80)).map(|spec| spec.port.service.name.clone())
}

#[test]
fn r2_the_oldest_keeps_a_frontend_and_the_next_takes_over() {
    let mut desired = Desired::new();
    edit(&mut desired, &(1, claiming(Some(20))));
    edit(&mut desired, &(2, claiming(Some(10))));
    edit(&mut desired, &(3, claiming(Some(30))));
    assert_eq!(holder(&desired).as_deref(), Some("s2"));
    let conflicts: Vec<_> = desired.conflicts().collect();
    assert_eq!(conflicts.len(), 1);
    assert_eq!(conflicts[0].holder, service(2));
    assert_eq!(conflicts[0].waiting, [service(1), service(3)]);

    let touched = edit(&mut desired, &(2, None));
    assert!(touched.keys.contains(&vip(Family::V4, 1, 80)));
    assert_eq!(holder(&desired).as_deref(), Some("s1"));
    edit(&mut desired, &(1, None));
    assert_eq!(holder(&desired).as_deref(), Some("s3"));
    assert_eq!(desired.conflicts().count(), 0);
    edit(&mut desired, &(3, None));
    assert_eq!(holder(&desired), None);
}

#[test]
fn r2_of_one_age_the_first_by_name_wins_and_no_age_is_the_youngest() {
    let mut desired = Desired::new();
    edit(&mut desired, &(0, claiming(None)));
    edit(&mut desired, &(2, claiming(Some(10))));
    edit(&mut desired, &(1, claiming(Some(10))));
    assert_eq!(holder(&desired).as_deref(), Some("s1"));
    edit(&mut desired, &(1, None));
    edit(&mut desired, &(2, None));
    edit(&mut desired, &(3, claiming(None)));
    assert_eq!(holder(&desired).as_deref(), Some("s0"));
}

#[test]
fn setting_the_same_again_touches_nothing() {
    let mut desired = Desired::new();
    assert!(!edit(&mut desired, &(0, claiming(None))).is_empty());
    assert_eq!(edit(&mut desired, &(0, claiming(None))), Touched::default());
    // The age settles conflicts, so it counts.
    assert!(!edit(&mut desired, &(0, claiming(Some(1)))).is_empty());
    edit(&mut desired, &(0, None));
    assert_eq!(edit(&mut desired, &(0, None)), Touched::default());
}

#[test]
fn r14_addresses_of_nodes_are_kept_only_while_there_is_a_node_port() {
    let node: std::net::IpAddr = [192, 168, 7, 2].into();
    let mut desired = Desired::new();
    let nodes = |uses| [(node, uses)].into();
    assert!(desired.set_nodes(nodes(address_use::OTHER_NODE)).is_empty());
    assert_eq!((desired.uses(node), desired.addresses().count()), (0, 0));
    // The sketch's VIP 4 is a node port.
    let with = Sketch::new("", [PortSketch { vips: [4].into(), ..PortSketch::v4(80, 4, [1]) }]);
    assert!(edit(&mut desired, &(0, Some(with.clone()))).addresses.contains(&node));
    assert_eq!(desired.uses(node), address_use::OTHER_NODE);
    assert!(desired.set_nodes(nodes(address_use::THIS_NODE)).addresses.contains(&node));
    // A second one, and the first goes: nothing to do.
    assert!(!edit(&mut desired, &(1, Some(with))).addresses.contains(&node));
    assert!(!edit(&mut desired, &(0, None)).addresses.contains(&node));
    assert!(edit(&mut desired, &(1, None)).addresses.contains(&node));
    assert_eq!((desired.uses(node), desired.addresses().count()), (0, 0));
}

/// A service whose frontends are of one kind, all on the same address and port.
fn set_as(desired: &mut Desired, n: u8, mode: u8, created: Option<i64>) -> Touched {
    let mut tables = claiming(created).unwrap().tables(&service(n));
    tables.frontends.values_mut().for_each(|spec| spec.mode = mode);
    let uses = if mode == mode::CLUSTER_IP { address_use::CLUSTER_IP } else { address_use::VIP };
    tables.addresses.values_mut().for_each(|it| *it = uses);
    desired.set(&service(n), tables, created)
}

#[test]
fn r2_a_cluster_ip_is_never_taken_by_an_older_services_vip_or_external_ip() {
    for outside in [mode::EXTERNAL_IP, mode::LOAD_BALANCER] {
        for (old, young) in [(Some(1), Some(2)), (Some(1), None)] {
            let mut desired = Desired::new();
            set_as(&mut desired, 1, outside, old);
            assert_eq!(holder(&desired).as_deref(), Some("s1"));
            let touched = set_as(&mut desired, 2, mode::CLUSTER_IP, young);
            assert!(touched.keys.contains(&vip(Family::V4, 1, 80)));
            assert_eq!(holder(&desired).as_deref(), Some("s2"));
            let conflict = desired.conflicts().next().unwrap();
            assert_eq!((conflict.holder, conflict.waiting), (service(2), vec![service(1)]));
            // Its other ports are refused (R12).
            let both = address_use::CLUSTER_IP | address_use::VIP;
            assert_eq!(desired.uses(IpAddr::from([10, 96, 0, 1])), both);
            edit(&mut desired, &(2, None));
            assert_eq!(holder(&desired).as_deref(), Some("s1"));
            assert_eq!(desired.uses(IpAddr::from([10, 96, 0, 1])), address_use::VIP);
        }
    }
}

#[test]
fn r2_of_vips_and_external_ips_the_oldest_services_counts() {
    let mut desired = Desired::new();
    set_as(&mut desired, 1, mode::LOAD_BALANCER, Some(2));
    set_as(&mut desired, 2, mode::EXTERNAL_IP, Some(1));
    assert_eq!(holder(&desired).as_deref(), Some("s2"));
    // What was an external IP becomes a cluster IP: it changes hands at once.
    set_as(&mut desired, 3, mode::EXTERNAL_IP, Some(3));
    assert_eq!(holder(&desired).as_deref(), Some("s2"));
    set_as(&mut desired, 3, mode::CLUSTER_IP, Some(3));
    assert_eq!(holder(&desired).as_deref(), Some("s3"));
}

#[test]
fn r12_what_several_services_say_of_an_address_counts_until_the_last_is_gone() {
    let ip = IpAddr::from([10, 96, 0, 1]);
    let mut desired = Desired::new();
    set_as(&mut desired, 1, mode::EXTERNAL_IP, Some(1));
    set_as(&mut desired, 2, mode::EXTERNAL_IP, Some(1));
    // This one calls its own cluster IP an external IP, too.
    let both = address_use::CLUSTER_IP | address_use::VIP;
    desired.set(&service(3), only_address(ip, both), None);
    assert_eq!(desired.uses(ip), both);
    edit(&mut desired, &(3, None));
    let touched = edit(&mut desired, &(1, None));
    assert!(touched.addresses.contains(&ip));
    assert_eq!(desired.uses(ip), address_use::VIP);
    edit(&mut desired, &(2, None));
    assert_eq!(desired.uses(ip), 0);
    assert_eq!(desired.addresses().count(), 0);
}

/// A service without frontends.
fn only_address(ip: IpAddr, uses: u32) -> ServiceTables {
    ServiceTables { addresses: [(ip, uses)].into(), ..ServiceTables::default() }
}

#[test]
fn r12_a_foreign_cluster_ip_that_moves_gives_back_one_external_ip_and_takes_another() {
    let mut desired = Desired::new();
    set_as(&mut desired, 1, mode::EXTERNAL_IP, None);
    let (there, elsewhere) = (IpAddr::from([10, 96, 0, 1]), IpAddr::from([10, 96, 0, 2]));
    desired.set(&service(2), only_address(elsewhere, address_use::FOREIGN), None);
    assert_eq!(holder(&desired).as_deref(), Some("s1"));
    for (ip, expected) in [(there, None), (elsewhere, Some("s1"))] {
        let touched = desired.set(&service(2), only_address(ip, address_use::FOREIGN), None);
        assert_eq!(touched.addresses, [there, elsewhere].into());
        assert_eq!(touched.keys, [vip(Family::V4, 1, 80)].into());
        assert_eq!(holder(&desired).as_deref(), expected);
    }
}

#[test]
fn r12_the_space_is_of_cidrs_and_cluster_ips_but_of_no_other_address() {
    let mut desired = Desired::new();
    let area = |desired: &Desired| desired.space().area(&vip(Family::V4, 1, 80).endpoint.address);
    set_as(&mut desired, 1, mode::EXTERNAL_IP, None);
    assert_eq!(area(&desired), 0);
    set_as(&mut desired, 1, mode::CLUSTER_IP, None);
    assert_eq!(area(&desired), prefix_flag::SERVICES);
    desired.set_cidrs(vec!["10.96.0.0/16".parse().unwrap()]);
    assert_eq!(area(&desired), prefix_flag::SERVICES | prefix_flag::RESERVED);
    desired.set_cidrs(Vec::new());
    assert_eq!(area(&desired), prefix_flag::SERVICES);
}

fn with_node_port(n: u8) -> Option<Sketch> {
    Some(Sketch::new("", [PortSketch { vips: [n, 4].into(), ..PortSketch::v4(80, n, [1]) }]))
}

#[test]
fn r14_addresses_of_nodes_are_something_only_while_there_is_a_node_port() {
    let (own, other) = (IpAddr::from([172, 18, 0, 1]), IpAddr::from([172, 18, 0, 2]));
    let mut desired = Desired::new();
    let nodes: BTreeMap<_, _> = [(own, address_use::THIS_NODE), (other, address_use::OTHER_NODE)].into();
    assert!(desired.set_nodes(nodes.clone()).is_empty());
    edit(&mut desired, &(0, claiming(None)));
    assert_eq!((desired.uses(own), desired.uses(other)), (0, 0));
    assert_eq!(desired.space().last_node_port, 0);

    let touched = edit(&mut desired, &(1, with_node_port(1)));
    assert!(touched.addresses.is_superset(&[own, other].into()));
    assert_eq!((desired.uses(own), desired.uses(other)), (address_use::THIS_NODE, address_use::OTHER_NODE));
    assert_eq!((desired.space().first_node_port, desired.space().last_node_port), (30_080, 30_080));
    assert!(desired.addresses().collect::<BTreeSet<_>>().is_superset(&[own, other].into()));
    // A second one changes nothing of it.
    assert!(!edit(&mut desired, &(2, with_node_port(2))).addresses.contains(&own));

    // What changes, appears or goes is touched, the rest is not.
    let third = IpAddr::from([172, 18, 0, 3]);
    let nodes: BTreeMap<_, _> = [(own, address_use::THIS_NODE), (third, address_use::OTHER_NODE)].into();
    assert_eq!(desired.set_nodes(nodes.clone()).addresses, [other, third].into());
    assert!(desired.set_nodes(nodes).is_empty());
    assert_eq!((desired.uses(other), desired.uses(third)), (0, address_use::OTHER_NODE));

    edit(&mut desired, &(2, None));
    let touched = edit(&mut desired, &(1, None));
    assert!(touched.addresses.is_superset(&[own, third].into()));
    assert_eq!((desired.uses(own), desired.uses(third)), (0, 0));
    assert!(!desired.addresses().any(|ip| ip == own));
}

#[test]
fn r14_what_a_service_and_a_node_say_of_an_address_counts_both() {
    let ip = IpAddr::from([10, 96, 0, 2]);
    let mut desired = Desired::new();
    edit(&mut desired, &(1, with_node_port(1)));
    set_as(&mut desired, 2, mode::EXTERNAL_IP, None);
    desired
        .set_nodes([(ip, address_use::OTHER_NODE), ([10, 96, 0, 1].into(), address_use::THIS_NODE)].into());
    assert_eq!(desired.uses(ip), address_use::OTHER_NODE);
    let all = address_use::THIS_NODE | address_use::CLUSTER_IP | address_use::VIP;
    assert_eq!(desired.uses([10, 96, 0, 1].into()), all);
    edit(&mut desired, &(2, None));
    assert_eq!(desired.uses([10, 96, 0, 1].into()), address_use::THIS_NODE | address_use::CLUSTER_IP);
}
