//! Who asks: clients are known by their network namespaces and addresses (R22, R23), by their cgroups, and by being the
//! host (R14).

#![allow(clippy::unwrap_used)]

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
};

use balancing_tests::{
    process::{Host, PATIENCE, pod::Pod},
    socket::Socket,
};
use serde_json::Value;
use testkit::{
    Backend,
    object::{Service, documents, service, slice},
};

const VIP: &str = "198.51.100.10:53";
const CLUSTER_IP: &str = "10.96.0.10:53";

/// What backends these tests have in a pod.
trait Serving {
    fn backend(&self, host: &Host, to: &str) -> SocketAddr;
    fn serve(&self) -> Vec<Backend>;
}

impl Serving for Pod {
    /// The backend that a new socket gets.
    fn backend(&self, host: &Host, to: &str) -> SocketAddr {
        self.dial(host.cgroup(), to).unwrap().ask(None).unwrap().backend
    }

    fn serve(&self) -> Vec<Backend> {
        let serve = |n: u8| {
            let at = SocketAddr::new([10, 1, 0, n].into(), 5353);
            Backend::udp(self.namespace(), &at.to_string(), at).unwrap()
        };
        BACKENDS.map(serve).collect()
    }
}

const BACKENDS: std::ops::RangeInclusive<u8> = 1..=20;

/// A service `dns`, 53/UDP, on [`BACKENDS`].
fn dns(change: impl FnOnce(Service) -> Service) -> String {
    dns_at(&[], change)
}

/// The same with further fields of the port.
fn dns_at(port: &[(&str, &str)], change: impl FnOnce(Service) -> Service) -> String {
    let service = change(service("dns").cluster_ip("10.96.0.10").port_with("53/UDP", port));
    let slice = slice("dns-4", "dns").port("5353/UDP");
    let slice = BACKENDS.fold(slice, |slice, n| slice.endpoint(IpAddr::from([10, 1, 0, n])));
    documents(&[&service, &slice])
}

fn restricted() -> String {
    dns(|it| it.field("type", "LoadBalancer").load_balancer_ip("198.51.100.10").source_range("10.1.7.0/24"))
}

/// The number of the error.
fn fails(outcome: io::Result<Socket>) -> Option<i32> {
    outcome.err().and_then(|error| error.raw_os_error())
}

/// How much of a map is in use.
fn used(host: &Host, map: &str) -> u64 {
    let maps = host.balancing(&["get", "maps", "-o", "json"]).unwrap();
    let maps: Vec<Value> = serde_json::from_str(maps.succeeds()).unwrap();
    maps.iter().find(|it| it["name"] == map).unwrap()["used"].as_u64().unwrap()
}

#[test]
fn r22_a_pod_is_known_by_its_address_also_one_that_starts_later() {
    let host = Host::new("ranges").unwrap();
    let (allowed, denied) =
        (Pod::new("rangesin", "10.1.7.1").unwrap(), Pod::new("rangesout", "10.1.8.1").unwrap());
    host.write("dns.yaml", restricted()).unwrap();
    let mut agent = host.agent(&[]).unwrap();
    let dial = |pod: &Pod, to: &str| pod.dial(host.cgroup(), to);
    testkit::wait::until(PATIENCE, "the pods to be known", || {
        dial(&allowed, VIP).is_ok() && fails(dial(&denied, VIP)) == Some(libc::EACCES)
    });
    // The ranges are for the VIP.
    assert!(dial(&denied, CLUSTER_IP).is_ok());

    // Until they are known, a connection passes, to where there is nothing.
    let (late_in, late_out) =
        (Pod::new("rangeslatein", "10.1.7.2").unwrap(), Pod::new("rangeslateout", "10.1.8.2").unwrap());
    for (pod, expected) in [(&late_in, None), (&late_out, Some(libc::EACCES))] {
        testkit::wait::until(PATIENCE, "the new pod to be known", || {
            let outcome = dial(pod, VIP);
            if let Err(error) = &outcome {
                let number = error.raw_os_error();
                assert!(number == expected || number == Some(libc::ENETUNREACH), "{error}");
            }
            fails(outcome) == expected
        });
    }
    // What is known outlives the agent, and another one does not begin anew.
    agent.kill().unwrap();
    let check = || {
        for pod in [&allowed, &late_in] {
            assert!(dial(pod, VIP).is_ok());
        }
        for pod in [&denied, &late_out] {
            assert_eq!(fails(dial(pod, VIP)), Some(libc::EACCES));
        }
    };
    check();
    let agent = host.agent(&[]).unwrap();
    check();
    assert!(used(&host, "clients") >= 4);
    // Without ranges everybody may.
    host.write("dns.yaml", restricted().replace("10.1.7.0/24", "0.0.0.0/0")).unwrap();
    testkit::wait::until(PATIENCE, "the ranges to be gone", || dial(&denied, VIP).is_ok());
    // Who they are is not kept: it would only grow old.
    testkit::wait::until(PATIENCE, "the clients to be forgotten", || used(&host, "clients") == 0);
    drop(agent);
}

