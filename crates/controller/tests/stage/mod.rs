//! A cluster, and controllers that oversee it, each through an API server of its own.

// Each test file is a program of its own, and uses a part.
#![allow(dead_code, unreachable_pub)]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use apidouble::{Cluster, Login, Server};
use controller::oversight::{Config, Figures, Times, run};
use serde_json::{Value, json};
use source::kubernetes::Access;
use tempfile::TempDir;
use tokio::sync::oneshot;

/// How long anything may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);
pub const NAMESPACE: &str = "kube-system";
pub const LEASE: &str = "balancing-controller";

/// Shorter than in life.
pub const TIMES: Times =
    Times { lasts: Duration::from_secs(4), held: Duration::from_secs(2), period: Duration::from_millis(200) };

/// Waits until `is_so`.
#[track_caller]
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "{what}: not after {PATIENCE:?}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// An API server of the cluster, and the one controller that asks it.
pub struct Controller {
    pub server: Server,
    pub running: Running,
}

/// A controller that runs.
pub struct Running {
    pub figures: Arc<Figures>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    _directory: TempDir,
}

impl Controller {
    pub fn start(cluster: &Cluster) -> Self {
        let server = Server::plain(cluster).unwrap();
        let running = Running::start(&server.kubeconfig(&Login::Anonymous).unwrap());
        Self { server, running }
    }

    /// Ends it as it should end.
    pub fn stop(self) {
        self.running.stop();
    }

    pub fn leads(&self) -> bool {
        self.running.leads()
    }

    /// When it has written slices and statuses.
    pub fn writes(&self) -> Vec<Instant> {
        let requests = self.server.record().requests().into_iter();
        let writes =
            requests.filter(|it| it.method != "GET" && it.status != 0 && !it.path.contains("/leases"));
        writes.filter(|it| !it.path.contains("/events")).map(|it| it.at).collect()
    }
}

impl Running {
    pub fn start(kubeconfig: &str) -> Self {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("kubeconfig");
        std::fs::write(&path, kubeconfig).unwrap();
        let (figures, (stop, stopped)) = (Arc::new(Figures::default()), oneshot::channel());
        let counted = figures.clone();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(run(config(path), counted, stopped)).unwrap();
        });
        Self { figures, stop: Some(stop), thread: Some(thread), _directory: directory }
    }

    /// Ends it as it should end.
    pub fn stop(mut self) {
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap();
    }

    pub fn text(&self) -> String {
        let mut registry = prometheus_client::registry::Registry::default();
        self.figures.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    }

    pub fn leads(&self) -> bool {
        self.text().contains("balancing_controller_leader 1\n")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
    }
}

pub fn config(kubeconfig: std::path::PathBuf) -> Config {
    Config {
        access: Access { kubeconfig: Some(kubeconfig), api_servers: Vec::new() },
        namespace: NAMESPACE.into(),
        lease: LEASE.into(),
        times: TIMES,
    }
}

/// A cluster in which policies are defined.
pub fn cluster() -> Cluster {
    let cluster = Cluster::new();
    for crd in api::policy::crds() {
        cluster.put(serde_json::to_value(crd).unwrap()).unwrap();
    }
    for node in ["n1", "n2"] {
        let labels = json!({"topology.kubernetes.io/zone": format!("zone-{node}")});
        cluster
            .put(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node, "labels": labels},
                "status": {"addresses": [{"type": "InternalIP", "address": "10.9.0.1"}]}}))
            .unwrap();
    }
    cluster
}

pub fn pod(number: usize, ready: bool) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": format!("p{number}"), "namespace": "shop", "labels": {"app": "web"}},
        "spec": {"nodeName": if number.is_multiple_of(2) { "n1" } else { "n2" }, "containers": []},
        "status": {
            "phase": "Running",
            "podIPs": [{"ip": format!("10.0.{}.{}", number / 250, number % 250 + 1)}],
            "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}],
        },
    })
}

/// A BalancingPolicy of an address to pods of `app=web`.
pub fn policy(name: &str, ip: &str) -> Value {
    json!({
        "apiVersion": "balancing.elf.io/v1beta1", "kind": "BalancingPolicy", "metadata": {"name": name},
        "spec": {
            "frontend": {"addressMatcher": {"ip": ip, "toPorts": [{"port": "80", "protocol": "TCP", "name": "p"}]}},
            "backend": {"serviceEndpoint": {
                "endpointSelector": {"matchLabels": {"app": "web"}},
                "toPorts": [{"port": "8080", "protocol": "TCP", "name": "p"}],
            }},
        },
    })
}

/// The slices of controllers.
pub fn slices(cluster: &Cluster) -> Vec<Value> {
    let all = cluster.list("endpointslices").unwrap().into_iter();
    all.filter(|it| {
        it["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"] == "balancing-controller"
    })
    .collect()
}

/// Pods in slices of a policy, each once, and whether they are ready.
pub fn endpoints(cluster: &Cluster, policy: &str) -> BTreeMap<String, bool> {
    let mut all = BTreeMap::new();
    for slice in slices(cluster) {
        if slice["metadata"]["ownerReferences"][0]["name"] == policy {
            for endpoint in slice["endpoints"].as_array().unwrap() {
                let name = endpoint["targetRef"]["name"].as_str().unwrap().to_owned();
                let ready = endpoint["conditions"]["ready"] == true;
                all.entry(name).and_modify(|is| *is |= ready).or_insert(ready);
            }
        }
    }
    all
}

/// Names of slices, each with its version.
pub fn versions(cluster: &Cluster) -> BTreeSet<(String, String)> {
    let text = |it: &Value| it.as_str().unwrap().to_owned();
    let version = |it: &Value| (text(&it["metadata"]["name"]), text(&it["metadata"]["resourceVersion"]));
    slices(cluster).iter().map(version).collect()
}

/// A condition of a BalancingPolicy: its status and reason.
pub fn condition(cluster: &Cluster, policy: &str, kind: &str) -> (String, String) {
    let object = cluster.get("balancingpolicies", None, policy).unwrap_or_default();
    let all = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let found = all.into_iter().find(|it| it["type"] == kind).unwrap_or_default();
    let text = |it: &Value| it.as_str().unwrap_or_default().to_owned();
    (text(&found["status"]), text(&found["reason"]))
}
