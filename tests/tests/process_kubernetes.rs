//! An agent that follows a cluster's API server, and everything that such a server does wrong: connections go on, and what
//! was missed is right within 2 s of its return.

#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeSet,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use agent::Status;
use apidouble::{Access, Cluster, Ending, Fault, Filter, Login, Real, Server, User, Verb};
use balancing_tests::process::{
    Agent, Answer, Host, PATIENCE,
    cluster::{World, put},
    web,
};
use serde_json::json;
use testkit::wait;

/// Within this everything is right after a server's return.
const RETURN: Duration = Duration::from_secs(2);

#[test]
fn r1_r6_p10_services_come_change_and_go_as_the_cluster_says() {
    let world = World::new("kubernetes").unwrap();
    let agent = world.agent().unwrap();
    let status = agent.status().unwrap();
    assert!(status.problems.is_empty(), "{:?}", status.problems);
    assert!(status.sources[0].name.contains(&world.server.url()), "{:?}", status.sources);
    assert!(world.answers(10, 1) && world.answers(11, 2));
    world.set("c", 12, &[3]).unwrap();
    wait::until(PATIENCE, "a new service", || world.answers(12, 3));
    world.set("c", 12, &[1]).unwrap();
    wait::until(PATIENCE, "other endpoints", || world.answers(12, 1));
    world.remove("c").unwrap();
    wait::until(PATIENCE, "the end of it", || world.is_refused(12));
    // Only pods of this node are asked for, and nothing twice.
    let requests: Vec<_> =
        world.server.record().requests().into_iter().filter(|it| it.method == "GET").collect();
    let watches = requests.iter().filter(|it| it.query.contains("watch=")).count();
    assert_eq!((watches, requests.len()), (8, 8), "{requests:?}");
}

#[test]
fn r27_whatever_a_server_does_wrong_connections_go_on_and_what_was_missed_is_right_2_s_after() {
    let world = World::new("kubernetes-faults").unwrap();
    let agent = world.agent().unwrap();
    let traffic = world.traffic().unwrap();
    let all = Filter::everything;
    type Trouble<'a> = (&'a str, &'a dyn Fn(&World), &'a dyn Fn(&World));
    let faulty = |world: &World, fault: Fault| {
        world.server.faults().on(all(), fault);
        world.server.end_watches(Ending::Reset);
    };
    let over: &dyn Fn(&World) = &|world| world.server.faults().clear();
    let troubles: [Trouble<'_>; 11] = [
        ("watches end", &|world| world.server.end_watches(Ending::Clean), &|_| {}),
        ("watches break", &|world| world.server.end_watches(Ending::Reset), &|_| {}),
        ("absence", &|world| world.server.close(Ending::Reset).unwrap(), &|world| {
            world.server.open().unwrap()
        }),
        (
            "absence, and no way to go on from before",
            &|world| world.server.close(Ending::Clean).unwrap(),
            &|world| {
                world.cluster.compact();
                world.server.open().unwrap();
            },
        ),
        ("410", &|world| faulty(world, Fault::Gone), over),
        ("429", &|world| faulty(world, Fault::TooManyRequests(1)), over),
        ("500", &|world| faulty(world, Fault::InternalError), over),
        ("503", &|world| faulty(world, Fault::Unavailable), over),
        ("answers that break off", &|world| faulty(world, Fault::Cut(700)), over),
        (
            "lists that come in small pieces",
            &|world| {
                world.cluster.compact();
                faulty(world, Fault::Slow(200, Duration::from_millis(5)));
            },
            over,
        ),
        ("answers that are late", &|world| faulty(world, Fault::Late(Duration::from_millis(300))), over),
    ];
    for (number, (what, begin, end)) in troubles.into_iter().enumerate() {
        let low = 100 + number as u8;
        world.set("gone", 50, &[3]).unwrap();
        world.set("changed", 51, &[3]).unwrap();
        wait::until(PATIENCE, "what is to go", || world.answers(50, 3) && world.answers(51, 3));
        begin(&world);
        // While nobody hears of it.
        world.remove("gone").unwrap();
        world.set("changed", 51, &[1]).unwrap();
        world.set(&format!("new{number}"), low, &[2]).unwrap();
        thread::sleep(Duration::from_millis(700));
        traffic.has_not_failed(&format!("{what}: {}", agent.log()));
        end(&world);
        let returned = Instant::now();
        wait::until(PATIENCE, what, || world.is_refused(50) && world.answers(51, 1) && world.answers(low, 2));
        // The machine that runs tests is busy: twice as long is no fault of the agent's.
        assert!(returned.elapsed() < 2 * RETURN, "{what}: {:?}\n{}", returned.elapsed(), agent.log());
    }
    traffic.end();
    let status = agent.wait_status("no problems", |status| status.problems.is_empty()).unwrap();
    assert_eq!(status.audit_differences, 0);
}

