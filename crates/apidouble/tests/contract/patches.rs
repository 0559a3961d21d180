//! Patches that are no apply.

use hyper::Method;
use serde_json::json;

use crate::target::{Target, config_map, version};

pub(crate) async fn merge_patches(target: &Target) {
    let namespace = target.namespace("merge").await;
    let all = format!("/api/v1/namespaces/{namespace}/configmaps");
    target.post(&all, config_map("one", json!({"a": "1", "b": "2"}))).await.ok();
    let after = target.merge(&format!("{all}/one"), json!({"data": {"a": null, "c": "3"}})).await.ok();
    assert_eq!(after["data"], json!({"b": "2", "c": "3"}));
    assert_eq!(target.merge(&format!("{all}/two"), json!({})).await.refusal(), (404, "NotFound"));
}

pub(crate) async fn patches_at_once_lose_nothing(target: &Target) {
    let namespace = target.namespace("atonce").await;
    let all = format!("/api/v1/namespaces/{namespace}/configmaps");
    target.post(&all, config_map("one", json!({}))).await.ok();
    let one = format!("{all}/one");
    let writer = async |who: &str| {
        for at in 0..5 {
            let key = format!("{who}{at}");
            target.merge(&one, json!({"data": {key: who}})).await.ok();
        }
    };
    tokio::join!(writer("a"), writer("b"), writer("c"), writer("d"));
    assert_eq!(target.get(&one).await.ok()["data"].as_object().unwrap().len(), 20);
}

pub(crate) async fn json_patches(target: &Target) {
    let namespace = target.namespace("jsonpatch").await;
    let all = format!("/api/v1/namespaces/{namespace}/configmaps");
    target.post(&all, config_map("one", json!({"a": "1"}))).await.ok();
    let one = format!("{all}/one");
    let patch =
        async |patch| target.call(Method::PATCH, &one, "application/json-patch+json", Some(patch)).await;
    let after = patch(json!([{"op": "test", "path": "/data/a", "value": "1"},
        {"op": "replace", "path": "/data/a", "value": "2"}]));
    assert_eq!(after.await.ok()["data"]["a"], "2");
    let failed = patch(json!([{"op": "test", "path": "/data/a", "value": "1"}])).await;
    assert_eq!(failed.refusal(), (422, "Invalid"));
    let failed = patch(json!([{"op": "remove", "path": "/data/none"}])).await;
    assert_eq!(failed.refusal(), (422, "Invalid"));
}

pub(crate) async fn strategic_patches(target: &Target) {
    let namespace = target.namespace("strategic").await;
    let all = format!("/api/v1/namespaces/{namespace}/services");
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "one"},
        "spec": {"ports": [{"name": "http", "port": 80, "protocol": "TCP"}]}});
    target.post(&all, service).await.ok();
    let patch = json!({"metadata": {"annotations": {"a": "b"}},
        "spec": {"ports": [{"name": "dns", "port": 53, "protocol": "TCP"}]}});
    let content = "application/strategic-merge-patch+json";
    let after = target.call(Method::PATCH, &format!("{all}/one"), content, Some(patch)).await.ok();
    let mut ports: Vec<u64> = after["spec"]["ports"]
        .as_array()
        .unwrap()
        .iter()
        .map(|port| port["port"].as_u64().unwrap())
        .collect();
    ports.sort_unstable();
    assert_eq!((ports, after["metadata"]["annotations"]["a"].as_str()), (vec![53, 80], Some("b")));
}

pub(crate) async fn patches_that_cannot_be(target: &Target) {
    let namespace = target.namespace("nopatch").await;
    let all = format!("/api/v1/namespaces/{namespace}/configmaps");
    let created = target.post(&all, config_map("one", json!({"a": "1"}))).await.ok();
    let one = format!("{all}/one");
    let unknown = target.call(Method::PATCH, &one, "application/json", Some(json!({}))).await;
    assert_eq!(unknown.refusal(), (415, "UnsupportedMediaType"));
    // Identity is not what a patch can change.
    let renamed = target.merge(&one, json!({"metadata": {"name": "two"}})).await;
    assert_eq!(renamed.refusal(), (400, "BadRequest"));
    let current = version(&created).to_string();
    let patch = json!({"metadata": {"resourceVersion": current}, "data": {"a": "2"}});
    assert_eq!(target.merge(&one, patch.clone()).await.code, 200);
    assert_eq!(target.merge(&one, patch).await.refusal(), (409, "Conflict"));
}
