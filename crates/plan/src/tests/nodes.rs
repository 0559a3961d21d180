//! R14: what the addresses of nodes are for.

use std::{collections::BTreeMap, net::IpAddr};

use abi::space::address_use::{LOOPBACK, OTHER_NODE, THIS_NODE};
use model::{Change, Cluster, Node, NodePortAddresses, Object, Outside, View};

use super::compile::ip;
use crate::node_addresses;

fn node(name: &str, internal: &[&str], external: &[&str]) -> Node {
    let ips = |texts: &[&str]| texts.iter().map(|text| ip(text)).collect();
    Node { name: name.into(), internal_ips: ips(internal), external_ips: ips(external), ..Node::default() }
}

fn addresses(nodes: &[Node], chosen: &[&str], interfaces: &[&str]) -> BTreeMap<IpAddr, u32> {
    addresses_in(None, nodes, chosen, interfaces)
}

fn addresses_in(
    outside: Option<Outside>,
    nodes: &[Node],
    chosen: &[&str],
    interfaces: &[&str],
) -> BTreeMap<IpAddr, u32> {
    let mut cluster = Cluster::new(View { node: "here".into(), outside, ..View::default() });
    for node in nodes {
        cluster.apply(Change::Upsert(Object::from(node.clone())));
    }
    let chosen: Vec<NodePortAddresses> = chosen.iter().map(|text| text.parse().unwrap()).collect();
    let interfaces: Vec<IpAddr> = interfaces.iter().map(|text| ip(text)).collect();
    node_addresses(&cluster, &chosen, &interfaces)
}

fn all(expected: &[(&str, u32)]) -> BTreeMap<IpAddr, u32> {
    expected.iter().map(|(text, uses)| (ip(text), *uses)).collect()
}

#[test]
fn r14_this_nodes_chosen_addresses_and_all_of_the_others() {
    let nodes = [
        node("here", &["172.18.0.1", "2001:db8:1::1"], &["203.0.113.1"]),
        node("there", &["172.18.0.2", "2001:db8:1::2"], &["203.0.113.2"]),
        node("far", &["172.18.0.3"], &[]),
    ];
    let others = [
        ("172.18.0.2", OTHER_NODE),
        ("2001:db8:1::2", OTHER_NODE),
        ("203.0.113.2", OTHER_NODE),
        ("172.18.0.3", OTHER_NODE),
    ];
    let interfaces = ["127.0.0.1", "172.18.0.1", "10.0.0.1", "::1", "2001:db8:1::1"];
    for (chosen, own) in [
        (&["primary"][..], &[("172.18.0.1", THIS_NODE), ("2001:db8:1::1", THIS_NODE)][..]),
        (&["10.0.0.0/8"], &[("10.0.0.1", THIS_NODE)]),
        (&["localhost"], &[("127.0.0.1", LOOPBACK), ("::1", LOOPBACK)]),
        (
            &["10.0.0.0/8", "localhost"],
            &[("10.0.0.1", THIS_NODE), ("127.0.0.1", LOOPBACK), ("::1", LOOPBACK)],
        ),
        (&["all"], &[("172.18.0.1", THIS_NODE), ("10.0.0.1", THIS_NODE), ("2001:db8:1::1", THIS_NODE)]),
        (&[], &[]),
    ] {
        let expected = all(&[&others[..], own].concat());
        assert_eq!(addresses(&nodes, chosen, &interfaces), expected, "{chosen:?}");
    }
}

#[test]
fn r14_what_this_node_has_is_its_own_whoever_claims_it() {
    let nodes = [
        node("here", &["172.18.0.1"], &["203.0.113.1"]),
        node("there", &["172.18.0.1", "172.18.0.2", "10.0.0.1"], &["203.0.113.1"]),
    ];
    // By the node, and by an interface that serves no node ports.
    let expected = all(&[("172.18.0.1", THIS_NODE), ("172.18.0.2", OTHER_NODE)]);
    assert_eq!(addresses(&nodes, &["primary"], &["172.18.0.1", "10.0.0.1"]), expected);
    let expected = all(&[("172.18.0.2", OTHER_NODE)]);
    assert_eq!(addresses(&nodes, &["192.168.0.0/16"], &["172.18.0.1", "10.0.0.1"]), expected);
}

#[test]
fn r14_a_host_that_is_no_node_has_its_first_addresses() {
    let nodes = [node("there", &["172.18.0.2"], &[])];
    let expected = all(&[("172.18.0.9", THIS_NODE), ("172.18.0.2", OTHER_NODE)]);
    assert_eq!(addresses(&nodes, &["primary"], &["127.0.0.1", "172.18.0.9", "10.0.0.1"]), expected);
    assert_eq!(addresses(&[], &["primary"], &[]), all(&[]));
}

#[test]
fn p11_outside_of_the_cluster_node_ports_are_at_all_nodes_if_at_all() {
    // One has the machine's name by chance.
    let nodes = [node("here", &["172.18.0.1"], &[]), node("there", &["172.18.0.2"], &["203.0.113.2"])];
    let of = |external| {
        let outside = Some(Outside { external, ..Outside::default() });
        addresses_in(outside, &nodes, &["primary"], &["127.0.0.1", "172.18.0.2", "192.168.7.1"])
    };
    assert_eq!(of(false), all(&[]));
    let expected = ["172.18.0.1", "172.18.0.2", "203.0.113.2"].map(|text| (text, OTHER_NODE));
    assert_eq!(of(true), all(&expected));
}
