//! R29: whatever becomes of the agent, rules of others stay as they are, and go on doing what they are for.

#![allow(clippy::unwrap_used)]

use std::{fmt::Display, thread, time::Duration};

use balancing_tests::process::{
    PATIENCE,
    rules::{
        FORBIDDEN_PORT, HOST_PORT, NEXT_PORT, Net, Node, OTHER_PORT, POD_PORT,
        Place::{Inside, Outside},
        THEIRS, V4, V6, WEB,
    },
};
use rustix::process::Signal;
use testkit::{
    Kind,
    client::TIMEOUT,
    object::{Service, documents, endpoint, node, pod, service, service_cidr, slice},
    wait,
};

/// How further addresses of services and policies end.
const FORBIDDEN: u8 = 20;
const BALANCER: u8 = 21;
const LOAD_BALANCER: u8 = 22;
const EXTERNAL: u8 = 23;
const NEAR: u8 = 24;
const BY_HOST_PORT: u8 = 25;
const PASSING: u8 = 26;
const COMING: u8 = 27;

const NODE_PORT: u16 = 30_080;

/// A service of both families, whose ports 80 of both protocols have this port of the pod behind them.
fn dual(name: &str, low: u8, port: u16, more: impl FnOnce(Service) -> Service) -> String {
    let object = service(name)
        .cluster_ip(V4.vip(low).ip())
        .cluster_ip(V6.vip(low).ip())
        .field("ipFamilies", "[IPv4, IPv6]")
        .field("ipFamilyPolicy", "RequireDualStack");
    let slice = |net: &Net| {
        slice(&format!("{name}-{}", net.name), name)
            .port(&format!("http:{port}/TCP"))
            .port(&format!("dns:{port}/UDP"))
            .endpoint(endpoint(net.pod(port).ip()).node("n1"))
    };
    documents(&[&more(object), &slice(&V4), &slice(&V6)])
}

fn two_ports(service: Service) -> Service {
    service.port("http:80/TCP").port("dns:80/UDP")
}

/// The service `web`, with this port of the pod behind it.
fn web(port: u16) -> String {
    dual("web", WEB, port, two_ports)
}

/// All that a service can have.
fn balancer(service: Service) -> Service {
    let node_port = [("nodePort", &*NODE_PORT.to_string())];
    let service = service
        .port_with("http:80/TCP", &node_port)
        .port_with("dns:80/UDP", &node_port)
        .field("type", "LoadBalancer")
        .field("externalTrafficPolicy", "Local")
        .field("healthCheckNodePort", "30081")
        .source_range("10.0.0.0/8")
        .source_range("fd00::/16")
        .affinity(100);
    [V4, V6].iter().fold(service, |service, net| {
        service.load_balancer_ip(net.vip(LOAD_BALANCER).ip()).external_ip(net.vip(EXTERNAL).ip())
    })
}

fn theirs(service: Service) -> Service {
    two_ports(service).label("service.kubernetes.io/service-proxy-name", "kube-proxy")
}

/// Policies for addresses: to pods of the node, and to what the node's host port leads to.
fn policies(net: &Net) -> String {
    let ports = |port| {
        format!("[{{port: '{port}', protocol: TCP, name: a}}, {{port: '{port}', protocol: UDP, name: b}}]")
    };
    let (asked, pods, nodes) = (ports(80), ports(POD_PORT), ports(HOST_PORT));
    let (near, by_host_port, family) = (net.vip(NEAR).ip(), net.vip(BY_HOST_PORT).ip(), net.name);
    let selector = "endpointSelector: {matchLabels: {app: near}}";
    format!(
        "
---
apiVersion: balancing.elf.io/v1beta1
kind: LocalRedirectPolicy
metadata: {{name: near-{family}}}
spec:
  frontend: {{addressMatcher: {{ip: '{near}', toPorts: {asked}}}}}
  backend: {{{selector}, toPorts: {pods}}}
---
apiVersion: balancing.elf.io/v1beta1
kind: BalancingPolicy
metadata: {{name: by-host-port-{family}}}
spec:
  frontend: {{addressMatcher: {{ip: '{by_host_port}', toPorts: {asked}}}}}
  backend: {{serviceEndpoint: {{{selector}, redirectMode: hostPort, toPorts: {nodes}}}}}
"
    )
}

