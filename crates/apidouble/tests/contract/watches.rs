//! Watches.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{
    definitions::define,
    target::{Target, config_map, version},
};

pub(crate) async fn events_in_order(target: &Target) {
    let namespace = target.namespace("order").await;
    let all = format!("/api/v1/namespaces/{namespace}/configmaps");
    let start = version(&target.get(&all).await.ok());
    let mut live = target.watch(&format!("{all}?watch=true&resourceVersion={start}")).await;
    target.post(&all, config_map("a", json!({}))).await.ok();
    let b = target.post(&all, config_map("b", json!({}))).await.ok();
    let changed = target.merge(&format!("{all}/a"), json!({"data": {"x": "1"}})).await.ok();
    target.delete(&format!("{all}/b")).await.ok();
    let expected = ["ADDED a", "ADDED b", "MODIFIED a", "DELETED b"];
    for event in expected {
        assert_eq!(live.short().await, event);
    }
    // The same for one who comes later, and from the middle on.
    let path = format!("{all}?watch=true&resourceVersion={start}&timeoutSeconds=1");
    let late = target.watch(&path).await.all().await;
    let types: Vec<&str> = late.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["ADDED", "ADDED", "MODIFIED", "DELETED"]);
    assert_eq!(late[2]["object"], changed);
    let gone = &late[3]["object"];
    assert_eq!(
        (gone["kind"].as_str(), gone["metadata"]["uid"].as_str()),
        (Some("ConfigMap"), b["metadata"]["uid"].as_str())
    );
    assert!(version(gone) > version(&changed), "a deletion has a version of its own");
    let path = format!("{all}?watch=true&resourceVersion={}&timeoutSeconds=1", version(&changed));
    assert_eq!(target.watch(&path).await.all().await.len(), 1);
}

pub(crate) async fn a_watch_of_a_part_sees_objects_come_and_go(target: &Target) {
    let namespace = target.namespace("part").await;
    let all = format!("/api/v1/namespaces/{namespace}/configmaps");
    let start = version(&target.get(&all).await.ok());
    let path = format!("{all}?watch=true&resourceVersion={start}&labelSelector=in");
    let mut events = target.watch(&path).await;
    target.post(&all, config_map("a", json!({}))).await.ok();
    let one = format!("{all}/a");
    target.merge(&one, json!({"metadata": {"labels": {"in": "1"}}})).await.ok();
    target.merge(&one, json!({"data": {"x": "1"}})).await.ok();
    let left = target.merge(&one, json!({"metadata": {"labels": null}, "data": {"x": "2"}})).await.ok();
    target.merge(&one, json!({"data": {"x": "3"}})).await.ok();
    target.merge(&one, json!({"metadata": {"labels": {"in": "2"}}})).await.ok();
    target.delete(&one).await.ok();
    assert_eq!(events.short().await, "ADDED a");
    assert_eq!(events.short().await, "MODIFIED a");
    let gone = events.next().await.unwrap();
    assert_eq!((gone["type"].as_str(), gone["object"]["data"]["x"].as_str()), (Some("DELETED"), Some("1")));
    assert_eq!(version(&gone["object"]), version(&left), "as it was, with the version of the change");
    assert_eq!(events.short().await, "ADDED a");
    assert_eq!(events.short().await, "DELETED a");

    let one = format!(
        "{all}?watch=true&resourceVersion={start}&timeoutSeconds=1&fieldSelector=metadata.name%3Dnone"
    );
    assert_eq!(target.watch(&one).await.all().await, Vec::<Value>::new());
}

pub(crate) async fn watches_end_in_time(target: &Target) {
    let begun = Instant::now();
    let path = "/api/v1/namespaces/default/secrets?watch=true&timeoutSeconds=2&resourceVersion=0";
    assert_eq!(target.watch(path).await.all().await, Vec::<Value>::new());
    let took = begun.elapsed();
    assert!(took > Duration::from_millis(1500) && took < Duration::from_secs(10), "{took:?}");
}

