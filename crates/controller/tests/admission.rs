//! Policies that are written through an API server that asks the webhooks over TLS.

#![allow(clippy::unwrap_used)]

mod world;

use std::time::Duration;

use apidouble::{Ending, Fault, Filter, Verb};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use world::{World, policy, until};

#[tokio::test]
async fn policies_get_an_id_and_wrong_ones_are_refused() {
    let world = World::new().await;
    let controller = world.started().await;
    let created = world.create(&policy("a", "80")).await.unwrap();
    let id = created["metadata"]["annotations"]["balancing.elf.io/serviceId"].as_str().unwrap();
    assert!(id.parse::<u32>().is_ok(), "{created}");

    let mut given = policy("b", "81");
    given["metadata"]["annotations"] = json!({"balancing.elf.io/serviceId": "10091"});
    let given = world.create(&given).await.unwrap();
    assert_eq!(given["metadata"]["annotations"]["balancing.elf.io/serviceId"], "10091");

    for (policy, words) in [
        (
            policy("c", "0"),
            "spec.frontend.addressMatcher.toPorts[0].port: must be a port number from 1 to 65535",
        ),
        (policy("c", "80"), "10.0.0.1 port 80/TCP is what BalancingPolicy a is for already"),
        (
            {
                let mut same = policy("c", "82");
                same["metadata"]["annotations"] = json!({"balancing.elf.io/serviceId": "10091"});
                same
            },
            "10091 is that of BalancingPolicy b",
        ),
    ] {
        let refused = world.create(&policy).await.unwrap_err();
        assert!(refused.contains("validate.balancing.elf.io") && refused.contains(words), "{refused}");
    }
    // The other kind may have the same frontend (P1), and not the same id.
    let mut local = policy("a", "80");
    local["kind"] = "LocalRedirectPolicy".into();
    local["spec"]["backend"] = json!({"endpointSelector": {"matchLabels": {"app": "x"}}, "toPorts": [{"port": "http", "protocol": "TCP"}]});
    let path = "/apis/balancing.elf.io/v1beta1/localredirectpolicies";
    let local = world.call("POST", path, local).await.unwrap();
    let other = local["metadata"]["annotations"]["balancing.elf.io/serviceId"].as_str().unwrap();
    assert_ne!(other, id);
    let change = json!({"metadata": {"annotations": {"balancing.elf.io/serviceId": id}}});
    let refused = world.call("PATCH", &format!("{path}/a"), change).await.unwrap_err();
    assert!(refused.contains("is that of BalancingPolicy a"), "{refused}");

    let (_, metrics) = controller.health("/metrics").await;
    let count = r#"balancing_admission_requests_total{webhook="validate",kind="BalancingPolicy",operation="CREATE",verdict="refused"} 3"#;
    assert!(metrics.contains(count), "{metrics}");
    controller.stop().await;
}

#[tokio::test]
async fn p9_policies_are_changed_in_place_and_what_one_lets_go_another_may_have() {
    let world = World::new().await;
    let controller = world.started().await;
    world.create(&policy("a", "80")).await.unwrap();
    let path = "/apis/balancing.elf.io/v1beta1/balancingpolicies/a";
    let addresses = json!({"spec": {"backend": {"addressEndpoint": {"addresses": ["192.0.2.2"]}}}});
    world.call("PATCH", path, addresses).await.unwrap();
    assert!(world.create(&policy("b", "80")).await.is_err());
    let ports = json!([{"port": "81", "protocol": "TCP"}]);
    let moved = json!({"spec": {"frontend": {"addressMatcher": {"toPorts": ports}}}});
    world.call("PATCH", path, moved).await.unwrap();
    // The controller hears of it a moment later.
    until("the port to be free", async || world.create(&policy("b", "80")).await.is_ok()).await;
    let refused = world.call("PATCH", path, json!({"spec": {"backend": null}})).await.unwrap_err();
    assert!(refused.contains("spec.backend: is missing"), "{refused}");
    world.delete("b").await.unwrap();
    until("the port to be free again", async || world.create(&policy("c", "80")).await.is_ok()).await;
    controller.stop().await;
}

