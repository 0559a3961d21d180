//! Events of events.k8s.io/v1: what they must say, and what may be changed in them.

use serde_json::{Value, json};

use crate::target::Target;

const TIME: &str = "2026-01-01T00:00:00.000000Z";

/// An Event about a Node, which is of no namespace.
fn event(name: &str) -> Value {
    json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": name}, "eventTime": TIME,
        "type": "Warning", "reason": "NotUnderstood", "action": "Balance", "note": "port 70000",
        "reportingController": "balancing.elf.io/agent", "reportingInstance": "n1",
        "regarding": {"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "1"},
    })
}

fn all(namespace: &str) -> String {
    format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events")
}

pub(crate) async fn an_event_says_what_it_must(target: &Target) {
    let namespace = target.namespace("saying").await;
    for field in ["eventTime", "type", "reason", "action", "reportingController", "reportingInstance"] {
        let mut without = event("a");
        without.as_object_mut().unwrap().remove(field);
        let refused = target.post(&all("default"), without).await;
        assert_eq!(refused.refusal(), (422, "Invalid"), "without {field}: {refused:?}");
    }
    let with = |field: &str, value: &str| {
        let mut event = event(&format!("with-{}", value.len()));
        event[field] = value.into();
        event
    };
    target.post(&all("default"), with("note", &"n".repeat(1024))).await.ok();
    for (field, value) in [
        ("note", "n".repeat(1025)),
        ("reason", "R".repeat(129)),
        ("action", "A".repeat(129)),
        ("reportingInstance", "i".repeat(129)),
        ("reportingController", "not a name".to_owned()),
        ("type", "Error".to_owned()),
    ] {
        let refused = target.post(&all("default"), with(field, &value)).await;
        assert_eq!(refused.refusal(), (422, "Invalid"), "{field}: {refused:?}");
    }
    let refused = target.post(&all(&namespace), event("elsewhere")).await;
    assert_eq!(
        refused.refusal(),
        (422, "Invalid"),
        "what has no namespace is told of in default: {refused:?}"
    );
    let mut namespaced = event("web");
    namespaced["regarding"] =
        json!({"apiVersion": "v1", "kind": "Service", "name": "web", "namespace": namespace});
    target.post(&all(&namespace), namespaced).await.ok();
}

pub(crate) async fn an_event_is_said_once_and_counted(target: &Target) {
    target.post(&all("default"), event("counted")).await.ok();
    let again = target.post(&all("default"), event("counted")).await;
    assert_eq!(again.refusal(), (409, "AlreadyExists"));
    let one = format!("{}/counted", all("default"));
    let series = |count: u32| json!({"series": {"count": count, "lastObservedTime": TIME}});
    for count in [2, 5] {
        let after = target.merge(&one, series(count)).await.ok();
        assert_eq!(after["series"]["count"], count);
    }
    for refused in [json!({"note": "port 80000"}), json!({"reason": "Other"}), series(1)] {
        let answer = target.merge(&one, refused.clone()).await;
        assert_eq!(answer.refusal(), (422, "Invalid"), "{refused}: {answer:?}");
    }
    assert_eq!(target.get(&one).await.ok()["series"]["count"], 5);
    assert_eq!(
        target.merge(&format!("{}/gone", all("default")), series(2)).await.refusal(),
        (404, "NotFound")
    );
}
