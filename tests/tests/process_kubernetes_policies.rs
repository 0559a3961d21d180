//! Policies of a cluster, as an agent has them that follows it.

#![allow(clippy::unwrap_used)]

use apidouble::{Ending, Fault, Filter};
use balancing_tests::{
    chart::definitions,
    process::{PATIENCE, cluster::World, controller::Controller, traffic::Traffic},
};
use serde_json::{Value, json};
use testkit::wait;

/// Of the service `a`, whose own backend is 1.
fn policy(kind: &str, backend: Value) -> Value {
    json!({
        "apiVersion": "balancing.elf.io/v1beta1", "kind": kind, "metadata": {"name": "p"},
        "spec": {"frontend": {"serviceMatcher": {"namespace": "default", "serviceName": "a"}}, "backend": backend},
    })
}

/// As `web` has them.
fn ports() -> Value {
    json!([{"port": "8080", "protocol": "TCP", "name": "http"}, {"port": "5353", "protocol": "UDP", "name": "dns"}])
}

fn addresses(backends: &[u8]) -> Value {
    let addresses = backends.iter().flat_map(|low| [format!("10.1.0.{low}"), format!("fd00:1::{low}")]);
    let addresses: Vec<String> = addresses.collect();
    policy("BalancingPolicy", json!({"addressEndpoint": {"addresses": addresses, "toPorts": ports()}}))
}

fn local() -> Value {
    let pods = json!({"endpointSelector": {"matchLabels": {"app": "near"}}, "toPorts": ports()});
    policy("LocalRedirectPolicy", pods)
}

fn pod(ready: bool) -> Value {
    let ready = if ready { "True" } else { "False" };
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "near", "labels": {"app": "near"}},
        "spec": {"nodeName": "n1", "containers": []},
        "status": {
            "phase": "Running", "conditions": [{"type": "Ready", "status": ready}],
            "podIPs": [{"ip": "10.1.0.2"}, {"ip": "fd00:1::2"}],
        },
    })
}

#[test]
fn p1_p5_p9_policies_come_change_and_go_as_the_cluster_says() {
    let world = World::new("policies").unwrap();
    let agent = world.agent().unwrap();
    let traffic = Traffic::with(&world.host, &[(11, &[2])], &[(10, &[1, 2, 3])]).unwrap();
    let reaches = |backend: u8| {
        wait::until(PATIENCE, &format!("backend {backend}"), || world.answers(10, backend));
    };
    reaches(1);
    world.cluster.put(addresses(&[3])).unwrap();
    reaches(3);
    world.cluster.put_all([local(), pod(true)]).unwrap();
    reaches(2);
    world.cluster.put(pod(false)).unwrap();
    reaches(3);
    world.cluster.put(addresses(&[1])).unwrap();
    reaches(1);
    world.cluster.put(pod(true)).unwrap();
    reaches(2);
    world.cluster.remove("localredirectpolicies", None, "p").unwrap();
    reaches(1);
    world.cluster.put(addresses(&[3])).unwrap();
    reaches(3);
    world.cluster.remove("balancingpolicies", None, "p").unwrap();
    reaches(1);
    traffic.end();
    let status = agent.status().unwrap();
    assert!(status.problems.is_empty(), "{:?}", status.problems);
}

#[test]
fn p9_whatever_a_server_does_wrong_policies_stay_as_they_are() {
    let world = World::new("policies-faults").unwrap();
    world.cluster.put(addresses(&[3])).unwrap();
    let mut agent = world.agent().unwrap();
    wait::until(PATIENCE, "a policy", || world.answers(10, 3));
    // Nobody else may answer, not once.
    let traffic = Traffic::with(&world.host, &[(10, &[3])], &[(11, &[1, 2])]).unwrap();
    // The last one is not asked again soon.
    for fault in [Fault::NotFound, Fault::InternalError, Fault::Gone, Fault::Garbage, Fault::Forbidden] {
        let what = format!("{fault:?}");
        let id = world.server.faults().on(Filter::resource("balancingpolicies"), fault);
        world.server.end_watches(Ending::Reset);
        wait::until(PATIENCE, &what, || world.server.faults().hits(id) > 0);
        traffic.has_not_failed(&what);
        world.server.faults().clear();
    }
    // An agent that begins anew, of all that can go wrong.
    for fault in [None, Some(Fault::InternalError)] {
        agent.kill().unwrap();
        if let Some(fault) = &fault {
            world.server.faults().on(Filter::resource("balancingpolicies"), fault.clone());
        }
        agent = world.host.start_following(&world.kubeconfig, &[]).unwrap();
        if fault.is_some() {
            let is_told = |problem: &String| problem.contains("500") && problem.contains("stays in force");
            agent.wait_status("what is wrong", |status| status.problems.iter().any(is_told)).unwrap();
            // It waits for 10 s. Then everything else is in force, and what policies were is left alone.
            agent.wait_status("all else", |status| status.sources[0].synced).unwrap();
            world.set("b", 11, &[2, 1]).unwrap();
            wait::until(PATIENCE, "another endpoint", || world.answers(11, 1));
            world.set("b", 11, &[2]).unwrap();
            traffic.goes_on();
            world.server.faults().clear();
        }
        agent.wait_ready().unwrap();
        traffic.has_not_failed(&format!("a start, {fault:?}: {}", agent.log()));
    }
    traffic.end();
}

