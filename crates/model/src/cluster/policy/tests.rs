use super::*;
use crate::{
    PodBackends,
    annotation::NodeAnnotation,
    cluster::{Outside, View},
    object::{Change, Object, ObjectId, Pod},
    sample::*,
    selector::Selector,
};

fn view() -> View {
    View { node: "n1".into(), resolve_selectors: true, ..View::default() }
}

fn cluster(view: View, objects: impl IntoIterator<Item = Object>) -> Cluster {
    let mut cluster = Cluster::new(view);
    cluster.apply_all(objects.into_iter().map(Change::Upsert));
    cluster
}

fn balancing(mode: RedirectMode) -> Policy {
    Policy { backends: PolicyBackends::Pods(pods(), mode), ..policy("p") }
}

/// `10.0.0.1:8080 x1`, `-` for none, `!` for not usable.
fn backends(cluster: &Cluster, policy: &Policy, family: Family) -> Vec<String> {
    let selection = cluster.policy_backends(policy, &policy.backend_ports()[0], family);
    let line = |it: &PolicyBackend| {
        assert!(it.weight > 0 || it.why_not.is_some(), "{it:?}");
        format!("{} x{}{}", it.address, it.weight, if it.usable { "" } else { "!" })
    };
    selection.backends.iter().map(line).collect()
}

fn on(node: &str, pod: Pod) -> Object {
    Pod { node: Some(node.into()), ..pod }.into()
}

#[test]
fn p4_a_local_redirect_has_the_ready_pods_of_its_own_node() {
    let mut draining = pod("draining", "10.0.0.4");
    draining.terminating = true;
    let cluster = cluster(
        view(),
        [
            on("n1", pod("a", "10.0.0.1")),
            on("n2", pod("b", "10.0.0.2")),
            on("n1", Pod { ready: false, ..pod("starting", "10.0.0.3") }),
            on("n1", draining),
            on("n1", Pod { labels: map(&[("app", "api")]), ..pod("other", "10.0.0.5") }),
            // In another namespace: selectors of policies know none.
            on("n1", Pod { name: ObjectName::new("kube-system", "c"), ..pod("c", "10.0.0.6") }),
            on("n1", Pod { finished: true, ..pod("done", "10.0.0.7") }),
        ],
    );
    let expected = ["10.0.0.1:8080 x1", "10.0.0.3:8080 x0!", "10.0.0.4:8080 x0", "10.0.0.6:8080 x1"];
    assert_eq!(backends(&cluster, &policy("p"), Family::V4), [""; 0], "it is not there");
    let mut cluster = cluster;
    cluster.apply(Change::Upsert(policy("p").into()));
    assert_eq!(backends(&cluster, &policy("p"), Family::V4), expected);
    assert_eq!(backends(&cluster, &policy("p"), Family::V6), [""; 0]);
}

#[test]
fn p2_named_target_ports_resolve_per_pod() {
    let named = |pod: Pod, port: u16| Pod {
        ports: vec![crate::ContainerPort { name: "web".into(), protocol: crate::Protocol::Tcp, port }],
        ..pod
    };
    let port = BackendPort { target: TargetPort::Name("web".into()), ..backend_port("", 0) };
    let backend = crate::PodBackends { ports: vec![port], ..pods() };
    let policy = Policy { backends: PolicyBackends::Pods(backend, RedirectMode::PodEndpoint), ..policy("p") };
    let objects = [
        on("n1", named(pod("a", "10.0.0.1"), 81)),
        on("n2", named(pod("b", "10.0.0.2"), 82)),
        on("n2", pod("c", "10.0.0.3")),
        policy.clone().into(),
    ];
    let found = backends(&cluster(view(), objects), &policy, Family::V4);
    assert_eq!(found, ["10.0.0.1:81 x1", "10.0.0.2:82 x1"]);
}

