mod check;

use serde_json::{Value, json};

use super::*;
use check::check;

/// What is said of a policy; empty: it is right.
fn said(policy: &Value) -> Vec<String> {
    check(policy.clone()).into_iter().map(|it| it.to_string()).collect()
}

fn local(frontend: &Value, ports: &Value) -> Value {
    json!({
        "apiVersion": "balancing.elf.io/v1beta1", "kind": "LocalRedirectPolicy", "metadata": {"name": "p"},
        "spec": {
            "frontend": frontend,
            "backend": {"endpointSelector": {"matchLabels": {"app": "x"}}, "toPorts": ports},
        },
    })
}

fn balancing(frontend: &Value, backend: &Value) -> Value {
    json!({
        "apiVersion": "balancing.elf.io/v1beta1", "kind": "BalancingPolicy", "metadata": {"name": "p"},
        "spec": {"frontend": frontend, "backend": backend},
    })
}

fn address(ports: &Value) -> Value {
    json!({"addressMatcher": {"ip": "169.254.0.90", "toPorts": ports}})
}

fn service(ports: &Value) -> Value {
    json!({"serviceMatcher": {"serviceName": "web", "namespace": "default", "toPorts": ports}})
}

fn addresses(addresses: &[&str], ports: &Value) -> Value {
    json!({"addressEndpoint": {"addresses": addresses, "toPorts": ports}})
}

fn pods(mode: &str, ports: &Value) -> Value {
    let selector = json!({"matchLabels": {"app": "x"}});
    json!({"serviceEndpoint": {"endpointSelector": selector, "redirectMode": mode, "toPorts": ports}})
}

/// `n80` = number 80 of TCP without a name, `u53/dns` = 53 of UDP with one.
fn ports(texts: &[&str]) -> Value {
    let port = |text: &&str| {
        let (number, name) =
            text.split_once('/').map_or((*text, None), |(number, name)| (number, Some(name)));
        let (protocol, port) = number.split_at(1);
        let mut port = json!({"port": port, "protocol": if protocol == "u" { "UDP" } else { "TCP" }});
        if let Some(name) = name {
            port["name"] = name.into();
        }
        port
    };
    texts.iter().map(port).collect()
}

#[test]
fn policies_of_the_earlier_implementation_are_right() {
    for text in [
        r#"{"apiVersion": "balancing.elf.io/v1beta1", "kind": "LocalRedirectPolicy",
            "metadata": {"name": "test-addr", "annotations": {"balancing.elf.io/serviceId": "10091"}},
            "spec": {"frontend": {"addressMatcher": {"ip": "169.254.0.90", "toPorts": [
                {"port": "8080", "protocol": "TCP", "name": "p1"}, {"port": "80", "protocol": "TCP", "name": "p2"}]}},
              "backend": {"endpointSelector": {"matchLabels": {"app": "http-redirect"}}, "toPorts": [
                {"port": "80", "protocol": "TCP", "name": "p1"}, {"port": "80", "protocol": "TCP", "name": "p2"}]}}}"#,
        r#"{"apiVersion": "balancing.elf.io/v1beta1", "kind": "BalancingPolicy",
            "metadata": {"name": "test-service-hostport"},
            "spec": {"frontend": {"serviceMatcher": {"serviceName": "http-server-balancing-hostport-v4",
                "namespace": "default", "toPorts": [{"port": "80", "protocol": "TCP", "name": "p2"}]}},
              "backend": {"serviceEndpoint": {"endpointSelector": {"matchLabels": {"app": "http-redirect"}},
                "redirectMode": "hostPort", "toPorts": [{"port": "20080", "protocol": "TCP", "name": "p2"}]}}}}"#,
        r#"{"apiVersion": "balancing.elf.io/v1beta1", "kind": "BalancingPolicy", "metadata": {"name": "test-addr"},
            "spec": {"frontend": {"addressMatcher": {"ip": "169.254.169.254", "toPorts": [
                {"port": "8080", "protocol": "TCP", "name": "p1"}, {"port": "80", "protocol": "TCP", "name": "p2"}]}},
              "backend": {"addressEndpoint": {"addresses": ["192.0.2.11", "192.0.2.12"], "toPorts": [
                {"port": "80", "protocol": "TCP", "name": "p1"}, {"port": "80", "protocol": "TCP", "name": "p2"}]}}}}"#,
    ] {
        assert_eq!(said(&serde_json::from_str(text).unwrap()), Vec::<String>::new());
    }
}

