//! The definitions of policies, as a real API server takes them: it must let the rules pass, and apply them as we do.

#![allow(clippy::unwrap_used)]

use std::process::Command;

use apidouble::{Real, User};
use balancing_tests::process::{Answer, program};
use serde_json::{Value, json};

/// Policies, and a word of what is wrong with them; none: nothing is.
fn policies() -> Vec<(Value, Option<&'static str>)> {
    let port = |port: &str, name: &str| json!({"port": port, "protocol": "TCP", "name": name});
    let local = |ip: &str, ports: Value, targets: Value| {
        json!({"kind": "LocalRedirectPolicy", "spec": {
            "frontend": {"addressMatcher": {"ip": ip, "toPorts": ports}},
            "backend": {"endpointSelector": {"matchLabels": {"app": "x"}}, "toPorts": targets}}})
    };
    let balancing = |frontend: Value, backend: Value| json!({"kind": "BalancingPolicy", "spec": {"frontend": frontend, "backend": backend}});
    let service = json!({"serviceMatcher": {"serviceName": "web", "namespace": "default"}});
    let addresses = |addresses: &[&str]| json!({"addressEndpoint": {"addresses": addresses, "toPorts": [port("80", "a")]}});
    let asked = |check: Value, weights: [u32; 2]| {
        let mut backend = addresses(&["192.0.2.1", "192.0.2.2"]);
        backend["addressEndpoint"]["healthCheck"] = check;
        backend["addressEndpoint"]["weights"] = json!(weights);
        backend
    };
    let mut selecting = local("fd00::1", json!([port("60999", "a")]), json!([port("http", "b")]));
    selecting["spec"]["backend"]["endpointSelector"] =
        json!({"matchExpressions": [{"key": "a", "operator": "Is"}]});
    vec![
        (
            local(
                "169.254.0.90",
                json!([port("8080", "p1"), port("80", "p2")]),
                json!([port("80", "p1"), port("80", "p2")]),
            ),
            None,
        ),
        (local("fd00::1", json!([port("60999", "a")]), json!([port("http", "b")])), None),
        (balancing(service.clone(), addresses(&["192.0.2.1", "2001:db8::1"])), None),
        (balancing(service.clone(), asked(json!({"protocol": "http", "path": "/healthz"}), [1, 100])), None),
        (
            balancing(service.clone(), asked(json!({"protocol": "tcp", "timeoutSeconds": 11}), [1, 1])),
            Some("not be more than intervalSeconds"),
        ),
        (balancing(service.clone(), asked(json!({"protocol": "tcp", "port": 0}), [1, 1])), Some("port")),
        (balancing(service.clone(), asked(json!({"protocol": "tcp"}), [1, 101])), Some("weights")),
        (local("10.0.0.256", json!([port("80", "a")]), json!([port("80", "a")])), Some("IPv4 or IPv6")),
        (local("10.0.0.1", json!([port("0", "a")]), json!([port("80", "a")])), Some("from 1 to 65535")),
        (
            local("10.0.0.1", json!([port("80", "a"), port("81", "b")]), json!([port("80", "a")])),
            Some("same name and protocol"),
        ),
        (
            local(
                "10.0.0.1",
                json!([port("80", "a"), port("80", "b")]),
                json!([port("1", "a"), port("2", "b")]),
            ),
            Some("each port and protocol once"),
        ),
        (balancing(json!({}), addresses(&["192.0.2.1"])), Some("exactly one of serviceMatcher")),
        (balancing(service, json!({})), Some("exactly one of serviceEndpoint")),
        (selecting, Some("operators are In")),
        // Nothing is written as null, too.
        (
            json!({"kind": "BalancingPolicy", "spec": {
                "config": null, "frontend": {"serviceMatcher": {"serviceName": "web", "namespace": "x", "toPorts": null}},
                "backend": addresses(&["192.0.2.1"])}}),
            None,
        ),
        (
            json!({"kind": "BalancingPolicy", "spec": {
                "frontend": {"serviceMatcher": {"serviceName": "web", "namespace": "x"}, "addressMatcher": null},
                "backend": addresses(&["192.0.2.1"])}}),
            None,
        ),
        (json!({"kind": "BalancingPolicy", "spec": {"frontend": null}}), Some("spec.frontend")),
    ]
}

