//! What an agent writes to its cluster: annotations of its node, and Events; and that nothing else waits for it.

#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeSet, HashMap},
    ops::Deref,
    thread,
    time::{Duration, Instant},
};

use agent::Status;
use apidouble::{Ending, Fault, Filter, Login, Real, Server, User, Verb};
use balancing_tests::process::{
    Agent, Host, PATIENCE,
    cluster::{self, change},
};
use serde_json::{Value, json};
use testkit::wait;

const ID: &str = "balancing.elf.io/nodeId";
const V4: &str = "balancing.elf.io/nodeProxyIpv4";
const V6: &str = "balancing.elf.io/nodeProxyIpv6";
const EVENTS: &str = "events.events.k8s.io";
/// What would have been written is, after this.
const QUIET: Duration = Duration::from_secs(2);

struct World {
    base: cluster::World,
    /// For administrators.
    office: Server,
}

impl Deref for World {
    type Target = cluster::World;

    fn deref(&self) -> &cluster::World {
        &self.base
    }
}

impl World {
    /// A cluster with the node `n1`, and services.
    fn new(name: &str) -> Self {
        let world = Self::without_node(name);
        world.node("n1", "", &["10.0.0.1", "fd00::1"], json!({}));
        world
    }

    fn without_node(name: &str) -> Self {
        let base = cluster::World::new(name).unwrap();
        base.cluster.remove("nodes", None, "n1").unwrap();
        let office = Server::plain(&base.cluster).unwrap();
        Self { base, office }
    }

    /// Puts a node as it would be after its agent has applied `annotations` to it.
    fn node(&self, name: &str, uid: &str, ips: &[&str], annotations: Value) {
        let addresses: Vec<Value> =
            ips.iter().map(|ip| json!({"type": "InternalIP", "address": ip})).collect();
        let keys = annotations.as_object().unwrap().keys().map(|key| (format!("f:{key}"), json!({})));
        let owned = json!({"f:metadata": {"f:annotations": keys.collect::<serde_json::Map<_, _>>()}});
        let mut metadata = json!({"name": name, "annotations": annotations,
            "managedFields": [{"manager": "balancing-agent", "operation": "Apply", "apiVersion": "v1",
                "time": "2026-01-01T00:00:00Z", "fieldsType": "FieldsV1", "fieldsV1": owned}]});
        if !uid.is_empty() {
            metadata["uid"] = uid.into();
        }
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": metadata, "status": {"addresses": addresses}});
        self.cluster.put(node).unwrap();
    }

    fn annotation(&self, node: &str, key: &str) -> Option<String> {
        let node = self.cluster.get("nodes", None, node).unwrap();
        node["metadata"]["annotations"][key].as_str().map(str::to_owned)
    }

    /// An administrator says so; null takes it away.
    fn annotate(&self, key: &str, value: impl Into<Value>) {
        let patch = json!({"metadata": {"annotations": {key: value.into()}}});
        change(&self.office, "/api/v1/nodes/n1", &patch).unwrap();
    }

    /// The node has other addresses now; kubelet says so.
    fn move_to(&self, ips: &[&str]) {
        let mut node = self.cluster.get("nodes", None, "n1").unwrap();
        let addresses = ips.iter().map(|ip| json!({"type": "InternalIP", "address": ip}));
        node["status"]["addresses"] = addresses.collect();
        self.cluster.put(node).unwrap();
    }

    #[track_caller]
    fn becomes(&self, key: &str, value: &str) {
        wait::until(PATIENCE, &format!("{key} = {value}"), || {
            self.annotation("n1", key).as_deref() == Some(value)
        });
    }

    fn events(&self) -> Vec<Value> {
        self.cluster.list(EVENTS).unwrap()
    }

    /// Makes service `a` one that nobody understands, in one of several ways.
    fn poison(&self, port: u32) {
        let mut poison = self.cluster.get("services", Some("default"), "a").unwrap();
        poison["spec"]["ports"][0]["port"] = json!(port);
        self.cluster.put(poison).unwrap();
    }

    fn writes(&self) -> Vec<String> {
        let requests = self.server.record().requests().into_iter();
        requests.filter(|it| it.method != "GET").map(|it| format!("{} {}", it.method, it.path)).collect()
    }
}

#[track_caller]
fn says(agent: &Agent, words: &[&str]) {
    let is_said = |status: &Status| {
        status.problems.iter().chain(&status.notices).any(|said| words.iter().all(|word| said.contains(word)))
    };
    agent.wait_status(&format!("{words:?}"), is_said).unwrap();
}

