use std::time::Duration;

use model::{
    AddressBackends, BackendPort, FrontendPort, PodBackends, PolicyFrontend, ProbeAction, Protocol,
    TargetPort,
};
use serde_json::{Value, json};

use super::*;
use crate::convert;

fn read(policy: Value) -> Result<Policy, Invalid> {
    let converted = convert(policy)?;
    let [model::Object::Policy(policy)] = &converted.objects[..] else { panic!("no policy") };
    assert_eq!(converted.notices, []);
    Ok((**policy).clone())
}

fn by_app(app: &str) -> Selector {
    Selector { labels: [("app".to_owned(), app.to_owned())].into(), ..Selector::default() }
}

fn frontend_port(name: &str, port: u16) -> FrontendPort {
    FrontendPort { name: name.into(), protocol: Protocol::Tcp, port }
}

fn backend_port(name: &str, port: u16) -> BackendPort {
    BackendPort { name: name.into(), protocol: Protocol::Tcp, target: TargetPort::Number(port) }
}

/// The examples of spec/policies.md, as they stand.
#[test]
fn policies_of_the_earlier_implementation_mean_what_they_say() {
    let local = read(json!({
        "apiVersion": "balancing.elf.io/v1beta1", "kind": "LocalRedirectPolicy",
        "metadata": {"name": "test-addr", "annotations": {"balancing.elf.io/serviceId": "10091"}},
        "spec": {
            "frontend": {"addressMatcher": {"ip": "169.254.0.90", "toPorts": [
                {"port": "8080", "protocol": "TCP", "name": "p1"}, {"port": "80", "protocol": "TCP", "name": "p2"}]}},
            "backend": {"endpointSelector": {"matchLabels": {"app": "http-redirect"}}, "toPorts": [
                {"port": "80", "protocol": "TCP", "name": "p1"}, {"port": "80", "protocol": "TCP", "name": "p2"}]}},
    }));
    let expected = Policy {
        name: "test-addr".into(),
        uid: String::new(),
        created: None,
        frontend: PolicyFrontend::Address {
            ip: [169, 254, 0, 90].into(),
            ports: vec![frontend_port("p1", 8080), frontend_port("p2", 80)],
        },
        backends: PolicyBackends::Local(PodBackends {
            selector: by_app("http-redirect"),
            ports: vec![backend_port("p1", 80), backend_port("p2", 80)],
        }),
        nodes: None,
        outside: true,
        limit: None,
    };
    assert_eq!(local.as_ref(), Ok(&expected));

    let hosts = read(json!({
        "apiVersion": "balancing.elf.io/v1beta1", "kind": "BalancingPolicy",
        "metadata": {"name": "test-service-hostport"},
        "spec": {
            "frontend": {"serviceMatcher": {"serviceName": "http-server-balancing-hostport-v4", "namespace": "default",
                "toPorts": [{"port": "80", "protocol": "TCP", "name": "p2"}]}},
            "backend": {"serviceEndpoint": {"endpointSelector": {"matchLabels": {"app": "http-redirect"}},
                "redirectMode": "hostPort", "toPorts": [{"port": "20080", "protocol": "TCP", "name": "p2"}]}}},
    }));
    let pods = PodBackends { selector: by_app("http-redirect"), ports: vec![backend_port("p2", 20080)] };
    let of_service = Policy {
        name: "test-service-hostport".into(),
        frontend: PolicyFrontend::Service {
            service: ObjectName::new("default", "http-server-balancing-hostport-v4"),
            ports: vec![frontend_port("p2", 80)],
        },
        backends: PolicyBackends::Pods(pods, model::RedirectMode::HostPort),
        ..expected.clone()
    };
    assert_eq!(hosts, Ok(of_service));

    let addresses = read(json!({
        "apiVersion": "balancing.elf.io/v1beta1", "kind": "BalancingPolicy", "metadata": {"name": "test-addr"},
        "spec": {
            "frontend": {"addressMatcher": {"ip": "169.254.169.254", "toPorts": [
                {"port": "8080", "protocol": "TCP", "name": "p1"}, {"port": "80", "protocol": "TCP", "name": "p2"}]}},
            "backend": {"addressEndpoint": {"addresses": ["192.0.2.11", "192.0.2.12"], "toPorts": [
                {"port": "80", "protocol": "TCP", "name": "p1"}, {"port": "80", "protocol": "TCP", "name": "p2"}]}}},
    }));
    let of_addresses = Policy {
        frontend: PolicyFrontend::Address {
            ip: [169, 254, 169, 254].into(),
            ports: vec![frontend_port("p1", 8080), frontend_port("p2", 80)],
        },
        backends: PolicyBackends::Addresses(AddressBackends {
            addresses: [([192, 0, 2, 11].into(), 1), ([192, 0, 2, 12].into(), 1)].into(),
            ports: vec![backend_port("p1", 80), backend_port("p2", 80)],
            probe: None,
        }),
        ..expected
    };
    assert_eq!(addresses, Ok(of_addresses));
}

fn small(config: Value, selector: Value) -> Value {
    json!({
        "apiVersion": "balancing.elf.io/v1beta1", "kind": "LocalRedirectPolicy",
        "metadata": {"name": "p", "uid": "u", "creationTimestamp": "1970-01-01T00:01:40Z"},
        "spec": {
            "config": config,
            "frontend": {"serviceMatcher": {"serviceName": "web", "namespace": "default"}},
            "backend": {"endpointSelector": selector, "toPorts": [{"port": "http", "protocol": "UDP"}]}},
    })
}

