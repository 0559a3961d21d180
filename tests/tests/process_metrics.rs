//! Metrics of real agents and controllers: all that docs/metrics.md says and nothing else, what the kernel has counted, and an answer
//! while the agent is stuck.

#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    fs::File,
    net::Ipv4Addr,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use apidouble::{Cluster, Login, Server};
use balancing_tests::{
    chart::{definitions, file},
    process::{
        Host, PATIENCE,
        controller::Controller,
        question::{Reply, ask},
        web,
    },
};
use testkit::{
    metrics::{documented, metrics, samples},
    object::{documents, endpoint, service, slice},
    wait,
};

const LOOPBACK: Ipv4Addr = Ipv4Addr::LOCALHOST;
const PORT: u16 = 5811;

/// A policy without a backend.
const NEAR: &str = r#"
apiVersion: balancing.elf.io/v1beta1
kind: LocalRedirectPolicy
metadata: {name: near}
spec:
  frontend: {serviceMatcher: {namespace: default, serviceName: web}}
  backend:
    endpointSelector: {matchLabels: {app: near}}
    toPorts:
    - {port: "8080", protocol: TCP, name: http}
    - {port: "5353", protocol: UDP, name: dns}
"#;

fn scrape_at(host: &Host, port: u16) -> Reply {
    ask(host, (LOOPBACK, port), "/metrics").unwrap()
}

fn scrape(host: &Host) -> String {
    scrape_at(host, PORT).body
}

/// The sum of all series of `name` that have these labels.
fn value(host: &Host, name: &str, labels: &[(&str, &str)]) -> f64 {
    let has = |of: &BTreeMap<String, String>| {
        labels.iter().all(|(label, value)| of.get(*label).is_some_and(|it| it == value))
    };
    let all = samples(&scrape(host)).unwrap();
    all.iter().filter(|it| it.name == name && has(&it.labels)).map(|it| it.value).sum()
}

/// A text has what the page says, with the labels that it says, where there is anything.
#[track_caller]
fn is_documented(text: &str, heading: &str) {
    let page = std::fs::read_to_string(file("docs/metrics.md")).unwrap();
    let (documented, exposed) = (documented(&page, heading).unwrap(), metrics(text).unwrap());
    assert_eq!(documented.keys().collect::<Vec<_>>(), exposed.keys().collect::<Vec<_>>());
    for (name, metric) in exposed {
        assert_eq!(metric.kind, documented[&name].kind, "{name}");
        assert!(metric.labels.is_empty() || metric.labels == documented[&name].labels, "{name}: {metric:?}");
    }
}