#[test]
fn r23_each_network_namespace_keeps_its_own_backend_over_a_restart() {
    let host = Host::new("keeps").unwrap();
    let pods = ["a", "b", "c"].map(|name| Pod::new(&format!("keeps{name}"), "10.1.7.1").unwrap());
    let _servers: Vec<_> = pods.iter().map(Pod::serve).collect();
    host.write("dns.yaml", dns(|it| it.affinity(3600))).unwrap();
    let mut agent = host.agent(&[]).unwrap();
    let first = pods.each_ref().map(|pod| pod.backend(&host, CLUSTER_IP));
    let check = |what: &str| {
        for (pod, first) in pods.iter().zip(&first) {
            for _ in 0..10 {
                assert_eq!(pod.backend(&host, CLUSTER_IP), *first, "{what}");
            }
        }
    };
    check("at first");
    // One in 400, were it chance.
    assert!(first.iter().any(|it| *it != first[0]), "{first:?}");
    agent.kill().unwrap();
    check("without an agent");
    let agent = host.agent(&[]).unwrap();
    check("another agent");
    host.write("dns.yaml", dns(|it| it)).unwrap();
    testkit::wait::until(PATIENCE, "affinity to end", || pods[0].backend(&host, CLUSTER_IP) != first[0]);
    drop(agent);
}

#[test]
fn an_excluded_cgroup_and_those_below_it_are_left_alone() {
    let host = Host::new("excluded").unwrap();
    let pod = Pod::new("excludedpod", "10.1.7.1").unwrap();
    let outside = host.cgroup().child("outside").unwrap();
    let (excluded, beside) = (outside.child("excluded").unwrap(), outside.child("beside").unwrap());
    let below = excluded.child("below").unwrap();
    host.write("dns.yaml", dns(|it| it)).unwrap();
    let path = excluded.path().to_str().unwrap().to_owned();
    let mut agent = host.agent(&["--exclude-cgroup", &path]).unwrap();
    let check = |expected| {
        for cgroup in [&excluded, &below] {
            assert_eq!(fails(pod.dial(cgroup, CLUSTER_IP)), expected);
        }
        for cgroup in [host.cgroup(), &outside, &beside] {
            assert!(pod.dial(cgroup, CLUSTER_IP).is_ok());
        }
    };
    check(Some(libc::ENETUNREACH));
    agent.kill().unwrap();
    check(Some(libc::ENETUNREACH));
    // An agent that is to exclude none undoes it.
    let _agent = host.agent(&[]).unwrap();
    check(None);
}

#[test]
fn r14_loopback_serves_node_ports_to_the_hosts_sockets_only() {
    let host = Host::new("loopback").unwrap();
    let pod = Pod::new("loopbackpod", "10.1.7.1").unwrap();
    let manifest = dns_at(&[("nodePort", "30053")], |it| it.field("type", "NodePort"));
    host.write("dns.yaml", &manifest).unwrap();
    let translated = || {
        // This process is on the host.
        host.cgroup().run(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            match socket.connect("127.0.0.1:30053") {
                Ok(()) => !socket.local_addr().unwrap().ip().is_loopback(),
                // Nor is there a way to the backend from here.
                Err(error) => matches!(error.raw_os_error(), Some(libc::ENETUNREACH | libc::EHOSTUNREACH)),
            }
        })
    };
    let mut agent = host.agent(&[]).unwrap();
    assert!(!translated(), "the keyword is not the default");
    agent.kill().unwrap();
    let _agent = host.agent(&["--node-port-addresses", "localhost"]).unwrap();
    assert!(translated(), "{manifest}");
    let local = pod.namespace().run(|| {
        host.cgroup().run(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.connect("127.0.0.1:30053").unwrap();
            socket.local_addr().unwrap()
        })
    });
    assert!(local.ip().is_loopback(), "{local}");
}
