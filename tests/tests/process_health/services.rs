//! R24: health checks of services of load balancers.

use std::{
    fmt::Display,
    io,
    net::{IpAddr, SocketAddr, TcpListener},
    time::Instant,
};

use apidouble::{Cluster, Server};
use balancing_tests::process::{Host, PATIENCE, cluster::put, question::ask};
use serde_json::{Value, json};
use testkit::{
    object::{documents, endpoint, service, slice},
    wait,
};

use super::machine::{HERE, LOOPBACK, V4, V6, following, get, is_refused, machine, node};

/// A dual-stack load balancer service with `10.1.0.N` of these on this node, and others elsewhere.
pub(crate) fn balancer(name: &str, low: u8, port: u16, policy: &str, here: &[u8]) -> String {
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
