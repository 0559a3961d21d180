//! A node with an agent and a controller, services and policies of a cluster, their pods, and clients.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use apidouble::{Cluster, Login, Server};
use serde_json::{Value, json};
use testkit::{
    Backend, Family, Kind, exchange,
    object::{documents, endpoint, service, slice},
};

use crate::{
    chart::definitions,
    process::{Agent, Host, cluster::put, controller::Controller, pod::Pod, program, web},
};

/// All of it.
pub(super) struct Stage {
    // First: they ask the others.
    clients: Clients,
    _controller: Controller,
    _agent: Agent,
    _servers: Vec<Backend>,
    /// Where a policy's own backend is, whose clients it leaves alone (P7).
    _own: Pod,
    _server: Server,
    cluster: Cluster,
    host: Host,
}

/// Threads that ask until it is dropped.
struct Clients {
    stop: Arc<AtomicBool>,
    /// Exchanges a second, of each.
    rate: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            // What it has asked in vain is counted by the agent.
            let _ = thread.join();
        }
    }
}

impl Clients {
    /// Asks these services; some less often than others.
    fn start(host: &Host, services: &[(u8, u64)]) -> Self {
        let mut clients =
            Self { stop: Arc::default(), rate: Arc::new(AtomicU64::new(40)), threads: Vec::new() };
        for (low, share) in services.iter().copied() {
            for (kind, family) in [(Kind::Tcp, Family::V4), (Kind::ConnectedUdp, Family::V6)] {
                let (stop, rate) = (clients.stop.clone(), clients.rate.clone());
                let (namespace, cgroup) = (host.namespace().clone(), host.cgroup().clone());
                clients.threads.push(thread::spawn(move || {
                    namespace.run(|| {
                        cgroup.run(|| {
                            while !stop.load(Relaxed) {
                                let begun = Instant::now();
                                // Some are refused, which is to be seen.
                                let _ = exchange(kind, family, web::vip(kind, family, low));
                                let pause = Duration::from_millis(100 * share / rate.load(Relaxed).max(1));
                                thread::sleep(pause.saturating_sub(begun.elapsed()));
                            }
                        });
                    });
                }));
            }
        }
        clients
    }
}

/// A service whose backends are on this node, in its zone, and elsewhere.
fn spread(name: &str, low: u8, backends: &[u8]) -> String {
    let object = service(name)
        .cluster_ip(format!("10.96.0.{low}"))
        .cluster_ip(format!("fd00:96::{low:x}"))
        .field("ipFamilies", "[IPv4, IPv6]")
        .field("ipFamilyPolicy", "RequireDualStack")
        .port("http:80/TCP")
        .port("dns:53/UDP");
    let of = |family: &str, prefix: &str| {
        let empty = slice(&format!("{name}-{family}"), name).port("http:8080/TCP").port("dns:5353/UDP");
        backends.iter().fold(empty, |slice, low| {
            let zone = if *low == 3 { "z2" } else { "z1" };
            slice.endpoint(endpoint(format!("{prefix}{low}")).node(&format!("n{low}")).zone(zone))
        })
    };
    documents(&[&object, &of("v4", "10.1.0."), &of("v6", "fd00:1::").ipv6()])
}

fn node(name: &str, zone: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": zone}}})
}

/// A policy of a service, for pods with a label.
fn policy(kind: &str, name: &str, service: &str, field: &str) -> Value {
    let ports = json!([{"port": "8080", "protocol": "TCP", "name": "http"}, {"port": "5353", "protocol": "UDP", "name": "dns"}]);
    let pods = json!({"endpointSelector": {"matchLabels": {"app": name}}, "toPorts": ports});
    let backend = if field.is_empty() { pods } else { json!({field: pods}) };
    json!({
        "apiVersion": "balancing.elf.io/v1beta1", "kind": kind, "metadata": {"name": name},
        "spec": {"frontend": {"serviceMatcher": {"namespace": "default", "serviceName": service}}, "backend": backend},
    })
}

fn pod(app: &str, node: &str, low: u8, ready: bool) -> Value {
    let ready = if ready { "True" } else { "False" };
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": app, "namespace": "default", "labels": {"app": app}},
        "spec": {"nodeName": node, "containers": []},
        "status": {
            "phase": "Running", "conditions": [{"type": "Ready", "status": ready}],
            "podIPs": [{"ip": format!("10.1.0.{low}")}, {"ip": format!("fd00:1::{low}")}],
        },
    })
}

impl Stage {
    pub(super) fn build() -> Result<Self> {
        let host = Host::new("dashboard")?;
        let cluster = Cluster::new();
        let server = host.namespace().run(|| Server::tls(&cluster))?;
        let kubeconfig = host.kubeconfig(&server, &Login::Anonymous)?;
        let own = Pod::new("node-dns", "10.1.0.1")?;
        let servers = web::serve(&host, &[1, 2, 3])?;
        cluster.put_all(definitions()?)?;
        cluster.put_all([node("n1", "z1"), node("n2", "z1"), node("n3", "z2")])?;
        for (name, low, backends) in
            [("web", 10, &[1, 2, 3][..]), ("api", 11, &[2, 3]), ("cart", 12, &[1]), ("dns", 13, &[2])]
        {
            put(&cluster, &spread(name, low, backends))?;
        }
        cluster.put_all([
            policy("LocalRedirectPolicy", "node-dns", "dns", ""),
            policy("BalancingPolicy", "api-canary", "api", "serviceEndpoint"),
            pod("node-dns", "n1", 1, true),
            pod("api-canary", "n2", 2, true),
        ])?;
        let mut command = host.agent_of("--kubeconfig", &kubeconfig, &program(), &["--metrics-port=5811"]);
        host.namespace().contain(&mut command)?;
        let mut agent = host.start_command(&mut command)?;
        agent.wait_ready().context("the agent")?;
        let controller = Controller::start_inside(&kubeconfig, &host)?;
        let clients = Clients::start(&host, &[(10, 10), (11, 20), (12, 40), (13, 20)]);
        Ok(Self {
            clients,
            _controller: controller,
            _agent: agent,
            _servers: servers,
            _own: own,
            _server: server,
            cluster,
            host,
        })
    }

    pub(super) fn host(&self) -> &Host {
        &self.host
    }

    /// What happens in this second: busier and quieter times; endpoints that come and go; and for half a minute each a service
    /// without any, and policies without pods.
    pub(super) fn happens(&self, second: u64) -> Result<()> {
        let wave = (second as f64 / 15.0).sin();
        self.clients.rate.store((40.0 + 25.0 * wave) as u64, Relaxed);
        let part = second % 120;
        if second.is_multiple_of(5) {
            let backends: &[u8] = if second.is_multiple_of(10) { &[1, 2, 3] } else { &[1, 2] };
            put(&self.cluster, &spread("web", 10, backends))?;
        }
        match part {
            30 => put(&self.cluster, &spread("cart", 12, &[]))?,
            60 => put(&self.cluster, &spread("cart", 12, &[1]))?,
            _ => {}
        }
        match part {
            50 | 80 => drop(self.cluster.put(pod("node-dns", "n1", 1, part == 80))?),
            70 | 100 => drop(self.cluster.put(pod("api-canary", "n2", 2, part == 100))?),
            _ => {}
        }
        Ok(())
    }
}