#[test]
fn an_agent_exposes_what_is_documented_and_what_the_kernel_counts() {
    let host = Host::new("metrics").unwrap();
    host.write("web.yaml", web::manifest("web", 10, &[1, 2])).unwrap();
    host.write("none.yaml", web::manifest("none", 11, &[])).unwrap();
    let _servers = web::serve(&host, &[1, 2]).unwrap();
    // A place that can't be made.
    let sink = ("sink", "file:/proc/none/events");
    let log = format!("--event-log={}", sink.1);
    let agent = host.agent_inside(&["--metrics-port=5811", "--replace-kube-proxy", &log]).unwrap();
    is_documented(&scrape(&host), "Agent");
    is_documented(&scrape_at(&host, 10_249).body, "Agent");

    for _ in 0..7 {
        web::ask(&host, 10).unwrap();
    }
    for _ in 0..3 {
        web::ask(&host, 11).unwrap_err();
    }
    let of =
        |verdict, reason| [("hook", "connect"), ("family", "IPv4"), ("verdict", verdict), ("reason", reason)];
    let decisions = "balancing_decisions_total";
    assert_eq!(value(&host, decisions, &of("translated", "balanced")), 7.0);
    assert_eq!(value(&host, decisions, &of("refused", "no-endpoints")), 3.0);
    wait::until(PATIENCE, "the failing sink", || value(&host, "balancing_event_log_failing", &[sink]) == 1.0);
    assert_eq!(value(&host, "balancing_event_log_written_total", &[sink]), 0.0);
    let status = agent.status().unwrap();
    for (reason, count) in &status.decisions {
        assert_eq!(value(&host, decisions, &[("reason", reason)]), *count as f64, "{reason}");
    }

    let becomes = |expected: f64, name: &str, labels: &[(&str, &str)]| {
        wait::until_equal(PATIENCE, &expected, || value(&host, name, labels));
    };
    let web = [("namespace", "default"), ("service", "web"), ("port", "http")];
    becomes(7.0, "balancing_service_connections_total", &web);
    // The manifest has them on another node, of no known zone.
    becomes(7.0, "balancing_service_backend_connections_total", &[("service", "web"), ("locality", "other")]);
    becomes(3.0, "balancing_service_failures_total", &[("service", "none"), ("reason", "no-endpoints")]);
    host.write("near.yaml", NEAR).unwrap();
    let fallen = [("kind", "LocalRedirectPolicy"), ("policy", "near"), ("reason", "fallback")];
    wait::until_equal(PATIENCE, &true, || {
        web::ask(&host, 10).unwrap();
        value(&host, "balancing_policy_fallen_total", &fallen) > 0.0
    });
    wait::until_equal(PATIENCE, &true, || {
        value(&host, "balancing_service_fallen_total", &[("service", "web"), ("reason", "fallback")]) > 0.0
    });
    is_documented(&scrape(&host), "Agent");
    host.remove("near.yaml").unwrap();

    let status = agent.status().unwrap();
    for hook in &status.hooks {
        assert_eq!(value(&host, "balancing_hook_attached", &[("hook", &hook.name)]), 1.0, "{hook:?}");
    }
    for map in &status.maps {
        assert_eq!(value(&host, "balancing_map_limit", &[("map", &map.name)]), map.most as f64, "{map:?}");
    }
    wait::until_equal(PATIENCE, &4.0, || value(&host, "balancing_map_entries", &[("map", "frontends4")]));
    assert_eq!(value(&host, "balancing_healthy", &[]), 3.0);
    assert_eq!(value(&host, "balancing_source_synced", &[("source", "manifests")]), 1.0);
    assert_eq!(value(&host, "process_start_time_seconds", &[]), started(agent.pid()));
    wait::until_equal(PATIENCE, &2.0, || value(&host, "balancing_objects", &[("kind", "services")]));

    // A change is counted, and timed.
    let before = value(&host, "balancing_sync_latency_seconds_count", &[]);
    host.write("web.yaml", web::manifest("web", 10, &[1])).unwrap();
    wait::until_equal(PATIENCE, &(before + 1.0), || {
        value(&host, "balancing_sync_latency_seconds_count", &[])
    });
    assert!(value(&host, "balancing_writes_total", &[]) > 0.0);

    // A file that is not understood.
    assert_eq!(value(&host, "balancing_source_stale_seconds", &[]), 0.0);
    host.write("web.yaml", "kind: [").unwrap();
    wait::until_equal(PATIENCE, &true, || value(&host, "balancing_source_stale_seconds", &[]) > 0.0);
    host.remove("web.yaml").unwrap();
    wait::until_equal(PATIENCE, &0.0, || value(&host, "balancing_source_stale_seconds", &[]));

    host.balancing(&["pause"]).unwrap().succeeds();
    assert_eq!(value(&host, "balancing_paused", &[]), 1.0);
    host.balancing(&["clean"]).unwrap();
}

/// When a process started, in seconds since 1970, as `ps` has it.
fn started(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let ticks: f64 = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(19).unwrap().parse().unwrap();
    let machine = std::fs::read_to_string("/proc/stat").unwrap();
    let boot = machine.lines().find_map(|line| line.strip_prefix("btime ")).unwrap().parse::<f64>().unwrap();
    boot + ticks / 100.0
}

