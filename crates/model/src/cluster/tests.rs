use proptest::prelude::*;

use super::*;
use crate::{
    object::{Backend, Endpoint, Family, ObjectId, ServiceType, TrafficDistribution, TrafficPolicy},
    sample::*,
    select::{Selection, select},
};

fn view() -> View {
    View { node: "n1".into(), resolve_selectors: true, ..View::default() }
}

fn cluster(objects: impl IntoIterator<Item = Object>) -> Cluster {
    let mut cluster = Cluster::new(view());
    cluster.apply_all(objects.into_iter().map(Change::Upsert));
    cluster
}

fn delete(kind: Kind, name: ObjectName) -> Change {
    Change::Delete(ObjectId { kind, name })
}

fn addresses(cluster: &Cluster) -> Vec<String> {
    cluster.endpoints(&http()).iter().map(|c| c.address.to_string()).collect()
}

fn web() -> BTreeSet<ObjectName> {
    BTreeSet::from([name("web")])
}

#[test]
fn r1_which_services_are_ours() {
    type Case<'a> = (&'a str, Option<&'a str>, fn(&mut Service), bool);
    let table: [Case<'_>; 7] = [
        ("plain", None, |_| (), true),
        ("headless", None, |s| s.cluster_ips.clear(), false),
        ("external name", None, |s| s.kind = ServiceType::ExternalName, false),
        ("another proxy's", None, |s| s.proxy_name = Some("x".into()), false),
        ("another proxy's, without a name", None, |s| s.proxy_name = Some(String::new()), false),
        ("adopted", Some("x"), |s| s.proxy_name = Some("x".into()), true),
        ("ordinary, while we adopt a name", Some("x"), |_| (), false),
    ];
    for (what, proxy, change, expected) in table {
        let cluster = Cluster::new(View { proxy_name: proxy.map(Into::into), ..view() });
        let mut it = service();
        change(&mut it);
        assert_eq!(cluster.is_ours(&it), expected, "{what}");
    }
}

#[test]
fn r12_only_who_serves_all_of_a_cluster_within_it_reserves_its_cidrs() {
    let outside = Some(Outside { external: true, ..Outside::default() });
    assert!(view().reserves_cidrs());
    assert!(!View { proxy_name: Some("x".into()), ..view() }.reserves_cidrs());
    assert!(!View { outside, ..view() }.reserves_cidrs());
}

#[test]
fn p11_outside_of_the_cluster_nothing_is_local_and_what_is_for_the_outside_is_a_choice() {
    let labels = map(&[("topology.kubernetes.io/zone", "z7")]);
    for external in [false, true] {
        let outside = Some(Outside { labels: labels.clone(), external });
        let mut cluster = Cluster::new(View { outside, ..view() });
        cluster.apply(Change::Upsert(Object::from(node("n1", "z1"))));
        assert_eq!(cluster.view().serves_external(), external);
        let here = cluster.here();
        assert_eq!((here.node.as_str(), here.zone.as_deref()), ("", Some("z7")));
        // It has the name of a Node by chance.
        assert_eq!(cluster.own_node(), None);
    }
    let inside = cluster([node("n1", "z1").into()]);
    assert!(inside.view().serves_external());
    assert_eq!(inside.here().zone.as_deref(), Some("z1"));
    assert_eq!(inside.own_node(), Some(&node("n1", "z1")));
}

#[test]
fn r1_a_change_of_the_proxy_label_acts_as_delete_and_as_add() {
    let mut cluster = cluster([Object::from(service())]);
    for (label, ours) in [(Some("x".to_string()), false), (None, true)] {
        let changed = Service { proxy_name: label, ..service() };
        assert_eq!(cluster.apply(Change::Upsert(Object::from(changed))).services, web());
        assert_eq!(cluster.is_ours(cluster.service(&name("web")).unwrap()), ours);
    }
}

#[test]
fn r1_a_change_of_the_headless_label_acts_as_delete_and_as_add() {
    let mut cluster = cluster([Object::from(slice("a", vec![endpoint("10.0.0.1")]))]);
    for (headless, count) in [(true, 0), (false, 1)] {
        let changed = EndpointSlice { headless, ..slice("a", vec![endpoint("10.0.0.1")]) };
        assert_eq!(cluster.apply(Change::Upsert(Object::from(changed))).services, web());
        assert_eq!(addresses(&cluster).len(), count);
    }
}