#[test]
fn what_may_be_left_out_has_its_default_and_what_is_given_counts() {
    let plain = read(small(Value::Null, json!({}))).unwrap();
    assert_eq!((plain.outside, plain.limit, &plain.nodes), (true, None, &None));
    assert_eq!((plain.uid.as_str(), plain.created), ("u", Some(100)));
    let pods = plain.pods().unwrap();
    assert_eq!(pods.selector, Selector::default(), "all pods");
    let port =
        BackendPort { name: "".into(), protocol: Protocol::Udp, target: TargetPort::Name("http".into()) };
    assert_eq!(pods.ports, [port]);

    let config =
        json!({"enableOutCluster": false, "qosLimit": 7, "nodeLabelSelector": {"matchLabels": {"app": "x"}}});
    let expressions = json!({"matchExpressions": [
        {"key": "a", "operator": "In", "values": ["1", "2"]}, {"key": "b", "operator": "NotIn", "values": ["3"]},
        {"key": "c", "operator": "Exists"}, {"key": "d", "operator": "DoesNotExist"}]});
    let full = read(small(config, expressions)).unwrap();
    assert_eq!((full.outside, full.limit, full.nodes.clone()), (false, Some(7), Some(by_app("x"))));
    let all = |values: &[&str]| values.iter().map(|it| (*it).to_owned()).collect();
    let expected = [
        ("a", Operator::In(all(&["1", "2"]))),
        ("b", Operator::NotIn(all(&["3"]))),
        ("c", Operator::Exists),
        ("d", Operator::DoesNotExist),
    ];
    let expected = expected.map(|(key, operator)| Expression { key: key.into(), operator });
    assert_eq!(full.pods().unwrap().selector.expressions, expected);
}

fn addressed(endpoint: Value) -> Result<AddressBackends, Invalid> {
    let policy = read(json!({
        "apiVersion": "balancing.elf.io/v1beta1", "kind": "BalancingPolicy", "metadata": {"name": "p"},
        "spec": {
            "frontend": {"addressMatcher": {"ip": "169.254.169.254", "toPorts": endpoint["toPorts"]}},
            "backend": {"addressEndpoint": endpoint}},
    }))?;
    let PolicyBackends::Addresses(addresses) = policy.backends else { panic!("no addresses") };
    Ok(addresses)
}

fn probe(action: model::ProbeAction, port: u16) -> model::Probe {
    let (interval, timeout) = (Duration::from_secs(10), Duration::from_secs(1));
    model::Probe { action, port, interval, timeout, healthy: 1, unhealthy: 3, use_all: true }
}

#[test]
fn weights_are_in_the_order_of_the_addresses() {
    let ports = json!([{"port": "80", "protocol": "TCP"}]);
    let endpoint = json!({"addresses": ["192.0.2.12", "2001:db8::1", "192.0.2.11"], "weights": [3, 2, 1], "toPorts": ports});
    let weights =
        addressed(endpoint).unwrap().addresses.into_iter().map(|(ip, weight)| format!("{ip} {weight}"));
    assert_eq!(weights.collect::<Vec<_>>(), ["192.0.2.11 1", "192.0.2.12 3", "2001:db8::1 2"]);
}

#[test]
fn a_health_check_has_its_defaults_and_asks_the_first_port_of_tcp() {
    let ports = json!([{"port": "53", "protocol": "UDP", "name": "u"}, {"port": "54", "protocol": "TCP", "name": "t"},
        {"port": "55", "protocol": "TCP", "name": "v"}]);
    let asked = |check: Value| {
        let addresses = json!(["192.0.2.11", "192.0.2.12"]);
        addressed(json!({"addresses": addresses, "toPorts": ports, "healthCheck": check}))
            .unwrap()
            .probe
            .unwrap()
    };
    assert_eq!(asked(json!({"protocol": "tcp"})), probe(ProbeAction::Tcp, 54));
    assert_eq!(asked(json!({"protocol": "http"})), probe(ProbeAction::Http("/".into()), 54));
    let full = json!({"protocol": "http", "port": 8080, "path": "/healthz?full=1", "intervalSeconds": 30, "timeoutSeconds": 7,
        "healthyThreshold": 2, "unhealthyThreshold": 5, "whenAllUnhealthy": "Refuse"});
    let expected = model::Probe {
        interval: Duration::from_secs(30),
        timeout: Duration::from_secs(7),
        healthy: 2,
        unhealthy: 5,
        use_all: false,
        ..probe(ProbeAction::Http("/healthz?full=1".into()), 8080)
    };
    assert_eq!(asked(full), expected);
}

#[test]
fn a_health_check_without_a_port_to_ask_is_none() {
    let ports = json!([{"port": "53", "protocol": "UDP"}]);
    let endpoint =
        |check: Value| json!({"addresses": ["192.0.2.11"], "toPorts": ports, "healthCheck": check});
    let invalid = addressed(endpoint(json!({"protocol": "tcp"}))).unwrap_err();
    assert_eq!(invalid.field, "spec.backend.addressEndpoint");
    assert!(invalid.problem.contains("needs a port"), "{invalid}");
    let probe = addressed(endpoint(json!({"protocol": "tcp", "port": 8080}))).unwrap().probe.unwrap();
    assert_eq!(probe.port, 8080);
}

/// In standalone mode there is no API server that would refuse it.
#[test]
fn what_the_rules_refuse_is_not_read_from_a_manifest() {
    let mut policy = small(Value::Null, json!({}));
    policy["spec"]["frontend"]["serviceMatcher"]["toPorts"] =
        json!([{"port": "1", "protocol": "UDP", "name": "a"}, {"port": "2", "protocol": "UDP", "name": "b"}]);
    let error = read(policy).unwrap_err();
    assert_eq!((error.object.as_str(), error.field.as_str()), ("LocalRedirectPolicy p", "spec"));
    assert!(error.problem.contains("same name and protocol"), "{error}");
}
