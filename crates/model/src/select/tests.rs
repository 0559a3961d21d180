use super::*;
use crate::{
    endpoints::candidates,
    object::{Endpoint, EndpointSlice, ServiceType},
    sample::*,
};

fn here() -> Here {
    Here { node: "n1".into(), zone: Some("z1".into()) }
}

/// What was selected, by the last number of the address.
#[derive(Debug, PartialEq)]
struct Chosen {
    internal: Vec<u8>,
    external: Vec<u8>,
    cluster: Vec<u8>,
    has_any: bool,
    mode: Mode,
}

fn run_at(service: &Service, endpoints: Vec<Endpoint>, here: &Here) -> Chosen {
    let slices = [slice("a", endpoints)];
    let candidates = candidates(&http(), &slices);
    let selection = select(service, &service.ports[0], Family::V4, &candidates, here);
    let last = |indices: &[usize]| -> Vec<u8> {
        let text = |i: &usize| candidates[*i].address.ip().to_string();
        indices.iter().map(|i| text(i).rsplit('.').next().unwrap().parse().unwrap()).collect()
    };
    Chosen {
        internal: last(&selection.internal),
        external: last(&selection.external),
        cluster: last(&selection.cluster),
        has_any: selection.has_any,
        mode: selection.mode,
    }
}

fn run(service: &Service, endpoints: Vec<Endpoint>) -> Chosen {
    run_at(service, endpoints, &here())
}

fn ep(last: u8) -> Endpoint {
    endpoint(&format!("10.0.0.{last}"))
}

fn zones(last: u8, zones: &[&str]) -> Endpoint {
    Endpoint { zone_hints: zones.iter().map(|z| (*z).into()).collect(), ..ep(last) }
}

fn nodes(last: u8, nodes: &[&str], zone: &str) -> Endpoint {
    Endpoint { node_hints: nodes.iter().map(|n| (*n).into()).collect(), ..zones(last, &[zone]) }
}

fn on(node: &str, endpoint: Endpoint) -> Endpoint {
    Endpoint { node: Some(node.into()), ..endpoint }
}

fn term(last: u8) -> Endpoint {
    terminating(&format!("10.0.0.{last}"))
}

fn unready(last: u8) -> Endpoint {
    not_ready(&format!("10.0.0.{last}"))
}

fn local_internal() -> Service {
    Service { internal_policy: TrafficPolicy::Local, ..service() }
}

fn node_port() -> Service {
    let mut it = Service { kind: ServiceType::NodePort, ..service() };
    it.ports[0].node_port = 30080;
    it
}

fn local_external() -> Service {
    Service { external_policy: TrafficPolicy::Local, ..node_port() }
}

#[test]
fn r5_all_ready_endpoints_without_hints() {
    let got = run(&service(), vec![ep(1), unready(2), term(3), ep(4)]);
    assert_eq!(
        got,
        Chosen {
            internal: vec![1, 4],
            external: vec![],
            cluster: vec![1, 4],
            has_any: true,
            mode: Mode::All
        }
    );
}

#[test]
fn r5_ready_with_zone_hint_for_this_zone_selects_by_zone() {
    let got = run(&service(), vec![zones(1, &["z1"]), zones(2, &["z2"]), zones(3, &["z2", "z1"])]);
    assert_eq!((got.internal, got.mode), (vec![1, 3], Mode::Zone));
}

#[test]
fn r5_node_hints_go_before_zone_hints() {
    let got = run(&service(), vec![nodes(1, &["n1"], "z1"), nodes(2, &["n2"], "z1")]);
    assert_eq!((got.internal, got.mode), (vec![1], Mode::Node));
}

#[test]
fn r5_node_hints_that_name_nobody_here_leave_it_to_zone_hints() {
    let got = run(&service(), vec![nodes(1, &["n2"], "z1"), nodes(2, &["n3"], "z2")]);
    assert_eq!((got.internal, got.mode), (vec![1], Mode::Zone));
}

#[test]
fn r5_one_missing_node_hint_leaves_it_to_zone_hints() {
    let got = run(&service(), vec![nodes(1, &["n1"], "z2"), nodes(2, &[], "z1")]);
    assert_eq!((got.internal, got.mode), (vec![2], Mode::Zone));
}

