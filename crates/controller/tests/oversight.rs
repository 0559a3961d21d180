//! Controllers that oversee a cluster: slices and statuses, and who of several writes them.

#![allow(clippy::unwrap_used)]

mod stage;

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use apidouble::{Ending, Fault, Filter, Verb};
use serde_json::json;
use stage::*;

#[test]
fn p10_pods_that_a_policy_selects_are_in_slices_and_its_status_says_so() {
    let cluster = cluster();
    let controller = Controller::start(&cluster);
    cluster.put_all((0..120).map(|number| pod(number, true))).unwrap();
    let uid = cluster.put(policy("web", "169.254.0.90")).unwrap()["metadata"]["uid"].clone();
    until("slices", || endpoints(&cluster, "web").len() == 120);
    let made = slices(&cluster);
    assert_eq!(made.len(), 2);
    for slice in &made {
        let metadata = &slice["metadata"];
        assert_eq!(metadata["namespace"], NAMESPACE);
        assert!(metadata["labels"]["kubernetes.io/service-name"].is_null(), "kube-proxy must not take it");
        assert_eq!(metadata["labels"]["balancing.elf.io/policy-uid"], uid);
        let owner = json!([{"apiVersion": "balancing.elf.io/v1beta1", "kind": "BalancingPolicy", "name": "web",
            "uid": uid, "controller": true}]);
        assert_eq!(metadata["ownerReferences"], owner);
        assert!(metadata["annotations"]["endpoints.kubernetes.io/last-change-trigger-time"].is_string());
        assert_eq!(slice["ports"], json!([{"name": "p", "protocol": "TCP", "port": 8080}]));
        assert_eq!(slice["endpoints"][0]["targetRef"]["namespace"], "shop");
        let node = slice["endpoints"][0]["nodeName"].as_str().unwrap();
        assert_eq!(slice["endpoints"][0]["zone"], format!("zone-{node}"));
    }
    until("a status", || condition(&cluster, "web", "BackendsReady").0 == "True");
    let status = cluster.get("balancingpolicies", None, "web").unwrap()["status"].clone();
    assert_eq!((&status["backends"], &status["readyBackends"]), (&json!(120), &json!(120)));
    assert_eq!((&status["frontend"], &status["mode"]), (&json!("169.254.0.90"), &json!("podEndpoint")));
    assert_eq!(status["observedGeneration"], 1);

    // One pod's change is one slice's.
    let before = versions(&cluster);
    cluster.put(pod(7, false)).unwrap();
    until("the change", || !endpoints(&cluster, "web")["p7"]);
    assert_eq!(versions(&cluster).difference(&before).count(), 1);
    until("its count", || {
        cluster.get("balancingpolicies", None, "web").unwrap()["status"]["readyBackends"] == 119
    });
    cluster.remove("balancingpolicies", None, "web").unwrap();
    until("the end", || slices(&cluster).is_empty());
    controller.stop();
}

#[test]
fn what_is_right_is_left_alone_and_what_somebody_changes_is_put_right() {
    let cluster = cluster();
    cluster.put_all((0..10).map(|number| pod(number, true))).unwrap();
    cluster.put(policy("web", "169.254.0.90")).unwrap();
    let controller = Controller::start(&cluster);
    until("slices", || endpoints(&cluster, "web").len() == 10);
    until("a status", || condition(&cluster, "web", "BackendsReady").0 == "True");
    controller.stop();

    // Nobody there: slices stay as they are.
    let before = versions(&cluster);
    cluster.put(pod(3, false)).unwrap();
    sleep(Duration::from_millis(300));
    assert_eq!(versions(&cluster), before);
    cluster.put(pod(3, true)).unwrap();

    let controller = Controller::start(&cluster);
    until("a leader", || controller.leads());
    sleep(Duration::from_millis(500));
    assert_eq!((versions(&cluster), controller.writes().len()), (before.clone(), 0), "all of it is right");

    let name = before.first().unwrap().0.clone();
    cluster.remove("endpointslices", Some(NAMESPACE), &name).unwrap();
    until("the slice that was deleted", || endpoints(&cluster, "web").len() == 10);
    let mut slice = slices(&cluster).remove(0);
    slice["endpoints"] = json!([]);
    slice["metadata"]["labels"]["kubernetes.io/service-name"] = "web".into();
    cluster.put(slice).unwrap();
    until("the slice that was emptied", || endpoints(&cluster, "web").len() == 10);
    assert!(slices(&cluster)[0]["metadata"]["labels"]["kubernetes.io/service-name"].is_null());
    controller.stop();
}