pub(crate) async fn initial_events_and_their_end(target: &Target) {
    let namespace = target.namespace("initial").await;
    let all = format!("/api/v1/namespaces/{namespace}/configmaps");
    target.post(&all, config_map("a", json!({}))).await.ok();
    let b = target.post(&all, config_map("b", json!({}))).await.ok();
    let stream =
        "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    for from in ["", "&resourceVersion=0", &format!("&resourceVersion={}", version(&b))] {
        let mut events = target.watch(&format!("{all}?{stream}{from}")).await;
        let mut initial = [events.short().await, events.short().await];
        initial.sort();
        assert_eq!(initial, ["ADDED a", "ADDED b"], "{from}");
        let end = events.next().await.unwrap();
        assert_eq!(
            (end["type"].as_str(), end["object"]["kind"].as_str()),
            (Some("BOOKMARK"), Some("ConfigMap"))
        );
        assert_eq!(end["object"]["metadata"]["annotations"], json!({"k8s.io/initial-events-end": "true"}));
        assert!(version(&end["object"]) >= version(&b));
        let name = format!("later{}", from.len());
        target.post(&all, config_map(&name, json!({}))).await.ok();
        assert_eq!(events.short().await, format!("ADDED {name}"));
        target.delete(&format!("{all}/{name}")).await.ok();
        assert_eq!(events.short().await, format!("DELETED {name}"));
    }
    // A part of them, and nothing at all.
    let mut events = target.watch(&format!("{all}?{stream}&fieldSelector=metadata.name%3Db")).await;
    assert_eq!((events.short().await, events.short().await), ("ADDED b".to_owned(), "BOOKMARK -".to_owned()));
    let mut events = target.watch(&format!("/api/v1/namespaces/{namespace}/secrets?{stream}")).await;
    assert_eq!(events.short().await, "BOOKMARK -");
}

pub(crate) async fn a_version_that_is_gone(target: &Target) {
    // Of this kind nobody can know what was before it was defined.
    let all = define(target, "Old", "olds").await;
    let mut events = target.watch(&format!("{all}?watch=true&resourceVersion=1")).await;
    assert_eq!(events.code, 200, "it is told by an event");
    let event = events.next().await.unwrap();
    assert_eq!(event["type"], "ERROR");
    let status = &event["object"];
    assert_eq!((&status["code"], &status["reason"]), (&json!(410), &json!("Expired")));
    assert!(status["message"].as_str().unwrap().starts_with("too old resource version: 1 ("), "{status}");
    assert_eq!(events.next().await, None);
}

pub(crate) async fn a_version_that_is_not_there_yet(target: &Target) {
    let namespace = target.namespace("future").await;
    let all = format!("/api/v1/namespaces/{namespace}/configmaps");
    let now = version(&target.get(&all).await.ok());
    let path = format!("{all}?watch=true&resourceVersion={}", now + 1_000_000);
    let mut events = target.watch(&path).await;
    assert_eq!(events.code, 200);
    target.post(&all, config_map("a", json!({}))).await.ok();
    // No error, and no event: who has seen the future waits for it to come again.
    assert!(timeout(Duration::from_secs(1), events.next()).await.is_err());
    let stream =
        "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let path = format!("{all}?{stream}&resourceVersion={}", now + 1_000_000);
    let error = target.watch(&path).await.next().await.unwrap();
    assert_eq!((error["type"].as_str(), &error["object"]["code"]), (Some("ERROR"), &json!(504)));
}

pub(crate) async fn options_that_do_not_fit(target: &Target) {
    let all = "/api/v1/namespaces/default/configmaps?watch=true&timeoutSeconds=1";
    for query in [
        "sendInitialEvents=true",
        "resourceVersionMatch=NotOlderThan",
        "resourceVersionMatch=Exact&resourceVersion=1",
    ] {
        assert_eq!(target.get(&format!("{all}&{query}")).await.refusal(), (422, "Invalid"), "{query}");
    }
}

pub(crate) async fn a_watch_without_a_version_begins_with_what_there_is(target: &Target) {
    let namespace = target.namespace("any").await;
    let all = format!("/api/v1/namespaces/{namespace}/configmaps");
    target.post(&all, config_map("a", json!({}))).await.ok();
    for from in ["", "&resourceVersion=0"] {
        let mut events = target.watch(&format!("{all}?watch=true{from}")).await;
        assert_eq!(events.short().await, "ADDED a", "{from}");
    }
    let nothing = "&sendInitialEvents=false&resourceVersionMatch=NotOlderThan&timeoutSeconds=1";
    assert_eq!(target.watch(&format!("{all}?watch=true{nothing}")).await.all().await, Vec::<Value>::new());
    // The path of one object is that object, whatever the query says.
    assert_eq!(target.get(&format!("{all}/a?watch=true")).await.ok()["kind"], "ConfigMap");
}