#[test]
fn p8_a_balancing_policy_has_pods_of_all_nodes_or_the_nodes_once_with_as_many_shares_as_ready_pods() {
    let addressed = |name: &str, ips: &[&str], proxy: Option<&str>| -> Object {
        let annotation = |value: &str| crate::Annotation { value: value.into(), is_ours: false };
        let annotations = proxy.map(|ip| (NodeAnnotation::NodeProxyIpv4, annotation(ip)));
        Node {
            internal_ips: ips.iter().map(|it| ip(it)).collect(),
            annotations: annotations.into_iter().collect(),
            ..node(name, "z1")
        }
        .into()
    };
    let dual = |mut pod: Pod, second: &str| {
        pod.ips.push(ip(second));
        pod
    };
    let objects = |policy: &Policy| {
        [
            addressed("n1", &["192.0.2.1", "2001:db8::1"], Some("198.51.100.1")),
            addressed("n2", &["192.0.2.2"], None),
            addressed("n3", &["192.0.2.3"], Some("not an address")),
            on("n1", dual(pod("a", "10.0.0.1"), "fd00::1")),
            on("n1", pod("b", "10.0.0.2")),
            on("n1", Pod { ready: false, ..pod("starting", "10.0.0.9") }),
            on("n2", pod("c", "10.0.0.3")),
            on("n3", Pod { ready: false, ..pod("d", "10.0.0.4") }),
            on("unknown", pod("e", "10.0.0.5")),
            policy.clone().into(),
        ]
    };
    let of = |mode| {
        let policy = balancing(mode);
        let cluster = cluster(view(), objects(&policy));
        let selection = cluster.policy_backends(&policy, &policy.backend_ports()[0], Family::V4);
        let skipped: Vec<String> = selection.skipped.iter().map(|it| it.to_string()).collect();
        (backends(&cluster, &policy, Family::V4), backends(&cluster, &policy, Family::V6), skipped)
    };
    let (v4, v6, skipped) = of(RedirectMode::PodEndpoint);
    let ready = ["10.0.0.1:8080 x1", "10.0.0.2:8080 x1", "10.0.0.3:8080 x1"];
    let others = ["10.0.0.4:8080 x0!", "10.0.0.5:8080 x1", "10.0.0.9:8080 x0!"];
    assert_eq!(v4, [ready, others].concat());
    assert_eq!((v6, skipped), (vec!["[fd00::1]:8080 x1".to_owned()], vec![]));

    let (v4, v6, skipped) = of(RedirectMode::HostPort);
    assert_eq!(v4, ["192.0.2.1:8080 x2", "192.0.2.2:8080 x1", "192.0.2.3:8080 x0!"]);
    // Whichever family the pods have: it is the node that is asked.
    assert_eq!((v6, skipped), (vec!["[2001:db8::1]:8080 x2".to_owned()], vec!["unknown".to_owned()]));

    let (v4, v6, skipped) = of(RedirectMode::NodeProxy);
    assert_eq!((v4, v6), (vec!["198.51.100.1:8080 x2".to_owned()], vec![]));
    assert_eq!(skipped, ["n2", "unknown"]);
}

fn addresses(weights: &[(&str, u32)], use_all: Option<bool>) -> Policy {
    let probe = |use_all| crate::Probe {
        action: crate::ProbeAction::Tcp,
        port: 80,
        interval: std::time::Duration::from_secs(1),
        timeout: std::time::Duration::from_secs(1),
        healthy: 1,
        unhealthy: 1,
        use_all,
    };
    let backends = AddressBackends {
        addresses: weights.iter().map(|(it, weight)| (ip(it), *weight)).collect(),
        ports: vec![backend_port("", 80)],
        probe: use_all.map(probe),
    };
    Policy { backends: PolicyBackends::Addresses(backends), ..policy("p") }
}

#[test]
fn p8_addresses_are_those_of_the_frontends_family_with_their_weights() {
    let policy = addresses(&[("192.0.2.1", 3), ("2001:db8::1", 1), ("192.0.2.2", 1)], None);
    let cluster = cluster(view(), [policy.clone().into()]);
    assert_eq!(backends(&cluster, &policy, Family::V4), ["192.0.2.1:80 x3", "192.0.2.2:80 x1"]);
    assert_eq!(backends(&cluster, &policy, Family::V6), ["[2001:db8::1]:80 x1"]);
}

#[test]
fn an_unhealthy_address_gets_nothing_unless_all_are_and_all_are_to_be_used() {
    for use_all in [false, true] {
        let policy = addresses(&[("192.0.2.1", 3), ("192.0.2.2", 1)], Some(use_all));
        let at = |texts: &[&str]| [(policy.id(), texts.iter().map(|it| ip(it)).collect())].into();
        let mut cluster = cluster(view(), [policy.clone().into()]);
        let touched = cluster.set_unhealthy(at(&["192.0.2.1"]));
        assert_eq!(touched.policies, BTreeSet::from([policy.id()]));
        assert!(cluster.set_unhealthy(at(&["192.0.2.1"])).is_empty());
        assert_eq!(backends(&cluster, &policy, Family::V4), ["192.0.2.1:80 x0!", "192.0.2.2:80 x1"]);
        cluster.set_unhealthy(at(&["192.0.2.1", "192.0.2.2"]));
        let expected = if use_all {
            ["192.0.2.1:80 x3", "192.0.2.2:80 x1"]
        } else {
            ["192.0.2.1:80 x0!", "192.0.2.2:80 x0!"]
        };
        assert_eq!(backends(&cluster, &policy, Family::V4), expected);
        assert!(!cluster.set_unhealthy(BTreeMap::new()).is_empty());
        assert_eq!(backends(&cluster, &policy, Family::V4), ["192.0.2.1:80 x3", "192.0.2.2:80 x1"]);
    }
    // One without checks is well, whatever was found of it while it had some.
    let policy = addresses(&[("192.0.2.1", 1)], None);
    let mut cluster = cluster(view(), [policy.clone().into()]);
    cluster.set_unhealthy([(policy.id(), [ip("192.0.2.1")].into())].into());
    assert_eq!(backends(&cluster, &policy, Family::V4), ["192.0.2.1:80 x1"]);
}

