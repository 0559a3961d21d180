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
}