/// Where `KUBEBUILDER_ASSETS` names a directory with `etcd` and `kube-apiserver` (docs/testing.md).
#[test]
fn a_real_api_server_applies_the_rules_of_the_definitions() {
    let printed = Answer::of(Command::new(program()).args(["crd", "-o", "json"])).unwrap();
    let list: Value = serde_json::from_str(printed.succeeds()).unwrap();
    let crds = list["items"].as_array().unwrap();
    assert_eq!(crds.len(), 2);
    let Some(assets) = Real::assets() else {
        println!("not tried with a real API server: KUBEBUILDER_ASSETS is not set");
        return;
    };
    let real = Real::start(&assets, &[("root", User::administrator())]).unwrap();
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    for crd in crds {
        real.call("root", "POST", definitions, Some(crd)).unwrap();
    }
    for (number, (mut policy, wrong)) in policies().into_iter().enumerate() {
        policy["apiVersion"] = "balancing.elf.io/v1beta1".into();
        policy["metadata"] = json!({"name": format!("p{number}")});
        assert_eq!(api::policy::check(&policy).is_empty(), wrong.is_none(), "{policy}");
        let plural =
            if policy["kind"] == "BalancingPolicy" { "balancingpolicies" } else { "localredirectpolicies" };
        let path = format!("/apis/balancing.elf.io/v1beta1/{plural}");
        // The server takes a moment to know what it was told.
        let known = || real.call("root", "GET", &path, None).is_ok();
        testkit::wait::until(balancing_tests::process::PATIENCE, "the definition", known);
        let answer = real.call("root", "POST", &path, Some(&policy));
        match wrong {
            None => drop(answer.unwrap()),
            Some(word) => {
                let error = format!("{:#}", answer.expect_err(word));
                assert!(error.contains(word), "{error}");
            }
        }
    }
    names_are_short_and_old_ones_may_go(&real, &crds[1]);
}

/// A policy that was there before a rule was is not held by it.
fn names_are_short_and_old_ones_may_go(real: &Real, crd: &Value) {
    let path = "/apis/balancing.elf.io/v1beta1/balancingpolicies";
    let mut policy = policies().remove(2).0;
    policy["apiVersion"] = "balancing.elf.io/v1beta1".into();
    policy["metadata"] = json!({"name": "a".repeat(64), "finalizers": ["example.com/wait"]});
    let error = real.call("root", "POST", path, Some(&policy)).expect_err("64 characters");
    assert!(format!("{error:#}").contains("at most 63 characters"), "{error:#}");

    let definition =
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/balancingpolicies.balancing.elf.io";
    let rules = |rules: &Value| {
        let mut changed = real.call("root", "GET", definition, None).unwrap();
        changed["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["x-kubernetes-validations"] =
            rules.clone();
        real.call("root", "PUT", definition, Some(&changed)).unwrap();
    };
    rules(&Value::Null);
    let created = || real.call("root", "POST", path, Some(&policy)).is_ok();
    testkit::wait::until(balancing_tests::process::PATIENCE, "the definition without rules", created);
    rules(&crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["x-kubernetes-validations"]);
    let mut other = policy.clone();
    other["metadata"]["name"] = "b".repeat(64).into();
    let refused = || real.call("root", "POST", &format!("{path}?dryRun=All"), Some(&other)).is_err();
    testkit::wait::until(balancing_tests::process::PATIENCE, "the definition with rules", refused);

    let path = format!("{path}/{}", "a".repeat(64));
    real.call("root", "DELETE", &path, None).unwrap();
    real.call("root", "PATCH", &path, Some(&json!({"metadata": {"finalizers": null}}))).unwrap();
    real.call("root", "GET", &path, None).expect_err("it is gone");
}
