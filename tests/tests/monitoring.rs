//! The dashboard and the alerts of the chart: each metric that they name is one that agents or controllers have, and each alert is
//! one that fires when it should.

#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::Command,
};

use balancing_tests::{
    chart::{IMAGE, file, one, render, tool},
    promql::named,
};
use serde_json::{Value, json};
use testkit::metrics::{Metrics, documented};

const DASHBOARD: &str = "charts/balancing/dashboards/balancing.json";
const ALERTS: &str = "charts/balancing/rules/alerts.yaml";
const TESTS: &str = "tests/rules/alerts.yaml";

/// Labels that Prometheus adds, and `le` of histograms.
const ADDED: [&str; 3] = ["instance", "job", "le"];

fn text(path: &str) -> String {
    fs::read_to_string(file(path)).unwrap()
}

fn dashboard() -> Value {
    serde_json::from_str(&text(DASHBOARD)).unwrap()
}

fn alerts() -> Value {
    serde_saphyr::from_str(&text(ALERTS)).unwrap()
}

/// All of agents and controllers: tests of their crates, and `process_metrics`, compare this page with what is exposed.
fn known() -> Metrics {
    let page = text("docs/metrics.md");
    let mut known = documented(&page, "Agent").unwrap();
    known.extend(documented(&page, "Controller").unwrap());
    known
}

/// Queries with what they are for, and the labels that are shown of them.
fn queries() -> Vec<(String, String, BTreeSet<String>)> {
    let mut queries = Vec::new();
    for panel in dashboard()["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let legend = target["legendFormat"].as_str().unwrap();
            let shown = legend.split("{{").skip(1).map(|it| it.split("}}").next().unwrap().to_owned());
            queries.push((
                panel["title"].to_string(),
                target["expr"].as_str().unwrap().to_owned(),
                shown.collect(),
            ));
        }
    }
    for group in alerts()["groups"].as_array().unwrap() {
        for rule in group["rules"].as_array().unwrap() {
            let texts = rule["annotations"].as_object().unwrap().values().map(|it| it.as_str().unwrap());
            let shown = texts.flat_map(|text| {
                text.split("$labels.").skip(1).map(|it| it.split([' ', '}']).next().unwrap())
            });
            let shown = shown.map(str::to_owned).collect();
            queries.push((rule["alert"].to_string(), rule["expr"].as_str().unwrap().to_owned(), shown));
        }
    }
    queries
}

#[test]
fn queries_name_only_metrics_and_labels_that_there_are() {
    let known = known();
    for (of, query, shown) in queries() {
        let named = named(&query);
        assert!(!named.metrics.is_empty(), "{of}: {query}");
        let mut labels: BTreeSet<&str> = ADDED.into();
        for name in named.metrics.iter().filter(|name| *name != "up") {
            let part = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part));
            let of_histogram =
                part.and_then(|name| known.get(name)).filter(|metric| metric.kind == "histogram");
            let metric = known.get(name).filter(|metric| metric.kind != "histogram").or(of_histogram);
            let metric = metric.unwrap_or_else(|| panic!("{of}: no {name} in docs/metrics.md: {query}"));
            labels.extend(metric.labels.iter().map(String::as_str));
        }
        for label in named.labels.iter().chain(&shown) {
            assert!(labels.contains(label.as_str()), "{of}: label {label}: {query}");
        }
    }
}

#[test]
fn the_dashboard_shows_every_metric_of_balancing() {
    let used: BTreeSet<String> = queries().iter().flat_map(|(_, query, _)| named(query).metrics).collect();
    let is_used = |name: &str| {
        used.iter().any(|it| it == name || it.strip_suffix("_bucket").is_some_and(|base| base == name))
    };
    let unused: Vec<String> = known().into_keys().filter(|name| !is_used(name)).collect();
    // Nothing to look at all day.
    let expected = [
        "balancing_event_log_written_total",
        "balancing_map_capacity",
        "balancing_service_fallen_total",
        "balancing_source_synced",
        "balancing_webhook_certificate_not_before_timestamp_seconds",
        "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds",
        "process_max_fds",
        "process_virtual_memory_bytes",
    ];
    assert_eq!(unused, expected);
}

