//! Policies of the API double: definitions that a cluster may lack, and all that can happen to them. And namespaces.

mod namespaces;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use apidouble::{Access as Rights, Cluster, Ending, Fault, Filter, Login, Real, Server, User};
use model::{Change, Object};
use serde_json::{Value, json};
use tokio::{
    sync::mpsc::{self, Receiver},
    time::timeout,
};

use super::*;
use crate::Severity;

const PATIENCE: Duration = Duration::from_secs(15);
const KINDS: [(&str, &str); 2] =
    [("localredirectpolicies", "LocalRedirectPolicy"), ("balancingpolicies", "BalancingPolicy")];

/// A cluster, and what a source has given of it.
struct World {
    cluster: Cluster,
    server: Server,
    seen: Seen,
}

/// What a source has given.
struct Seen {
    updates: Receiver<Update>,
    /// `BalancingPolicy web to 10.0.0.1`.
    policies: BTreeSet<String>,
    /// What namespaces say, those that say something.
    namespaces: BTreeMap<String, bool>,
    synced: bool,
    complete: bool,
    problems: Vec<Problem>,
}

fn definitions() -> Vec<Value> {
    api::policy::crds().iter().map(|crd| serde_json::to_value(crd).unwrap()).collect()
}

/// A policy for the VIP `ip`.
fn policy(kind: &str, name: &str, ip: &str) -> Value {
    let ports = json!([{"port": "80", "protocol": "TCP"}]);
    let pods = json!({"endpointSelector": {"matchLabels": {"app": name}}, "toPorts": ports});
    json!({
        "apiVersion": "balancing.elf.io/v1beta1", "kind": kind, "metadata": {"name": name},
        "spec": {
            "frontend": {"addressMatcher": {"ip": ip, "toPorts": ports}},
            "backend": if kind == "LocalRedirectPolicy" { pods } else { json!({"serviceEndpoint": pods}) },
        },
    })
}

impl Seen {
    /// What the server of a kubeconfig gives from now on.
    async fn following(kubeconfig: &str, node: Option<&str>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kubeconfig");
        std::fs::write(&path, kubeconfig).unwrap();
        let access = Access { kubeconfig: Some(path), api_servers: Vec::new() };
        let source = Kubernetes::open(access, node).await.unwrap();
        let (sender, updates) = mpsc::channel(16);
        tokio::spawn(source.run(sender));
        Self {
            updates,
            policies: BTreeSet::new(),
            namespaces: BTreeMap::new(),
            synced: false,
            complete: false,
            problems: Vec::new(),
        }
    }

    async fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        while !is_so(self) {
            let update = timeout(PATIENCE, self.updates.recv()).await.unwrap_or_else(|_| {
                panic!("waited in vain for {what}: {:?}, {:?}", self.policies, self.problems)
            });
            self.take(update.expect("the source has ended"));
        }
    }

    fn take(&mut self, update: Update) {
        match update {
            Update::Changes(changes) => changes.into_iter().for_each(|change| self.change(change)),
            Update::Synced => self.synced = true,
            Update::Complete => {
                assert!(self.synced && !self.complete);
                self.complete = true;
            }
            Update::Problems(problems) => self.problems = problems,
        }
    }

    fn change(&mut self, change: Change) {
        let id = match &change {
            Change::Upsert(object) => object.id(),
            Change::Delete(id) => id.clone(),
        };
        let called = format!("{} {}", id.kind, id.name.name);
        if let Change::Upsert(Object::Namespace(it)) = &change {
            self.namespaces.insert(it.name.clone(), it.socket_lb);
        } else if id.kind == Kind::Namespace {
            self.namespaces.remove(&id.name.name);
        }
        self.policies.retain(|policy| !policy.starts_with(&format!("{called} ")));
        if let Change::Upsert(Object::Policy(policy)) = change {
            let model::PolicyFrontend::Address { ip, .. } = policy.frontend else { panic!("{policy:?}") };
            self.policies.insert(format!("{called} to {ip}"));
        }
    }

    /// What comes without anybody waiting for anything.
    async fn settle(&mut self) {
        while let Ok(update) = timeout(Duration::from_millis(300), self.updates.recv()).await {
            self.take(update.expect("the source has ended"));
        }
    }

    fn has(&self, policies: &[&str]) -> bool {
        self.policies.iter().eq(policies)
    }

    fn is_told(&self, severity: Severity, words: &[&str]) -> bool {
        self.problems.iter().any(|problem| {
            let text = problem.to_string();
            problem.severity == severity && words.iter().all(|word| text.contains(word))
        })
    }
}