#[test]
fn a_slice_that_moves_to_another_service_touches_both() {
    let mut cluster = cluster([Object::from(slice("a", vec![endpoint("10.0.0.1")]))]);
    let moved = EndpointSlice { service: Some("api".into()), ..slice("a", vec![]) };
    let dirty = cluster.apply(Change::Upsert(Object::from(moved)));
    assert_eq!(dirty.services, BTreeSet::from([name("api"), name("web")]));
    assert!(addresses(&cluster).is_empty());
    assert_eq!(cluster.slice(&name("a")).and_then(|slice| slice.service.as_deref()), Some("api"));
}

#[test]
fn the_same_object_again_touches_nothing() {
    let objects = || {
        [
            Object::from(service()),
            Object::from(slice("a", vec![endpoint("10.0.0.1")])),
            Object::from(pod("p", "10.0.0.2")),
            Object::from(node("n1", "z1")),
            Object::from(ServiceCidr { name: "c".into(), cidrs: vec![] }),
        ]
    };
    let mut cluster = cluster(objects());
    assert!(cluster.apply_all(objects().into_iter().map(Change::Upsert)).is_empty());
    assert!(cluster.apply(delete(Kind::Pod, name("nobody"))).is_empty());
}

#[test]
fn what_is_there_can_be_found_and_listed() {
    let n2 = ObjectName::new("", "n2");
    let mut cluster = cluster([
        Object::from(node("n2", "z2")),
        Object::from(node("n1", "z1")),
        Object::from(pod("b", "10.0.0.2")),
        Object::from(pod("a", "10.0.0.1")),
    ]);
    assert_eq!(cluster.view(), &view());
    assert_eq!(cluster.nodes().collect::<Vec<_>>(), [&node("n1", "z1"), &node("n2", "z2")]);
    assert_eq!(cluster.pods().collect::<Vec<_>>(), [&pod("a", "10.0.0.1"), &pod("b", "10.0.0.2")]);
    assert_eq!(cluster.node("n2"), Some(&node("n2", "z2")));
    cluster.apply_all([delete(Kind::Node, n2), delete(Kind::Pod, name("a"))]);
    assert_eq!(cluster.node("n2"), None);
    assert_eq!((cluster.nodes().count(), cluster.pods().count()), (1, 1));
}

#[test]
fn r3_selected_pods_and_hand_made_slices_count_together() {
    let cluster = cluster([
        Object::from(slice("mine", vec![endpoint("10.0.0.9")])),
        Object::from(pod("p", "10.0.0.1")),
        Object::from(service()),
    ]);
    assert_eq!(addresses(&cluster), ["10.0.0.1:8080", "10.0.0.9:8080"]);
}

#[test]
fn selectors_are_left_to_the_api_server_where_there_is_one() {
    let mut cluster = Cluster::new(View { resolve_selectors: false, ..view() });
    cluster.apply(Change::Upsert(Object::from(service())));
    let dirty = cluster.apply(Change::Upsert(Object::from(pod("p", "10.0.0.1"))));
    assert!(dirty.is_empty() && addresses(&cluster).is_empty());
    assert!(cluster.pod(&name("p")).is_some());
}

#[test]
fn a_pod_joins_when_it_gets_an_address_and_leaves_with_its_label() {
    let mut cluster = cluster([Object::from(service())]);
    let mut steps = |pod: Pod| {
        let dirty = cluster.apply(Change::Upsert(Object::from(pod)));
        (dirty.services, addresses(&cluster).len())
    };
    assert_eq!(steps(Pod { ips: vec![], ready: false, ..pod("p", "10.0.0.1") }), (web(), 0));
    assert_eq!(steps(Pod { ready: false, ..pod("p", "10.0.0.1") }), (web(), 1));
    assert_eq!(steps(Pod { labels: map(&[("app", "api")]), ..pod("p", "10.0.0.1") }), (web(), 0));
    assert_eq!(steps(Pod { labels: map(&[]), ..pod("p", "10.0.0.1") }), (BTreeSet::new(), 0));
    assert_eq!(steps(pod("p", "10.0.0.1")), (web(), 1));
    assert_eq!(cluster.apply(delete(Kind::Pod, name("p"))).services, web());
    assert!(addresses(&cluster).is_empty());
}

#[test]
fn a_changed_selector_takes_effect() {
    let mut cluster = cluster([Object::from(pod("p", "10.0.0.1")), Object::from(service())]);
    assert_eq!(addresses(&cluster).len(), 1);
    for (selector, count) in [(map(&[("app", "api")]), 0), (map(&[("app", "web")]), 1), (map(&[]), 0)] {
        cluster.apply(Change::Upsert(Object::from(Service { selector, ..service() })));
        assert_eq!(addresses(&cluster).len(), count);
    }
}

