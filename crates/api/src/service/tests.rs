use serde_json::{Value, json};

use super::*;

/// `default/web` with this spec, converted.
fn run(spec: Value) -> Result<(Service, Vec<Notice>), Invalid> {
    run_with(json!({"name": "web"}), spec, Value::Null)
}

fn run_with(metadata: Value, spec: Value, status: Value) -> Result<(Service, Vec<Notice>), Invalid> {
    let it =
        json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec, "status": status});
    let mut notices = Vec::new();
    let service = from_service(&serde_json::from_value(it).unwrap(), &mut notices)?;
    Ok((service, notices))
}

fn good(spec: Value) -> Service {
    run(spec).unwrap().0
}

fn bad(spec: Value) -> String {
    run(spec).unwrap_err().to_string()
}

/// A good spec with some fields replaced.
fn with(fields: Value) -> Value {
    let mut spec = json!({"clusterIP": "10.96.0.1", "ports": [{"port": 80}]});
    let Value::Object(fields) = fields else { panic!("not an object") };
    spec.as_object_mut().unwrap().extend(fields);
    spec
}

fn ips(list: &[&str]) -> Vec<IpAddr> {
    list.iter().map(|ip| ip.parse().unwrap()).collect()
}

#[test]
fn what_is_left_out_gets_the_api_servers_defaults() {
    let expected = Service {
        name: model::ObjectName::new("default", "web"),
        uid: String::new(),
        created: None,
        kind: ServiceType::ClusterIp,
        proxy_name: None,
        cluster_ips: ips(&["10.96.0.1"]),
        external_ips: vec![],
        load_balancer_ips: vec![],
        source_ranges: vec![],
        ports: vec![ServicePort {
            name: "".into(),
            protocol: Protocol::Tcp,
            port: 80,
            node_port: 0,
            target: TargetPort::Number(80),
        }],
        selector: Default::default(),
        internal_policy: TrafficPolicy::Cluster,
        external_policy: TrafficPolicy::Cluster,
        affinity_seconds: None,
        publish_not_ready: false,
        distribution: None,
        health_check_node_port: 0,
    };
    assert_eq!(run(with(json!({}))).unwrap(), (expected, vec![]));
}

#[test]
fn everything_that_is_given_arrives() {
    let metadata = json!({
        "name": "web", "namespace": "shop", "uid": "u1", "creationTimestamp": "1970-01-01T00:01:00Z",
        "labels": {"service.kubernetes.io/service-proxy-name": "x"},
    });
    let spec = json!({
        "type": "LoadBalancer", "clusterIP": "fd00::1", "clusterIPs": ["fd00::1", "10.96.0.1"],
        "ipFamilies": ["IPv6", "IPv4"], "externalIPs": ["192.0.2.1"], "selector": {"app": "web"},
        "ports": [
            {"name": "http", "port": 80, "targetPort": "main", "nodePort": 30080},
            {"name": "dns", "port": 80, "protocol": "UDP", "targetPort": 5353, "nodePort": 30080},
        ],
        "internalTrafficPolicy": "Local", "externalTrafficPolicy": "Local", "healthCheckNodePort": 32000,
        "sessionAffinity": "ClientIP", "publishNotReadyAddresses": true, "trafficDistribution": "PreferSameNode",
    });
    let status = json!({"loadBalancer": {"ingress": [
        {"ip": "198.51.100.1"}, {"ip": "198.51.100.2", "ipMode": "VIP"}, {"ip": "198.51.100.3", "ipMode": "Proxy"},
        {"hostname": "lb.example"},
    ]}});
    let (it, notices) = run_with(metadata, spec, status).unwrap();
    assert_eq!(notices, []);
    assert_eq!((it.name.to_string().as_str(), it.uid.as_str(), it.created), ("shop/web", "u1", Some(60)));
    assert_eq!(it.proxy_name.as_deref(), Some("x"));
    assert_eq!(it.kind, ServiceType::LoadBalancer);
    assert_eq!(it.cluster_ips, ips(&["fd00::1", "10.96.0.1"]));
    assert_eq!(it.external_ips, ips(&["192.0.2.1"]));
    assert_eq!(it.load_balancer_ips, ips(&["198.51.100.1", "198.51.100.2"]), "R2: not those of mode Proxy");
    assert_eq!(it.ports[0].target, TargetPort::Name("main".into()));
    assert_eq!((it.ports[1].protocol, it.ports[1].target.clone()), (Protocol::Udp, TargetPort::Number(5353)));
    assert_eq!(it.ports.iter().map(|p| p.node_port).collect::<Vec<_>>(), [30080, 30080]);
    assert_eq!((it.internal_policy, it.external_policy), (TrafficPolicy::Local, TrafficPolicy::Local));
    assert_eq!((it.affinity_seconds, it.health_check_node_port), (Some(10_800), 32_000));
    assert_eq!((it.publish_not_ready, it.distribution), (true, Some(TrafficDistribution::SameNode)));
}