#[test]
fn r27_a_server_without_streams_is_listed_in_chunks() {
    let world = World::new("kubernetes-chunks").unwrap();
    world.server.faults().on(Filter::everything(), Fault::NoStreams);
    // More than one chunk holds.
    for number in 0..600 {
        let name = format!("no-{number}");
        let service = json!({"apiVersion": "v1", "kind": "Service", "spec": {"clusterIP": "None"},
            "metadata": {"name": name, "namespace": "default"}});
        world.cluster.put(service).unwrap();
    }
    let agent = world.agent().unwrap();
    let traffic = world.traffic().unwrap();
    assert_eq!(objects(&agent, "services"), 602);
    world.set("c", 12, &[3]).unwrap();
    wait::until(PATIENCE, "what comes after", || world.answers(12, 3));
    // Everything anew, and half way through it the list is no longer to be had.
    world.server.close(Ending::Reset).unwrap();
    world.remove("c").unwrap();
    world.cluster.compact();
    world.server.faults().times(1, Filter::resource("services").and_verb(Verb::List), Fault::Cut(30_000));
    world.server.open().unwrap();
    until(&agent, "what was missed", || world.is_refused(12) && objects(&agent, "services") == 602);
    agent.wait_status("no problems", |status| status.problems.is_empty()).unwrap();
    traffic.end();
}

/// As [`wait::until`]; with the agent's log if it is in vain.
fn until(agent: &Agent, what: &str, condition: impl Fn() -> bool) {
    let outcome = testkit::eventually(PATIENCE, || if condition() { Ok(()) } else { Err(agent.log()) });
    outcome.unwrap_or_else(|log| panic!("waited {PATIENCE:?} in vain for {what}:\n{log}"));
}

fn objects(agent: &Agent, kind: &str) -> usize {
    let status = agent.status().unwrap();
    status.objects.iter().find(|(name, _)| name == kind).unwrap().1
}

#[test]
fn r27_a_server_that_comes_back_older_is_believed() {
    let world = World::new("kubernetes-older").unwrap();
    let agent = world.agent().unwrap();
    world.set("old", 50, &[3]).unwrap();
    wait::until(PATIENCE, "a service", || world.answers(50, 3));
    let backup = world.cluster.snapshot();
    world.remove("old").unwrap();
    world.set("young", 51, &[3]).unwrap();
    wait::until(PATIENCE, "changes", || world.is_refused(50) && world.answers(51, 3));
    let traffic = world.traffic().unwrap();
    world.server.close(Ending::Reset).unwrap();
    world.cluster.restore(&backup);
    thread::sleep(Duration::from_millis(500));
    world.server.open().unwrap();
    until(&agent, "what the backup has", || world.answers(50, 3) && world.is_refused(51));
    world.set("next", 52, &[1]).unwrap();
    wait::until(PATIENCE, "what comes after", || world.answers(52, 1));
    assert!(agent.log().contains("is older than it was"), "{}", agent.log());
    traffic.end();
}