#[test]
fn panels_have_a_place_of_their_own() {
    let (dashboard, mut taken, mut ids) = (dashboard(), BTreeMap::new(), BTreeSet::new());
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
        let at = |side: &str| panel["gridPos"][side].as_u64().unwrap();
        assert!(at("x") + at("w") <= 24, "{panel}");
        for place in
            (at("x")..at("x") + at("w")).flat_map(|x| (at("y")..at("y") + at("h")).map(move |y| (x, y)))
        {
            let before = taken.insert(place, panel["title"].clone());
            assert_eq!(before, None, "{} at {place:?}", panel["title"]);
        }
    }
}

/// Runs promtool, which must be content.
fn promtool(arguments: &[&str], path: &str) {
    let output = Command::new(tool("promtool")).args(arguments).arg(file(path)).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
}

#[test]
fn alerts_fire_when_they_should_and_only_then() {
    promtool(&["check", "rules"], ALERTS);
    promtool(&["test", "rules"], TESTS);
    // Each of them.
    let tests = text(TESTS);
    for group in alerts()["groups"].as_array().unwrap() {
        for rule in group["rules"].as_array().unwrap() {
            let fires = format!("alertname=\"{}\"", rule["alert"].as_str().unwrap());
            assert!(tests.contains(&fires), "no test of {}", rule["alert"]);
        }
    }
}

#[test]
fn the_chart_ships_both_where_that_is_wanted() {
    let wanted = ["dashboard", "rules", "podMonitors"].map(|name| format!("monitoring.{name}=true"));
    let without = render(&[IMAGE]).unwrap();
    let wanted: Vec<&str> = [IMAGE].into_iter().chain(wanted.iter().map(String::as_str)).collect();
    let objects = render(&wanted).unwrap();
    let map = objects.iter().find(|it| it["metadata"]["labels"]["grafana_dashboard"] == "1").unwrap();
    let shipped: Value = serde_json::from_str(map["data"]["balancing.json"].as_str().unwrap()).unwrap();
    assert_eq!(shipped, dashboard());
    assert_eq!(one(&objects, "PrometheusRule")["spec"], alerts());
    // The jobs that alerts ask for are labels of pods.
    let jobs = jobs();
    let monitors: Vec<&Value> = objects.iter().filter(|it| it["kind"] == "PodMonitor").collect();
    let selected = |it: &&Value| it["spec"]["selector"]["matchLabels"]["app.kubernetes.io/name"].clone();
    assert_eq!(
        monitors.iter().map(selected).collect::<Vec<_>>(),
        jobs.iter().map(|job| json!(job)).collect::<Vec<_>>()
    );
    for (kind, job) in [("DaemonSet", "balancing"), ("Deployment", "balancing-controller")] {
        let objects = render(&[IMAGE, "controller.replicas=1"]).unwrap();
        let pod = &one(&objects, kind)["spec"]["template"];
        assert_eq!(pod["metadata"]["labels"]["app.kubernetes.io/name"], job);
        let ports = pod["spec"]["containers"][0]["ports"].as_array().unwrap();
        assert!(
            ports.iter().any(|port| port["name"] == monitors[0]["spec"]["podMetricsEndpoints"][0]["port"])
        );
    }
    assert!(without.iter().all(|it| it["metadata"]["labels"]["grafana_dashboard"].is_null()));
    assert!(without.iter().all(|it| it["kind"] != "PrometheusRule" && it["kind"] != "PodMonitor"));
}

fn jobs() -> BTreeSet<&'static str> {
    let jobs = ["balancing", "balancing-controller"];
    let text = text(ALERTS);
    assert_eq!(text.matches("job=").count(), jobs.len());
    jobs.into_iter().filter(|job| text.contains(&format!("job=\"{job}\""))).collect()
}
