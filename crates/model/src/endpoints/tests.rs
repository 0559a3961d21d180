use proptest::prelude::*;

use super::*;
use crate::{
    object::{Protocol, SlicePort},
    sample::*,
};

fn addresses(port: &ServicePortName, slices: &[EndpointSlice]) -> Vec<String> {
    candidates(port, slices).iter().map(|c| c.address.to_string()).collect()
}

#[test]
fn r3_endpoints_are_the_union_of_all_slices() {
    let slices = [slice("b", vec![endpoint("10.0.0.2")]), slice("a", vec![endpoint("10.0.0.1")])];
    assert_eq!(addresses(&http(), &slices), ["10.0.0.1:8080", "10.0.0.2:8080"]);
}

#[test]
fn r3_slices_may_have_different_ports_for_one_service_port() {
    let mut other = slice("b", vec![endpoint("10.0.0.2")]);
    other.ports[0].port = Some(9090);
    let slices = [slice("a", vec![endpoint("10.0.0.1")]), other];
    assert_eq!(addresses(&http(), &slices), ["10.0.0.1:8080", "10.0.0.2:9090"]);
}

#[test]
fn r3_more_than_a_hundred_endpoints_are_normal() {
    let endpoints = (0..300).map(|i| endpoint(&format!("10.0.{}.{}", i / 200, i % 200 + 1))).collect();
    assert_eq!(candidates(&http(), &[slice("a", endpoints)]).len(), 300);
}

#[test]
fn r3_a_slice_of_another_service_family_port_or_protocol_is_left_out() {
    let changes: [fn(&mut EndpointSlice); 8] = [
        |s| s.service = Some("other".into()),
        |s| s.service = None,
        |s| s.name = ObjectName::new("other", "a"),
        |s| s.family = Family::V6,
        |s| s.ports[0].name = "https".into(),
        |s| s.ports[0].protocol = Protocol::Udp,
        |s| s.ports[0].port = None,
        |s| s.ports[0].port = Some(0),
    ];
    for (i, change) in changes.iter().enumerate() {
        let mut it = slice("a", vec![endpoint("10.0.0.1")]);
        change(&mut it);
        assert!(addresses(&http(), &[it]).is_empty(), "change {i}");
    }
}

#[test]
fn r1_a_headless_slice_is_not_ours() {
    let it = EndpointSlice { headless: true, ..slice("a", vec![endpoint("10.0.0.1")]) };
    assert!(addresses(&http(), &[it]).is_empty());
}

#[test]
fn r3_the_unnamed_port_matches_the_unnamed_port_only() {
    let mut unnamed = slice("a", vec![endpoint("10.0.0.1")]);
    unnamed.ports = vec![
        SlicePort { name: "".into(), protocol: Protocol::Tcp, port: Some(1) },
        SlicePort { name: "http".into(), protocol: Protocol::Tcp, port: Some(2) },
    ];
    let port = ServicePortName { port: "".into(), ..http() };
    assert_eq!(addresses(&port, &[unnamed]), ["10.0.0.1:1"]);
}

#[test]
fn r3_the_same_address_twice_prefers_not_terminating_then_ready_then_the_smallest_slice_name() {
    let on = |node: &str, e: Endpoint| Endpoint { node: Some(node.into()), ..e };
    let cases = [
        ("not terminating", on("loses", terminating("10.0.0.1")), on("wins", not_ready("10.0.0.1"))),
        ("ready", on("loses", not_ready("10.0.0.1")), on("wins", endpoint("10.0.0.1"))),
    ];
    for (why, loser, winner) in cases {
        let (a, b) = (slice("a", vec![loser]), slice("b", vec![winner]));
        for slices in [[&a, &b], [&b, &a]] {
            let found = candidates(&http(), slices);
            assert_eq!(found.len(), 1, "{why}");
            assert_eq!(found[0].endpoint.node.as_deref(), Some("wins"), "{why}");
        }
    }
    let a = slice("a", vec![on("wins", endpoint("10.0.0.1"))]);
    let b = slice("b", vec![on("loses", endpoint("10.0.0.1"))]);
    for slices in [[&a, &b], [&b, &a]] {
        assert_eq!(candidates(&http(), slices)[0].endpoint.node.as_deref(), Some("wins"), "name");
    }
}

