use std::{collections::BTreeMap, sync::Arc};

use model::HealthCheck;
use serde_json::Value;

use super::*;

fn web() -> ObjectName {
    ObjectName::new("shop", "web")
}

fn good() -> Condition {
    let local = BTreeMap::from([(Family::V4, 2), (Family::V6, 0)]);
    let checks = BTreeMap::from([(web(), HealthCheck { port: 30_100, local })]);
    let updated = Some("2026-01-01T00:00:00Z".parse().unwrap());
    Condition { synced: true, in_force: true, updated, checks: Arc::new(checks), ..Condition::default() }
}

fn ask(face: &Face, path: &str, it: &Condition) -> Answer {
    let clock = Clock { silent: Duration::ZERO, now: "2026-01-02T03:04:05.5Z".parse().unwrap() };
    answer(face, path, it, || "metrics".into(), &clock)
}

fn body(answer: &Answer) -> Value {
    assert_eq!(answer.content_type, JSON);
    serde_json::from_str(&answer.body).unwrap()
}

#[test]
fn r24_a_service_is_answered_by_family_whatever_the_path() {
    let paused = Condition { paused: true, ..good() };
    let stranger = ObjectName::new("shop", "gone");
    for (name, family, condition, status, count, healthy) in [
        (web(), Family::V4, good(), 200, 2, true),
        (web(), Family::V6, good(), 503, 0, true),
        (web(), Family::V4, paused, 503, 2, false),
        // It was closed a moment ago.
        (stranger, Family::V4, good(), 503, 0, true),
    ] {
        for path in ["/", "/healthz", "/anything/else"] {
            let answer = ask(&Face::Service(name.clone(), family), path, &condition);
            assert_eq!((answer.status, answer.weight, answer.content_type), (status, Some(count), JSON));
            let expected = format!(
                "{{\"service\":{{\"namespace\":\"shop\",\"name\":\"{}\"}},\"localEndpoints\":{count},\
                 \"serviceProxyHealthy\":{healthy}}}",
                name.name
            );
            assert_eq!(answer.body, expected, "{path}");
        }
    }
}

#[test]
fn r25_a_node_that_leaves_fails_healthz_and_not_livez() {
    let (now, updated) = ("2026-01-02T03:04:05.5Z", "2026-01-01T00:00:00Z");
    let each = |healthy| json!({"lastUpdated": updated, "healthy": healthy});
    let both = |healthy| json!({"IPv4": each(healthy), "IPv6": each(healthy)});
    let leaving = Condition { leaving: true, ..good() };
    let off = Condition { hooks_off: 1, ..good() };
    for (path, condition, status, expected) in [
        ("/healthz", &good(), 200, json!({"lastUpdated": now, "nodeEligible": true, "healthy": true})),
        ("/livez", &good(), 200, json!({"lastUpdated": now, "healthy": true})),
        ("/healthz", &leaving, 503, json!({"lastUpdated": updated, "nodeEligible": false, "healthy": true})),
        ("/livez", &leaving, 200, json!({"lastUpdated": now, "healthy": true})),
        ("/healthz", &off, 503, json!({"lastUpdated": updated, "nodeEligible": true, "healthy": false})),
        ("/livez", &off, 503, json!({"lastUpdated": updated, "healthy": false})),
    ] {
        let answer = ask(&Face::ProxyHealth, path, condition);
        let mut expected = expected;
        expected["currentTime"] = json!(now);
        expected["status"] = both(expected["healthy"].as_bool().unwrap());
        assert_eq!((answer.status, body(&answer)), (status, expected), "{path} {condition:?}");
    }
    let new = Condition { updated: None, hooks_off: 9, ..good() };
    assert_eq!(body(&ask(&Face::ProxyHealth, "/livez", &new))["lastUpdated"], json!("0001-01-01T00:00:00Z"));
}

#[test]
fn r25_the_other_port_of_kube_proxy() {
    let ask = |path| ask(&Face::ProxyMetrics, path, &Condition { paused: true, ..good() });
    assert_eq!(ask("/proxyMode"), text(200, "ebpf"));
    assert_eq!(ask("/healthz"), text(200, "ok"), "it says only that somebody listens");
    let metrics = ask("/metrics");
    assert_eq!((metrics.status, metrics.content_type), (200, metrics::CONTENT_TYPE));
    assert_eq!(metrics.body, "metrics");
    let own = super::tests::ask(&Face::Metrics, "/metrics", &good());
    assert_eq!((own.status, own.body.len()), (200, metrics.body.len()), "the same there");
}

#[test]
fn the_agents_own_port_says_what_is_wrong() {
    let waiting = Condition { sources: vec!["API server: refused".into()], ..Condition::default() };
    for (path, status) in [("/livez", 200), ("/healthz", 200), ("/readyz", 503)] {
        let answer = ask(&Face::Agent, path, &waiting);
        assert_eq!(answer.status, status, "{path}");
        assert_eq!(body(&answer)["healthy"], json!(status == 200));
        assert_eq!(body(&answer)["sources"], json!(["API server: refused"]), "{path}");
        assert_eq!(body(&answer)["problems"].as_array().unwrap().is_empty(), status == 200, "{path}");
    }
}

#[test]
fn other_paths_are_not_there() {
    for (face, path, words) in [
        (Face::Agent, "/", "/readyz"),
        (Face::Agent, "/metrics", "/readyz"),
        (Face::Metrics, "/healthz", "/metrics"),
        (Face::ProxyHealth, "/readyz", "/livez"),
        (Face::ProxyMetrics, "/livez", "/proxyMode"),
    ] {
        let answer = ask(&face, path, &good());
        assert_eq!(answer.status, 404, "{face:?} {path}");
        assert!(answer.body.contains(words), "{answer:?}");
    }
}