#[test]
fn r5_one_missing_zone_hint_means_all() {
    let got = run(&service(), vec![zones(1, &["z1"]), zones(2, &[])]);
    assert_eq!((got.internal, got.mode), (vec![1, 2], Mode::All));
}

#[test]
fn r5_zone_hints_that_name_nobody_here_mean_all() {
    let got = run(&service(), vec![zones(1, &["z2"]), zones(2, &["z3"])]);
    assert_eq!((got.internal, got.mode), (vec![1, 2], Mode::All));
}

#[test]
fn r5_zone_hints_mean_nothing_to_a_node_without_zone() {
    let here = Here { node: "n1".into(), zone: None };
    let got = run_at(&service(), vec![zones(1, &["z1"]), zones(2, &[""])], &here);
    assert_eq!((got.internal, got.mode), (vec![1, 2], Mode::All));
}

#[test]
fn r5_only_hints_of_ready_endpoints_count() {
    let here_but_unready = Endpoint { zone_hints: vec!["z1".into()], ..unready(2) };
    let got = run(&service(), vec![zones(1, &["z2"]), here_but_unready, unready(3)]);
    assert_eq!((got.internal, got.mode), (vec![1], Mode::All));
    let unready_without = run(&service(), vec![zones(1, &["z1"]), zones(4, &["z2"]), unready(3)]);
    assert_eq!((unready_without.internal, unready_without.mode), (vec![1], Mode::Zone));
}

#[test]
fn r5_nothing_ready_falls_back_to_serving_and_terminating_and_ignores_hints() {
    let hinted = Endpoint { zone_hints: vec!["z1".into()], ..term(1) };
    let elsewhere = Endpoint { zone_hints: vec!["z2".into()], ..term(2) };
    let silent = Endpoint { serving: false, ..term(3) };
    let got = run(&service(), vec![hinted, elsewhere, silent, unready(4)]);
    assert_eq!((got.internal, got.mode, got.has_any), (vec![1, 2], Mode::All, true));
}

#[test]
fn r5_serving_without_terminating_is_not_a_fallback() {
    let serving = Endpoint { ready: false, ..ep(1) };
    let got = run(&service(), vec![serving]);
    assert_eq!((got.internal, got.has_any), (vec![], false));
}

#[test]
fn r5_ready_counts_even_while_terminating() {
    // publishNotReadyAddresses: ready, and terminating.
    let published = Endpoint { ready: true, serving: false, ..term(1) };
    let got = run(&service(), vec![published, term(2)]);
    assert_eq!((got.internal, got.has_any), (vec![1], true));
}

#[test]
fn r5_internal_policy_local_takes_local_endpoints_only() {
    let got = run(&local_internal(), vec![on("n1", ep(1)), on("n2", ep(2)), ep(3)]);
    // Nothing can ever use the cluster list.
    assert_eq!((got.internal, got.external, got.cluster), (vec![1], vec![], vec![]));
}

#[test]
fn r5_local_ignores_hints() {
    let endpoints = vec![on("n1", nodes(1, &["n2"], "z2")), on("n2", nodes(2, &["n1"], "z1"))];
    let got = run(&local_internal(), endpoints);
    assert_eq!((got.internal, got.mode), (vec![1], Mode::Node));
}

#[test]
fn r5_local_falls_back_to_local_serving_and_terminating() {
    let got = run(&local_internal(), vec![on("n1", term(1)), on("n2", ep(2)), on("n1", unready(3))]);
    assert_eq!((got.internal, got.has_any), (vec![1], true));
}

#[test]
fn r5_r11_none_local_but_others_elsewhere_has_any() {
    for elsewhere in [ep(1), term(1)] {
        let got = run(&local_internal(), vec![on("n2", elsewhere)]);
        assert_eq!((got.internal, got.has_any), (vec![], true));
    }
}

#[test]
fn r5_r10_has_any_is_false_without_a_ready_or_a_serving_and_terminating_endpoint() {
    for endpoints in [vec![], vec![unready(1)], vec![Endpoint { serving: false, ..term(1) }]] {
        for service in [service(), local_internal(), local_external()] {
            assert!(!run(&service, endpoints.clone()).has_any);
        }
    }
}

