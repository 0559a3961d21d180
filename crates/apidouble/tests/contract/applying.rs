//! Server-side apply.

use hyper::Method;
use serde_json::{Value, json};

use crate::target::{Target, config_map, version};

pub(crate) async fn apply_creates_and_is_idempotent(target: &Target) {
    let namespace = target.namespace("apply").await;
    let one = format!("/api/v1/namespaces/{namespace}/configmaps/one");
    let created = target.apply(&one, "first", config_map("one", json!({"a": "1"}))).await;
    assert_eq!(created.code, 201);
    let created = created.ok();
    let owner = &created["metadata"]["managedFields"][0];
    assert_eq!(
        (&owner["manager"], &owner["operation"], &owner["fieldsV1"]),
        (&json!("first"), &json!("Apply"), &json!({"f:data": {"f:a": {}}}))
    );
    let again = target.apply(&one, "first", config_map("one", json!({"a": "1"}))).await;
    assert_eq!((again.code, version(&again.ok())), (200, version(&created)));
    let content = "application/apply-patch+yaml";
    let nobody = target.call(Method::PATCH, &one, content, Some(config_map("one", json!({})))).await;
    assert_eq!(nobody.refusal(), (422, "Invalid"), "who applies must say its name");
}

pub(crate) async fn what_is_no_longer_applied_is_removed(target: &Target) {
    let namespace = target.namespace("removed").await;
    let one = format!("/api/v1/namespaces/{namespace}/configmaps/one");
    target.apply(&one, "first", config_map("one", json!({"a": "1", "b": "2"}))).await.ok();
    target.apply(&one, "second", config_map("one", json!({"b": "2", "c": "3"}))).await.ok();
    let after = target.apply(&one, "first", config_map("one", json!({"a": "1"}))).await.ok();
    assert_eq!(after["data"], json!({"a": "1", "b": "2", "c": "3"}), "b is also second's");
    let after = target.apply(&one, "second", config_map("one", json!({"c": "4"}))).await.ok();
    assert_eq!(after["data"], json!({"a": "1", "c": "4"}));
}

pub(crate) async fn fields_of_others_are_conflicts(target: &Target) {
    let namespace = target.namespace("conflicts").await;
    let one = format!("/api/v1/namespaces/{namespace}/configmaps/one");
    target.apply(&one, "first", config_map("one", json!({"a": "1", "b": "1"}))).await.ok();
    let refused = target.apply(&one, "second", config_map("one", json!({"a": "2"}))).await;
    assert_eq!(refused.refusal(), (409, "Conflict"));
    assert_eq!(refused.message(), "Apply failed with 1 conflict: conflict with \"first\": .data.a");
    let cause = &refused.body["details"]["causes"][0];
    assert_eq!((&cause["reason"], &cause["field"]), (&json!("FieldManagerConflict"), &json!(".data.a")));
    let both = target.apply(&one, "second", config_map("one", json!({"a": "2", "b": "2"}))).await;
    assert_eq!(both.body["details"]["causes"].as_array().unwrap().len(), 2);

    let forced = target.apply(&one, "second&force=true", config_map("one", json!({"a": "2"}))).await.ok();
    assert_eq!(forced["data"], json!({"a": "2", "b": "1"}));
    // It has changed hands: the first may leave it out, and it stays.
    let after = target.apply(&one, "first", config_map("one", json!({"b": "1"}))).await.ok();
    assert_eq!(after["data"], json!({"a": "2", "b": "1"}));
}