#[test]
fn everything_else_that_is_valid_is_accepted() {
    let one = ports(&["n80"]);
    let mut selecting = local(&address(&one), &one);
    selecting["spec"]["config"] = json!({"nodeLabelSelector": {"matchExpressions": [
        {"key": "a", "operator": "In", "values": ["b"]}, {"key": "c", "operator": "DoesNotExist"}]}});
    for policy in [
        selecting,
        local(&address(&one), &one),
        // One on each side: names need not match.
        local(&address(&ports(&["n65530/a"])), &ports(&["n60999/b"])),
        local(&address(&ports(&["n1"])), &ports(&["n65535/b"])),
        // The same number and name for each protocol.
        local(&service(&ports(&["n53/dns", "u53/dns"])), &ports(&["u5353/dns", "n5353/dns", "n1/more"])),
        // Container ports by name, which may be a number as a name has it.
        local(&service(&one), &ports(&["nhttp"])),
        local(&service(&one), &ports(&["n8-a"])),
        // Several without a name: all go where the one without a name is.
        local(&address(&ports(&["n80", "n81"])), &ports(&["n8080", "n9090/else"])),
        local(
            &json!({"serviceMatcher": {"serviceName": "web", "namespace": "x"}}),
            &ports(&["n1/a", "n2/b"]),
        ),
        balancing(&address(&one), &addresses(&["192.0.2.1", "2001:db8::1"], &one)),
        balancing(&service(&one), &addresses(&["2001:db8::1"], &one)),
        balancing(&service(&one), &pods("nodeProxy", &one)),
        balancing(&service(&one), &pods("podEndpoint", &ports(&["nhttp"]))),
        balancing(&address(&json!([{"port": "80", "protocol": "TCP", "name": ""}])), &pods("hostPort", &one)),
    ] {
        assert_eq!(said(&policy), Vec::<String>::new(), "{policy}");
    }
}