#[tokio::test]
async fn old_mistakes_can_be_labelled_and_deleted() {
    let world = World::new().await;
    // From a time without webhooks.
    let mut wrong = policy("a", "80");
    wrong["spec"]["backend"] = json!({"addressEndpoint": {"addresses": []}});
    wrong["metadata"]["finalizers"] = json!(["example.com/wait"]);
    world.cluster.put(wrong).unwrap();
    let controller = world.started().await;
    let path = "/apis/balancing.elf.io/v1beta1/balancingpolicies/a";
    world.call("PATCH", path, json!({"metadata": {"labels": {"a": "b"}}})).await.unwrap();
    let refused = world.call("PATCH", path, json!({"spec": {"config": {}}})).await.unwrap_err();
    assert!(refused.contains("toPorts: is missing"), "{refused}");
    world.delete("a").await.unwrap();
    world.call("PATCH", path, json!({"metadata": {"finalizers": null}})).await.unwrap();
    assert!(world.cluster.get("balancingpolicies", None, "a").is_none());
    controller.stop().await;
}

#[tokio::test]
async fn while_no_controller_is_there_nothing_is_created_and_all_can_be_deleted() {
    let world = World::new().await;
    let controller = world.started().await;
    world.create(&policy("a", "80")).await.unwrap();
    controller.stop().await;
    let refused = world.create(&policy("b", "81")).await.unwrap_err();
    assert!(refused.contains("failed calling webhook"), "{refused}");
    world.delete("a").await.unwrap();
    let controller = world.started().await;
    world.create(&policy("b", "81")).await.unwrap();
    controller.stop().await;
}

#[tokio::test]
async fn who_does_not_know_the_policies_is_not_ready_and_says_try_again() {
    let world = World::new().await;
    let faults = world.theirs.faults();
    let reads = Filter::resource("balancingpolicies").and_verb(Verb::List).and_verb(Verb::Watch);
    faults.on(reads, Fault::InternalError);
    let controller = world.start(World::own_certificate(), 0);
    until("API servers to be told", async || world.trusted() == Some(1)).await;
    let (code, why) = controller.health("/readyz").await;
    assert_eq!((code, why.contains("policies of the cluster are not known")), (503, true), "{why}");
    let refused = world.create(&policy("a", "80")).await.unwrap_err();
    assert!(refused.contains("try again in a few seconds"), "{refused}");
    // Who must not be kept waits for nobody.
    world.cluster.put(policy("old", "81")).unwrap();
    let path = "/apis/balancing.elf.io/v1beta1/balancingpolicies/old";
    world.call("PATCH", path, json!({"metadata": {"labels": {"a": "b"}}})).await.unwrap();
    faults.clear();
    controller.is_ready().await;
    world.create(&policy("a", "80")).await.unwrap();
    controller.stop().await;
}

#[tokio::test]
async fn a_server_that_is_away_is_done_without() {
    let world = World::new().await;
    let controller = world.started().await;
    world.create(&policy("a", "80")).await.unwrap();
    until("the policy to be known", async || world.create(&policy("b", "80")).await.is_err()).await;
    world.theirs.close(apidouble::Ending::Reset).unwrap();
    let refused = world.create(&policy("b", "80")).await.unwrap_err();
    assert!(refused.contains("BalancingPolicy a is for already"), "{refused}");
    world.delete("a").await.unwrap();
    world.theirs.open().unwrap();
    // What was missed is found out.
    until("the port to be free", async || world.create(&policy("b", "80")).await.is_ok()).await;
    controller.stop().await;
}

#[tokio::test]
async fn what_is_no_review_is_answered_too() {
    let world = World::new().await;
    let controller = world.started().await;
    let bundle = world.bundles().pop_first().unwrap();
    let ask =
        async |method: &str, path: &str, body: Vec<u8>| controller.ask(&bundle, method, path, body).await;
    assert_eq!(ask("GET", "/validate", vec![]).await.0, 405);
    assert_eq!(ask("POST", "/elsewhere", vec![]).await.0, 404);
    assert_eq!(ask("POST", "/validate", b"{}".to_vec()).await.0, 400);
    assert_eq!(ask("POST", "/default", b"\xff".to_vec()).await.0, 400);
    assert_eq!(ask("POST", "/validate", vec![b' '; 9 << 20]).await.0, 400);
    // A kind that a configuration names by mistake, and a deletion.
    let review = |kind: &str, operation: &str, object: Value| {
        let named = json!({"group": "balancing.elf.io", "version": "v1beta1", "kind": kind});
        let resource = json!({"group": "balancing.elf.io", "version": "v1beta1", "resource": "x"});
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
            "uid": "7", "kind": named, "resource": resource, "operation": operation, "userInfo": {}, "object": object,
            "oldObject": null}})
        .to_string()
        .into_bytes()
    };
    for body in
        [review("Other", "CREATE", json!({"metadata": {}})), review("BalancingPolicy", "DELETE", Value::Null)]
    {
        let (code, answer) = ask("POST", "/validate", body).await;
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(
            (code, &answer["response"]["allowed"], &answer["response"]["uid"]),
            (200, &true.into(), &"7".into())
        );
    }
    assert_eq!(controller.health("/healthz").await, (200, "ok\n".to_owned()));
    assert_eq!(controller.health("/").await.0, 404);
    controller.stop().await;
}

