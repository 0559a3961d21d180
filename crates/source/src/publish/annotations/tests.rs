use std::collections::BTreeMap;

use model::Annotation;

use super::*;

fn node(name: &str, created: i64) -> Node {
    Node { name: name.into(), uid: format!("uid-of-{name}"), created, ..Node::default() }
}

fn set(node: &mut Node, which: NodeAnnotation, value: &str, is_ours: bool) {
    node.annotations.insert(which, Annotation { value: value.into(), is_ours });
}

fn with_id(name: &str, created: i64, id: u32, is_ours: bool) -> Node {
    let mut node = node(name, created);
    set(&mut node, NodeAnnotation::NodeId, &id.to_string(), is_ours);
    node
}

fn wanted_id(own: &Node, others: &[Node]) -> u32 {
    wanted(own, others).ours[&NodeAnnotation::NodeId].parse().unwrap()
}

/// What an API server makes of it.
fn apply(node: &mut Node, wanted: &Wanted) {
    node.annotations.retain(|_, it| !it.is_ours);
    for (which, value) in &wanted.ours {
        set(node, *which, value, true);
    }
}

#[test]
fn an_id_comes_of_the_uid_and_is_kept() {
    let mut own = node("n1", 1);
    let id = wanted_id(&own, &[]);
    assert_eq!(id, fnv32(b"uid-of-n1"));
    let first = wanted(&own, &[]);
    apply(&mut own, &first);
    assert!(wanted(&own, &[]).is_in_force(&own));
    // It stays even where it would be another one now: others may have seen it.
    own.uid = "another".into();
    assert_eq!(wanted_id(&own, &[]), id);
    // What is no id is made good.
    set(&mut own, NodeAnnotation::NodeId, "x", true);
    assert_eq!(wanted_id(&own, &[]), fnv32(b"another"));
}

#[test]
fn of_two_with_one_id_the_younger_takes_the_next_that_is_free() {
    let [old, young] = [with_id("b", 1, 7, true), with_id("a", 2, 7, true)];
    let next = with_id("c", 9, 8, true);
    assert_eq!(wanted_id(&old, &[young.clone(), next.clone()]), 7);
    assert_eq!(wanted_id(&young, &[old.clone(), next.clone()]), 9);
    assert_eq!(wanted_id(&young, &[next, old]), 9, "in whichever order they come");
    // Of the same second: by name, then by UID.
    let [first, second] = [with_id("a", 1, 7, true), with_id("b", 1, 7, true)];
    let id = |own: &Node, other: &Node| wanted_id(own, std::slice::from_ref(other));
    assert_eq!((id(&first, &second), id(&second, &first)), (7, 8));
    // The last number is followed by 1, not by 0.
    let [old, young] = [with_id("b", 1, u32::MAX, true), with_id("a", 2, u32::MAX, true)];
    assert_eq!(wanted_id(&young, &[old]), 1);
}

#[test]
fn a_new_node_takes_nobodys_id() {
    let own = node("n1", 1);
    let id = wanted_id(&own, &[]);
    // Not even of one that is younger: what is in use stays.
    assert_eq!(wanted_id(&own, &[with_id("n2", 2, id, true), with_id("n3", 3, id + 1, false)]), id + 2);
}

#[test]
fn an_administrators_id_stays_and_an_agents_moves() {
    let [ours, theirs] = [with_id("a", 1, 7, true), with_id("b", 2, 7, false)];
    assert_eq!(wanted_id(&ours, std::slice::from_ref(&theirs)), 8, "though it is older");
    assert_eq!(wanted(&theirs, &[ours]), Wanted::default());
    let problems = wanted(&theirs, &[with_id("c", 1, 7, false)]).problems;
    let said = &problems[&NodeAnnotation::NodeId];
    assert!(said.contains("Node c") && said.contains('7'), "{said}");
}