#[test]
fn a_node_gets_its_annotations_and_keeps_those_of_administrators() {
    let world = World::new("publish-node");
    world.annotate(V6, "fd00::99");
    let agent = world.agent().unwrap();
    world.becomes(V4, "10.0.0.1");
    let id: u32 = world.annotation("n1", ID).unwrap().parse().unwrap();
    assert_ne!(id, 0);
    agent.wait_status("the id", |status| status.node_id == Some(id)).unwrap();
    let wide = world.host.balancing(&["get", "nodes", "-o", "wide"]).unwrap();
    assert!(wide.succeeds().contains(&id.to_string()), "{wide:?}");
    let screen = world.host.balancing(&["status"]).unwrap();
    assert!(screen.succeeds().contains(&format!("n1, id {id}")), "{screen:?}");
    assert_eq!(world.annotation("n1", V6).as_deref(), Some("fd00::99"));
    // Ours follows; an administrator's does not.
    world.move_to(&["10.0.0.2", "fd00::2"]);
    world.becomes(V4, "10.0.0.2");
    assert_eq!(world.annotation("n1", V6).as_deref(), Some("fd00::99"));
    // One is taken over, the other given back.
    world.annotate(V4, "192.0.2.7");
    world.annotate(V6, Value::Null);
    world.becomes(V6, "fd00::2");
    world.move_to(&["10.0.0.3", "fd00::3"]);
    world.becomes(V6, "fd00::3");
    assert_eq!(world.annotation("n1", V4).as_deref(), Some("192.0.2.7"));
    world.annotate(V4, Value::Null);
    world.becomes(V4, "10.0.0.3");
    // What makes no sense is said, and stays.
    world.annotate(ID, "first");
    says(&agent, &["Node n1", ID, "\"first\" is no number", "remove it"]);
    wait::until(PATIENCE, "an Event on the Node", || !world.events().is_empty());
    let event = &world.events()[0];
    let about = (&event["reason"], &event["regarding"]["kind"], &event["metadata"]["namespace"]);
    assert_eq!(about, (&json!("InvalidAnnotation"), &json!("Node"), &json!("default")));
    assert_eq!(world.annotation("n1", ID).as_deref(), Some("first"));
    world.annotate(ID, Value::Null);
    world.becomes(ID, &id.to_string());
    agent.wait_status("no problems", |status| status.problems.is_empty()).unwrap();
    // The next agent finds everything as it is to be.
    drop(agent);
    world.server.record().clear();
    let _agent = world.agent().unwrap();
    thread::sleep(QUIET);
    assert_eq!(world.writes(), Vec::<String>::new());
}