#[test]
fn what_is_wrong_is_named_with_its_field_and_what_would_be_right() {
    let one = ports(&["n80"]);
    let both = json!({"serviceMatcher": service(&one)["serviceMatcher"], "addressMatcher": address(&one)["addressMatcher"]});
    let ip = |ip: &str| json!({"addressMatcher": {"ip": ip, "toPorts": one}});
    let mut backends = addresses(&["192.0.2.1"], &one);
    backends["serviceEndpoint"] = pods("podEndpoint", &one)["serviceEndpoint"].clone();
    let number = "from 1 to 65535";
    let match_ = "same name and protocol";
    let cases: [(Value, &str, &str); 27] = [
        (local(&json!({}), &one), "spec.frontend", "exactly one of serviceMatcher and addressMatcher"),
        (local(&both, &one), "spec.frontend", "exactly one of serviceMatcher and addressMatcher"),
        (balancing(&address(&one), &json!({})), "spec.backend", "exactly one of serviceEndpoint"),
        (balancing(&address(&one), &backends), "spec.backend", "exactly one of serviceEndpoint"),
        (local(&address(&ports(&["n0"])), &one), "spec.frontend.addressMatcher.toPorts[0].port", number),
        (local(&address(&ports(&["n65536"])), &one), "spec.frontend.addressMatcher.toPorts[0].port", number),
        (local(&address(&ports(&["nhttp"])), &one), "spec.frontend.addressMatcher.toPorts[0].port", number),
        (local(&address(&one), &ports(&["n0"])), "spec.backend.toPorts[0].port", number),
        (local(&address(&one), &ports(&["n70000"])), "spec.backend.toPorts[0].port", number),
        (local(&address(&one), &ports(&["n-1"])), "spec.backend.toPorts[0].port", number),
        (local(&ip("10.0.0.256"), &one), "spec.frontend.addressMatcher.ip", "IPv4 or IPv6"),
        (local(&ip("web.example"), &one), "spec.frontend.addressMatcher.ip", "IPv4 or IPv6"),
        (
            local(
                &json!({"addressMatcher": {"ip": "10.0.0.1", "toPorts": [{"port": "80", "protocol": "SCTP"}]}}),
                &one,
            ),
            "spec.frontend.addressMatcher.toPorts[0].protocol",
            "TCP",
        ),
        (
            local(
                &json!({"addressMatcher": {"ip": "10.0.0.1", "toPorts": [{"port": 80, "protocol": "TCP"}]}}),
                &one,
            ),
            "spec.frontend.addressMatcher.toPorts[0].port",
            "string",
        ),
        (
            local(&address(&ports(&["n80/a", "n80/b"])), &ports(&["n1/a", "n2/b"])),
            "spec.frontend.addressMatcher.toPorts",
            "each port and protocol once",
        ),
        (
            local(&address(&ports(&["n80/a", "n81/a"])), &ports(&["n1/a"])),
            "spec.frontend.addressMatcher.toPorts",
            "each name once",
        ),
        (
            local(&address(&ports(&["n80/a"])), &ports(&["n1/a", "n2/a"])),
            "spec.backend.toPorts",
            "each name once",
        ),
        (local(&address(&one), &ports(&["n1", "n2"])), "spec.backend.toPorts", "one without a name"),
        (local(&address(&ports(&["n80/a", "n81/b"])), &ports(&["n1/a", "n2/c"])), "spec", match_),
        (local(&service(&ports(&["n80/a"])), &ports(&["u1/a"])), "spec", match_),
        (local(&service(&ports(&["n80/a", "n81/b"])), &ports(&["n1/a"])), "spec", match_),
        (
            balancing(&address(&ports(&["n80/a", "n81/b"])), &addresses(&["192.0.2.1"], &ports(&["n1/a"]))),
            "spec",
            match_,
        ),
        (balancing(&address(&one), &addresses(&["2001:db8::1"], &one)), "spec", "family"),
        (
            balancing(&address(&one), &addresses(&["192.0.2.1", "x.example"], &one)),
            "spec.backend.addressEndpoint.addresses",
            "IPv4 or IPv6",
        ),
        (
            balancing(&address(&one), &addresses(&["192.0.2.1", "192.0.2.1"], &one)),
            "spec.backend.addressEndpoint.addresses",
            "each address once",
        ),
        (
            balancing(&address(&one), &pods("hostPort", &ports(&["nhttp"]))),
            "spec.backend.serviceEndpoint",
            "give numbers",
        ),
        (
            balancing(&address(&one), &pods("somewhere", &one)),
            "spec.backend.serviceEndpoint.redirectMode",
            "podEndpoint",
        ),
    ];
    for (policy, field, words) in cases {
        let said = said(&policy);
        let kind = policy["kind"].as_str().unwrap();
        let begin = format!("{kind} p: {field}: ");
        assert!(
            said.iter().any(|it| it.starts_with(&begin) && it.contains(words)),
            "{begin}{words}: {said:#?}"
        );
    }
}

/// A policy whose addresses, two of them, have these fields as well.
fn with_addresses(more: &Value, targets: &[&str]) -> Value {
    let mut backend = addresses(&["192.0.2.1", "192.0.2.2"], &ports(targets));
    let fields = backend["addressEndpoint"].as_object_mut().unwrap();
    fields.extend(more.as_object().unwrap().clone());
    balancing(&address(&ports(&[if targets[0].starts_with('u') { "u80" } else { "n80" }])), &backend)
}

