//! How the agent itself is.

use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

use apidouble::{Cluster, Server};
use balancing_tests::process::{Host, PATIENCE, question::ask};
use serde_json::json;
use testkit::wait;

use super::machine::{LOOPBACK, V6, following, get, machine, status_becomes};

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