/// As the agent makes ids of UIDs (FNV-1a).
fn hash(uid: &str) -> u32 {
    uid.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// Two UIDs that give the same id.
fn twins() -> [String; 2] {
    let mut seen = HashMap::new();
    for number in 0_u32.. {
        let uid = format!("uid-{number:08}");
        if let Some(other) = seen.insert(hash(&uid), uid.clone()) {
            return [other, uid];
        }
    }
    unreachable!("there are more UIDs than hashes")
}

#[test]
fn of_two_nodes_with_one_id_the_younger_takes_the_next() {
    let world = World::without_node("publish-twins");
    let second = Host::new("publish-twin").unwrap().called("n2");
    let [older, younger] = twins();
    let (id, next) = (hash(&older).to_string(), (hash(&older) + 1).to_string());
    // Both agents wrote it before they saw each other.
    world.node("n2", &older, &["10.0.0.2"], json!({ID: id}));
    thread::sleep(Duration::from_millis(1100));
    world.node("n1", &younger, &["10.0.0.1"], json!({ID: id}));
    let kubeconfig = second.kubeconfig(&world.server, &Login::Anonymous).unwrap();
    let (_one, _two) = (world.agent().unwrap(), second.following(&kubeconfig, &[]).unwrap());
    world.becomes(ID, &next);
    wait::until(PATIENCE, "the other's", || world.annotation("n2", V4).as_deref() == Some("10.0.0.2"));
    assert_eq!(world.annotation("n2", ID), Some(id));
    // And from nothing: whoever comes second.
    for node in ["n1", "n2"] {
        change(
            &world.office,
            &format!("/api/v1/nodes/{node}"),
            &json!({"metadata": {"annotations": {ID: null}}}),
        )
        .unwrap();
    }
    let ids = || -> BTreeSet<String> {
        ["n1", "n2"].iter().filter_map(|node| world.annotation(node, ID)).collect()
    };
    wait::until(PATIENCE, "two ids", || ids().len() == 2);
    thread::sleep(QUIET);
    assert_eq!(ids().len(), 2);
}

#[test]
fn r27_what_could_not_be_written_is_written_later_and_tables_do_not_wait() {
    let world = World::new("publish-faults");
    let agent = world.agent().unwrap();
    let traffic = world.traffic().unwrap();
    world.becomes(V4, "10.0.0.1");
    let writes = || Filter::verb(Verb::Patch).and_verb(Verb::Create);
    let mut number = 0;
    let mut move_and_poison = || {
        number += 1;
        let ip = format!("10.0.1.{number}");
        world.move_to(&[&ip]);
        world.poison(70_000 + number);
        (ip, format!("{}", 70_000 + number))
    };
    let has_event =
        |words: &str| world.events().iter().any(|event| event["note"].as_str().unwrap().contains(words));
    for fault in
        [Fault::Conflict, Fault::TooManyRequests(1), Fault::InternalError, Fault::Reset, Fault::Garbage]
    {
        println!("{fault:?}");
        world.server.faults().times(2, writes(), fault.clone());
        let (ip, port) = move_and_poison();
        world.becomes(V4, &ip);
        wait::until(PATIENCE, &format!("the Event after {fault:?}"), || has_event(&port));
    }
    // Nobody answers to what is written: all else goes on as if that were nothing.
    let fault = world.server.faults().on(writes(), Fault::Silent);
    let (ip, port) = move_and_poison();
    thread::sleep(Duration::from_secs(1));
    for low in 20..30 {
        world.set(&format!("s{low}"), low, &[2]).unwrap();
        let begun = Instant::now();
        wait::until(PATIENCE, "a service", || world.answers(low, 2));
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    }
    world.server.faults().off(fault);
    wait::until(3 * PATIENCE, "what could not be written", || {
        world.annotation("n1", V4).as_deref() == Some(&ip) && has_event(&port)
    });
    // The server is away for a while.
    world.server.close(Ending::Reset).unwrap();
    let (ip, port) = move_and_poison();
    thread::sleep(Duration::from_secs(1));
    world.server.open().unwrap();
    world.becomes(V4, &ip);
    wait::until(PATIENCE, "the Event", || has_event(&port));
    // What is not allowed is said.
    world.server.faults().on(writes(), Fault::Forbidden);
    move_and_poison();
    says(&agent, &["does not let us write the annotations of Node n1", "--publish=false"]);
    says(&agent, &["does not let us write Events", "docs/kubernetes.md"]);
    // It is no problem.
    let is_only =
        |status: &Status| status.problems.iter().all(|problem| problem.contains("Service default/a"));
    let status = agent.wait_status("what is wrong, and nothing else", is_only).unwrap();
    assert_eq!(status.audit_differences, 0);
    world.set("last", 40, &[2]).unwrap();
    wait::until(PATIENCE, "a service", || world.answers(40, 2));
    traffic.end();
}

#[test]
fn a_fault_that_all_agents_see_is_one_event_however_often_they_see_it() {
    let world = World::new("publish-events");
    world.poison(70_000);
    let mut agent = world.agent().unwrap();
    wait::until(PATIENCE, "an Event", || world.events().len() == 1);
    let event = &world.events()[0];
    assert_eq!(event["reportingController"], "balancing.elf.io/agent");
    assert_eq!((&event["reportingInstance"], &event["type"]), (&json!("n1"), &json!("Warning")));
    let service = world.cluster.get("services", Some("default"), "a").unwrap();
    let regarding = json!({"apiVersion": "v1", "kind": "Service", "namespace": "default", "name": "a",
        "uid": service["metadata"]["uid"]});
    assert_eq!((&event["regarding"], &event["reason"]), (&regarding, &json!("NotUnderstood")));
    assert!(event["note"].as_str().unwrap().contains("spec.ports[0].port"), "{event}");
    // It changes and is bad still; is corrected and bad again; agents come and go, and there are others.
    let second = Host::new("publish-second").unwrap().called("n2");
    world.node("n2", "", &["10.0.0.2"], json!({}));
    let kubeconfig = second.kubeconfig(&world.server, &Login::Anonymous).unwrap();
    let _second = second.following(&kubeconfig, &[]).unwrap();
    let mut touched = service;
    touched["metadata"]["labels"] = json!({"touched": "yes"});
    world.cluster.put(touched).unwrap();
    world.set("a", 10, &[1]).unwrap();
    agent.wait_status("no problems", |status| status.problems.is_empty()).unwrap();
    world.poison(70_000);
    says(&agent, &["Service default/a"]);
    agent.kill().unwrap();
    let agent = world.agent().unwrap();
    thread::sleep(QUIET);
    assert_eq!(world.server.record().count(Verb::Create, "events"), 1);
    assert_eq!(agent.status().unwrap().published.unwrap().events, 0);
    // Something else is wrong with it.
    world.poison(80_000);
    wait::until(PATIENCE, "another Event", || world.events().len() == 2);
    thread::sleep(QUIET);
    assert_eq!(world.events().len(), 2);
}

#[test]
fn what_is_kept_and_what_has_no_room_is_told() {
    let world = World::new("publish-room");
    world.set("kubernetes", 1, &[1]).unwrap();
    let agent =
        world.host.following(&world.kubeconfig, &["--max-services", "13", "--max-backends", "64"]).unwrap();
    wait::until(PATIENCE, "the API server's service", || world.answers(1, 1));
    world.set("kubernetes", 1, &[]).unwrap();
    says(&agent, &["default/kubernetes", "is not applied"]);
    let told = |reason: &str| -> BTreeSet<String> {
        let events = world.events().into_iter().filter(|event| event["reason"] == reason);
        events.map(|event| event["regarding"]["name"].as_str().unwrap().to_owned()).collect()
    };
    wait::until(PATIENCE, "an Event", || told("EndpointsKept").contains("kubernetes"));
    for low in 20..24 {
        world.set(&format!("s{low}"), low, &[2]).unwrap();
    }
    says(&agent, &["--max-services"]);
    wait::until(PATIENCE, "Events", || !told("NoRoom").is_empty());
    assert!(told("NoRoom").iter().all(|name| name.starts_with('s')), "{:?}", told("NoRoom"));
    assert!(agent.status().unwrap().published.unwrap().events >= 2);
}

#[test]
fn a_host_that_is_no_node_and_an_agent_that_is_told_not_to_write_nothing() {
    let world = World::without_node("publish-nothing");
    world.node("n2", "", &["10.0.0.2"], json!({}));
    world.poison(70_000);
    let mut agent = world.agent().unwrap();
    says(&agent, &["Service default/a"]);
    thread::sleep(QUIET);
    agent.kill().unwrap();
    world.node("n1", "", &["10.0.0.1"], json!({}));
    let agent = world.host.following(&world.kubeconfig, &["--publish=false"]).unwrap();
    says(&agent, &["Service default/a"]);
    thread::sleep(QUIET);
    let asked = world.server.record().requests();
    let others: Vec<_> = asked.iter().filter(|it| it.method != "GET" || it.path.contains("events")).collect();
    assert!(others.is_empty(), "{others:?}");
    assert_eq!(agent.status().unwrap().published, None);
}

/// Where `KUBEBUILDER_ASSETS` names a directory with `etcd` and `kube-apiserver` (docs/testing.md).
#[test]
fn a_real_api_server_takes_what_is_written() {
    let Some(assets) = Real::assets() else {
        println!("not tried with a real API server: KUBEBUILDER_ASSETS is not set");
        return;
    };
    let host = Host::new("publish-real").unwrap();
    let real = Real::start(&assets, &[("root", User::administrator())]).unwrap();
    let kubeconfig = host.socket().with_file_name("kubeconfig");
    std::fs::write(&kubeconfig, real.kubeconfig("root")).unwrap();
    let node = json!({"apiVersion": "v1", "kind": "Node",
        "metadata": {"name": "n1", "annotations": {V4: "10.0.0.300"}},
        "status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.1"}, {"type": "InternalIP", "address": "fd00::1"}]}});
    real.call("root", "POST", "/api/v1/nodes?fieldManager=kubectl-create", Some(&node)).unwrap();
    let mut agent = host.start_following(&kubeconfig, &[]).unwrap();
    agent.wait_ready().unwrap();
    let status = agent.wait_status("an id", |status| status.node_id.is_some()).unwrap();
    println!("id {:?}", status.node_id);
    says(&agent, &["Node n1", V4, "10.0.0.300"]);
    agent
        .wait_status("an Event", |status| status.published.is_some_and(|published| published.events == 1))
        .unwrap();
    let status = agent.status().unwrap();
    assert!(status.notices.iter().all(|notice| !notice.contains("let us")), "{:?}", status.notices);
    // The next one finds everything as it left it.
    let id = status.node_id;
    agent.kill().unwrap();
    let mut agent = host.start_following(&kubeconfig, &[]).unwrap();
    agent.wait_ready().unwrap();
    says(&agent, &["Node n1", V4, "10.0.0.300"]);
    thread::sleep(QUIET);
    let status = agent.status().unwrap();
    assert_eq!((status.node_id, status.published.unwrap().events), (id, 0));
}

