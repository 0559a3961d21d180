use model::Protocol;
use serde_json::{Value, json};

use super::*;

fn run(fields: Value) -> Result<(Option<EndpointSlice>, Vec<Notice>), Invalid> {
    let mut it = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"name": "web-1"},
        "addressType": "IPv4", "endpoints": [],
    });
    let Value::Object(fields) = fields else { panic!("not an object") };
    it.as_object_mut().unwrap().extend(fields);
    let mut notices = Vec::new();
    let slice = from_slice(&serde_json::from_value(it).unwrap(), &mut notices)?;
    Ok((slice, notices))
}

fn good(fields: Value) -> EndpointSlice {
    run(fields).unwrap().0.unwrap()
}

#[test]
fn r4_conditions_that_are_left_out_mean_ready_and_serving() {
    let it = good(json!({"ports": [{"port": 8080}], "endpoints": [{"addresses": ["10.0.0.1", "10.0.0.2"]}]}));
    let expected = Endpoint {
        address: "10.0.0.1".parse().unwrap(),
        ready: true,
        serving: true,
        terminating: false,
        node: None,
        zone: None,
        zone_hints: vec![],
        node_hints: vec![],
        pod: None,
    };
    assert_eq!(it.endpoints, [expected], "R3: only addresses[0]");
    assert_eq!(it.ports, [SlicePort { name: "".into(), protocol: Protocol::Tcp, port: Some(8080) }]);
    assert_eq!((it.name.to_string().as_str(), it.service, it.headless), ("default/web-1", None, false));
}

#[test]
fn everything_that_is_given_arrives() {
    let it = good(json!({
        "metadata": {"name": "web-1", "namespace": "shop", "labels": {
            "kubernetes.io/service-name": "web", "service.kubernetes.io/headless": ""}},
        "addressType": "IPv6",
        "ports": [{"name": "dns", "protocol": "UDP", "port": 53}, {"name": "none"}, {"name": "zero", "port": 0}],
        "endpoints": [{
            "addresses": ["fd00::1"], "conditions": {"ready": false, "serving": true, "terminating": true},
            "nodeName": "n1", "zone": "z1", "hints": {"forZones": [{"name": "z1"}], "forNodes": [{"name": "n1"}]},
            "targetRef": {"kind": "Pod", "name": "web-abc"},
        }],
    }));
    assert_eq!((it.service.as_deref(), it.headless, it.family), (Some("web"), true, Family::V6));
    let ports: Vec<_> = it.ports.iter().map(|p| (&*p.name, p.protocol, p.port)).collect();
    let tcp = Protocol::Tcp;
    assert_eq!(ports, [("dns", Protocol::Udp, Some(53)), ("none", tcp, None), ("zero", tcp, Some(0))]);
    let endpoint = &it.endpoints[0];
    assert_eq!((endpoint.ready, endpoint.serving, endpoint.terminating), (false, true, true));
    assert_eq!((endpoint.node.as_deref(), endpoint.zone.as_deref()), (Some("n1"), Some("z1")));
    assert_eq!((endpoint.zone_hints.len(), endpoint.node_hints.len()), (1, 1));
    assert_eq!(endpoint.pod, Some(ObjectName::new("shop", "web-abc")));
}

#[test]
fn what_is_set_to_nothing_is_not_set() {
    let it = good(json!({
        "metadata": {"name": "a", "labels": {"kubernetes.io/service-name": ""}},
        "endpoints": [{"addresses": ["10.0.0.1"], "nodeName": "", "zone": "", "hints": {},
            "targetRef": {"kind": "VM", "name": "x"}}],
        "ports": null,
    }));
    assert_eq!((it.service, it.ports.len()), (None, 0));
    let endpoint = &it.endpoints[0];
    assert_eq!((&endpoint.node, &endpoint.zone, &endpoint.pod), (&None, &None, &None));
}

#[test]
fn slices_of_names_and_sctp_ports_are_left_out_with_a_notice() {
    let (slice, notices) =
        run(json!({"addressType": "FQDN", "endpoints": [{"addresses": ["a.b"]}]})).unwrap();
    assert_eq!((slice, notices.len()), (None, 1));
    let (slice, notices) = run(json!({"ports": [{"port": 1, "protocol": "SCTP"}]})).unwrap();
    assert_eq!((slice.unwrap().ports.len(), notices.len()), (0, 1));
}

#[test]
fn what_is_wrong_names_object_field_and_remedy() {
    let table = [
        (json!({"addressType": "ipv4"}), "addressType: \"ipv4\" is not known; use IPv4 or IPv6 or FQDN"),
        (json!({"ports": [{"port": 70000}]}), "ports[0].port: 70000 is not a port; use 1-65535"),
        (
            json!({"ports": [{"port": 1}, {"port": 2}]}),
            "ports[1].name: is the same as that of another port of this slice; make it different",
        ),
        (
            json!({"ports": [{"port": 1, "protocol": "ICMP"}]}),
            "ports[0].protocol: \"ICMP\" is not a protocol; use TCP or UDP",
        ),
        (
            json!({"endpoints": [{"addresses": []}]}),
            "endpoints[0].addresses: is empty; every endpoint needs an address",
        ),
        (
            json!({"endpoints": [{"addresses": ["fd00::1"]}]}),
            "endpoints[0].addresses[0]: fd00::1 is not of the slice's addressType; put it into another slice",
        ),
        (
            json!({"addressType": "IPv6", "endpoints": [{"addresses": ["::ffff:10.0.0.1"]}]}),
            "endpoints[0].addresses[0]: \"::ffff:10.0.0.1\" is an IPv4-mapped IPv6 address; write 10.0.0.1",
        ),
        (
            json!({"endpoints": [{"addresses": ["web.example"]}]}),
            "endpoints[0].addresses[0]: \"web.example\" is not an IP address",
        ),
    ];
    for (fields, expected) in table {
        assert_eq!(run(fields).unwrap_err().to_string(), format!("EndpointSlice default/web-1: {expected}"));
    }
}

#[test]
fn r25_when_it_happened_is_in_an_annotation() {
    let triggered = |time: &str| {
        let name = "endpoints.kubernetes.io/last-change-trigger-time";
        good(json!({"metadata": {"name": "web-1", "annotations": {name: time}}})).triggered
    };
    assert_eq!(good(json!({})).triggered, None);
    assert_eq!(triggered("1970-01-01T00:00:01.000000002Z"), Some(1_000_000_002));
    assert_eq!(triggered("2026-01-01T01:00:00+01:00"), Some(1_767_225_600_000_000_000));
    for bad in ["", "yesterday", "1767225600", "9999-01-01T00:00:00Z"] {
        assert_eq!(triggered(bad), None, "{bad:?}");
    }
}
