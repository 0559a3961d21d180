//! CustomResourceDefinitions and the objects they define.

use hyper::Method;
use serde_json::{Value, json};

use crate::target::{Target, version};

/// Defines `plural.example.com`, once.
pub(crate) async fn define(target: &Target, kind: &str, plural: &str) -> String {
    let name = format!("{plural}.example.com");
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {
        "spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}});
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": name},
        "spec": {"group": "example.com", "scope": "Namespaced",
            "names": {"kind": kind, "listKind": format!("{kind}List"), "plural": plural, "singular": kind.to_lowercase()},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema, "subresources": {"status": {}}}]}});
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    target.post(definitions, definition).await.ok();
    let one = format!("{definitions}/{name}");
    target
        .eventually("the definition is established", async |target| {
            let now = target.get(&one).await.ok();
            let conditions = now["status"]["conditions"].as_array().cloned().unwrap_or_default();
            conditions.iter().any(|one| one["type"] == "Established" && one["status"] == "True")
        })
        .await;
    let all = format!("/apis/example.com/v1/namespaces/default/{plural}");
    target.eventually("the kind is served", async |target| target.get(&all).await.code == 200).await;
    all
}

fn object(kind: &str, spec: Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": kind, "metadata": {"name": "one"}, "spec": spec})
}

pub(crate) async fn a_definition_serves_its_kind(target: &Target) {
    let all = define(target, "Widget", "widgets").await;
    target
        .eventually("discovery knows it", async |target| {
            let list = target.get("/apis/example.com/v1").await;
            list.code == 200 && list.body["resources"].to_string().contains("\"widgets/status\"")
        })
        .await;
    let created = target.post(&all, object("Widget", json!({"size": 1}))).await.ok();
    assert_eq!((created["kind"].as_str(), &created["spec"]["size"]), (Some("Widget"), &json!(1)));
    let list = target.get(&all).await.ok();
    assert_eq!(list["kind"], "WidgetList");
    assert_eq!(list["items"][0]["kind"], "Widget", "custom objects say what they are, also in lists");
    let mut events = target.watch(&format!("{all}?watch=true")).await;
    assert_eq!(events.short().await, "ADDED one");
    let deleted = target.delete(&format!("{all}/one")).await.ok();
    assert_eq!(deleted["status"], "Success");
    assert_eq!(events.short().await, "DELETED one");
}

pub(crate) async fn its_status_and_generation(target: &Target) {
    let all = define(target, "Gadget", "gadgets").await;
    let mut sent = object("Gadget", json!({"size": 1}));
    sent["status"] = json!({"seen": 1});
    let created = target.post(&all, sent).await.ok();
    assert_eq!((&created["metadata"]["generation"], &created["status"]), (&json!(1), &Value::Null));
    let one = format!("{all}/one");
    let after = target.merge(&one, json!({"spec": {"size": 2}, "status": {"seen": 2}})).await.ok();
    assert_eq!((&after["metadata"]["generation"], &after["status"]), (&json!(2), &Value::Null));
    let patch = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"size": 3}, "status": {"seen": 2}});
    let after = target.merge(&format!("{one}/status"), patch).await.ok();
    assert_eq!((&after["metadata"]["generation"], &after["status"]["seen"]), (&json!(2), &json!(2)));
    assert_eq!((&after["spec"]["size"], &after["metadata"]["labels"]), (&json!(2), &Value::Null));
    let mut status = object("Gadget", json!({}));
    status["spec"] = Value::Null;
    status["status"] = json!({"applied": true});
    status.as_object_mut().unwrap().remove("spec");
    let after = target.apply(&format!("{one}/status"), "controller", status).await.ok();
    assert_eq!(after["status"], json!({"seen": 2, "applied": true}));
    // Who owns what of it is remembered, and goes with who no longer wants it.
    let status = |status: Value| json!({"apiVersion": "example.com/v1", "kind": "Gadget", "metadata": {"name": "one"}, "status": status});
    let path = format!("{one}/status");
    let other = target.apply(&path, "other", status(json!({"applied": false}))).await;
    assert_eq!(other.refusal(), (409, "Conflict"));
    assert!(
        other.message().contains("conflict with \"controller\" with subresource \"status\": .status.applied"),
        "{other:?}"
    );
    let after = target.apply(&path, "controller", status(json!({"more": 1}))).await.ok();
    assert_eq!(after["status"], json!({"seen": 2, "more": 1}));
}

pub(crate) async fn what_custom_objects_do_not_allow(target: &Target) {
    let all = define(target, "Thing", "things").await;
    let created = target.post(&all, object("Thing", json!({"size": 1}))).await.ok();
    let one = format!("{all}/one");
    let blind = target.put(&one, object("Thing", json!({"size": 2}))).await;
    assert_eq!(blind.refusal(), (422, "Invalid"));
    let mut sent = object("Thing", json!({"size": 2}));
    sent["metadata"]["resourceVersion"] = version(&created).to_string().into();
    assert_eq!(target.put(&one, sent).await.ok()["metadata"]["generation"], 2);
    let content = "application/strategic-merge-patch+json";
    assert_eq!(target.call(Method::PATCH, &one, content, Some(json!({}))).await.code, 415);
    assert_eq!(target.get("/apis/example.com/v1/namespaces/default/nothings").await.code, 404);
}

pub(crate) async fn a_definition_that_goes_takes_its_objects_along(target: &Target) {
    let all = define(target, "Trinket", "trinkets").await;
    target.post(&all, object("Trinket", json!({}))).await.ok();
    let mut events = target.watch(&format!("{all}?watch=true")).await;
    assert_eq!(events.short().await, "ADDED one");
    let definition = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/trinkets.example.com";
    target.delete(definition).await.ok();
    // Who follows is told of each before it ends.
    assert_eq!(events.short().await, "DELETED one");
    assert_eq!(events.next().await, None);
    target.eventually("it is not served", async |target| target.get(&all).await.code == 404).await;
    // Where all servers say what they serve.
    let groups = target.get("/apis").await.ok();
    let groups = groups["groups"].as_array().unwrap();
    assert!(groups.iter().any(|group| group["name"] == "discovery.k8s.io"), "{groups:?}");
    target
        .eventually("discovery does not know it", async |target| {
            let list = target.get("/apis/example.com/v1").await;
            list.code == 404 || !list.body["resources"].to_string().contains("\"trinkets\"")
        })
        .await;
}