#[test]
fn p1_the_newer_of_two_policies_is_told_and_takes_over() {
    let cluster = cluster();
    let aged = |name: &str, second: u32| {
        let mut it = policy(name, "169.254.0.90");
        it["metadata"]["creationTimestamp"] = format!("2026-01-01T00:00:{second:02}Z").into();
        it
    };
    let controller = Controller::start(&cluster);
    cluster.put_all([aged("newer", 2), aged("older", 1), pod(1, true)]).unwrap();
    until("the conflict", || condition(&cluster, "newer", "Conflict").0 == "True");
    until("none", || condition(&cluster, "older", "Conflict").0 == "False");
    let event = || {
        let events = cluster.list("events.events.k8s.io").unwrap();
        events.into_iter().filter(|it| it["reason"] == "FrontendTaken").collect::<Vec<_>>()
    };
    until("an Event", || event().len() == 1);
    let told = event().remove(0);
    assert_eq!(told["regarding"]["name"], "newer");
    assert_eq!(told["reportingController"], "balancing.elf.io/controller");
    assert!(told["note"].as_str().unwrap().contains("BalancingPolicy older"), "{told}");
    cluster.remove("balancingpolicies", None, "older").unwrap();
    until("its end", || condition(&cluster, "newer", "Conflict").0 == "False");
    sleep(Duration::from_millis(300));
    assert_eq!(event().len(), 1, "it is told once");
    controller.stop();
}

#[test]
fn a_server_that_fails_delays_and_breaks_nothing() {
    let cluster = cluster();
    cluster.put(policy("web", "169.254.0.90")).unwrap();
    let controller = Controller::start(&cluster);
    until("a leader", || controller.leads());
    let faults = controller.server.faults();
    let writes = |fault: Fault| {
        for verb in [Verb::Create, Verb::Update, Verb::Delete, Verb::Patch] {
            faults.times(3, Filter::verb(verb), fault.clone());
        }
    };
    let mut number = 0;
    for fault in [Fault::InternalError, Fault::Conflict, Fault::Unavailable, Fault::Reset, Fault::Cut(20)] {
        writes(fault.clone());
        number += 1;
        cluster.put(pod(number, true)).unwrap();
        until("a pod", || endpoints(&cluster, "web").len() == number);
        cluster.put(pod(1, false)).unwrap();
        until("a change", || !endpoints(&cluster, "web")["p1"]);
        cluster.put(pod(1, true)).unwrap();
        until("the way back", || endpoints(&cluster, "web")["p1"]);
        faults.clear();
    }
    // What it knows is too old, and everything is listed anew.
    faults.times(6, Filter::verb(Verb::Watch), Fault::Gone);
    controller.server.end_watches(Ending::Reset);
    cluster.remove("pods", Some("shop"), "p1").unwrap();
    until("what is gone", || endpoints(&cluster, "web").len() == number - 1);
    let made = slices(&cluster).len();
    assert_eq!(made, 1, "nothing is made twice");
    controller.stop();
}

/// What becomes of the first of two.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    /// As when it is killed: nobody gives the lease up.
    CutOff,
    /// It can write everything but the lease.
    NoLease,
}