impl World {
    /// Without objects. `prepare` is done before anybody follows.
    async fn new(node: Option<&str>, prepare: impl FnOnce(&Server)) -> Self {
        let cluster = Cluster::new();
        let server = Server::plain(&cluster).unwrap();
        prepare(&server);
        let seen = Seen::following(&server.kubeconfig(&Login::Anonymous).unwrap(), node).await;
        Self { cluster, server, seen }
    }

    /// The same, with the definitions.
    async fn defined() -> Self {
        let mut world = Self::new(Some("n1"), |server| {
            server.cluster().put_all(definitions()).unwrap();
        })
        .await;
        world.seen.until("everything", |seen| seen.complete).await;
        world
    }

    fn put(&self, kind: &str, name: &str, ip: &str) {
        self.cluster.put(policy(kind, name, ip)).unwrap();
    }

    /// Requests about policies so far.
    fn asked(&self) -> usize {
        let requests = self.server.record().requests();
        requests.iter().filter(|it| it.path.ends_with("policies")).count()
    }
}

/// For all that waits; servers and their clocks know nothing of it.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

#[tokio::test]
async fn p10_policies_come_change_and_go() {
    let mut world = World::defined().await;
    assert_eq!(world.seen.problems, []);
    for (_, kind) in KINDS {
        world.put(kind, "web", "10.0.0.1");
        world.seen.until(kind, |seen| seen.has(&[&format!("{kind} web to 10.0.0.1")])).await;
        world.put(kind, "web", "fd00::1");
        world.seen.until("its change", |seen| seen.has(&[&format!("{kind} web to fd00::1")])).await;
        let resource = KINDS.iter().find(|it| it.1 == kind).unwrap().0;
        world.cluster.remove(resource, None, "web").unwrap();
        world.seen.until("its end", |seen| seen.policies.is_empty()).await;
    }
    assert_eq!(world.asked(), 2, "each is asked for once");
}

#[tokio::test]
async fn p11_outside_of_the_cluster_nobody_asks_for_what_is_local() {
    let world = World::new(None, |server| server.cluster().put_all(definitions()).unwrap());
    let mut world = world.await;
    world.put("LocalRedirectPolicy", "web", "10.0.0.1");
    world.put("BalancingPolicy", "web", "10.0.0.2");
    world.seen.until("everything", |seen| seen.complete && !seen.policies.is_empty()).await;
    assert!(world.seen.has(&["BalancingPolicy web to 10.0.0.2"]), "{:?}", world.seen.policies);
    assert_eq!(world.asked(), 1);
}

#[tokio::test]
async fn without_definitions_nothing_is_said_and_within_a_minute_of_theirs_policies_are_there() {
    let mut world = World::new(Some("n1"), |_| ()).await;
    world.seen.until("everything", |seen| seen.complete).await;
    world.seen.settle().await;
    assert_eq!(world.seen.problems, []);
    assert_eq!(world.asked(), 2, "nobody asks again at once");
    world.cluster.put_all(definitions()).unwrap();
    world.put("LocalRedirectPolicy", "web", "10.0.0.1");
    world.put("BalancingPolicy", "web", "10.0.0.2");
    pass(Duration::from_secs(60)).await;
    let both = ["BalancingPolicy web to 10.0.0.2", "LocalRedirectPolicy web to 10.0.0.1"];
    world.seen.until("policies", |seen| seen.has(&both)).await;
    assert_eq!(world.seen.problems, []);
}

#[tokio::test]
async fn who_may_not_ask_what_is_served_believes_a_404_that_contradicts_nothing() {
    let locked = |server: &Server| {
        let rule = json!({"apiGroups": ["*"], "resources": ["*"], "verbs": ["list", "watch"]});
        let api = "rbac.authorization.k8s.io";
        let role =
            |kind: &str| json!({"apiVersion": format!("{api}/v1"), "kind": kind, "metadata": {"name": "r"}});
        let (mut reader, mut binding) = (role("ClusterRole"), role("ClusterRoleBinding"));
        reader["rules"] = json!([rule]);
        binding["roleRef"] = json!({"apiGroup": api, "kind": "ClusterRole", "name": "r"});
        binding["subjects"] = json!([{"apiGroup": api, "kind": "User", "name": "system:anonymous"}]);
        server.cluster().put_all([reader, binding]).unwrap();
        server.set_access(Rights::Rbac);
    };
    let mut world = World::new(Some("n1"), locked).await;
    world.seen.until("everything", |seen| seen.complete).await;
    world.seen.settle().await;
    assert_eq!(world.seen.problems, []);
    world.cluster.put_all(definitions()).unwrap();
    world.put("BalancingPolicy", "web", "10.0.0.2");
    pass(Duration::from_secs(60)).await;
    let policies = ["BalancingPolicy web to 10.0.0.2"];
    world.seen.until("a policy", |seen| seen.has(&policies)).await;
    world.server.faults().on(Filter::resource("balancingpolicies"), Fault::NotFound);
    world.server.end_watches(Ending::Clean);
    world.seen.until("what is wrong", |seen| seen.is_told(Severity::Error, &["404"])).await;
    assert!(world.seen.has(&policies));
}