#[test]
fn addresses_may_have_weights_and_be_asked() {
    for more in [
        json!({"weights": [1, 100]}),
        json!({"healthCheck": {"protocol": "tcp"}}),
        json!({"healthCheck": {"protocol": "http", "port": 8080, "path": "/healthz?full=1", "intervalSeconds": 300,
            "timeoutSeconds": 300, "healthyThreshold": 2, "unhealthyThreshold": 10, "whenAllUnhealthy": "Refuse"}}),
    ] {
        assert_eq!(said(&with_addresses(&more, &["n80"])), Vec::<String>::new(), "{more}");
    }
    let asked = json!({"healthCheck": {"protocol": "tcp", "port": 53}});
    assert_eq!(said(&with_addresses(&asked, &["u53"])), Vec::<String>::new());
    let backend = "spec.backend.addressEndpoint";
    for (more, field, words) in [
        (json!({"weights": [1]}), "", "as many items as addresses"),
        (
            json!({"healthCheck": {"protocol": "tcp", "timeoutSeconds": 11}}),
            ".healthCheck",
            "not be more than intervalSeconds",
        ),
        (
            json!({"healthCheck": {"protocol": "tcp", "intervalSeconds": 1, "timeoutSeconds": 2}}),
            ".healthCheck",
            "not be more than intervalSeconds",
        ),
        (json!({"healthCheck": {"protocol": "tcp", "path": "/"}}), ".healthCheck", "http only"),
        (json!({"healthCheck": {"protocol": "http", "path": "x"}}), ".healthCheck.path", "begin with /"),
        (json!({"healthCheck": {"protocol": "http", "path": "/a b"}}), ".healthCheck.path", "no spaces"),
        (json!({"healthCheck": {"protocol": "icmp"}}), ".healthCheck.protocol", "tcp"),
    ] {
        let said = said(&with_addresses(&more, &["n80"]));
        let begin = format!("BalancingPolicy p: {backend}{field}: ");
        assert!(
            said.iter().any(|it| it.starts_with(&begin) && it.contains(words)),
            "{begin}{words}: {said:#?}"
        );
    }
    let said = said(&with_addresses(&json!({"healthCheck": {"protocol": "tcp"}}), &["u53"]));
    assert!(said[0].contains("needs a port"), "{said:?}");
}

#[test]
fn a_health_check_says_the_least_there_is_to_say() {
    let check: HealthCheck = serde_json::from_value(json!({"protocol": "http"})).unwrap();
    let expected = HealthCheck {
        protocol: HealthCheckProtocol::Http,
        port: None,
        path: None,
        interval_seconds: 10,
        timeout_seconds: 1,
        healthy_threshold: 1,
        unhealthy_threshold: 3,
        when_all_unhealthy: AllUnhealthy::UseAll,
    };
    assert_eq!(check, expected);
}

#[test]
fn selectors_must_mean_something() {
    let mut policy = local(&address(&ports(&["n80"])), &ports(&["n80"]));
    policy["spec"]["backend"]["endpointSelector"] =
        json!({"matchExpressions": [{"key": "app", "operator": "Is", "values": ["x"]}]});
    let said = said(&policy);
    assert!(said[0].contains("spec.backend.endpointSelector: operators are In"), "{said:?}");
}

#[test]
fn the_definitions_are_what_clusters_know() {
    let names = |crd: &CustomResourceDefinition| {
        let names = &crd.spec.names;
        (
            crd.metadata.name.clone().unwrap(),
            names.kind.clone(),
            names.short_names.clone().unwrap(),
            names.categories.clone().unwrap(),
            crd.spec.scope.clone(),
        )
    };
    let [local, balancing] = crds();
    let expected = |plural: &str, kind: &str, short: &str| {
        (
            format!("{plural}.balancing.elf.io"),
            kind.to_owned(),
            vec![short.to_owned()],
            vec!["elf".to_owned()],
            "Cluster".to_owned(),
        )
    };
    assert_eq!(names(&local), expected("localredirectpolicies", "LocalRedirectPolicy", "lr"));
    assert_eq!(names(&balancing), expected("balancingpolicies", "BalancingPolicy", "bl"));
    for crd in [local, balancing] {
        let version = &crd.spec.versions[0];
        assert_eq!((version.name.as_str(), version.served, version.storage), ("v1beta1", true, true));
        assert!(version.subresources.as_ref().is_some_and(|it| it.status.is_some()));
    }
}