fn one_writes_and_the_other_takes_over(fate: Fate) {
    let cluster = cluster();
    cluster.put(policy("web", "169.254.0.90")).unwrap();
    let first = Controller::start(&cluster);
    until("a leader", || first.leads());
    let second = Controller::start(&cluster);
    let mut number = 0;
    let mut more = |lasts: Duration| {
        let end = Instant::now() + lasts;
        while Instant::now() < end {
            number += 1;
            // Each lap changes what the one before has said.
            cluster.put(pod(number % 300, !(number + number / 300).is_multiple_of(3))).unwrap();
            sleep(Duration::from_millis(10));
        }
    };
    more(Duration::from_secs(1));
    assert!(second.writes().is_empty(), "it only looks on");
    let cut = Instant::now();
    match fate {
        Fate::CutOff => first.server.close(Ending::Reset).unwrap(),
        Fate::NoLease => drop(first.server.faults().on(Filter::resource("leases"), Fault::InternalError)),
    }
    while !second.leads() {
        more(Duration::from_millis(50));
        assert!(cut.elapsed() < PATIENCE);
    }
    let took = cut.elapsed();
    assert!(took < TIMES.lasts + Duration::from_secs(4), "{took:?}");
    until("it to know", || !first.leads());
    more(Duration::from_millis(500));
    // It comes back, and only looks on.
    match fate {
        Fate::CutOff => first.server.open().unwrap(),
        Fate::NoLease => first.server.faults().clear(),
    }
    more(Duration::from_secs(2));
    let (of_first, of_second) = (first.writes(), second.writes());
    assert!(of_first.len() > 1 && of_second.len() > 1, "{} and {}", of_first.len(), of_second.len());
    assert!(of_first.iter().max() < of_second.iter().min(), "they take turns");
    until("all of it", || {
        let pods = cluster.list("pods").unwrap();
        let ready = pods.iter().filter(|it| it["status"]["conditions"][0]["status"] == "True").count();
        let there = endpoints(&cluster, "web");
        there.len() == pods.len() && there.values().filter(|ready| **ready).count() == ready
    });
    // Who ends well leaves it to the other at once.
    let begun = Instant::now();
    second.stop();
    until("the other", || first.leads());
    assert!(begun.elapsed() < TIMES.lasts, "{:?}", begun.elapsed());
    first.stop();
}

#[test]
fn of_two_controllers_one_writes_and_the_other_takes_over_when_it_is_cut_off() {
    one_writes_and_the_other_takes_over(Fate::CutOff);
}

#[test]
fn who_can_not_renew_the_lease_stops_writing_before_another_begins() {
    one_writes_and_the_other_takes_over(Fate::NoLease);
}

#[test]
fn a_pod_that_flaps_is_not_worth_a_status_each_time() {
    let cluster = cluster();
    let controller = Controller::start(&cluster);
    cluster.put_all([policy("web", "169.254.0.90"), pod(1, true), pod(2, true)]).unwrap();
    until("a status", || condition(&cluster, "web", "BackendsReady").0 == "True");
    controller.server.record().clear();
    let begun = Instant::now();
    for number in 0..200 {
        cluster.put(pod(1, number % 2 == 0)).unwrap();
        sleep(Duration::from_millis(10));
    }
    let seconds = begun.elapsed().as_secs_f64();
    let requests = controller.server.record().requests();
    let statuses = requests.iter().filter(|it| it.path.ends_with("/status")).count();
    let slices = requests.iter().filter(|it| it.is(Verb::Update, "endpointslices")).count();
    // None, if it happens to be ready whenever somebody looks.
    assert!(statuses <= seconds as usize + 2, "{statuses} in {seconds} s");
    assert!(slices as f64 <= seconds * 21.0, "{slices} in {seconds} s");
    // What it comes to is told.
    for ready in [1, 2] {
        cluster.put(pod(1, ready == 2)).unwrap();
        until("the count", || {
            let all = cluster.list("balancingpolicies").unwrap();
            all.iter().any(|policy| policy["status"]["readyBackends"] == ready)
        });
    }
    controller.stop();
}