#[tokio::test]
async fn definitions_that_go_take_policies_along_whoever_hears_of_it() {
    let mut world = World::defined().await;
    for is_there in [true, false] {
        world.put("LocalRedirectPolicy", "web", "10.0.0.1");
        world.put("BalancingPolicy", "web", "10.0.0.2");
        let both = ["BalancingPolicy web to 10.0.0.2", "LocalRedirectPolicy web to 10.0.0.1"];
        world.seen.until("policies", |seen| seen.has(&both)).await;
        if !is_there {
            world.server.close(Ending::Reset).unwrap();
        }
        let balancing = "balancingpolicies.balancing.elf.io";
        world.cluster.remove("customresourcedefinitions", None, balancing).unwrap();
        if !is_there {
            world.server.open().unwrap();
        }
        // The other kind stays, and with it the group.
        world.seen.until("the end of one kind", |seen| seen.has(&both[1..])).await;
        world.seen.settle().await;
        world.seen.until("no problems", |seen| seen.problems.is_empty()).await;
        world.cluster.put_all(definitions()).unwrap();
        pass(Duration::from_secs(60)).await;
    }
}

#[tokio::test]
async fn a_404_that_is_not_true_takes_no_policy_away() {
    let mut world = World::defined().await;
    world.put("BalancingPolicy", "web", "10.0.0.2");
    let policies = ["BalancingPolicy web to 10.0.0.2"];
    world.seen.until("a policy", |seen| seen.has(&policies)).await;
    // The server itself says that it has the resource; then it says nothing at all.
    for lie in [Filter::resource("balancingpolicies"), Filter::everything()] {
        let lie = world.server.faults().on(lie, Fault::NotFound);
        world.server.end_watches(Ending::Clean);
        world
            .seen
            .until("what is wrong", |seen| seen.is_told(Severity::Error, &["404", "stays in force"]))
            .await;
        world.seen.settle().await;
        assert!(world.seen.has(&policies), "{:?}", world.seen.policies);
        world.server.faults().off(lie);
        // For what is said not to be there, and is not needed.
        pass(Duration::from_secs(30)).await;
        world.seen.until("no problems", |seen| seen.problems.is_empty()).await;
    }
    world.cluster.remove("balancingpolicies", None, "web").unwrap();
    world.seen.until("its end", |seen| seen.policies.is_empty()).await;
}

#[tokio::test]
async fn who_may_not_read_policies_is_told_so_and_goes_on() {
    let forbid = |server: &Server| {
        server.cluster().put_all(definitions()).unwrap();
        for (resource, _) in KINDS {
            server.faults().on(Filter::resource(resource), Fault::Forbidden);
        }
    };
    let mut world = World::new(Some("n1"), forbid).await;
    world.seen.until("everything", |seen| seen.complete && seen.problems.len() == 2).await;
    for (resource, _) in KINDS {
        let words = [&format!("does not let us list and watch {resource}.balancing.elf.io"), "ClusterRole"];
        assert!(world.seen.is_told(Severity::Error, &words), "{:?}", world.seen.problems);
    }
    world.put("BalancingPolicy", "web", "10.0.0.2");
    world.server.faults().clear();
    pass(Duration::from_secs(30)).await;
    world.seen.until("policies", |seen| seen.has(&["BalancingPolicy web to 10.0.0.2"])).await;
    world.seen.until("no problems", |seen| seen.problems.is_empty()).await;
    // Taken away again: what is known stays.
    forbid(&world.server);
    world.server.end_watches(Ending::Clean);
    world.seen.until("problems", |seen| seen.is_told(Severity::Error, &["stays in force"])).await;
    assert!(world.seen.has(&["BalancingPolicy web to 10.0.0.2"]));
}

#[tokio::test]
async fn who_may_not_read_pods_is_told_what_that_takes_away() {
    let forbid = |server: &Server| {
        server.faults().on(Filter::resource("pods"), Fault::Forbidden);
    };
    let mut world = World::new(Some("n1"), forbid).await;
    world.seen.until("everything", |seen| seen.complete && !seen.problems.is_empty()).await;
    let words = ["list and watch pods", "LocalRedirectPolicies have no backends", "loadBalancerSourceRanges"];
    assert!(world.seen.is_told(Severity::Notice, &words), "{:?}", world.seen.problems);
}

