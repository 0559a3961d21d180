//! Who asks how the agent is, and what kube-proxy would be asked: real requests to a real agent on a machine of its own.

#![allow(clippy::unwrap_used)]

use std::{
    fmt::Display,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    process::Command,
    time::{Duration, Instant, SystemTime},
};

use apidouble::{Cluster, Login, Server};
use balancing_tests::process::{
    Agent, Answer, Host, PATIENCE,
    cluster::put,
    program,
    question::{Reply, ask},
    within::in_own_mounts,
};
use serde_json::{Value, json};
use testkit::{
    object::{documents, endpoint, service, slice},
    wait,
};

const V4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 0, 200));
const V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 0x200));
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const HERE: &[&str] = &["--replace-kube-proxy"];

/// The node, with further lines of its manifest.
fn node(more: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Node\nmetadata:\n  name: n1\n{more}status:\n  addresses:\n  \
         - {{type: InternalIP, address: {V4}}}\n  - {{type: InternalIP, address: {V6:?}}}\n"
    )
}

/// A machine with its Node.
fn machine(name: &str) -> Host {
    let host = Host::new(name).unwrap();
    host.write("node.yaml", node("")).unwrap();
    host
}

/// A dual-stack load balancer service with `10.1.0.N` of these on this node, and others elsewhere.
fn balancer(name: &str, low: u8, port: u16, policy: &str, here: &[u8]) -> String {
    let object = service(name)
        .cluster_ip(format!("10.96.0.{low}"))
        .cluster_ip(format!("fd00:96::{low:x}"))
        .field("ipFamilies", "[IPv4, IPv6]")
        .field("ipFamilyPolicy", "RequireDualStack")
        .field("type", "LoadBalancer")
        .field("externalTrafficPolicy", policy)
        .field("healthCheckNodePort", &port.to_string())
        .port_with("http:80", &[("nodePort", &(port + 1000).to_string())]);
    let mut v4 =
        slice(&format!("{name}-v4"), name).port("http:8080").endpoint(endpoint("10.1.0.99").node("n2"));
    for low in here {
        v4 = v4.endpoint(endpoint(format!("10.1.0.{low}")).node("n1"));
    }
    let v6 = slice(&format!("{name}-v6"), name).port("http:8080").endpoint(endpoint("fd00:1::99").node("n2"));
    let objects: [&dyn Display; 3] = [&object, &v4, &v6];
    documents(&objects)
}

/// Status, count and health of a service's health check; `None` if nobody listens.
fn check(host: &Host, ip: IpAddr, port: u16) -> Option<(u16, u64, bool)> {
    match ask(host, (ip, port), "/") {
        Ok(reply) => {
            let body = reply.json();
            let count = body["localEndpoints"].as_u64().unwrap();
            assert_eq!(
                reply.header("X-Load-Balancing-Endpoint-Weight"),
                Some(&*count.to_string()),
                "{reply:?}"
            );
            Some((reply.status, count, body["serviceProxyHealthy"].as_bool().unwrap()))
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => None,
        // It was closed while we asked.
        Err(error)
            if matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof) =>
        {
            None
        }
        Err(error) => panic!("{ip}:{port}: {error}"),
    }
}

#[track_caller]
fn becomes(host: &Host, ip: IpAddr, port: u16, expected: Option<(u16, u64, bool)>) {
    wait::until_equal(PATIENCE, &expected, || check(host, ip, port));
}

fn get(host: &Host, port: u16, path: &str) -> Reply {
    ask(host, (LOOPBACK, port), path).unwrap()
}

#[track_caller]
fn status_becomes(host: &Host, port: u16, path: &str, status: u16) {
    wait::until_equal(PATIENCE, &Some(status), || ask(host, (LOOPBACK, port), path).ok().map(|it| it.status));
}

