//! R25: what kube-proxy would be asked.

use std::{
    fmt::Display,
    net::{Ipv6Addr, TcpListener},
    process::Command,
    time::SystemTime,
};

use apidouble::{Cluster, Server};
use balancing_tests::process::{Answer, Host, PATIENCE, question::ask};
use serde_json::{Value, json};
use testkit::{
    object::{documents, endpoint, service, slice},
    wait,
};

use super::{
    machine::{HERE, LOOPBACK, V4, V6, following, get, is_refused, machine, node, status_becomes},
    services::balancer,
};

#[test]
fn r24_r25_nothing_of_kube_proxys_is_touched_beside_it() {
    let host = machine("r24-beside");
    host.write("web.yaml", balancer("web", 10, 30_100, "Local", &[1])).unwrap();
    let mut agent = host.agent_inside(&["--health-port", "5810"]).unwrap();
    status_becomes(&host, 5810, "/readyz", 200);
    for (ip, port) in [(V4, 30_100), (LOOPBACK, 10_256), (LOOPBACK, 10_249)] {
        assert!(is_refused(&host, ip, port), "{ip}:{port}");
    }
    let status = agent.status().unwrap();
    assert_eq!((&status.problems, &status.notices), (&vec![], &vec![]));
    assert_eq!(
        status.owners.iter().map(|it| it.served).collect::<Vec<_>>(),
        [true, false, false],
        "{status:?}"
    );
    // Rules of kube-proxy, and who keeps its port, are seen; its rules matter where it is replaced.
    let _proxy = host.namespace().run(|| TcpListener::bind((LOOPBACK, 10_256))).unwrap();
    for rules in ["add table ip6 kube-proxy", "add table ip nat", "add chain ip nat KUBE-SERVICES"] {
        let mut nft = Command::new("nft");
        host.namespace().contain(&mut nft).unwrap();
        Answer::of(nft.args(rules.split(' '))).unwrap().succeeds();
    }
    let doctor = |arguments: &[&str]| {
        let mut doctor = host.command(&[&["doctor"], arguments].concat());
        host.namespace().contain(&mut doctor).unwrap();
        Answer::of(&mut doctor).unwrap().succeeds().to_owned()
    };
    let beside = doctor(&[]);
    assert!(beside.contains("port 10256 is listened on") && !beside.contains("table"), "{beside}");
    let instead = doctor(HERE);
    for words in
        ["chain ip nat KUBE-SERVICES, table ip6 kube-proxy of kube-proxy", "nobody: not in this version"]
    {
        assert!(instead.contains(words), "{words}: {instead}");
    }
    agent.kill().unwrap();
    let agent = host.agent_inside(&[]).unwrap();
    agent.wait_status("kube-proxy", |status| status.owners.iter().all(|it| it.served)).unwrap();
}

#[test]
fn r25_healthz_fails_on_a_node_that_leaves_and_livez_does_not() {
    let host = machine("r25");
    let agent = host.agent_inside(HERE).unwrap();
    status_becomes(&host, 10_256, "/healthz", 200);
    let reply = get(&host, 10_256, "/healthz");
    assert_eq!(reply.header("Content-Type"), Some("application/json"));
    let body = reply.json();
    assert_eq!((&body["nodeEligible"], &body["healthy"]), (&json!(true), &json!(true)), "{body}");
    assert_eq!(body["lastUpdated"], body["currentTime"]);
    assert_eq!(get(&host, 10_256, "/livez").json()["nodeEligible"], Value::Null);
    let taint = |key: &str| node(&format!("spec:\n  taints:\n  - {{key: {key}, effect: NoSchedule}}\n"));
    for (manifest, status) in [
        (taint("ToBeDeletedByClusterAutoscaler"), 503),
        (taint("node.kubernetes.io/unreachable"), 200),
        (node("  deletionTimestamp: \"2026-01-01T00:00:00Z\"\n"), 503),
        (node(""), 200),
    ] {
        host.write("node.yaml", &manifest).unwrap();
        status_becomes(&host, 10_256, "/healthz", status);
        assert_eq!(get(&host, 10_256, "/healthz").json()["nodeEligible"], json!(status == 200), "{manifest}");
        assert_eq!(get(&host, 10_256, "/livez").status, 200, "{manifest}");
    }
    host.remove("node.yaml").unwrap();
    status_becomes(&host, 10_256, "/healthz", 503);
    assert_eq!(get(&host, 10_256, "/livez").status, 200);
    // On all addresses, as kube-proxy; and what it does not do is said.
    assert_eq!(ask(&host, (V6, 10_256), "/livez").unwrap().status, 200);
    let status = agent.status().unwrap();
    assert!(status.notices.iter().any(|it| it.contains("are not served by this version")), "{status:?}");
}