#[test]
fn addresses_are_the_first_of_their_family_and_follow_it() {
    use NodeAnnotation::{NodeProxyIpv4, NodeProxyIpv6};
    let mut own = node("n1", 1);
    let ips = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    own.internal_ips = ips(&["fd00::1", "10.0.0.1", "10.0.0.2"]);
    own.external_ips = ips(&["203.0.113.1"]);
    let first = wanted(&own, &[]);
    assert_eq!(
        (first.ours[&NodeProxyIpv4].as_str(), first.ours[&NodeProxyIpv6].as_str()),
        ("10.0.0.1", "fd00::1")
    );
    assert!(!first.is_in_force(&own));
    apply(&mut own, &first);
    assert!(first.is_in_force(&own));
    own.internal_ips = ips(&["10.0.0.9"]);
    let next = wanted(&own, &[]);
    assert_eq!((next.ours[&NodeProxyIpv4].as_str(), next.ours.get(&NodeProxyIpv6)), ("10.0.0.9", None));
    assert!(!next.is_in_force(&own));
    // An administrator takes it over, and gives it back.
    apply(&mut own, &next);
    set(&mut own, NodeProxyIpv4, "192.0.2.1", false);
    let with_theirs = wanted(&own, &[]);
    assert_eq!(with_theirs.ours.get(&NodeProxyIpv4), None);
    assert!(with_theirs.is_in_force(&own), "nothing is to be written");
    own.annotations.remove(&NodeProxyIpv4);
    assert_eq!(wanted(&own, &[]).ours[&NodeProxyIpv4], "10.0.0.9");
}

#[test]
fn what_makes_no_sense_is_told_of_and_stays() {
    use NodeAnnotation::{NodeId, NodeProxyIpv4, NodeProxyIpv6};
    let table = [
        (NodeId, "seven", "\"seven\" is no number from 1"),
        (NodeId, "0", "\"0\" is no number"),
        (NodeId, "4294967296", "is no number"),
        (NodeProxyIpv4, "fd00::1", "\"fd00::1\" is no IPv4 address"),
        (NodeProxyIpv4, "10.0.0", "is no IPv4 address"),
        (NodeProxyIpv4, "0.0.0.0", "is no IPv4 address"),
        (NodeProxyIpv6, "::1", "is no IPv6 address"),
        (NodeProxyIpv6, "10.0.0.1", "is no IPv6 address"),
    ];
    for (which, text, said) in table {
        let mut own = node("n1", 1);
        set(&mut own, which, text, false);
        let wanted = wanted(&own, &[]);
        assert!(wanted.problems[&which].contains(said), "{which} {text}: {wanted:?}");
        assert!(wanted.problems.len() == 1 && !wanted.ours.contains_key(&which), "{which} {text}");
    }
    for (which, text) in [(NodeId, "7"), (NodeProxyIpv4, "10.0.0.1"), (NodeProxyIpv6, "fd00::1")] {
        let mut own = node("n1", 1);
        set(&mut own, which, text, false);
        assert!(wanted(&own, &[]).problems.is_empty(), "{which} {text}");
    }
}

/// Nodes whose UIDs give the same id, whose agents start at once and see each other late: whoever writes when, in the end
/// all ids differ, and nobody writes any more.
#[test]
fn races_end_with_ids_that_differ() {
    let mut dice = 1_u64;
    let mut roll = move |below: usize| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (dice >> 33) as usize % below
    };
    for _ in 0..200 {
        let count = 2 + roll(6);
        // Two of three share an UID's hash, which is as good as all that share it.
        let mut nodes: Vec<Node> = (0..count)
            .map(|at| Node {
                uid: format!("u{}", roll(2)),
                created: roll(3) as i64,
                ..node(&format!("n{at}"), 0)
            })
            .collect();
        // What each sees of the others: at first nothing of what they write.
        let mut views: Vec<BTreeMap<usize, Node>> = vec![nodes.iter().cloned().enumerate().collect(); count];
        let mut writes = 0;
        loop {
            let writer = roll(count);
            let others = views[writer].iter().filter(|(at, _)| **at != writer).map(|(_, node)| node);
            let wanted = wanted(&nodes[writer], others);
            if !wanted.is_in_force(&nodes[writer]) {
                apply(&mut nodes[writer], &wanted);
                writes += 1;
                assert!(writes < 100, "they never come to an end: {nodes:?}");
            }
            // Somebody hears of somebody.
            let (reader, about) = (roll(count), roll(count));
            views[reader].insert(about, nodes[about].clone());
            let is_known = |view: &BTreeMap<usize, Node>| view.values().eq(&nodes);
            let is_quiet = |at: usize| {
                let others = nodes.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, node)| node);
                super::wanted(&nodes[at], others).is_in_force(&nodes[at])
            };
            if views.iter().all(is_known) && (0..count).all(is_quiet) {
                break;
            }
        }
        let ids: BTreeSet<u32> = nodes.iter().map(|node| node.id().unwrap()).collect();
        assert_eq!(ids.len(), count, "{nodes:?}");
    }
}