#[test]
fn cluster_ips_come_from_either_field() {
    assert_eq!(good(with(json!({"clusterIPs": ["10.96.0.1"]}))).cluster_ips, ips(&["10.96.0.1"]));
    let list_only = json!({"clusterIPs": ["10.96.0.1", "fd00::1"], "ports": [{"port": 80}]});
    assert_eq!(good(list_only).cluster_ips, ips(&["10.96.0.1", "fd00::1"]));
    for headless in [json!({"clusterIP": "None"}), json!({"clusterIPs": ["None"]})] {
        assert!(good(headless).cluster_ips.is_empty());
    }
    assert!(good(json!({"type": "ExternalName", "externalName": "a.example"})).cluster_ips.is_empty());
}

#[test]
fn a_target_port_that_is_not_given_is_the_port() {
    let target = |target: Value| {
        good(with(json!({"ports": [{"port": 80, "targetPort": target}]}))).ports[0].target.clone()
    };
    let table = [
        (json!(null), TargetPort::Number(80)),
        (json!(0), TargetPort::Number(80)),
        (json!(""), TargetPort::Number(80)),
        (json!(8080), TargetPort::Number(8080)),
        (json!("main"), TargetPort::Name("main".into())),
    ];
    for (given, expected) in table {
        assert_eq!(target(given.clone()), expected, "{given}");
    }
}

#[test]
fn an_address_must_be_that_of_one_host() {
    for text in ["0.0.0.0", "::", "224.0.0.1", "239.255.255.255", "ff02::1", "255.255.255.255"] {
        let expected =
            format!("Service default/web: spec.externalIPs[0]: {text:?} is not the address of one host");
        assert_eq!(bad(with(json!({"externalIPs": [text]}))), expected);
    }
    // Without an API server these can be just what is meant.
    for text in ["127.0.0.1", "::1", "169.254.20.10", "fe80::1", "255.255.255.254", "223.255.255.255"] {
        assert_eq!(good(with(json!({"externalIPs": [text]}))).external_ips, ips(&[text]));
    }
}