#[test]
fn policies_go_with_their_definitions_and_come_back_with_an_agent() {
    let world = World::new("policies-undefined").unwrap();
    world.cluster.put(addresses(&[3])).unwrap();
    let mut agent = world.agent().unwrap();
    wait::until(PATIENCE, "a policy", || world.answers(10, 3));
    let traffic = Traffic::with(&world.host, &[(11, &[2])], &[(10, &[1, 3])]).unwrap();
    world.cluster.remove("customresourcedefinitions", None, "balancingpolicies.balancing.elf.io").unwrap();
    wait::until(PATIENCE, "the service itself", || world.answers(10, 1));
    agent.wait_status("no problems", |status| status.problems.is_empty()).unwrap();
    world.cluster.put_all(definitions().unwrap()).unwrap();
    world.cluster.put(addresses(&[3])).unwrap();
    // It would look within a minute.
    agent.kill().unwrap();
    let _agent = world.agent().unwrap();
    wait::until(PATIENCE, "the policy", || world.answers(10, 3));
    traffic.end();
}

/// A controller and an agent, both real: pods of other nodes come by the controller's slices. Who loses the controller keeps
/// policies as they are, and can delete them.
#[test]
fn p8_p10_pods_of_other_nodes_come_by_slices_and_stay_when_the_controller_is_gone() {
    let world = World::new("overseen").unwrap();
    let agent = world.agent().unwrap();
    let controller = Controller::start(&world.kubeconfig).unwrap();
    let traffic = Traffic::with(&world.host, &[(11, &[2])], &[(10, &[1, 3])]).unwrap();
    let reaches = |backend: u8| {
        wait::until(PATIENCE, &format!("backend {backend}"), || world.answers(10, backend));
    };
    let far = |ready: bool| {
        let mut pod = pod(ready);
        pod["metadata"] = json!({"name": "far", "labels": {"app": "far"}});
        pod["spec"]["nodeName"] = "n2".into();
        pod["status"]["podIPs"] = json!([{"ip": "10.1.0.3"}, {"ip": "fd00:1::3"}]);
        pod
    };
    let selector = json!({"endpointSelector": {"matchLabels": {"app": "far"}}, "toPorts": ports()});
    world.cluster.put(policy("BalancingPolicy", json!({"serviceEndpoint": selector}))).unwrap();
    world.cluster.put(far(true)).unwrap();
    reaches(3);
    world.cluster.put(far(false)).unwrap();
    reaches(1);
    world.cluster.put(far(true)).unwrap();
    reaches(3);
    let status = || {
        let all = world.cluster.list("balancingpolicies").unwrap();
        all.first().map(|policy| policy["status"]["readyBackends"].clone())
    };
    wait::until_equal(PATIENCE, &Some(json!(1)), status);

    // Nobody tells of the pod any more.
    drop(controller);
    world.cluster.put(far(false)).unwrap();
    for _ in 0..10 {
        assert!(world.answers(10, 3), "{}", agent.log());
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    // The next one does.
    let controller = Controller::start(&world.kubeconfig).unwrap();
    wait::until(PATIENCE * 3, "another controller", || world.answers(10, 1));
    drop(controller);
    world.cluster.put(addresses(&[3])).unwrap();
    reaches(3);
    world.cluster.remove("balancingpolicies", None, "p").unwrap();
    reaches(1);
    traffic.end();
}
