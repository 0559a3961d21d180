//! What commands answer, with the agent and without.

#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeSet,
    process::{Command, Stdio},
};

use balancing_tests::process::{Host, web};
use serde_json::{Value, json};

/// A listing, as JSON.
#[track_caller]
fn listing(host: &Host, arguments: &[&str]) -> Vec<Value> {
    let answer = host.balancing(&[arguments, &["-o", "json"]].concat()).unwrap();
    serde_json::from_str(answer.succeeds()).unwrap()
}

/// These fields of each row.
fn fields(rows: &[Value], names: &[&str]) -> BTreeSet<String> {
    let row = |row: &Value| names.iter().map(|name| row[*name].clone()).collect::<Value>().to_string();
    rows.iter().map(row).collect()
}

fn set(rows: &[Value]) -> BTreeSet<String> {
    rows.iter().map(ToString::to_string).collect()
}

#[test]
fn get_lists_what_the_kernel_holds() {
    let host = Host::new("get").unwrap();
    host.write("web.yaml", web::manifest("web", 16, &[1, 2])).unwrap();
    host.write("empty.yaml", web::manifest("empty", 17, &[])).unwrap();
    let mut agent = host.agent(&[]).unwrap();
    for with_agent in [true, false] {
        if !with_agent {
            agent.kill().unwrap();
        }
        let rows = listing(&host, &["get", "services"]);
        let seen =
            fields(&rows, &["namespace", "service", "port", "protocol", "frontend", "mode", "backends"]);
        let mut expected = Vec::new();
        for (service, low, backends) in [("web", "16", 2), ("empty", "17", 0)] {
            let v6 = if low == "16" { "10" } else { "11" };
            for (port, protocol, number) in [("http", "TCP", 80), ("dns", "UDP", 53)] {
                for vip in [format!("10.96.0.{low}:{number}"), format!("[fd00:96::{v6}]:{number}")] {
                    expected.push(json!(["default", service, port, protocol, vip, "ClusterIP", backends]));
                }
            }
        }
        assert_eq!(seen, set(&expected), "with agent: {with_agent}");

        let rows = listing(&host, &["get", "endpoints"]);
        let seen =
            fields(&rows, &["namespace", "service", "port", "protocol", "address", "state", "pod", "node"]);
        let mut expected = Vec::new();
        for low in [1, 2] {
            // Pods and nodes are what only the agent knows.
            let (pod, node) = match with_agent {
                true => (json!(format!("default/web-{low}")), json!("n2")),
                false => (Value::Null, Value::Null),
            };
            for (port, protocol, number) in [("http", "TCP", 8080), ("dns", "UDP", 5353)] {
                for address in [format!("10.1.0.{low}:{number}"), format!("[fd00:1::{low}]:{number}")] {
                    let state = "in use";
                    expected.push(json!(["default", "web", port, protocol, address, state, pod, node]));
                }
            }
        }
        assert_eq!(seen, set(&expected), "with agent: {with_agent}");

        let maps = listing(&host, &["get", "maps"]);
        let used = |name: &str| maps.iter().find(|map| map["name"] == name).unwrap()["used"].clone();
        let counts = ["frontends4", "frontends6", "records", "backends", "names"].map(used);
        assert_eq!(counts, [4, 4, 8, 8, 8].map(|count: u32| json!(count)), "{maps:?}");

        for what in ["services", "endpoints", "maps"] {
            // Forms differ; what is in them does not.
            let [table, wide, yaml] = ["table", "wide", "yaml"]
                .map(|form| host.balancing(&["get", what, "-o", form]).unwrap().succeeds().to_owned());
            let rows = listing(&host, &["get", what]);
            assert_eq!(table.lines().count(), rows.len() + 1, "{table}");
            assert_eq!(wide.lines().count(), rows.len() + 1, "{wide}");
            assert!(wide.lines().next().unwrap().len() >= table.lines().next().unwrap().len(), "{wide}");
            let from_yaml: Vec<Value> = serde_saphyr::from_str(&yaml).unwrap();
            // The number of slots in use is that of sockets at the moment.
            let without_use = |rows: Vec<Value>| -> Vec<Value> {
                rows.into_iter().filter(|row| row["name"] != "slots").collect()
            };
            assert_eq!(without_use(from_yaml), without_use(rows), "{what}");
        }
        assert!(listing(&host, &["get", "services", "-n", "elsewhere"]).is_empty());
        assert_eq!(listing(&host, &["get", "services", "-n", "default"]).len(), 8);
    }
}