#[test]
fn r5_a_change_of_this_nodes_zone_touches_everything() {
    let mut cluster = cluster([Object::from(service())]);
    assert_eq!(cluster.here(), Here { node: "n1".into(), zone: None });
    let dirty = cluster.apply(Change::Upsert(Object::from(node("n1", "z1"))));
    assert!(dirty.all && dirty.touches(&name("anything")));
    assert_eq!(cluster.here().zone.as_deref(), Some("z1"));
    assert!(cluster.apply(delete(Kind::Node, ObjectName::new("", "n1"))).all);
}

#[test]
fn another_nodes_zone_touches_the_services_that_have_pods_there() {
    let on_n2 = Pod { node: Some("n2".into()), ..pod("p", "10.0.0.1") };
    let other = Service { name: name("api"), selector: map(&[("app", "api")]), ..service() };
    let mut cluster = cluster([Object::from(service()), Object::from(other), Object::from(on_n2)]);
    assert_eq!(cluster.endpoints(&http())[0].endpoint.zone, None);
    let dirty = cluster.apply(Change::Upsert(Object::from(node("n2", "z2"))));
    assert_eq!(dirty, Dirty { services: web(), nodes: true, ..Dirty::default() });
    assert_eq!(cluster.endpoints(&http())[0].endpoint.zone.as_deref(), Some("z2"));
    let addressed = Node { internal_ips: vec![ip("192.0.2.1")], ..node("n2", "z2") };
    let dirty = cluster.apply(Change::Upsert(Object::from(addressed)));
    assert_eq!(dirty, Dirty { nodes: true, ..Dirty::default() });
}

#[test]
fn service_cidrs_come_and_go() {
    let cidr = ServiceCidr { name: "kubernetes".into(), cidrs: vec!["10.96.0.0/12".parse().unwrap()] };
    let mut cluster = Cluster::new(view());
    let cidrs_only = Dirty { cidrs: true, ..Dirty::default() };
    assert_eq!(cluster.apply(Change::Upsert(Object::from(cidr))), cidrs_only);
    assert_eq!(cluster.cidrs().count(), 1);
    assert_eq!(cluster.apply(delete(Kind::ServiceCidr, ObjectName::new("", "kubernetes"))), cidrs_only);
}

#[test]
fn pods_are_left_alone_by_their_own_annotation_or_else_by_their_namespaces() {
    let mut cluster = Cluster::new(view());
    let pod_named = |name: &str, socket_lb| Pod { socket_lb, ..pod(name, "10.0.0.1") };
    let pods = [("silent", None), ("served", Some(true)), ("alone", Some(false))];
    cluster.apply_all(pods.map(|(name, says)| Change::Upsert(pod_named(name, says).into())));
    let by = |cluster: &Cluster| {
        let of = |(pod, _)| {
            let by = cluster.opted_out_by(cluster.pod(&name(pod)).unwrap());
            by.map_or("nobody".to_owned(), |id| id.to_string())
        };
        pods.map(of)
    };
    let none = ["nobody", "nobody", "Pod default/alone"];
    assert_eq!(by(&cluster), none);
    let namespace =
        |name: &str, socket_lb| Change::Upsert(Object::from(Namespace { name: name.into(), socket_lb }));
    let dirty = cluster.apply_all([namespace("other", false), namespace("default", false)]);
    assert!(dirty.is_empty(), "no table has anything of it");
    assert_eq!(by(&cluster), ["Namespace default", "nobody", "Pod default/alone"]);
    cluster.apply(namespace("default", true));
    assert_eq!(by(&cluster), none);
    cluster.apply(namespace("default", false));
    cluster.apply(delete(Kind::Namespace, ObjectName::new("", "default")));
    assert_eq!(by(&cluster), none);
}

#[test]
fn r2_vips_and_source_ranges_are_told_apart_by_family() {
    let ranges = ["192.0.2.0/24", "2001:db8::/32", "198.51.100.0/24"];
    let service = Service {
        cluster_ips: vec![ip("fd00::96"), ip("10.96.0.1")],
        external_ips: vec![ip("192.0.2.1"), ip("2001:db8::1")],
        source_ranges: ranges.map(|r| r.parse().unwrap()).to_vec(),
        ..service()
    };
    let families: Vec<Family> = service.ports_by_family().map(|(_, family)| family).collect();
    assert_eq!(families, [Family::V6, Family::V4]);
    assert_eq!(service.cluster_ip(Family::V4), Some(ip("10.96.0.1")));
    assert_eq!(service.external_ips_in(Family::V6).collect::<Vec<_>>(), [ip("2001:db8::1")]);
    for (family, expected) in [(Family::V4, vec![ranges[0], ranges[2]]), (Family::V6, vec![ranges[1]])] {
        let found: Vec<_> = service.source_ranges_in(family).map(|range| range.to_string()).collect();
        assert_eq!(found, expected);
    }
}