#[test]
fn r5_external_policy_local_keeps_the_cluster_list_for_the_others() {
    let got = run(&local_external(), vec![on("n1", ep(1)), on("n2", ep(2))]);
    assert_eq!((got.internal, got.external, got.cluster), (vec![1, 2], vec![1], vec![1, 2]));
}

#[test]
fn r5_internal_policy_local_with_a_node_port_uses_both_lists() {
    let service = Service { internal_policy: TrafficPolicy::Local, ..node_port() };
    let got = run(&service, vec![on("n1", ep(1)), on("n2", ep(2))]);
    assert_eq!((got.internal, got.external, got.cluster), (vec![1], vec![1, 2], vec![1, 2]));
}

#[test]
fn r5_both_policies_local() {
    let service = Service { internal_policy: TrafficPolicy::Local, ..local_external() };
    let got = run(&service, vec![on("n1", ep(1)), on("n2", ep(2))]);
    assert_eq!((got.internal, got.external, got.cluster), (vec![1], vec![1], vec![1, 2]));
}

#[test]
fn r5_external_policy_without_any_external_access_does_nothing() {
    let service = Service { external_policy: TrafficPolicy::Local, ..service() };
    let got = run(&service, vec![on("n1", ep(1)), on("n2", ep(2))]);
    assert_eq!((got.internal, got.external, got.cluster), (vec![1, 2], vec![], vec![1, 2]));
}

#[test]
fn r5_node_port_load_balancer_and_external_ip_each_make_externally_accessible() {
    let port = service().ports[0].clone();
    let with_vip = Service { load_balancer_ips: vec![ip("192.0.2.1")], ..service() };
    let with_external = Service { external_ips: vec![ip("192.0.2.1")], ..service() };
    assert!(!service().externally_accessible(&port, Family::V4));
    for service in [with_vip, with_external] {
        assert!(service.externally_accessible(&port, Family::V4));
        assert!(!service.externally_accessible(&port, Family::V6), "of another family");
    }
    assert!(node_port().externally_accessible(&node_port().ports[0], Family::V4));
}

#[test]
fn r5_standings_say_why() {
    let explain = |service: &Service, traffic, endpoints: Vec<Endpoint>| {
        let slices: [EndpointSlice; 1] = [slice("a", endpoints)];
        standings(service, traffic, &candidates(&http(), &slices), &here())
    };
    use Standing::*;
    let by_zone = vec![
        zones(1, &["z1"]),
        zones(2, &["z2"]),
        term(3),
        Endpoint { serving: false, ..term(4) },
        unready(5),
    ];
    assert_eq!(
        explain(&service(), Traffic::Internal, by_zone),
        [Selected, OtherZone, Terminating, NotServing, NotReady]
    );
    let by_node = vec![nodes(1, &["n1"], "z1"), nodes(2, &["n2"], "z1")];
    assert_eq!(explain(&service(), Traffic::Internal, by_node), [Selected, OtherNode]);
    assert_eq!(explain(&service(), Traffic::Internal, vec![term(1), unready(2)]), [LastResort, NotReady]);
    let spread = || vec![on("n1", ep(1)), on("n2", ep(2))];
    assert_eq!(explain(&local_external(), Traffic::External, spread()), [Selected, NotLocal]);
    assert_eq!(explain(&local_external(), Traffic::Internal, spread()), [Selected, Selected]);
    assert_eq!(explain(&local_external(), Traffic::ShortCircuit, spread()), [Selected, Selected]);
}

#[test]
fn r5_each_standing_says_something_else_and_whether_it_is_selected() {
    use Standing::*;
    let table = [
        (Selected, true, "selected"),
        (LastResort, true, "last resort: terminating"),
        (NotReady, false, "not ready"),
        (NotServing, false, "terminating, not serving"),
        (Terminating, false, "terminating, not needed"),
        (OtherNode, false, "hinted for other nodes"),
        (OtherZone, false, "hinted for other zones"),
        (NotLocal, false, "remote, policy is Local"),
    ];
    for (standing, selected, text) in table {
        assert_eq!((standing.is_selected(), standing.to_string().as_str()), (selected, text));
    }
}