/// Services of every type, and policies of both kinds.
fn manifests() -> String {
    let node = node("n1").internal_ip(V4.node(0).ip()).internal_ip(V6.node(0).ip());
    let pod = pod("near").label("app", "near").node("n1").ip(V4.pod(0).ip()).ip(V6.pod(0).ip());
    let services: [&dyn Display; 6] = [
        &node,
        &service_cidr("all", &[&V4.services(), &V6.services()]),
        &pod,
        &dual("forbidden", FORBIDDEN, FORBIDDEN_PORT, two_ports),
        &dual("balancer", BALANCER, POD_PORT, balancer),
        &dual("theirs", THEIRS, OTHER_PORT, theirs),
    ];
    documents(&services) + &policies(&V4) + &policies(&V6)
}

/// Connections that do not go where others' rules send them, or ours, where these are in force: to this backend of `web`.
fn astray(node: &Node, web: Option<&str>) -> Vec<String> {
    // Who answers, if anybody is to. What is ours is asked for inside.
    let ours = web.map(|_| "pod");
    let cases = |net: &Net| {
        [
            (Inside, net.node(HOST_PORT), Some("pod")),
            (Outside, net.node(HOST_PORT), Some("pod")),
            (Inside, net.pod(FORBIDDEN_PORT), None),
            (Outside, net.pod(FORBIDDEN_PORT), None),
            (Inside, net.vip(THEIRS), Some("pod")),
            (Outside, net.vip(THEIRS), Some("pod")),
            (Inside, net.vip(WEB), Some(web.unwrap_or("other"))),
            (Outside, net.vip(WEB), Some("other")),
            (Inside, net.vip(FORBIDDEN), None),
            (Inside, net.vip(BALANCER), ours),
            (Inside, net.vip(LOAD_BALANCER), ours),
            (Inside, net.vip(EXTERNAL), ours),
            (Inside, net.node(NODE_PORT), ours),
            (Inside, net.vip(NEAR), ours),
            (Inside, net.vip(BY_HOST_PORT), ours),
        ]
    };
    let cases = [V4, V6].iter().flat_map(cases).collect::<Vec<_>>();
    // All at once: those that nobody answers take their time.
    let mut astray: Vec<String> = thread::scope(|scope| {
        let mut asking = Vec::new();
        for (kind, &(place, to, expected)) in [Kind::Tcp, Kind::ConnectedUdp]
            .iter()
            .flat_map(|kind| cases.iter().map(move |case| (*kind, case)))
        {
            let timeout = if expected.is_some() { TIMEOUT } else { Duration::from_millis(300) };
            asking.push(scope.spawn(move || {
                let answer = node.ask(place, kind, to, timeout);
                let is_right = answer.as_deref().ok() == expected;
                (!is_right).then(|| format!("{place:?} {kind:?} {to}: {answer:?}, not {expected:?}"))
            }));
        }
        asking.into_iter().filter_map(|it| it.join().unwrap()).collect()
    });
    if node.trespasses() > 0 {
        astray.push(format!("{} times somebody was where nobody may be", node.trespasses()));
    }
    astray
}