#[test]
fn many_pods_and_services_of_one_namespace_stay_cheap() {
    // Squared, this would be 10^8 comparisons and many seconds.
    let app = |i: usize| map(&[("app", &format!("a{i}")), ("stage", "production")]);
    let services = (0..10_000)
        .map(|i| Object::from(Service { name: name(&format!("s{i}")), selector: app(i), ..service() }));
    let pods = (0..10_000).map(|i| {
        Object::from(Pod {
            labels: app(i),
            ..pod(&format!("p{i}"), &format!("10.0.{}.{}", i / 250, i % 250))
        })
    });
    let mut cluster = Cluster::new(view());
    let mut largest = 0;
    for object in services.chain(pods) {
        largest = largest.max(cluster.apply(Change::Upsert(object)).services.len());
    }
    assert_eq!(largest, 1);
    let all = cluster.services().map(|s| cluster.slices_of(&s.name).count()).sum::<usize>();
    assert_eq!(all, 10_000);
}

/// A small world in which names, labels and addresses collide often.
fn any_object() -> impl Strategy<Value = Object> {
    let apps = || proptest::sample::select(vec!["web", "api", "db"]);
    let conditions = any::<[bool; 3]>();
    let nodes = || proptest::option::of("n[12]");
    prop_oneof![
        (apps(), apps(), any::<bool>(), any::<bool>()).prop_map(|(n, app, local, publish)| {
            let policy = if local { TrafficPolicy::Local } else { TrafficPolicy::Cluster };
            Object::from(Service {
                name: name(n),
                selector: map(&[("app", app)]),
                internal_policy: policy,
                publish_not_ready: publish,
                distribution: Some(TrafficDistribution::SameZone),
                ..service()
            })
        }),
        ("s[1-4]", apps(), 1..5u8, conditions, nodes()).prop_map(|(n, app, last, [r, s, t], node)| {
            let it = Endpoint {
                ready: r,
                serving: s,
                terminating: t,
                node: node.map(Into::into),
                ..endpoint(&format!("10.0.0.{last}"))
            };
            Object::from(EndpointSlice { service: Some(app.into()), ..slice(&n, vec![it]) })
        }),
        ("p[1-4]", apps(), 1..5u8, conditions, nodes()).prop_map(|(n, app, last, [r, f, t], node)| {
            let it = pod(&n, &format!("10.0.0.{last}"));
            let (labels, node) = (map(&[("app", app), ("stage", "x")]), node.map(Into::into));
            Object::from(Pod { labels, ready: r, finished: f, terminating: t, node, ..it })
        }),
        ("n[12]", "z[12]").prop_map(|(n, zone)| Object::from(node(&n, &zone))),
    ]
}

type Picture = Vec<(ObjectName, Vec<Backend>, Selection)>;

fn picture(cluster: &Cluster) -> Picture {
    let see = |service: &Service| {
        let port = &service.ports[0];
        let endpoints = cluster.endpoints(&service.port_name(port, Family::V4));
        let selection = select(service, port, Family::V4, &endpoints, &cluster.here());
        (service.name.clone(), endpoints.iter().map(Candidate::backend).collect(), selection)
    };
    cluster.services().map(see).collect()
}

proptest! {
    #[test]
    fn any_order_of_objects_gives_the_same_cluster(
        objects in proptest::collection::vec(any_object(), 0..24)
            .prop_map(|all| {
                let unique: BTreeMap<ObjectId, Object> = all.into_iter().map(|o| (o.id(), o)).collect();
                unique.into_values().collect::<Vec<_>>()
            })
            .prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle()))
    ) {
        let (one, other) = objects;
        prop_assert_eq!(picture(&cluster(one)), picture(&cluster(other)));
    }

    /// Also: whatever changed its picture was named dirty.
    #[test]
    fn incremental_is_the_same_as_from_scratch(
        steps in proptest::collection::vec((any_object(), any::<bool>()), 0..40)
    ) {
        let mut world: BTreeMap<ObjectId, Object> = BTreeMap::new();
        let mut live = Cluster::new(view());
        let mut before = picture(&live);
        for (object, remove) in steps {
            let id = object.id();
            let dirty = if remove {
                world.remove(&id);
                live.apply(Change::Delete(id))
            } else {
                world.insert(id, object.clone());
                live.apply(Change::Upsert(object))
            };
            let after = picture(&live);
            for changed in before.iter().filter(|old| !after.contains(old)).chain(after.iter().filter(|new| !before.contains(new))) {
                prop_assert!(dirty.touches(&changed.0), "{} changed unnoticed", changed.0);
            }
            before = after;
        }
        prop_assert_eq!(before, picture(&cluster(world.into_values())));
    }
}
