//! Lists.

use serde_json::{Value, json};

use crate::target::{Target, config_map, version};

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().unwrap_or_else(|| panic!("no list: {list}"));
    items.iter().map(|item| item["metadata"]["name"].as_str().unwrap()).collect()
}

pub(crate) async fn selectors_choose(target: &Target) {
    let namespace = target.namespace("selectors").await;
    let all = format!("/api/v1/namespaces/{namespace}/pods");
    for (name, node, labels) in [
        ("a", "one", json!({"app": "web"})),
        ("b", "two", json!({"app": "db", "tier": "x"})),
        ("c", "one", json!({})),
    ] {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels},
            "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i"}]}});
        target.post(&all, pod).await.ok();
    }
    for (query, expected) in [
        ("", vec!["a", "b", "c"]),
        ("labelSelector=app%3Dweb", vec!["a"]),
        ("labelSelector=app", vec!["a", "b"]),
        ("labelSelector=%21app", vec!["c"]),
        ("labelSelector=app%21%3Dweb", vec!["b", "c"]),
        ("labelSelector=app+in+%28web%2Cdb%29%2C%21tier", vec!["a"]),
        ("labelSelector=app+notin+%28web%29", vec!["b", "c"]),
        ("fieldSelector=spec.nodeName%3Done", vec!["a", "c"]),
        ("fieldSelector=metadata.name%21%3Da", vec!["b", "c"]),
        ("fieldSelector=metadata.namespace%3Dselectors%2Cmetadata.name%3Db", vec!["b"]),
        ("fieldSelector=spec.nodeName%3Done&labelSelector=app", vec!["a"]),
    ] {
        assert_eq!(names(&target.get(&format!("{all}?{query}")).await.ok()), expected, "{query}");
    }
    for query in ["fieldSelector=spec.containers%3D1", "labelSelector=a+b+c", "fieldSelector=spec.nodeName"] {
        assert_eq!(target.get(&format!("{all}?{query}")).await.refusal(), (400, "BadRequest"), "{query}");
    }
    let everywhere = target.get("/api/v1/pods?fieldSelector=metadata.namespace%3Dselectors").await.ok();
    assert_eq!(names(&everywhere), ["a", "b", "c"]);
}

pub(crate) async fn chunks_are_of_one_moment(target: &Target) {
    let namespace = target.namespace("chunks").await;
    let all = format!("/api/v1/namespaces/{namespace}/configmaps");
    for name in ["a", "b", "c", "d", "e"] {
        target.post(&all, config_map(name, json!({"of": "then"}))).await.ok();
    }
    let first = target.get(&format!("{all}?limit=2")).await.ok();
    assert_eq!(names(&first), ["a", "b"]);
    assert_eq!(first["metadata"]["remainingItemCount"], 3);
    // What happens now is not in the pages that follow.
    target.delete(&format!("{all}/d")).await.ok();
    target.post(&all, config_map("cc", json!({}))).await.ok();
    target.merge(&format!("{all}/c"), json!({"data": {"of": "now"}})).await.ok();
    let token = first["metadata"]["continue"].as_str().unwrap();
    let second = target.get(&format!("{all}?limit=2&continue={token}")).await.ok();
    assert_eq!(names(&second), ["c", "d"]);
    assert_eq!(second["items"][0]["data"]["of"], "then");
    assert_eq!(version(&second), version(&first));
    let token = second["metadata"]["continue"].as_str().unwrap();
    let third = target.get(&format!("{all}?limit=2&continue={token}")).await.ok();
    assert_eq!(names(&third), ["e"]);
    assert_eq!(third["metadata"]["continue"].as_str().unwrap_or_default(), "");
    assert_eq!(names(&target.get(&all).await.ok()), ["a", "b", "c", "cc", "e"]);
    assert_eq!(target.get(&format!("{all}?continue=nonsense")).await.code, 400);
    // With a selector nobody has counted what remains.
    let some = target.get(&format!("{all}?limit=1&labelSelector=%21x")).await.ok();
    assert_eq!((names(&some), &some["metadata"]["remainingItemCount"]), (vec!["a"], &Value::Null));
}

pub(crate) async fn exact_versions_are_what_was(target: &Target) {
    let namespace = target.namespace("exact").await;
    let all = format!("/api/v1/namespaces/{namespace}/configmaps");
    target.post(&all, config_map("a", json!({"of": "then"}))).await.ok();
    let then = version(&target.get(&all).await.ok());
    target.merge(&format!("{all}/a"), json!({"data": {"of": "now"}})).await.ok();
    target.post(&all, config_map("b", json!({}))).await.ok();
    let list = target.get(&format!("{all}?resourceVersion={then}&resourceVersionMatch=Exact")).await.ok();
    assert_eq!((names(&list), &list["items"][0]["data"]["of"]), (vec!["a"], &json!("then")));
    assert_eq!(version(&list), then);
    let list =
        target.get(&format!("{all}?resourceVersion={then}&resourceVersionMatch=NotOlderThan")).await.ok();
    assert!(version(&list) >= then && names(&list).contains(&"a"));
    let list = target.get(&format!("{all}?resourceVersion={then}&limit=5")).await.ok();
    assert!(names(&list).contains(&"a"), "{list}");
}

pub(crate) async fn versions_that_cannot_be(target: &Target) {
    let all = "/api/v1/namespaces/default/configmaps";
    let now = version(&target.get(all).await.ok());
    let future = target.get(&format!("{all}?resourceVersion={}", now + 1_000_000)).await;
    assert_eq!(future.refusal(), (504, "Timeout"));
    assert_eq!(future.body["details"]["causes"][0]["reason"], "ResourceVersionTooLarge");
    for query in [
        "resourceVersionMatch=Exact",
        "resourceVersionMatch=Exact&resourceVersion=0",
        "sendInitialEvents=true",
    ] {
        assert_eq!(target.get(&format!("{all}?{query}")).await.refusal(), (422, "Invalid"), "{query}");
    }
    let nonsense = target.get(&format!("{all}?resourceVersion=nonsense")).await;
    assert!([400, 422].contains(&nonsense.code), "{nonsense:?}");
}

pub(crate) async fn metadata_of_a_list(target: &Target) {
    let namespace = target.namespace("listed").await;
    let all = format!("/api/v1/namespaces/{namespace}/configmaps");
    let created = target.post(&all, config_map("a", json!({}))).await.ok();
    let list = target.get(&all).await.ok();
    assert_eq!((list["kind"].as_str(), list["apiVersion"].as_str()), (Some("ConfigMapList"), Some("v1")));
    assert!(version(&list) >= version(&created));
    // Items of built-in kinds do not repeat what the list says.
    assert_eq!((&list["items"][0]["kind"], &list["items"][0]["apiVersion"]), (&Value::Null, &Value::Null));
    let empty = target.get("/api/v1/namespaces/listed/secrets").await.ok();
    assert_eq!(empty["items"], json!([]));
    let cached = target.get(&format!("{all}?resourceVersion=0")).await.ok();
    assert_eq!(cached["kind"], "ConfigMapList");
    // Who takes any version gets all at once.
    target.post(&all, config_map("b", json!({}))).await.ok();
    let whole = target.get(&format!("{all}?resourceVersion=0&limit=1")).await.ok();
    assert_eq!((names(&whole), &whole["metadata"]["continue"]), (vec!["a", "b"], &Value::Null));
}