#[test]
fn r29_rules_of_others_stay_and_work_whatever_becomes_of_the_agent() {
    let node = Node::new("rules").unwrap();
    let (before, none) = (node.look().unwrap(), Vec::<String>::new());
    let all_is_well = |step: &str, web: Option<&str>| {
        assert_eq!(astray(&node, web), none, "{step}");
        assert_eq!(node.look().unwrap().differences(&before), none, "{step}");
    };
    all_is_well("before", None);

    let host = &node.host;
    host.write("manifests.yaml", manifests()).unwrap();
    host.write("web.yaml", web(POD_PORT)).unwrap();
    host.write("more.yaml", dual("passing", PASSING, POD_PORT, two_ports)).unwrap();
    let mut agent = host.agent_inside(&["--replace-kube-proxy"]).unwrap();
    assert_eq!(agent.status().unwrap().problems, none);
    // By whom a VIP with source ranges is used is known a moment later.
    wait::until(PATIENCE, "the load balancer", || {
        let answers = |net: &Net| node.ask(Inside, Kind::Tcp, net.vip(LOAD_BALANCER), TIMEOUT).is_ok();
        answers(&V4) && answers(&V6)
    });
    all_is_well("started", Some("pod"));

    host.write("more.yaml", dual("coming", COMING, POD_PORT, two_ports)).unwrap();
    host.write("web.yaml", web(NEXT_PORT)).unwrap();
    let is_changed = || {
        let asks = |low: u8| node.ask(Inside, Kind::Tcp, V4.vip(low), TIMEOUT).unwrap_or_default();
        [WEB, COMING, PASSING].map(asks) == ["next", "pod", ""]
    };
    wait::until(PATIENCE, "the change", is_changed);
    all_is_well("changed", Some("next"));

    node.balancing("pause").unwrap().succeeds();
    all_is_well("paused", None);
    node.balancing("resume").unwrap().succeeds();
    all_is_well("resumed", Some("next"));

    agent.kill().unwrap();
    all_is_well("killed", Some("next"));
    let mut agent = host.agent_inside(&[]).unwrap();
    all_is_well("restarted beside kube-proxy", Some("next"));
    agent.signal(Signal::TERM).unwrap();
    agent.wait().unwrap();
    all_is_well("stopped", Some("next"));
    node.balancing("clean").unwrap().succeeds();
    all_is_well("cleaned", None);
}

/// The test above would fail if any of these happened.
#[test]
fn changes_of_rules_are_seen_and_felt() {
    let node = Node::new("rules-change").unwrap();
    let mut before = node.look().unwrap();
    for (script, seen) in [
        ("nft add rule ip policies pods tcp dport 1 drop", "nft"),
        // What looks as before is another rule all the same.
        (
            "nft 'flush chain ip nat POSTROUTING; add rule ip nat POSTROUTING meta mark & 0x2000 == 0x2000 counter masquerade'",
            "nft",
        ),
        ("ip -4 rule del priority 100", "ip -4 -details rule"),
        ("ip -6 rule add priority 7 lookup main", "ip -6 -details rule"),
        ("ip -4 route del default table 200", "ip -4 -details route"),
        ("ip -6 route add fd00:9::/64 dev uplink", "ip -6 -details route"),
        ("ip address add 10.96.77.99/32 dev lo", "ip -details address"),
        ("tc qdisc del dev uplink root", "tc -details qdisc"),
        ("tc filter del dev uplink ingress", "tc -details filter show dev uplink ingress"),
        ("tc filter del dev uplink egress", "tc -details filter show dev uplink egress"),
        ("echo 0 > /proc/sys/net/ipv4/conf/all/route_localnet", "/proc/sys/net/ipv4/conf/all/route_localnet"),
    ] {
        node.sh(script).unwrap();
        let now = node.look().unwrap();
        let differences = now.differences(&before);
        assert!(differences.iter().any(|it| it.starts_with(seen)), "{script}: {differences:?}");
        before = now;
    }
    node.sh("nft 'flush chain ip nat OUTPUT; delete table ip6 policies; delete table ip kube-proxy'")
        .unwrap();
    let felt = [
        "Inside Tcp 10.250.77.1:8088",
        "Outside ConnectedUdp [fd00:244:77::2]:9090",
        "Outside Tcp 10.96.77.11:80",
        "where nobody may be",
    ];
    // Who is not to be answered does not wait for long.
    wait::until(PATIENCE, "all of these to be felt", || {
        let astray = astray(&node, None).join("\n");
        assert!(!astray.contains("Outside Tcp 10.250.77.1:8088"), "{astray}");
        felt.iter().all(|it| astray.contains(it))
    });
}