pub(crate) async fn updates_own_fields_too(target: &Target) {
    let namespace = target.namespace("updates").await;
    let all = format!("/api/v1/namespaces/{namespace}/configmaps");
    let one = format!("{all}/one");
    target
        .post(&format!("{all}?fieldManager=creator"), config_map("one", json!({"a": "1", "b": "1"})))
        .await
        .ok();
    let refused = target.apply(&one, "applier", config_map("one", json!({"a": "2"}))).await;
    assert_eq!(refused.refusal(), (409, "Conflict"));
    assert!(refused.message().contains("conflict with \"creator\" using v1: .data.a"), "{refused:?}");
    target.apply(&one, "applier", config_map("one", json!({"c": "1"}))).await.ok();
    let path = format!("{one}?fieldManager=patcher");
    let after = target.merge(&path, json!({"data": {"c": "2"}})).await.ok();
    let owns = |manager: &str| -> Value {
        let entries = after["metadata"]["managedFields"].as_array().unwrap().iter();
        let mut entry = entries.filter(|entry| entry["manager"] == manager);
        entry.next().map_or(Value::Null, |entry| entry["fieldsV1"]["f:data"]["f:c"].clone())
    };
    assert_eq!((owns("patcher"), owns("applier")), (json!({}), Value::Null), "{after}");
    let refused = target.apply(&one, "applier", config_map("one", json!({"c": "1"}))).await;
    assert_eq!(refused.refusal(), (409, "Conflict"));
}

pub(crate) async fn lists_with_keys_are_applied_item_by_item(target: &Target) {
    let namespace = target.namespace("items").await;
    let one = format!("/api/v1/namespaces/{namespace}/services/one");
    let service = |ports: Value| json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "one"}, "spec": {"ports": ports}});
    let port =
        |name: &str, port: u16| json!({"name": name, "port": port, "protocol": "TCP", "targetPort": port});
    target.apply(&one, "first", service(json!([port("a", 80), port("b", 81)]))).await.ok();
    let after = target.apply(&one, "second", service(json!([port("c", 82)]))).await.ok();
    assert_eq!(after["spec"]["ports"], json!([port("a", 80), port("b", 81), port("c", 82)]));
    let after = target.apply(&one, "first", service(json!([port("b", 81)]))).await.ok();
    assert_eq!(after["spec"]["ports"], json!([port("b", 81), port("c", 82)]));
    let refused = target.apply(&one, "second", service(json!([port("c", 82), port("x", 81)]))).await;
    assert_eq!(refused.refusal(), (409, "Conflict"));
}

pub(crate) async fn a_bundle_is_applied_to_somebody_elses_webhook(target: &Target) {
    let all = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
    let one = format!("{all}/bundled");
    let configuration = |webhooks: Value| {
        json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": "bundled"}, "webhooks": webhooks})
    };
    let webhook = |name: &str| {
        json!({"name": name, "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "clientConfig": {"url": "https://127.0.0.1:1/x"}, "rules": []})
    };
    let both = configuration(json!([webhook("a.example.com"), webhook("b.example.com")]));
    target.post(&format!("{all}?fieldManager=chart"), both.clone()).await.ok();
    let ca = apidouble::Cluster::new().ca().unwrap();
    let ca = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, ca);
    let bundle = configuration(json!([{"name": "b.example.com", "clientConfig": {"caBundle": ca}}]));
    let after = target.apply(&one, "controller", bundle.clone()).await.ok();
    let config = |object: &Value, at: usize| object["webhooks"][at]["clientConfig"].clone();
    assert_eq!(config(&after, 1), json!({"caBundle": ca, "url": "https://127.0.0.1:1/x"}));
    assert_eq!(config(&after, 0), json!({"url": "https://127.0.0.1:1/x"}));
    assert_eq!(version(&target.apply(&one, "controller", bundle).await.ok()), version(&after));
    // A chart that is applied again leaves it there.
    let after = target.apply(&one, "chart&force=true", both).await.ok();
    assert_eq!(config(&after, 1)["caBundle"], ca);
    target.delete(&one).await.ok();
}

pub(crate) async fn status_is_applied_by_itself(target: &Target) {
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "applied"}});
    target.post("/api/v1/nodes", node.clone()).await.ok();
    let mut annotated = node.clone();
    annotated["metadata"]["annotations"] = json!({"example.com/id": "7"});
    let after = target.apply("/api/v1/nodes/applied", "agent", annotated.clone()).await.ok();
    assert_eq!(after["metadata"]["annotations"]["example.com/id"], "7");
    let mut status = node;
    status["status"] = json!({"addresses": [{"type": "InternalIP", "address": "10.0.0.9"}]});
    let after = target.apply("/api/v1/nodes/applied/status", "agent", status).await.ok();
    assert_eq!(after["status"]["addresses"][0]["address"], "10.0.0.9");
    assert_eq!(after["metadata"]["annotations"]["example.com/id"], "7", "is of the other half");
    annotated["metadata"]["annotations"] = json!({});
    let after = target.apply("/api/v1/nodes/applied", "agent", annotated).await.ok();
    assert_eq!(after["metadata"]["annotations"]["example.com/id"], Value::Null);
    assert_eq!(after["status"]["addresses"][0]["address"], "10.0.0.9");
    target.delete("/api/v1/nodes/applied").await.ok();
}

