//! Namespaces by whose annotation pods are left alone.

use super::*;

/// By name, those that say something.
async fn said(seen: &mut Seen, wanted: &[(&str, bool)]) {
    seen.until("what namespaces say", |seen| {
        seen.namespaces.iter().map(|(name, socket_lb)| (name.as_str(), *socket_lb)).eq(wanted.iter().copied())
    })
    .await;
}

#[tokio::test]
async fn namespaces_that_say_something_come_change_and_go() {
    let mut world = World::defined().await;
    let cluster = world.cluster.clone();
    let put = |name: &str, value: Option<&str>| {
        let annotations = value.map_or(json!({}), |value| json!({"balancing.elf.io/socket-lb": value}));
        let metadata = json!({"name": name, "annotations": annotations});
        cluster.put(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})).unwrap();
    };
    put("plain", None);
    put("mesh", Some("false"));
    put("served", Some("true"));
    said(&mut world.seen, &[("mesh", false), ("served", true)]).await;
    put("served", None);
    said(&mut world.seen, &[("mesh", false)]).await;
    put("mesh", Some("False"));
    world
        .seen
        .until("its mistake", |seen| seen.is_told(Severity::Notice, &["Namespace mesh", "\"False\""]))
        .await;
    said(&mut world.seen, &[]).await;
    put("mesh", Some("false"));
    said(&mut world.seen, &[("mesh", false)]).await;
    world.cluster.remove("namespaces", None, "mesh").unwrap();
    said(&mut world.seen, &[]).await;
    assert_eq!(world.seen.problems, []);
}

/// As of an agent whose rights are those of an earlier version.
#[tokio::test]
async fn without_the_right_to_read_namespaces_all_else_goes_on() {
    let mut world = World::new(Some("n1"), |server| {
        let namespaces = Filter::resource("namespaces");
        server.faults().on(namespaces, Fault::Forbidden);
    })
    .await;
    world.seen.until("everything else", |seen| seen.complete).await;
    let words = ["list and watch namespaces", "balancing.elf.io/socket-lb have no effect"];
    world.seen.until("what is missing", |seen| seen.is_told(Severity::Notice, &words)).await;
}