#[test]
fn r3_an_address_twice_in_one_slice_does_not_depend_on_the_order_either() {
    let changes: [fn(&mut Endpoint); 6] = [
        |it| it.serving = false,
        |it| it.node = Some("n1".into()),
        |it| it.zone = Some("z1".into()),
        |it| it.zone_hints = vec!["z1".into()],
        |it| it.node_hints = vec!["n1".into()],
        |it| it.pod = Some(name("p")),
    ];
    for (i, change) in changes.iter().enumerate() {
        let one = terminating("10.0.0.1");
        let mut other = one.clone();
        change(&mut other);
        let there = slice("a", vec![one.clone(), other.clone()]);
        let back = slice("a", vec![other, one.clone()]);
        for slice in [there, back] {
            let slices = [slice];
            let found: Vec<&Endpoint> = candidates(&http(), &slices).iter().map(|c| c.endpoint).collect();
            assert_eq!(found, [&one], "change {i}");
        }
    }
}

#[test]
fn r4_usable_is_serving_whatever_readiness_says() {
    let slices = [slice("a", vec![terminating("10.0.0.1"), not_ready("10.0.0.2"), endpoint("10.0.0.3")])];
    let usable: Vec<bool> = candidates(&http(), &slices).iter().map(Candidate::is_usable).collect();
    assert_eq!(usable, [true, false, true]);
}

/// Of few addresses, so that one is listed often, and says something else each time.
fn any_endpoint() -> impl Strategy<Value = Endpoint> {
    let texts = || proptest::collection::vec("[ab]", 0..2);
    let place = (proptest::option::of("n[12]"), proptest::option::of("z[12]"), proptest::option::of("p[12]"));
    (1..3u8, any::<[bool; 3]>(), place, texts(), texts()).prop_map(
        |(last, [ready, serving, terminating], (node, zone, pod), zone_hints, node_hints)| Endpoint {
            address: ip(&format!("10.0.0.{last}")),
            ready,
            serving,
            terminating,
            node: node.map(Into::into),
            zone: zone.map(Into::into),
            zone_hints: zone_hints.into_iter().map(Into::into).collect(),
            node_hints: node_hints.into_iter().map(Into::into).collect(),
            pod: pod.map(|it| name(&it)),
        },
    )
}

proptest! {
    #[test]
    fn r3_neither_the_order_of_slices_nor_of_endpoints_matters(
        lists in proptest::collection::vec(proptest::collection::vec(any_endpoint(), 0..5), 0..4),
        seed in any::<usize>(),
    ) {
        let mut slices: Vec<_> = lists.into_iter().enumerate().map(|(i, l)| slice(&format!("s{i}"), l)).collect();
        let before: Vec<_> = candidates(&http(), &slices).into_iter().map(|c| c.endpoint.clone()).collect();
        for slice in &mut slices {
            slice.endpoints.reverse();
        }
        let turns = seed % slices.len().max(1);
        slices.rotate_left(turns);
        let after: Vec<_> = candidates(&http(), &slices).into_iter().map(|c| c.endpoint.clone()).collect();
        prop_assert_eq!(before, after);
    }
}

#[test]
fn r25_slices_are_like_each_other_whenever_they_were_made() {
    let it = || slice("a", vec![endpoint("10.0.0.1")]);
    assert!(it().is_like(&EndpointSlice { triggered: Some(1), ..it() }));
    for other in [
        EndpointSlice { name: name("b"), ..it() },
        EndpointSlice { service: None, ..it() },
        EndpointSlice { headless: true, ..it() },
        EndpointSlice { family: Family::V6, ..it() },
        EndpointSlice { ports: vec![], ..it() },
        EndpointSlice { endpoints: vec![], ..it() },
    ] {
        assert!(!it().is_like(&other), "{other:?}");
    }
}