#[test]
fn r27_without_a_server_an_agent_keeps_what_the_one_before_had() {
    let world = World::new("kubernetes-absent").unwrap();
    let mut agent = world.agent().unwrap();
    let traffic = world.traffic().unwrap();
    world.server.close(Ending::Reset).unwrap();
    agent.kill().unwrap();
    let agent = world.host.start_following(&world.kubeconfig, &[]).unwrap();
    let told = |problem: &String| problem.contains(&world.server.url()) && problem.contains("stays in force");
    let status = agent.wait_status("no server", |status| status.problems.iter().any(told)).unwrap();
    assert!(!status.sources[0].synced);
    assert_eq!(world.host.balancing(&["status"]).unwrap().code, Some(1));
    traffic.goes_on();
    world.set("c", 12, &[3]).unwrap();
    world.server.open().unwrap();
    wait::until(PATIENCE, "the server's return", || world.answers(12, 3));
    agent.wait_status("no problems", |status| status.problems.is_empty()).unwrap();
    traffic.end();
}

#[test]
fn r27_an_object_that_nobody_understands_disturbs_no_other() {
    let world = World::new("kubernetes-poison").unwrap();
    let agent = world.agent().unwrap();
    let traffic = world.traffic().unwrap();
    let mut poison = world.cluster.get("services", Some("default"), "a").unwrap();
    poison["spec"]["ports"][0]["port"] = json!(70_000);
    world.cluster.put(poison).unwrap();
    let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "bad", "namespace": "default", "labels": {"kubernetes.io/service-name": "b"}},
        "endpoints": [{"addresses": ["300.1.1.1"]}], "ports": "none"});
    world.cluster.put(slice).unwrap();
    let ports = json!([{"port": "80", "protocol": "TCP"}]);
    let policy = json!({"apiVersion": "balancing.elf.io/v1beta1", "kind": "BalancingPolicy", "metadata": {"name": "bad"},
        "spec": {"frontend": {"addressMatcher": {"ip": "10.0.0.256", "toPorts": ports}},
            "backend": {"addressEndpoint": {"addresses": ["192.0.2.1"], "toPorts": ports}}}});
    world.cluster.put(policy).unwrap();
    world.set("c", 12, &[3]).unwrap();
    wait::until(PATIENCE, "who has nothing to do with it", || world.answers(12, 3));
    let status = agent.wait_status("what is wrong", |status| status.problems.len() == 3).unwrap();
    for words in [
        ["Service default/a", "spec.ports[0].port", "stays in force"],
        ["EndpointSlice default/bad", "ports", ""],
        ["BalancingPolicy bad", "spec.frontend.addressMatcher.ip", "10.0.0.256"],
    ] {
        let is_told = status.problems.iter().any(|problem| words.iter().all(|word| problem.contains(word)));
        assert!(is_told, "{words:?}: {:?}", status.problems);
    }
    world.set("a", 10, &[1]).unwrap();
    world.cluster.remove("endpointslices", Some("default"), "bad").unwrap();
    world.cluster.remove("balancingpolicies", None, "bad").unwrap();
    agent.wait_status("no problems", |status| status.problems.is_empty()).unwrap();
    traffic.end();
}

#[test]
fn a_cluster_without_definitions_of_policies_is_as_well_as_any() {
    let world = World::new("kubernetes-undefined").unwrap();
    for definition in world.cluster.list("customresourcedefinitions").unwrap() {
        let name = definition["metadata"]["name"].as_str().unwrap();
        world.cluster.remove("customresourcedefinitions", None, name).unwrap();
    }
    let agent = world.agent().unwrap();
    let status = agent.status().unwrap();
    assert!(status.problems.is_empty() && status.notices.is_empty(), "{status:?}");
    assert!(world.answers(10, 1) && world.answers(11, 2));
    assert!(!agent.log().contains("policies"), "{}", agent.log());
    // Two that are answered by 404, and what the server's list of groups says about each.
    let asked = world.server.record().requests();
    let asked = asked.iter().filter(|it| it.path.ends_with("policies") || it.path == "/apis").count();
    assert_eq!(asked, 4);
}