#[tokio::test]
async fn r6_who_is_not_told_of_policies_at_the_start_goes_on_and_knows_that_it_does_not_know() {
    let fail = |server: &Server| {
        server.cluster().put_all(definitions()).unwrap();
        server.cluster().put(policy("BalancingPolicy", "web", "10.0.0.2")).unwrap();
        server.faults().on(Filter::resource("balancingpolicies"), Fault::InternalError);
    };
    let mut world = World::new(Some("n1"), fail).await;
    world.seen.until("what is wrong", |seen| seen.is_told(Severity::Error, &["500"])).await;
    assert!(!world.seen.synced);
    pass(Duration::from_secs(11)).await;
    world.seen.until("the others", |seen| seen.synced).await;
    world.seen.settle().await;
    assert!(!world.seen.complete, "nothing is to be deleted");
    world.server.faults().clear();
    world.seen.until("everything", |seen| seen.complete && seen.problems.is_empty()).await;
    assert!(world.seen.has(&["BalancingPolicy web to 10.0.0.2"]));
}

#[tokio::test]
async fn a_version_that_is_gone_loses_no_policy_and_keeps_none() {
    let mut world = World::defined().await;
    for (name, ip) in [("gone", "10.0.0.1"), ("changed", "10.0.0.2")] {
        world.put("BalancingPolicy", name, ip);
    }
    world.seen.until("policies", |seen| seen.policies.len() == 2).await;
    world.server.close(Ending::Reset).unwrap();
    world.cluster.remove("balancingpolicies", None, "gone").unwrap();
    world.put("BalancingPolicy", "changed", "10.0.0.3");
    world.put("BalancingPolicy", "new", "10.0.0.4");
    world.cluster.compact();
    world.server.open().unwrap();
    let now = ["BalancingPolicy changed to 10.0.0.3", "BalancingPolicy new to 10.0.0.4"];
    world.seen.until("what is there now", |seen| seen.has(&now)).await;
    world.seen.until("no problems", |seen| seen.problems.is_empty()).await;
}

#[tokio::test]
async fn a_policy_that_nobody_understands_disturbs_no_other() {
    let mut world = World::defined().await;
    world.put("BalancingPolicy", "bad", "10.0.0.1");
    world.seen.until("a policy", |seen| !seen.policies.is_empty()).await;
    world.put("BalancingPolicy", "bad", "10.0.0.256");
    world.put("LocalRedirectPolicy", "worse", "ten");
    world.put("BalancingPolicy", "good", "10.0.0.2");
    let now = ["BalancingPolicy bad to 10.0.0.1", "BalancingPolicy good to 10.0.0.2"];
    world.seen.until("the other", |seen| seen.has(&now) && seen.problems.len() == 2).await;
    let field = "spec.frontend.addressMatcher.ip";
    assert!(world.seen.is_told(Severity::Error, &["BalancingPolicy bad", field, "stays in force"]));
    assert!(
        world.seen.is_told(Severity::Error, &["LocalRedirectPolicy worse", field]),
        "{:?}",
        world.seen.problems
    );
    world.put("BalancingPolicy", "bad", "10.0.0.9");
    world.cluster.remove("localredirectpolicies", None, "worse").unwrap();
    world.seen.until("no problems", |seen| seen.problems.is_empty()).await;
    assert!(world.seen.policies.contains("BalancingPolicy bad to 10.0.0.9"));
}

/// Where `KUBEBUILDER_ASSETS` names a directory with `etcd` and `kube-apiserver` (docs/testing.md).
#[tokio::test]
async fn the_same_with_a_real_api_server() {
    let Some(assets) = Real::assets() else {
        println!("not tried with a real API server: KUBEBUILDER_ASSETS is not set");
        return;
    };
    let real = Real::start(&assets, &[("root", User::administrator())]).unwrap();
    let call = |method: &str, path: &str, body: Option<&Value>| real.call("root", method, path, body);
    let mut seen = Seen::following(&real.kubeconfig("root"), Some("n1")).await;
    seen.until("everything", |seen| seen.complete).await;
    seen.settle().await;
    assert_eq!(seen.problems, []);
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    definitions().iter().for_each(|definition| drop(call("POST", path, Some(definition)).unwrap()));
    let policies = "/apis/balancing.elf.io/v1beta1/balancingpolicies";
    let web = policy("BalancingPolicy", "web", "10.0.0.2");
    // It takes a moment to know what it was told.
    while call("POST", policies, Some(&web)).is_err() {
        seen.settle().await;
    }
    pass(Duration::from_secs(60)).await;
    seen.until("a policy", |seen| seen.has(&["BalancingPolicy web to 10.0.0.2"])).await;
    call("DELETE", &format!("{path}/balancingpolicies.balancing.elf.io"), None).unwrap();
    seen.until("its end", |seen| seen.policies.is_empty()).await;
    while call("GET", policies, None).is_ok() {
        seen.settle().await;
    }
    seen.settle().await;
    seen.until("no problems", |seen| seen.problems.is_empty()).await;
    assert!(seen.synced);
}
