use super::*;
use crate::object::{Kind, ServicePort};
use crate::{object::ContainerPort, sample::*};

fn zone_of(node: &str) -> Option<String> {
    match node {
        "n1" => Some("z1".into()),
        "n2" => Some("z2".into()),
        _ => None,
    }
}

fn run(service: &Service, pods: &[Pod]) -> Vec<EndpointSlice> {
    resolve(service, pods, zone_of)
}

fn only(service: &Service, pod: Pod) -> Option<Endpoint> {
    let slices = run(service, &[pod]);
    assert!(slices.len() <= 1);
    slices.into_iter().next().map(|mut slice| slice.endpoints.remove(0))
}

#[test]
fn a_selected_pod_becomes_an_endpoint_with_its_node_and_zone() {
    let slices = run(&service(), &[pod("a", "10.0.0.1")]);
    assert_eq!(slices.len(), 1);
    assert_eq!(slices[0].owner(), Some((Kind::Service, "default", "web")));
    assert_eq!(
        slices[0].ports,
        [SlicePort { name: "http".into(), protocol: Protocol::Tcp, port: Some(8080) }]
    );
    let expected = Endpoint {
        node: Some("n1".into()),
        zone: Some("z1".into()),
        pod: Some(name("a")),
        ..endpoint("10.0.0.1")
    };
    assert_eq!(slices[0].endpoints, [expected]);
}

#[test]
fn who_takes_no_part() {
    type Case = (&'static str, fn(&mut Pod));
    let cases: [Case; 6] = [
        ("other namespace", |p| p.name = ObjectName::new("other", "a")),
        ("other label", |p| p.labels = map(&[("app", "api")])),
        ("no label", |p| p.labels.clear()),
        ("no address", |p| p.ips.clear()),
        ("address of another family", |p| p.ips = vec![ip("fd00::1")]),
        ("finished", |p| p.finished = true),
    ];
    for (why, change) in cases {
        let mut it = pod("a", "10.0.0.1");
        change(&mut it);
        assert!(run(&service(), &[it]).is_empty(), "{why}");
    }
}

#[test]
fn a_service_without_selector_or_without_cluster_ip_resolves_to_nothing() {
    let manual = Service { selector: BTreeMap::new(), ..service() };
    let headless = Service { cluster_ips: vec![], ..service() };
    for service in [manual, headless] {
        assert!(run(&service, &[pod("a", "10.0.0.1")]).is_empty());
    }
}

#[test]
fn a_selector_of_two_labels_needs_both() {
    let service = Service { selector: map(&[("app", "web"), ("tier", "front")]), ..service() };
    assert!(run(&service, &[pod("a", "10.0.0.1")]).is_empty());
    let both = Pod { labels: map(&[("app", "web"), ("tier", "front"), ("x", "y")]), ..pod("a", "10.0.0.1") };
    assert_eq!(run(&service, &[both]).len(), 1);
}

#[test]
fn conditions_follow_ready_terminating_and_publish_not_ready() {
    // (pod ready, terminating, publish) -> (ready, serving, terminating); kubernetes 1.36 endpointslice/utils.go
    let table = [
        ((true, false, false), (true, true, false)),
        ((false, false, false), (false, false, false)),
        ((true, true, false), (false, true, true)),
        ((false, true, false), (false, false, true)),
        ((true, false, true), (true, true, false)),
        ((false, false, true), (true, false, false)),
        ((true, true, true), (true, true, true)),
        ((false, true, true), (true, false, true)),
    ];
    for ((ready, terminating, publish), expected) in table {
        let service = Service { publish_not_ready: publish, ..service() };
        let got = only(&service, Pod { ready, terminating, ..pod("a", "10.0.0.1") }).unwrap();
        assert_eq!((got.ready, got.serving, got.terminating), expected, "{ready} {terminating} {publish}");
    }
}

#[test]
fn named_ports_are_resolved_per_pod() {
    let mut service = service();
    service.ports[0].target = TargetPort::Name("main".into());
    let with = |n: &str, address: &str, port: u16, protocol| Pod {
        ports: vec![ContainerPort { name: "main".into(), protocol, port }],
        ..pod(n, address)
    };
    let pods = [
        with("a", "10.0.0.1", 8080, Protocol::Tcp),
        with("b", "10.0.0.2", 9090, Protocol::Tcp),
        with("c", "10.0.0.3", 8080, Protocol::Tcp),
        with("other-protocol", "10.0.0.4", 8080, Protocol::Udp),
        pod("without", "10.0.0.5"),
    ];
    let got: Vec<_> = run(&service, &pods)
        .iter()
        .map(|s| {
            (s.ports[0].port.unwrap(), s.endpoints.iter().map(|e| e.address.to_string()).collect::<Vec<_>>())
        })
        .collect();
    assert_eq!(
        got,
        [(8080, vec!["10.0.0.1".into(), "10.0.0.3".into()]), (9090, vec!["10.0.0.2".to_string()])]
    );
}

#[test]
fn a_pod_without_one_named_port_still_serves_the_others() {
    let mut service = service();
    service.ports.push(ServicePort {
        name: "admin".into(),
        target: TargetPort::Name("admin".into()),
        port: 81,
        ..service.ports[0].clone()
    });
    let slices = run(&service, &[pod("a", "10.0.0.1")]);
    assert_eq!(slices.len(), 1);
    assert_eq!(slices[0].ports.iter().map(|p| &*p.name).collect::<Vec<_>>(), ["http"]);
}

#[test]
fn dual_stack_services_get_slices_of_both_families() {
    let service = Service { cluster_ips: vec![ip("10.96.0.1"), ip("fd00::96")], ..service() };
    let dual = Pod { ips: vec![ip("10.0.0.1"), ip("fd00::1")], ..pod("a", "10.0.0.1") };
    let got: Vec<_> =
        run(&service, &[dual, pod("b", "10.0.0.2")]).iter().map(|s| (s.family, s.endpoints.len())).collect();
    assert_eq!(got, [(Family::V4, 2), (Family::V6, 1)]);
}

#[test]
fn traffic_distribution_becomes_hints_of_ready_endpoints() {
    use TrafficDistribution::*;
    let hints = |distribution, pod: Pod| {
        let service = Service { distribution, ..service() };
        let it = only(&service, pod).unwrap();
        (it.zone_hints, it.node_hints)
    };
    let (zone, node) = (vec!["z1".into()], vec!["n1".into()]);
    assert_eq!(hints(None, pod("a", "10.0.0.1")), (vec![], vec![]));
    assert_eq!(hints(Some(SameZone), pod("a", "10.0.0.1")), (zone.clone(), vec![]));
    assert_eq!(hints(Some(SameNode), pod("a", "10.0.0.1")), (zone, node));
    let unready = Pod { ready: false, ..pod("a", "10.0.0.1") };
    assert_eq!(hints(Some(SameNode), unready), (vec![], vec![]));
    let nowhere = Pod { node: Some("unknown".into()), ..pod("a", "10.0.0.1") };
    assert_eq!(hints(Some(SameZone), nowhere), (vec![], vec![]), "a node without zone gives no hint");
}

#[test]
fn the_order_of_pods_does_not_matter() {
    let (a, b) = (pod("a", "10.0.0.1"), pod("b", "10.0.0.2"));
    assert_eq!(run(&service(), &[a.clone(), b.clone()]), run(&service(), &[b, a]));
}