#[test]
fn another_server_is_asked_when_one_fails() {
    let world = World::new("kubernetes-two").unwrap();
    let second = Server::tls(&world.cluster).unwrap();
    let urls = [world.server.url(), second.url()];
    let agent = world
        .host
        .following(&world.kubeconfig, &["--api-server", &urls[0], "--api-server", &urls[1]])
        .unwrap();
    assert_eq!((world.server.open_watches(), second.open_watches()), (8, 0));
    let traffic = world.traffic().unwrap();
    world.server.close(Ending::Reset).unwrap();
    world.set("c", 12, &[3]).unwrap();
    let lost = Instant::now();
    wait::until(PATIENCE, "the other server's word", || world.answers(12, 3));
    assert!(lost.elapsed() < 2 * RETURN, "{:?}", lost.elapsed());
    // And back: silent this time, instead of gone.
    world.server.open().unwrap();
    second.close(Ending::Clean).unwrap();
    world.set("c", 12, &[1]).unwrap();
    wait::until(PATIENCE, "the first server's word", || world.answers(12, 1));
    agent.wait_status("no problems", |status| status.problems.is_empty()).unwrap();
    traffic.end();
}

/// Who shows this token is this service account of deploy/rbac.yaml, and has its rights.
fn with_rights(world: &World, account: &str) -> PathBuf {
    put(&world.cluster, include_str!("../../deploy/rbac.yaml")).unwrap();
    world.cluster.accounts().allow_token("secret", User::service_account("kube-system", account));
    world.server.set_access(Access::Rbac);
    world.host.kubeconfig(&world.server, &Login::Token("secret".into())).unwrap()
}

/// Group, resource and verb.
type Rights = BTreeSet<(String, String, String)>;

/// Those that a role gives, and those that were asked for by an agent to which everything happens that may.
fn rights(world: &World, account: &str, arguments: &[&str]) -> (Rights, Rights) {
    let kubeconfig = with_rights(world, account);
    let agent = world.host.following(&kubeconfig, arguments).unwrap();
    assert!(world.answers(10, 1));
    // Lists where it has to begin again, and looks at how new the server is.
    world.server.close(Ending::Reset).unwrap();
    world.cluster.compact();
    world.server.open().unwrap();
    world.set("c", 12, &[3]).unwrap();
    wait::until(PATIENCE, "what comes after", || world.answers(12, 3));
    let mut poison = world.cluster.get("services", Some("default"), "a").unwrap();
    poison["spec"]["ports"][0]["port"] = json!(70_000);
    world.cluster.put(poison).unwrap();
    agent.wait_status("what is wrong", |status| status.problems.len() == 1).unwrap();
    // Time to write what there is to write.
    thread::sleep(RETURN);
    let status = agent.status().unwrap();
    assert!(status.notices.is_empty(), "{:?}", status.notices);
    let role = world.cluster.get("clusterroles", None, account).unwrap();
    let texts = |value: &serde_json::Value| -> Vec<String> {
        value.as_array().unwrap().iter().map(|it| it.as_str().unwrap().to_owned()).collect()
    };
    let mut allowed = Rights::new();
    for rule in role["rules"].as_array().unwrap() {
        for resource in texts(&rule["resources"]) {
            let group = &texts(&rule["apiGroups"])[0];
            allowed.extend(
                texts(&rule["verbs"]).into_iter().map(|verb| (group.clone(), resource.clone(), verb)),
            );
        }
    }
    let asked = world.server.record().permissions().into_iter();
    (allowed, asked.map(|(group, resource, verb)| (group, resource, verb.to_owned())).collect())
}