fn is_refused(host: &Host, ip: IpAddr, port: u16) -> bool {
    ask(host, (ip, port), "/healthz").is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

#[test]
fn r24_load_balancers_hear_how_many_ready_endpoints_this_node_has() {
    let host = machine("r24");
    host.write("web.yaml", balancer("web", 10, 30_100, "Local", &[1, 2])).unwrap();
    let _agent = host.agent_inside(HERE).unwrap();
    becomes(&host, V4, 30_100, Some((200, 2, true)));
    let reply = ask(&host, (V4, 30_100), "/whatever/it/is?x=y").unwrap();
    assert_eq!(reply.status, 200);
    for (name, value) in [
        ("Content-Type", "application/json"),
        ("X-Content-Type-Options", "nosniff"),
        ("X-Load-Balancing-Endpoint-Weight", "2"),
    ] {
        assert_eq!(reply.header(name), Some(value), "{reply:?}");
    }
    let expected =
        r#"{"service":{"namespace":"default","name":"web"},"localEndpoints":2,"serviceProxyHealthy":true}"#;
    assert_eq!(reply.body, expected);
    // The other family has its own count.
    becomes(&host, V6, 30_100, Some((503, 0, true)));
    // Only where node ports are.
    assert!(is_refused(&host, LOOPBACK, 30_100) && is_refused(&host, [10, 1, 0, 201].into(), 30_100));

    host.write("web.yaml", balancer("web", 10, 30_100, "Local", &[1])).unwrap();
    becomes(&host, V4, 30_100, Some((200, 1, true)));
    host.write("web.yaml", balancer("web", 10, 30_100, "Local", &[])).unwrap();
    becomes(&host, V4, 30_100, Some((503, 0, true)));
    // Serving and terminating still gets traffic, but nobody new is to be sent there.
    let v6 = slice("more-v6", "web")
        .port("http:8080")
        .endpoint(endpoint("fd00:1::1").node("n1"))
        .endpoint(endpoint("fd00:1::2").node("n1").ready(false).serving(true).terminating(true));
    host.write("more.yaml", v6).unwrap();
    becomes(&host, V6, 30_100, Some((200, 1, true)));
    assert_eq!(check(&host, V4, 30_100), Some((503, 0, true)));
}

#[test]
fn r24_a_port_closes_with_its_policy_and_can_come_back() {
    let host = machine("r24-close");
    host.write("web.yaml", balancer("web", 10, 30_100, "Local", &[1])).unwrap();
    let agent = host.agent_inside(HERE).unwrap();
    let open = Some((200, 1, true));
    becomes(&host, V4, 30_100, open);
    for _ in 0..3 {
        let begun = Instant::now();
        host.write("web.yaml", balancer("web", 10, 30_100, "Cluster", &[1])).unwrap();
        for ip in [V4, V6] {
            becomes(&host, ip, 30_100, None);
        }
        println!("closed after {:?}", begun.elapsed());
        host.write("web.yaml", balancer("web", 10, 30_100, "Local", &[1])).unwrap();
        becomes(&host, V4, 30_100, open);
    }
    // Another type, another port, another service on the same port.
    let text = balancer("web", 10, 30_100, "Local", &[1]);
    host.write(
        "web.yaml",
        text.replace("type: LoadBalancer", "type: NodePort").replace("healthCheckNodePort: 30100", ""),
    )
    .unwrap();
    becomes(&host, V4, 30_100, None);
    host.write("web.yaml", balancer("web", 10, 30_101, "Local", &[1])).unwrap();
    becomes(&host, V4, 30_101, open);
    host.write("web.yaml", balancer("other", 11, 30_101, "Local", &[1, 2, 3])).unwrap();
    becomes(&host, V4, 30_101, Some((200, 3, true)));
    let reply = ask(&host, (V4, 30_101), "/").unwrap();
    assert_eq!(reply.json()["service"]["name"], json!("other"));
    // The node has another address.
    let moved = IpAddr::from([10, 1, 0, 201]);
    host.write("node.yaml", node("").replace("10.1.0.200", "10.1.0.201")).unwrap();
    becomes(&host, moved, 30_101, Some((200, 3, true)));
    becomes(&host, V4, 30_101, None);
    host.remove("web.yaml").unwrap();
    becomes(&host, moved, 30_101, None);
    assert_eq!(agent.status().unwrap().problems, Vec::<String>::new());
}

#[test]
fn r24_a_port_that_somebody_else_has_is_a_problem_that_passes() {
    let host = machine("r24-taken");
    let taken = host.namespace().run(|| TcpListener::bind(SocketAddr::new(V4, 30_100))).unwrap();
    host.write("web.yaml", balancer("web", 10, 30_100, "Local", &[1])).unwrap();
    let agent = host.agent_inside(HERE).unwrap();
    let words = ["Service default/web", "10.1.0.200:30100", "Address already in use"];
    let told = |problem: &String| words.iter().all(|word| problem.contains(word));
    agent.wait_status("the problem", |status| status.problems.iter().any(told)).unwrap();
    // The other family is nobody else's.
    becomes(&host, V6, 30_100, Some((503, 0, true)));
    assert_eq!(agent.log().matches("FailedToStartServiceHealthcheck").count(), 1, "{}", agent.log());
    drop(taken);
    becomes(&host, V4, 30_100, Some((200, 1, true)));
    agent.wait_status("health", |status| status.problems.is_empty()).unwrap();
    // Two services that want one port: the first has it.
    host.write("other.yaml", balancer("zoo", 11, 30_100, "Local", &[1, 2])).unwrap();
    let twice = |problem: &String| problem.contains("default/zoo") && problem.contains("default/web already");
    agent.wait_status("the clash", |status| status.problems.iter().any(twice)).unwrap();
    assert_eq!(check(&host, V4, 30_100), Some((200, 1, true)));
}

#[test]
fn r24_a_port_that_somebody_else_has_is_an_event_on_the_service() {
    let host = Host::new("r24-event").unwrap();
    let cluster = Cluster::new();
    put(&cluster, &node("")).unwrap();
    put(&cluster, &balancer("web", 10, 30_100, "Local", &[1])).unwrap();
    let _taken = host.namespace().run(|| TcpListener::bind(SocketAddr::new(V4, 30_100))).unwrap();
    // Where the agent can reach it.
    let server = host.namespace().run(|| Server::tls(&cluster)).unwrap();
    let mut agent = following(&host, &server, HERE);
    agent.wait_ready().unwrap();
    let events = || cluster.list("events.events.k8s.io").unwrap();
    let is_it = |event: &Value| event["reason"] == json!("FailedToStartServiceHealthcheck");
    wait::until(PATIENCE, "an Event", || events().iter().any(is_it));
    let event = events().into_iter().find(is_it).unwrap();
    assert_eq!(
        (&event["regarding"]["kind"], &event["regarding"]["name"]),
        (&json!("Service"), &json!("web"))
    );
    assert!(event["note"].as_str().unwrap().contains("10.1.0.200:30100"), "{event}");
    // It goes on, and says so in its own words too.
    becomes(&host, V6, 30_100, Some((503, 0, true)));
    assert!(agent.status().unwrap().problems.iter().any(|it| it.contains("10.1.0.200:30100")));
}

#[test]
fn r24_an_agent_that_does_not_serve_is_not_healthy() {
    let host = machine("r24-paused");
    host.write("web.yaml", balancer("web", 10, 30_100, "Local", &[1])).unwrap();
    let _agent = host.agent_inside(HERE).unwrap();
    becomes(&host, V4, 30_100, Some((200, 1, true)));
    host.balancing(&["pause"]).unwrap().succeeds();
    becomes(&host, V4, 30_100, Some((503, 1, false)));
    assert_eq!(get(&host, 10_256, "/healthz").status, 503);
    host.balancing(&["resume"]).unwrap().succeeds();
    becomes(&host, V4, 30_100, Some((200, 1, true)));
    assert_eq!(get(&host, 10_256, "/healthz").status, 200);
}

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

/// An agent on the machine that follows the cluster of a server.
fn following(host: &Host, server: &Server, arguments: &[&str]) -> Agent {
    let kubeconfig = host.kubeconfig(server, &Login::Anonymous).unwrap();
    let mut command = host.agent_of("--kubeconfig", &kubeconfig, &program(), arguments);
    host.namespace().contain(&mut command).unwrap();
    host.start_command(&mut command).unwrap()
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
fn a_source_that_is_not_there_makes_nobody_restart_the_agent() {
    let host = Host::new("health-source").unwrap();
    let cluster = Cluster::new();
    let server = Server::tls(&cluster).unwrap();
    // That one can't be reached from the machine; what an earlier agent has put in force goes on.
    host.agent_inside(&[]).unwrap().kill().unwrap();
    let agent = following(&host, &server, &["--health-port", "5810"]);
    status_becomes(&host, 5810, "/livez", 200);
    status_becomes(&host, 5810, "/healthz", 200);
    let problems = get(&host, 5810, "/readyz").json()["problems"].to_string();
    assert!(problems.contains("has not been read completely"), "{problems}");
    assert!(problems.contains("are not in force"), "{problems}");
    assert_eq!(get(&host, 5810, "/readyz").status, 503);
    let sources = || get(&host, 5810, "/livez").json()["sources"].clone();
    wait::until(PATIENCE, "the source's problem", || !sources().as_array().unwrap().is_empty());
    // Where nothing is in force nothing is served.
    drop(agent);
    host.balancing(&["clean"]).unwrap().succeeds();
    let _agent = following(&host, &server, &["--health-port", "5810"]);
    status_becomes(&host, 5810, "/livez", 200);
    status_becomes(&host, 5810, "/healthz", 503);
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

#[test]
fn the_agents_own_port_can_be_taken_without_harm() {
    let host = machine("health-taken");
    let taken = host.namespace().run(|| TcpListener::bind((LOOPBACK, 5810))).unwrap();
    let agent = host.agent_inside(&["--health-port", "5810", "--metrics-port", "5811"]).unwrap();
    let words = [":5810", "in use", "--health-port"];
    let told = |problem: &String| words.iter().all(|word| problem.contains(word));
    agent.wait_status("the problem", |status| status.problems.iter().any(told)).unwrap();
    assert_eq!(get(&host, 5811, "/metrics").status, 200);
    drop(taken);
    for path in ["/livez", "/healthz", "/readyz"] {
        status_becomes(&host, 5810, path, 200);
        assert_eq!(
            ask(&host, (V6, 5810), path).unwrap().json(),
            json!({"healthy": true, "problems": [], "sources": []})
        );
    }
    assert_eq!(get(&host, 5810, "/").status, 404);
    agent.wait_status("health", |status| status.problems.is_empty()).unwrap();
    // Someone who connects and says nothing keeps nobody from asking.
    let idle: Vec<_> = (0..40)
        .map(|_| host.namespace().run(|| std::net::TcpStream::connect((LOOPBACK, 5810))).unwrap())
        .collect();
    let begun = Instant::now();
    assert_eq!(get(&host, 5810, "/livez").status, 200);
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    drop(idle);
    host.balancing(&["pause"]).unwrap().succeeds();
    status_becomes(&host, 5810, "/healthz", 503);
    assert_eq!(get(&host, 5810, "/livez").status, 200, "a restart would not end it");
}

/// Files in place of the kernel's, which belong to the whole machine.
const CONNTRACK: &str = "
    mount -t tmpfs conntrack /proc/sys/net/netfilter
    cd /proc/sys/net/netfilter
    echo 65536 > nf_conntrack_max
    echo 432000 > nf_conntrack_tcp_timeout_established
    echo 60 > nf_conntrack_tcp_timeout_close_wait
    mount -t tmpfs hashsize /sys/module/nf_conntrack/parameters
    echo 16384 > /sys/module/nf_conntrack/parameters/hashsize
    cd /
";

/// What the agent sees there. What is mounted below /proc/sys/net is seen from that network namespace only.
fn conntrack(host: &Host, agent: &Agent, name: &str) -> u64 {
    let root = format!("/proc/{}/root", agent.pid());
    let file = match name {
        "hashsize" => format!("{root}/sys/module/nf_conntrack/parameters/hashsize"),
        name => format!("{root}/proc/sys/net/netfilter/nf_conntrack_{name}"),
    };
    host.namespace().run(|| std::fs::read_to_string(file)).unwrap().trim().parse().unwrap()
}

fn inside_with(host: &Host, script: &str, arguments: &[&str]) -> Agent {
    let mut command = in_own_mounts(script, &host.agent_command(&program(), arguments));
    host.namespace().contain(&mut command).unwrap();
    let mut agent = host.start_command(&mut command).unwrap();
    agent.wait_ready().unwrap();
    agent
}

#[test]
fn r26_sysctls_are_kube_proxys_where_it_is_replaced_and_only_there() {
    let host = machine("r26");
    let all = |agent: &Agent| {
        ["tcp_timeout_established", "tcp_timeout_close_wait", "max", "hashsize"]
            .map(|name| conntrack(&host, agent, name))
    };
    let mut agent = inside_with(&host, CONNTRACK, &[]);
    assert_eq!(all(&agent), [432_000, 60, 65_536, 16_384]);
    agent.kill().unwrap();
    let mut agent = inside_with(&host, CONNTRACK, HERE);
    let [established, close_wait, max, buckets] = all(&agent);
    assert_eq!((established, close_wait), (86_400, 3_600));
    assert!((131_072..=1_048_576).contains(&max) && buckets == max / 4, "{max}, {buckets}");
    assert!(agent.status().unwrap().problems.is_empty());
    assert!(
        agent.log().contains("nf_conntrack_tcp_timeout_close_wait set from 60 to 3600"),
        "{}",
        agent.log()
    );
    agent.kill().unwrap();
    // A larger table stays as it is.
    let larger = format!("{CONNTRACK}\necho 4000000 > /proc/sys/net/netfilter/nf_conntrack_max");
    let mut agent = inside_with(&host, &larger, HERE);
    assert_eq!(
        (conntrack(&host, &agent, "max"), conntrack(&host, &agent, "tcp_timeout_close_wait")),
        (4_000_000, 3_600)
    );
    agent.kill().unwrap();
    // Where it may not write it says so, and serves.
    let read_only = format!("{CONNTRACK}\nmount -o remount,ro /proc/sys/net/netfilter");
    let agent = inside_with(&host, &read_only, HERE);
    let words = ["nf_conntrack_tcp_timeout_established", "Read-only file system", "writable"];
    let told = |problem: &String| words.iter().all(|word| problem.contains(word));
    agent.wait_status("the problem", |status| status.problems.iter().any(told)).unwrap();
    assert_eq!((all(&agent)[1], get(&host, 10_256, "/healthz").status), (60, 200));
}

#[test]
fn r26_timeouts_are_those_of_the_agents_own_namespace() {
    let host = machine("r26-real");
    let file = "/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_close_wait";
    // A thread's own view of /proc/sys/net is that of its namespace.
    let read = || -> u64 { std::fs::read_to_string(file).unwrap().trim().parse().unwrap() };
    if !std::path::Path::new(file).exists() {
        panic!("this kernel tracks no connections: load nf_conntrack");
    }
    let before = read();
    host.namespace().run(|| std::fs::write(file, "61")).unwrap();
    let _agent = host.agent_inside(HERE).unwrap();
    assert_eq!((host.namespace().run(read), read()), (3_600, before));
}