#[test]
fn affinity_lasts_from_a_second_to_a_day() {
    let seconds = |seconds: i32| {
        let config = json!({"clientIP": {"timeoutSeconds": seconds}});
        let fields = json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": config});
        run(with(fields)).map(|(it, _)| it.affinity_seconds).ok()
    };
    for (given, expected) in
        [(-1, None), (0, None), (1, Some(Some(1))), (86_400, Some(Some(86_400))), (86_401, None)]
    {
        assert_eq!(seconds(given), expected, "{given}");
    }
    let unused = json!({"sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}}});
    assert_eq!(good(with(unused)).affinity_seconds, None);
}

#[test]
fn r2_source_ranges_are_trimmed_and_a_zero_length_prefix_unsets_its_family() {
    let ranges = |list: Value| good(with(json!({"loadBalancerSourceRanges": list}))).source_ranges;
    let net = |text: &str| text.parse::<IpNet>().unwrap();
    assert_eq!(ranges(json!([" 10.0.0.0/8 ", "192.0.2.7/24", ""])), [net("10.0.0.0/8"), net("192.0.2.0/24")]);
    assert_eq!(ranges(json!(["10.0.0.0/8", "0.0.0.0/0", "fd00::/8"])), [net("fd00::/8")]);
}

#[test]
fn r28_sctp_ports_are_skipped_with_a_notice() {
    let ports = json!([{"name": "a", "port": 80}, {"name": "b", "port": 80, "protocol": "SCTP"}]);
    let (it, notices) = run(with(json!({"ports": ports}))).unwrap();
    assert_eq!(it.ports.len(), 1);
    assert_eq!(
        notices[0].to_string(),
        "Service default/web: spec.ports[1]: SCTP is not balanced; this port is skipped"
    );
    let only = run(with(json!({"ports": [{"port": 80, "protocol": "SCTP"}]}))).unwrap();
    assert!(only.0.ports.is_empty());
}

#[test]
fn a_node_port_that_nobody_allocates_is_noticed() {
    let (it, notices) = run(with(json!({"type": "NodePort"}))).unwrap();
    assert_eq!(it.ports[0].node_port, 0);
    assert_eq!(notices.len(), 1);
    assert!(run(with(json!({"type": "LoadBalancer"}))).unwrap().1.is_empty());
}

#[test]
fn a_health_check_port_counts_only_where_it_means_something() {
    let port = |kind: &str, policy: &str| {
        let fields = json!({"type": kind, "externalTrafficPolicy": policy, "healthCheckNodePort": 32000});
        good(with(fields)).health_check_node_port
    };
    assert_eq!(port("LoadBalancer", "Local"), 32000);
    assert_eq!(port("LoadBalancer", "Cluster"), 0);
    assert_eq!(port("NodePort", "Local"), 0);
}

#[test]
fn traffic_distribution_that_is_not_known_is_noticed_but_no_error() {
    for word in ["PreferClose", "PreferSameZone"] {
        let it = good(with(json!({"trafficDistribution": word})));
        assert_eq!(it.distribution, Some(TrafficDistribution::SameZone));
    }
    let (it, notices) = run(with(json!({"trafficDistribution": "PreferMoon"}))).unwrap();
    assert_eq!((it.distribution, notices.len()), (None, 1));
}

#[test]
fn what_is_wrong_names_object_field_and_remedy() {
    let two = |first: Value, second: Value| json!({"ports": [first, second]});
    let table = [
        (json!({"ports": [{"port": 0}]}), "spec.ports[0].port: 0 is not a port; use 1-65535"),
        (json!({"ports": [{"port": 70000}]}), "spec.ports[0].port: 70000 is not a port; use 1-65535"),
        (json!({"ports": [{"port": -1}]}), "spec.ports[0].port: -1 is not a port; use 1-65535"),
        (json!({"ports": []}), "spec.ports: is empty; a service with a cluster IP needs a port"),
        (
            json!({"ports": [{"port": 80, "targetPort": 70000}]}),
            "spec.ports[0].targetPort: 70000 is not a port; use 1-65535",
        ),
        (
            json!({"ports": [{"port": 80, "targetPort": "8080"}]}),
            "spec.ports[0].targetPort: \"8080\" is neither a port number nor the name of a container port",
        ),
        (
            json!({"ports": [{"port": 80, "protocol": "tcp"}]}),
            "spec.ports[0].protocol: \"tcp\" is not a protocol; use TCP or UDP",
        ),
        (
            json!({"ports": [{"port": 80, "nodePort": 30080}]}),
            "spec.ports[0].nodePort: needs spec.type NodePort or LoadBalancer; change the type or remove it",
        ),
        (
            json!({"ports": [{"port": 80, "name": "A b"}]}),
            "spec.ports[0].name: \"A b\" is not a port name; use lower case letters, digits and '-'",
        ),
        (
            two(json!({"port": 80, "name": "a"}), json!({"port": 81})),
            "spec.ports[1].name: is empty; of several ports each needs a name",
        ),
        (
            two(json!({"port": 80, "name": "a"}), json!({"port": 81, "name": "a"})),
            "spec.ports[1].name: is the same as that of another port of this service; make it different",
        ),
        (
            two(json!({"port": 80, "name": "a"}), json!({"port": 80, "name": "b"})),
            "spec.ports[1].port: is the same as that of another port of this service; make it different",
        ),
        (json!({"clusterIP": "10.96.0.300"}), "spec.clusterIP: \"10.96.0.300\" is not an IP address"),
        (
            json!({"clusterIP": "::ffff:10.96.0.1"}),
            "spec.clusterIP: \"::ffff:10.96.0.1\" is an IPv4-mapped IPv6 address; write 10.96.0.1",
        ),
        (json!({"clusterIP": "0.0.0.0"}), "spec.clusterIP: \"0.0.0.0\" is not the address of one host"),
        (
            json!({"clusterIP": ""}),
            "spec.clusterIP: is empty; nothing allocates addresses without an API server, give one or \"None\"",
        ),
        (
            json!({"clusterIPs": ["10.96.0.2"]}),
            "spec.clusterIPs[0]: \"10.96.0.2\" must be the same as spec.clusterIP, \"10.96.0.1\"",
        ),
        (
            json!({"clusterIPs": ["10.96.0.1", "10.96.0.2"]}),
            "spec.clusterIPs[1]: 10.96.0.2 is the second address of its family; give one per family",
        ),
        (
            json!({"ipFamilies": ["IPv6"]}),
            "spec.ipFamilies[0]: IPv6 has no address in spec.clusterIPs; \
             nothing allocates addresses without an API server",
        ),
        (json!({"externalIPs": ["x"]}), "spec.externalIPs[0]: \"x\" is not an IP address"),
        (
            json!({"loadBalancerSourceRanges": ["10.0.0.1"]}),
            "spec.loadBalancerSourceRanges[0]: \"10.0.0.1\" is not a CIDR; \
             write address/length, for example 10.0.0.0/8",
        ),
        (
            json!({"type": "Cluster"}),
            "spec.type: \"Cluster\" is not known; use ClusterIP or NodePort or LoadBalancer or ExternalName",
        ),
        (
            json!({"internalTrafficPolicy": "local"}),
            "spec.internalTrafficPolicy: \"local\" is not known; use Cluster or Local",
        ),
        (
            json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 0}}}),
            "spec.sessionAffinityConfig.clientIP.timeoutSeconds: 0 is out of range; use 1-86400",
        ),
    ];
    for (fields, expected) in table {
        assert_eq!(bad(with(fields)), format!("Service default/web: {expected}"));
    }
}

#[test]
fn a_node_port_twice_is_an_error_unless_the_protocols_differ() {
    let ports = |second: &str| {
        json!({"type": "NodePort", "ports": [
            {"name": "a", "port": 1, "nodePort": 30000},
            {"name": "b", "port": 2, "nodePort": 30000, "protocol": second},
        ]})
    };
    assert!(run(with(ports("UDP"))).is_ok());
    assert!(bad(with(ports("TCP"))).contains("spec.ports[1].nodePort"));
}