#[test]
fn a_scrape_is_answered_while_the_agent_is_stuck() {
    let host = Host::new("metrics-stuck").unwrap();
    host.write("web.yaml", web::manifest("web", 10, &[1])).unwrap();
    let _servers = web::serve(&host, &[1]).unwrap();
    let _agent = host.agent_inside(&["--metrics-port=5811"]).unwrap();
    // Whoever changes the settings of the programs waits for this, as the agent does with each reading of who uses what.
    let lock = File::open(host.pins().join("maps")).unwrap();
    lock.lock().unwrap();
    let silence = || value(&host, "balancing_owner_silence_seconds", &[]);
    wait::until_equal(PATIENCE, &true, || silence() > 2.0);
    let before = value(&host, "balancing_decisions_total", &[("reason", "balanced")]);
    web::ask(&host, 10).unwrap();
    let begun = Instant::now();
    is_documented(&scrape(&host), "Agent");
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!(value(&host, "balancing_decisions_total", &[("reason", "balanced")]), before + 1.0);
    lock.unlock().unwrap();
    wait::until_equal(PATIENCE, &true, || silence() < 1.0);
}

#[test]
fn a_controller_exposes_what_is_documented() {
    let host = Host::new("metrics-controller").unwrap();
    let cluster = Cluster::new();
    cluster.put_all(definitions().unwrap()).unwrap();
    let server = host.namespace().run(|| Server::tls(&cluster)).unwrap();
    let kubeconfig = host.kubeconfig(&server, &Login::Anonymous).unwrap();
    let _controller = Controller::start_inside(&kubeconfig, &host).unwrap();
    let text = || ask(&host, (LOOPBACK, 5821), "/metrics").map(|reply| reply.body).unwrap_or_default();
    wait::until_equal(PATIENCE, &true, || text().contains("balancing_controller_leader 1"));
    is_documented(&text(), "Controller");
}

#[test]
fn it_says_so_when_the_kernel_can_not_be_read() {
    let host = Host::new("metrics-blind").unwrap();
    host.write("web.yaml", web::manifest("web", 10, &[1])).unwrap();
    let _agent = host.agent_inside(&["--metrics-port=5811"]).unwrap();
    assert_eq!(value(&host, "balancing_kernel_readable", &[]), 1.0);
    let pin = std::fs::read_dir(host.pins().join("maps")).unwrap().flatten().map(|entry| entry.path());
    let counters = pin.into_iter().find(|path| is_counters(path)).unwrap();
    let rename = |from: &Path, to: &Path| Command::new("mv").arg(from).arg(to).status().unwrap().success();
    assert!(rename(&counters, &counters.with_file_name("gone")));
    assert_eq!(value(&host, "balancing_kernel_readable", &[]), 0.0);
}

fn is_counters(path: &Path) -> bool {
    path.file_name().unwrap().to_string_lossy().starts_with("counters")
}

/// In the build for tests, which is slower than the one that is shipped. What is read does not grow with services, and how many have
/// series of their own is limited: with 10,000 services, whose manifests take half a minute to read here, it was the same 1.6 ms.
#[test]
fn a_scrape_with_many_services_takes_little_time() {
    const SERVICES: u32 = 1_000;
    let host = Host::new("metrics-many").unwrap();
    let mut text = String::new();
    for number in 0..SERVICES {
        let (vip, backend) = (Ipv4Addr::from(0x0a60_0100 + number), Ipv4Addr::from(0x0a01_0100 + number));
        let slice = slice(&format!("s{number}-a"), &format!("s{number}")).port("http:8080");
        let objects: [&dyn std::fmt::Display; 2] = [
            &service(&format!("s{number}")).cluster_ip(vip).port("http:80"),
            &slice.endpoint(endpoint(backend).node("n2")),
        ];
        text.push_str(&documents(&objects));
        text.push_str("\n---\n");
    }
    host.write("many.yaml", text).unwrap();
    let _agent = host.agent_inside(&["--metrics-port=5811"]).unwrap();
    let all = f64::from(SERVICES);
    wait::until_equal(PATIENCE, &all, || value(&host, "balancing_map_entries", &[("map", "frontends4")]));
    let took = |_| {
        let begun = Instant::now();
        scrape(&host);
        begun.elapsed()
    };
    let least = (0..10).map(took).min().unwrap();
    println!("{SERVICES} services: {least:?}");
    assert!(least < Duration::from_millis(50), "{least:?}");
}