/// The same, with deploy/rbac.yaml and deploy/own-node-only.yaml, by a token as a pod on `n1` has it.
#[test]
fn the_documented_rights_are_enough_and_kept_to_the_own_node_by_a_policy() {
    let Some(assets) = Real::assets() else {
        println!("not tried with a real API server: KUBEBUILDER_ASSETS is not set");
        return;
    };
    let host = Host::new("publish-own").unwrap();
    let real = Real::start(&assets, &[("root", User::administrator())]).unwrap();
    let root = |method: &str, path: &str, body: &Value| real.call("root", method, path, Some(body)).unwrap();
    for manifests in [include_str!("../../deploy/rbac.yaml"), include_str!("../../deploy/own-node-only.yaml")]
    {
        for object in serde_saphyr::from_multiple::<Value>(manifests).unwrap() {
            let kind = object["kind"].as_str().unwrap();
            let resource = match kind.strip_suffix('y') {
                Some(stem) => format!("{stem}ies"),
                None => format!("{kind}s"),
            };
            let place = match kind {
                "ServiceAccount" | "Secret" => "/api/v1/namespaces/kube-system".to_owned(),
                _ => format!("/apis/{}", object["apiVersion"].as_str().unwrap()),
            };
            root("POST", &format!("{place}/{}", resource.to_lowercase()), &object);
        }
    }
    for name in ["n1", "n2"] {
        let status = json!({"addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]});
        let metadata = json!({"name": name, "annotations": {"example.com/theirs": "1", V6: "one"}});
        root(
            "POST",
            "/api/v1/nodes",
            &json!({"apiVersion": "v1", "kind": "Node", "metadata": metadata, "status": status}),
        );
    }
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "agent"},
        "spec": {"nodeName": "n1", "serviceAccountName": "balancing-agent", "containers": [{"name": "a", "image": "a"}]}});
    let pod = root("POST", "/api/v1/namespaces/kube-system/pods", &pod);
    let bound = json!({"kind": "Pod", "apiVersion": "v1", "name": "agent", "uid": pod["metadata"]["uid"]});
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"boundObjectRef": bound}});
    let path = "/api/v1/namespaces/kube-system/serviceaccounts/balancing-agent/token";
    let token = root("POST", path, &request)["status"]["token"].as_str().unwrap().to_owned();
    let refused = |node: &str, metadata: Value| {
        let path = format!("/api/v1/nodes/{node}?dryRun=All");
        let outcome = real.call(&token, "PATCH", &path, Some(&json!({"metadata": metadata})));
        outcome.err().map_or(String::new(), |error| error.to_string())
    };
    // A policy is in force a moment after it was made.
    wait::until(PATIENCE, "the policy", || {
        refused("n2", json!({"annotations": {ID: "7"}})).contains("the Node of its own pod only")
    });
    for metadata in [
        json!({"annotations": {"example.com/new": "1"}}),
        json!({"annotations": {"example.com/theirs": null}}),
    ] {
        assert!(refused("n1", metadata).contains("begin with balancing.elf.io/ only"));
    }
    assert!(refused("n1", json!({"labels": {"a": "b"}})).contains("annotations only"));
    assert_eq!(refused("n1", json!({"annotations": {ID: "7"}})), "");
    let kubeconfig = host.socket().with_file_name("kubeconfig");
    std::fs::write(&kubeconfig, real.kubeconfig(&token)).unwrap();
    let mut agent = host.start_following(&kubeconfig, &[]).unwrap();
    agent.wait_ready().unwrap();
    let is_written = |status: &Status| {
        status.node_id.is_some() && status.published.is_some_and(|published| published.events == 1)
    };
    let status = agent.wait_status("an id and an Event", is_written).unwrap();
    assert_eq!(status.notices, Vec::<String>::new());
}