#[test]
fn the_documented_rights_are_those_that_it_takes_on_a_node() {
    let (mut allowed, asked) = rights(&World::new("kubernetes-rights").unwrap(), "balancing-agent", &[]);
    // How often something was told is written a minute after it was (crates/source/src/publish/ledger.rs).
    assert!(allowed.remove(&("events.k8s.io".into(), "events".into(), "patch".into())));
    assert_eq!(asked, allowed);
}

#[test]
fn and_on_a_host_that_is_none() {
    let world = World::new("kubernetes-host").unwrap();
    let (allowed, asked) = rights(&world, "balancing-host", &["--outside-cluster"]);
    assert_eq!(asked, allowed);
    assert!(allowed.iter().all(|(_, _, verb)| verb == "list" || verb == "watch"), "{allowed:?}");
}

#[test]
fn what_is_not_allowed_is_said_and_what_is_not_vital_is_gone_without() {
    let world = World::new("kubernetes-rbac").unwrap();
    let kubeconfig = with_rights(&world, "balancing-agent");
    let rule = |group: &str, resources: &[&str]| json!({"apiGroups": [group], "resources": resources, "verbs": ["list", "watch"]});
    let role = |rules: &[serde_json::Value]| {
        let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": "balancing-agent"}, "rules": rules});
        world.cluster.put(role).unwrap();
    };
    role(&[rule("", &["services"])]);
    let agent = world.host.start_following(&kubeconfig, &[]).unwrap();
    let told = |resource: &str| {
        let words = format!("does not let us list and watch {resource}");
        let is_told =
            |status: &Status| status.problems.iter().chain(&status.notices).any(|it| it.contains(&words));
        agent.wait_status(&words, is_told).unwrap()
    };
    assert!(!told("endpointslices.discovery.k8s.io").sources[0].synced);
    // All that is vital.
    role(&[rule("", &["services", "nodes"]), rule("discovery.k8s.io", &["endpointslices"])]);
    wait::until(PATIENCE, "services", || world.answers(10, 1) && world.answers(11, 2));
    let status = told("pods");
    // Without these it is as well as it can be, but for policies, of which nobody knows whether there are any.
    assert!(status.sources[0].synced, "{status:?}");
    let status = agent.wait_status("policies", |status| status.problems.len() == 2).unwrap();
    for resource in ["localredirectpolicies", "balancingpolicies"] {
        let words = [&format!("list and watch {resource}.balancing.elf.io"), "ClusterRole", "stays in force"];
        let is_told = |problem: &String| words.iter().all(|word| problem.contains(*word));
        assert!(status.problems.iter().any(is_told), "{words:?}: {:?}", status.problems);
    }
    assert!(!agent.log().contains("secret"));
    // A token that is no longer good.
    world.cluster.accounts().revoke_token("secret");
    world.server.end_watches(Ending::Reset);
    agent
        .wait_status("who we are", |status| status.problems.iter().any(|it| it.contains("does not know us")))
        .unwrap();
    assert!(world.answers(10, 1));
}

#[test]
fn access_that_can_not_be_used_is_one_clear_error() {
    let host = Host::new("kubernetes-access").unwrap();
    let file = host.socket().with_file_name("kubeconfig");
    let agent = |arguments: &[&str]| {
        let program = balancing_tests::process::program();
        Answer::of(&mut host.agent_of("--kubeconfig", &file, &program, arguments)).unwrap()
    };
    agent(&[]).fails(1, &["kubeconfig", file.to_str().unwrap(), "No such file"]);
    std::fs::write(&file, "clusters: 7").unwrap();
    agent(&[]).fails(1, &["kubeconfig", file.to_str().unwrap()]);
    let cluster = Cluster::new();
    host.kubeconfig(&Server::plain(&cluster).unwrap(), &Login::Anonymous).unwrap();
    agent(&["--api-server", "10.0.0.1"]).fails(1, &["--api-server 10.0.0.1", "https://10.0.0.1:6443"]);
    agent(&["--manifests", "/tmp"]).fails(2, &["not both"]);
}