#[tokio::test]
async fn who_is_told_to_stop_goes_on_answering_for_a_while() {
    let mut world = World::new().await;
    world.linger = Duration::from_secs(60);
    let controller = world.started().await;
    world.create(&policy("a", "80")).await.unwrap();
    let (health, task) = (controller.health, controller.task);
    controller.stop.send(()).unwrap();
    until("it to say so", async || {
        let (code, why) = world::health(health, "/readyz").await;
        code == 503 && why == "it was told to stop\n"
    })
    .await;
    world.create(&policy("b", "81")).await.unwrap();
    assert_eq!(world::health(health, "/healthz").await.0, 200);
    assert!(!task.is_finished());
    task.abort();
}

#[tokio::test]
async fn a_crowd_that_says_nothing_keeps_nobody_out() {
    let world = World::new().await;
    let controller = world.started().await;
    let mut crowd = Vec::new();
    for _ in 0..400 {
        crowd.push(TcpStream::connect(controller.webhook).await.unwrap());
    }
    world.create(&policy("a", "80")).await.unwrap();
    drop(crowd);
    controller.stop().await;
}

#[tokio::test]
async fn it_asks_for_what_its_roles_allow_and_for_all_of_that() {
    let world = World::new().await;
    let controller = world.started().await;
    // It renews its certificate, too.
    controller.skew.store(100 * 86_400, std::sync::atomic::Ordering::Relaxed);
    let asked = || {
        let asked = world.theirs.record().permissions().into_iter();
        asked
            .map(|(_, resource, verb)| format!("{verb} {resource}"))
            .collect::<std::collections::BTreeSet<_>>()
    };
    let mut allowed = std::collections::BTreeSet::new();
    for role in world::deployed().iter().filter(|it| it["kind"] == "ClusterRole" || it["kind"] == "Role") {
        for rule in role["rules"].as_array().unwrap() {
            for resource in rule["resources"].as_array().unwrap() {
                for verb in rule["verbs"].as_array().unwrap() {
                    allowed.insert(format!("{} {}", verb.as_str().unwrap(), resource.as_str().unwrap()));
                }
            }
        }
    }
    oversees(&world).await;
    until("all rights to be used", async || asked() == allowed).await;
    controller.stop().await;
}

/// Policies come, their pods change while somebody else writes, too, and they go.
async fn oversees(world: &World) {
    let cluster = &world.cluster;
    let slices = || {
        let all = cluster.list("endpointslices").unwrap().into_iter();
        all.map(|it| it["endpoints"][0]["conditions"]["ready"].clone()).collect::<Vec<_>>()
    };
    let pod = |ready: &str| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "default", "labels": {"app": "x"}},
            "status": {"podIPs": [{"ip": "10.0.0.9"}], "conditions": [{"type": "Ready", "status": ready}]}})
    };
    let selector = json!({"matchLabels": {"app": "x"}});
    let ports = json!([{"port": "80", "protocol": "TCP"}]);
    let mut selecting = policy("selecting", "81");
    selecting["spec"]["backend"] =
        json!({"serviceEndpoint": {"endpointSelector": selector, "toPorts": ports}});
    let mut local = policy("local", "82");
    local["kind"] = "LocalRedirectPolicy".into();
    local["spec"]["backend"] = json!({"endpointSelector": selector, "toPorts": ports});
    cluster.put_all([selecting, local]).unwrap();
    until("an Event", async || !cluster.list("events.events.k8s.io").unwrap().is_empty()).await;
    cluster.put(pod("True")).unwrap();
    until("a slice", async || slices() == [true]).await;
    let update = Filter::resource("endpointslices").and_verb(Verb::Update);
    world.theirs.faults().times(1, update, Fault::Conflict);
    cluster.put(pod("False")).unwrap();
    until("its change", async || slices() == [false]).await;
    cluster.remove("balancingpolicies", None, "selecting").unwrap();
    until("its end", async || slices().is_empty()).await;
    // After that the server is asked how new it is.
    world.theirs.end_watches(Ending::Reset);
}