#[test]
fn addresses_are_asked_where_their_policy_applies_and_of_families_that_it_redirects() {
    let both = &[("192.0.2.1", 3), ("192.0.2.2", 1), ("2001:db8::1", 1)];
    let asked = |policy: &Policy, cluster: &Cluster| {
        let probed = cluster.probed(policy)?;
        Some(probed.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
    };
    let inside = cluster(view(), [node("n1", "z1").into()]);
    let policy = addresses(both, Some(true));
    assert_eq!(asked(&policy, &inside).as_deref(), Some("192.0.2.1 192.0.2.2"), "its frontend is of IPv4");
    assert_eq!(asked(&addresses(both, None), &inside), None);
    assert_eq!(asked(&addresses(&[("2001:db8::1", 1)], Some(true)), &inside), None);
    assert_eq!(asked(&balancing(RedirectMode::PodEndpoint), &inside), None);

    let zone = |zone: &str| {
        let labels = map(&[("topology.kubernetes.io/zone", zone)]);
        Policy { nodes: Some(Selector { labels, ..Selector::default() }), ..policy.clone() }
    };
    assert!(asked(&zone("z1"), &inside).is_some());
    assert_eq!(asked(&zone("z2"), &inside), None);

    // Of a service, as long as there is one.
    let service = ObjectName::new("default", "web");
    let frontend = crate::PolicyFrontend::Service { service, ports: vec![] };
    assert_eq!(asked(&Policy { frontend, ..policy }, &inside), None);
}

#[test]
fn p11_where_a_policy_applies() {
    let by_zone = |zone: &str| Policy {
        nodes: Some(Selector {
            labels: map(&[("topology.kubernetes.io/zone", zone)]),
            ..Selector::default()
        }),
        ..balancing(RedirectMode::PodEndpoint)
    };
    let inside = cluster(view(), [node("n1", "z1").into()]);
    let unknown = cluster(view(), []);
    let labels = map(&[("topology.kubernetes.io/zone", "z7")]);
    let outside = View { outside: Some(Outside { labels, external: false }), ..view() };
    let outside = cluster(outside, [node("n1", "z1").into()]);
    let everywhere = balancing(RedirectMode::PodEndpoint);
    let inside_only = Policy { outside: false, ..everywhere.clone() };
    let table = [
        (&inside, policy("p"), None),
        (&inside, everywhere.clone(), None),
        (&inside, inside_only.clone(), None),
        (&inside, by_zone("z1"), None),
        (&inside, by_zone("z7"), Some(Absence::OtherNodes)),
        (&unknown, by_zone("z1"), Some(Absence::OtherNodes)),
        (&unknown, everywhere.clone(), None),
        (&outside, policy("p"), Some(Absence::NothingLocal)),
        (&outside, everywhere, None),
        (&outside, inside_only, Some(Absence::InsideOnly)),
        (&outside, by_zone("z7"), None),
        // It has the name of a Node by chance.
        (&outside, by_zone("z1"), Some(Absence::OtherNodes)),
    ];
    for (number, (cluster, policy, expected)) in table.into_iter().enumerate() {
        assert_eq!(cluster.absence(&policy), expected, "case {number}");
    }
}

#[test]
fn p10_without_resolving_a_balancing_policy_has_the_slices_that_were_made_for_it() {
    let policy = balancing(RedirectMode::PodEndpoint);
    let slice = |name: &str, owner: ObjectId, address: &str| -> Object {
        let it = slice(name, vec![endpoint(address)]);
        crate::EndpointSlice { service: None, policy: Some(owner), ..it }.into()
    };
    let local = crate::sample::policy("p");
    let view = View { resolve_selectors: false, ..view() };
    let mut cluster = cluster(
        view,
        [
            policy.clone().into(),
            local.clone().into(),
            slice("s1", policy.id(), "10.0.0.1"),
            slice("s2", balancing(RedirectMode::HostPort).id(), "10.0.0.2"),
            slice("s3", ObjectId { name: ObjectName::new("", "other"), ..policy.id() }, "10.0.0.3"),
            // Its own pods; of a LocalRedirectPolicy no slices are needed.
            on("n1", pod("a", "10.0.0.7")),
        ],
    );
    assert_eq!(backends(&cluster, &policy, Family::V4), ["10.0.0.1:8080 x1", "10.0.0.2:8080 x1"]);
    assert_eq!(backends(&cluster, &local, Family::V4), ["10.0.0.7:8080 x1"]);
    let dirty = cluster.apply(Change::Upsert(slice("s1", policy.id(), "10.0.0.4")));
    assert_eq!(dirty.policies, BTreeSet::from([policy.id()]));
    assert_eq!(backends(&cluster, &policy, Family::V4), ["10.0.0.2:8080 x1", "10.0.0.4:8080 x1"]);
}

#[test]
fn p3_p9_a_policy_is_touched_by_what_it_depends_on_and_nothing_else() {
    let of_service = Policy { frontend: of_web(), ..policy("of-web") };
    let by_host = Policy { name: "host".into(), ..balancing(RedirectMode::HostPort) };
    let selective = Policy { nodes: Some(Selector::default()), name: "some".into(), ..policy("some") };
    let mut cluster =
        cluster(view(), [of_service.clone().into(), by_host.clone().into(), selective.clone().into()]);
    let mut touched = |object: Object| -> Vec<String> {
        let dirty = cluster.apply(Change::Upsert(object));
        dirty.policies.iter().map(|id| id.name.name.clone()).collect()
    };
    assert_eq!(touched(service().into()), ["of-web"]);
    assert_eq!(touched(crate::Service { name: name("api"), ..service() }.into()), [""; 0]);
    assert_eq!(touched(node("n1", "z1").into()), ["some", "host"]);
    assert_eq!(touched(node("n2", "z1").into()), ["host"]);
    assert_eq!(touched(on("n1", pod("a", "10.0.0.1"))), ["of-web", "some", "host"]);
    // Not local.
    assert_eq!(touched(on("n2", pod("b", "10.0.0.2"))), ["host"]);
    assert_eq!(touched(on("n2", pod("b", "10.0.0.2"))), [""; 0], "nothing has changed");
    let other = Pod { labels: map(&[("app", "api")]), ..pod("c", "10.0.0.3") };
    assert_eq!(touched(on("n1", other)), [""; 0]);
    assert_eq!(touched(of_service.clone().into()), [""; 0]);
    let gone = cluster.apply(Change::Delete(by_host.id()));
    assert_eq!(gone.policies, BTreeSet::from([by_host.id()]));
    assert_eq!(cluster.policies().map(|it| it.name.as_str()).collect::<Vec<_>>(), ["of-web", "some"]);
}

#[test]
fn p10_whoever_resolves_for_all_nodes_knows_who_selects_a_pod_and_whom_a_policy_selects() {
    let other = Pod { labels: map(&[("app", "api")]), ..pod("other", "10.0.0.2") };
    let all = Policy {
        backends: PolicyBackends::Local(PodBackends { selector: Selector::default(), ..pods() }),
        ..policy("all")
    };
    let view = View { node: String::new(), ..View::default() };
    let objects =
        [on("n1", pod("a", "10.0.0.1")), on("n2", other.clone()), policy("p").into(), all.clone().into()];
    let cluster = cluster(view, objects);
    let selecting = |pod: &Pod| -> Vec<String> {
        cluster.policies_selecting(pod).map(|policy| policy.name.clone()).collect()
    };
    assert_eq!(selecting(&pod("x", "10.0.0.9")), ["p", "all"]);
    assert_eq!(selecting(&other), ["all"]);
    let selected =
        |policy: &Policy| cluster.pods_selected(policy).map(|pod| pod.name.name.clone()).collect::<Vec<_>>();
    assert_eq!(selected(&policy("p")), ["a"]);
    assert_eq!(selected(&all), ["a", "other"]);
    assert_eq!(cluster.pods_on("n2").map(|pod| &*pod.name.name).collect::<Vec<_>>(), ["other"]);
    let addresses = AddressBackends { addresses: BTreeMap::new(), ports: Vec::new(), probe: None };
    let none = Policy { backends: PolicyBackends::Addresses(addresses), ..policy("none") };
    assert_eq!(selected(&none), [""; 0]);
}