pub(crate) async fn an_annotation_changes_hands(target: &Target) {
    let node = |annotations: Value| json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "handed", "annotations": annotations}});
    let (one, ours) = ("/api/v1/nodes/handed", "example.com/id");
    target.post("/api/v1/nodes", node(json!({}))).await.ok();
    let owners = |object: &Value| -> Vec<(String, String)> {
        let entries = object["metadata"]["managedFields"].as_array().unwrap().iter();
        let owns = |entry: &&Value| {
            entry["fieldsV1"]["f:metadata"]["f:annotations"][format!("f:{ours}")].is_object()
        };
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        entries.filter(owns).map(|entry| (text(&entry["manager"]), text(&entry["operation"]))).collect()
    };
    let after = target.apply(one, "agent", node(json!({ours: "7"}))).await.ok();
    assert_eq!(owners(&after), [("agent".to_owned(), "Apply".to_owned())]);
    let by_hand = format!("{one}?fieldManager=kubectl-annotate");
    let after = target.merge(&by_hand, json!({"metadata": {"annotations": {ours: "8"}}})).await.ok();
    assert_eq!(owners(&after), [("kubectl-annotate".to_owned(), "Update".to_owned())]);
    let refused = target.apply(one, "agent", node(json!({ours: "7"}))).await;
    assert_eq!(refused.refusal(), (409, "Conflict"));
    assert_eq!(refused.body["details"]["causes"][0]["field"], format!(".metadata.annotations.{ours}"));
    // Whoever no longer says it leaves it as it is.
    let after = target.apply(one, "agent", node(json!({}))).await.ok();
    assert_eq!(after["metadata"]["annotations"][ours], "8");
    target.merge(&by_hand, json!({"metadata": {"annotations": {ours: null}}})).await.ok();
    let after = target.apply(one, "agent", node(json!({ours: "7"}))).await.ok();
    assert_eq!(owners(&after), [("agent".to_owned(), "Apply".to_owned())]);
    target.delete(one).await.ok();
}

pub(crate) async fn nothing_is_made_for_a_uid(target: &Target) {
    let node = |uid: &str| {
        json!({"apiVersion": "v1", "kind": "Node",
            "metadata": {"name": "identified", "uid": uid, "annotations": {"example.com/id": "7"}}})
    };
    let one = "/api/v1/nodes/identified";
    let refused = target.apply(one, "agent", node("1")).await;
    assert_eq!(refused.refusal(), (409, "Conflict"), "{refused:?}");
    assert!(refused.message().contains("uid mismatch"), "{refused:?}");
    assert_eq!(target.get(one).await.code, 404);
    let mut made = node("");
    made["metadata"] = json!({"name": "identified"});
    let uid = target.post("/api/v1/nodes", made).await.ok()["metadata"]["uid"].clone();
    let refused = target.apply(one, "agent", node("1")).await;
    assert_eq!(refused.refusal(), (422, "Invalid"), "{refused:?}");
    target.apply(one, "agent", node(uid.as_str().unwrap())).await.ok();
    target.delete(one).await.ok();
}