#[test]
fn why_explains_with_the_agent_and_without() {
    let host = Host::new("why").unwrap();
    host.write("web.yaml", web::manifest("web", 10, &[1, 2])).unwrap();
    host.write("empty.yaml", web::manifest("empty", 11, &[])).unwrap();
    let local = [("internalTrafficPolicy", "Local")];
    host.write("local.yaml", web::manifest_with("local", 12, &[1], &local)).unwrap();
    let mut inside = Command::new("sleep");
    let mut inside = host
        .cgroup()
        .spawn(inside.arg("1000").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()))
        .unwrap();
    let pid = inside.id().to_string();
    let mut agent = host.agent(&[]).unwrap();
    let web = json!({"namespace": "default", "name": "web", "port": "http"});
    for with_agent in [true, false] {
        if !with_agent {
            agent.kill().unwrap();
        }
        for client in [&pid] {
            for (destination, verdict, reason, service, backends) in [
                (
                    "10.96.0.10:80/tcp",
                    "translated",
                    "balanced",
                    web.clone(),
                    json!(["10.1.0.1:8080", "10.1.0.2:8080"]),
                ),
                (
                    "10.96.0.11:53/udp",
                    "refused",
                    "no-endpoints",
                    json!({"namespace": "default", "name": "empty", "port": "dns"}),
                    json!([]),
                ),
                (
                    "[fd00:96::c]:80/tcp",
                    "unreachable",
                    "no-local-endpoint",
                    json!({"namespace": "default", "name": "local", "port": "http"}),
                    json!([]),
                ),
                ("10.96.0.10:81/tcp", "refused", "unknown-port", Value::Null, json!([])),
                ("10.96.0.10:80/udp", "refused", "unknown-port", Value::Null, json!([])),
                ("10.97.0.10:80/tcp", "passed", "not-a-service", Value::Null, json!([])),
            ] {
                let answer = host.balancing(&["why", client, destination, "-o", "json"]).unwrap();
                let answer: Value = serde_json::from_str(answer.succeeds()).unwrap();
                let mut listed: Vec<Value> = answer["backends"].as_array().unwrap().clone();
                listed.sort_by_key(ToString::to_string);
                let seen = (&answer["verdict"], &answer["reason"], &answer["service"], json!(listed));
                assert_eq!(seen, (&json!(verdict), &json!(reason), &service, backends), "{answer}");
                assert_eq!(answer["client"]["served"], json!(true), "{answer}");
                assert_eq!(answer["endpoints"].is_null(), !with_agent, "{answer}");
            }
        }
        let text = host.balancing(&["why", &pid, "svc/default/web:http"]).unwrap();
        let text = text.succeeds();
        // Both families, each with both of its backends.
        for words in ["10.96.0.10:80", "[fd00:96::a]:80", "10.1.0.2:8080", "[fd00:1::1]:8080", "1/2"] {
            assert!(text.contains(words), "{words} is missing:\n{text}");
        }
        assert_eq!(text.contains("default/web-1"), with_agent, "{text}");
        assert_eq!(text.contains("The agent is not running"), !with_agent, "{text}");
        // Neither the host as a whole nor this process is below the cgroup that is served.
        let answer = host.balancing(&["why", "host", "10.96.0.10:80/tcp"]).unwrap();
        assert!(answer.succeeds().contains("its cgroup is not below"), "{answer:?}");
        let outside = std::process::id().to_string();
        let answer = host.balancing(&["why", &outside, "10.96.0.10:80/tcp"]).unwrap();
        assert!(answer.succeeds().contains("its cgroup is not below"), "{answer:?}");
    }
    host.balancing(&["why", "host", "svc/default/none:http"]).unwrap().fails(1, &["svc/default/none:http"]);
    host.balancing(&["why", "host", "10.96.0.10"]).unwrap().fails(2, &["give ip:port"]);
    host.balancing(&["why", "host", "10.96.0.10:80/sctp"]).unwrap().fails(2, &["give tcp or udp"]);
    host.balancing(&["why", "x", "10.96.0.10:80/tcp"]).unwrap().fails(2, &["give `host`, a process id"]);
    host.balancing(&["why", "4000000000", "10.96.0.10:80/tcp"])
        .unwrap()
        .fails(1, &["there is no process 4000000000"]);
    inside.kill().unwrap();
    inside.wait().unwrap();
}

#[test]
fn status_is_the_same_in_every_form() {
    let host = Host::new("status").unwrap();
    host.write("web.yaml", web::manifest("web", 10, &[1, 2])).unwrap();
    let agent = host.agent(&[]).unwrap();
    let answer = host.balancing(&["status", "-o", "json"]).unwrap();
    let json: Value = serde_json::from_str(answer.succeeds()).unwrap();
    assert_eq!((&json["running"], &json["pid"]), (&json!(true), &json!(agent.pid())));
    assert_eq!(json["node"], json!("n1"));
    assert_eq!((&json["frontends"], &json["backends"]), (&json!(4), &json!(8)));
    assert_eq!((&json["problems"], &json["auditDifferences"]), (&json!([]), &json!(0)));
    assert_eq!(json["cgroup"], json!(host.cgroup().path()));
    assert_eq!(json["hooks"].as_array().unwrap().len(), 9);
    let answer = host.balancing(&["status", "-o", "yaml"]).unwrap();
    let yaml: Value = serde_saphyr::from_str(answer.succeeds()).unwrap();
    assert_eq!((&yaml["pid"], &yaml["hooks"]), (&json["pid"], &json["hooks"]));
    let answer = host.balancing(&["status"]).unwrap();
    for words in ["healthy", "9 of 9 hooks", "4 frontends, 8 backends", "(synced)", "level failures"] {
        assert!(answer.succeeds().contains(words), "{words:?} is missing: {answer:?}");
    }
}