/// A machine that is no node: no pods are asked for, and what nodes serve for the outside is left to them.
#[test]
fn p11_a_host_outside_of_the_cluster_follows_it() {
    let world = World::new("kubernetes-outside").unwrap();
    let asked_for_pods = || world.server.record().requests().iter().any(|it| it.path.contains("/pods"));
    let outside = ["--outside-cluster", "--outside-label", "topology.kubernetes.io/zone=z9"];
    let agent = world.host.following(&world.kubeconfig, &outside).unwrap();
    let status = agent.status().unwrap();
    assert_eq!(status.problems, Vec::<String>::new());
    assert_eq!((status.outside, status.zone.as_deref()), (true, Some("z9")));
    assert!(world.answers(10, 1) && world.answers(11, 2));
    assert!(!asked_for_pods());
    drop(agent);
    // Who forgets to say so is told.
    world.cluster.remove("nodes", None, "n1").unwrap();
    let agent = world.agent().unwrap();
    let problems = agent.status().unwrap().problems;
    assert!(
        problems.iter().any(|it| it.contains("no Node \"n1\"") && it.contains("--outside-cluster")),
        "{problems:?}"
    );
    assert!(asked_for_pods());
    let program = balancing_tests::process::program();
    Answer::of(&mut world.host.agent_of("--kubeconfig", &world.kubeconfig, &program, &outside[1..]))
        .unwrap()
        .fails(2, &["--outside-cluster"]);
}

/// Where `KUBEBUILDER_ASSETS` names a directory with `etcd` and `kube-apiserver` (docs/testing.md).
#[test]
fn r6_the_same_with_a_real_api_server() {
    let Some(assets) = Real::assets() else {
        println!("not tried with a real API server: KUBEBUILDER_ASSETS is not set");
        return;
    };
    let host = Host::new("kubernetes-real").unwrap();
    let _servers = web::serve(&host, &[1, 2, 3]).unwrap();
    let real = Real::start(&assets, &[("root", User::administrator())]).unwrap();
    let kubeconfig = host.socket().with_file_name("kubeconfig");
    std::fs::write(&kubeconfig, real.kubeconfig("root")).unwrap();
    let call = |method: &str, path: &str, body: Option<&serde_json::Value>| {
        real.call("root", method, path, body).unwrap()
    };
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}});
    call("POST", "/api/v1/nodes", Some(&node));
    let mut agent = host.start_following(&kubeconfig, &[]).unwrap();
    agent.wait_ready().unwrap();
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "default"},
        "spec": {"clusterIP": "10.96.0.10", "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}});
    let slice = |backend: u8| {
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": "web", "namespace": "default", "labels": {"kubernetes.io/service-name": "web"}},
            "endpoints": [{"addresses": [format!("10.1.0.{backend}")]}],
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}]})
    };
    let (services, slices) = (
        "/api/v1/namespaces/default/services",
        "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices",
    );
    call("POST", services, Some(&service));
    call("POST", slices, Some(&slice(1)));
    let answers = |backend: &str| web::ask(&host, 10).is_ok_and(|exchange| exchange.backend == backend);
    wait::until(PATIENCE, "a service", || answers("b1"));
    call("PUT", &format!("{slices}/web"), Some(&slice(2)));
    wait::until(PATIENCE, "other endpoints", || answers("b2"));
    call("DELETE", &format!("{services}/web"), None);
    wait::until(PATIENCE, "the end of it", || web::ask(&host, 10).is_err());
    let status = agent.status().unwrap();
    println!("in sync: {:?}, {:?}", status.sources, status.objects);
    assert!(status.problems.is_empty(), "{:?}", status.problems);
}