#[test]
fn r25_a_cluster_that_wants_the_node_gone_says_so_by_its_node() {
    let host = Host::new("r25-api").unwrap();
    let cluster = Cluster::new();
    let node = |metadata: Value, spec: Value| {
        let mut it = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}, "spec": spec});
        it["metadata"].as_object_mut().unwrap().extend(metadata.as_object().unwrap().clone());
        cluster.put(it).unwrap();
    };
    node(json!({}), json!({}));
    // Where the agent can reach it.
    let server = host.namespace().run(|| Server::tls(&cluster)).unwrap();
    let mut agent = following(&host, &server, HERE);
    agent.wait_ready().unwrap();
    status_becomes(&host, 10_256, "/healthz", 200);
    let taints = json!({"taints": [{"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}]});
    node(json!({}), taints);
    status_becomes(&host, 10_256, "/healthz", 503);
    node(json!({}), json!({}));
    status_becomes(&host, 10_256, "/healthz", 200);
    node(json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["example.com/wait"]}), json!({}));
    status_becomes(&host, 10_256, "/healthz", 503);
    assert_eq!(get(&host, 10_256, "/livez").status, 200);
}

#[test]
fn r25_the_latency_of_changes_is_measured() {
    let host = machine("r25-latency");
    let now = || {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        jiff::Timestamp::from_nanosecond(since.as_nanos() as i128).unwrap().to_string()
    };
    let web = |backends: &[u8], triggered: &str| {
        let object = service("web").cluster_ip("10.96.0.10").port("http:80");
        let empty = slice("web-v4", "web").port("http:8080");
        let slice = backends.iter().fold(empty, |it, low| it.endpoint(endpoint(format!("10.1.0.{low}"))));
        let slice = slice.annotation("endpoints.kubernetes.io/last-change-trigger-time", triggered);
        let objects: [&dyn Display; 2] = [&object, &slice];
        documents(&objects)
    };
    host.write("web.yaml", web(&[1], &now())).unwrap();
    let arguments = [HERE, &["--metrics-port", "5811"]].concat();
    let _agent = host.agent_inside(&arguments).unwrap();
    let count = |port: u16, family: &str| -> u64 {
        let reply = get(&host, port, "/metrics");
        assert!(reply.header("Content-Type").unwrap().starts_with("application/openmetrics-text"));
        let start =
            format!("kubeproxy_network_programming_duration_seconds_count{{ip_family=\"{family}\"}} ");
        reply.body.lines().find_map(|line| line.strip_prefix(&start)).unwrap().parse().unwrap()
    };
    status_becomes(&host, 5811, "/metrics", 200);
    assert_eq!(count(5811, "IPv4"), 0, "what was there at the start does not count");
    host.write("web.yaml", web(&[1, 2], &now())).unwrap();
    wait::until_equal(PATIENCE, &1, || count(5811, "IPv4"));
    // Only the annotation, no time, a time before the start: none counts. Then one that does.
    host.write("web.yaml", web(&[1, 2], &now())).unwrap();
    host.write("web.yaml", web(&[1], "yesterday")).unwrap();
    host.write("web.yaml", web(&[1, 3], "2026-01-01T00:00:00Z")).unwrap();
    host.write("web.yaml", web(&[3], &now())).unwrap();
    wait::until_equal(PATIENCE, &2, || count(10_249, "IPv4"));
    assert_eq!(count(10_249, "IPv6"), 0);
    let text = get(&host, 10_249, "/metrics").body;
    let within = "kubeproxy_network_programming_duration_seconds_bucket{le=\"5.0\",ip_family=\"IPv4\"} 2";
    assert!(text.lines().any(|line| line == within), "{text}");
    // The rest of that port, which is for this machine only.
    assert_eq!(
        (get(&host, 10_249, "/proxyMode").body, get(&host, 10_249, "/healthz").body),
        ("ebpf".into(), "ok".into())
    );
    assert_eq!(ask(&host, (Ipv6Addr::LOCALHOST, 10_249), "/proxyMode").unwrap().status, 200);
    assert!(is_refused(&host, V4, 10_249));
}
