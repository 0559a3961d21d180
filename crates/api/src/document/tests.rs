use model::{ContainerPort, NodeAnnotation, Protocol};
use serde_json::json;

use super::*;

fn objects(document: Value) -> Vec<Object> {
    convert(document).unwrap().objects
}

fn ids(document: Value) -> Vec<String> {
    objects(document).iter().map(|object| object.id().to_string()).collect()
}

fn bad(document: Value) -> String {
    convert(document).unwrap_err().to_string()
}

fn service(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"clusterIP": "10.96.0.1", "ports": [{"port": 80}]}})
}

fn pod(fields: Value) -> Value {
    let mut it = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}});
    it.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    it
}

#[test]
fn each_of_our_kinds_is_read() {
    let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"name": "s"},
        "addressType": "IPv4", "endpoints": []});
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1.example"}});
    let cidr = json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": "c"},
        "spec": {"cidrs": ["10.96.0.0/12", "fd00:96::/112"]}});
    let all = json!({"apiVersion": "v1", "kind": "List", "items": [service("web"), slice, node, pod(json!({})), cidr]});
    assert_eq!(
        ids(all),
        [
            "Service default/web",
            "EndpointSlice default/s",
            "Node n1.example",
            "Pod default/p",
            "ServiceCIDR c"
        ]
    );
}

#[test]
fn fields_that_nobody_knows_are_told_of_unless_a_server_has_let_them_pass() {
    let mut web = service("web");
    web["spce"] = json!({});
    web["spec"]["ports"][0]["protocl"] = json!("UDP");
    let mut notices = Vec::new();
    assert!(from_json(Kind::Service, &web.to_string(), &mut notices).unwrap().is_some());
    assert_eq!(notices, []);
    let fields: Vec<String> = convert(web).unwrap().notices.iter().map(ToString::to_string).collect();
    let what = "is no known field, and has no effect; is it written right?";
    let told = ["spce", "spec.ports[0].protocl"].map(|field| format!("Service web: {field}: {what}"));
    assert_eq!(fields, told);
}

#[test]
fn items_of_a_typed_list_may_leave_out_what_they_are() {
    let item = json!({"metadata": {"name": "web"}, "spec": {"clusterIP": "None"}});
    let list = json!({"apiVersion": "v1", "kind": "ServiceList", "items": [item, service("api")]});
    assert_eq!(ids(list), ["Service default/web", "Service default/api"]);
    let slices = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSliceList",
        "items": [{"metadata": {"name": "s"}, "addressType": "IPv6", "endpoints": []}]});
    assert_eq!(ids(slices), ["EndpointSlice default/s"]);
}

#[test]
fn other_kinds_are_noticed_and_no_error() {
    let deployment =
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": 7});
    let other_service =
        json!({"apiVersion": "serving.knative.dev/v1", "kind": "Service", "metadata": {"name": "k"}});
    let endpoints = json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "web"}});
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [deployment, other_service, endpoints]});
    let got = convert(list).unwrap();
    assert!(got.objects.is_empty());
    let notices: Vec<_> = got.notices.iter().map(Notice::to_string).collect();
    assert_eq!(notices[0], "Deployment web: apps/v1 Deployment is not read by Balancing; ignored");
    assert_eq!(notices.len(), 3);
}

#[test]
fn a_list_is_what_has_items_whatever_it_is_called() {
    for items in [json!(null), json!(7), json!({"a": 1})] {
        let list = json!({"apiVersion": "example.com/v1", "kind": "AllowList", "metadata": {"name": "a"}, "items": items});
        let got = convert(list).unwrap();
        assert!(got.objects.is_empty());
        let notices: Vec<_> = got.notices.iter().map(Notice::to_string).collect();
        assert_eq!(notices, ["AllowList a: example.com/v1 AllowList is not read by Balancing; ignored"]);
    }
    let empty = json!({"apiVersion": "v1", "kind": "ServiceList", "items": []});
    assert_eq!(convert(empty).unwrap(), Converted::default());
}

#[test]
fn a_retired_version_of_our_kinds_is_an_error() {
    let old =
        json!({"apiVersion": "discovery.k8s.io/v1beta1", "kind": "EndpointSlice", "metadata": {"name": "s"}});
    assert_eq!(
        bad(old),
        "EndpointSlice s: apiVersion: \"discovery.k8s.io/v1beta1\" is not read; use discovery.k8s.io/v1"
    );
}

#[test]
fn one_bad_item_makes_the_whole_list_bad() {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [service("web"), service("Bad_Name")]});
    assert!(bad(list).starts_with("Service default/Bad_Name: metadata.name: is not a valid name"));
}

#[test]
fn what_is_no_kubernetes_object_is_an_error() {
    let missing = "is missing; a document must be a Kubernetes object";
    assert_eq!(bad(json!("hello")), format!("document: apiVersion: {missing}"));
    assert_eq!(bad(json!({"a": 1})), format!("document: apiVersion: {missing}"));
    assert_eq!(bad(json!({"apiVersion": "v1"})), format!("document: kind: {missing}"));
    let no_text = "must be a text that is not empty";
    for wrong in [json!(1), json!(""), json!({})] {
        assert_eq!(
            bad(json!({"apiVersion": wrong, "kind": "Pod"})),
            format!("document: apiVersion: {no_text}")
        );
        assert_eq!(bad(json!({"apiVersion": "v1", "kind": wrong})), format!("document: kind: {no_text}"));
    }
}

#[test]
fn wrong_types_name_the_field() {
    let mut it = service("web");
    it["spec"]["ports"][0]["port"] = json!("http");
    assert_eq!(bad(it), "Service web: spec.ports[0].port: invalid type: string \"http\", expected i32");
    let mut name = service("web");
    name["metadata"]["name"] = json!(7);
    assert_eq!(bad(name), "Service: metadata.name: invalid type: integer `7`, expected a string");
    let mut labels = service("web");
    labels["metadata"] = json!({"name": "web", "namespace": "shop", "labels": {"version": 1}});
    assert_eq!(
        bad(labels),
        "Service shop/web: metadata.labels.version: invalid type: integer `1`, expected a string"
    );
}

#[test]
fn names_and_namespaces_are_checked() {
    let mut nameless = service("web");
    nameless["metadata"] = json!({"generateName": "web-"});
    assert_eq!(bad(nameless), "Service default/: metadata.name: is missing; every object needs a name");
    let mut lost = service("web");
    lost["metadata"]["namespace"] = json!("a/b");
    assert_eq!(bad(lost), "Service a/b/web: metadata.namespace: is not a valid namespace");
}

#[test]
fn nodes_bring_labels_and_addresses() {
    let node = json!({"apiVersion": "v1", "kind": "Node",
        "metadata": {"name": "n1", "namespace": "ignored", "labels": {"topology.kubernetes.io/zone": "z1"}},
        "status": {"addresses": [
            {"type": "InternalIP", "address": "192.0.2.1"}, {"type": "InternalIP", "address": "fd00::1"},
            {"type": "ExternalIP", "address": "198.51.100.1"}, {"type": "Hostname", "address": "n1"}]}});
    let Some(Object::Node(it)) = objects(node).pop() else { panic!("no node") };
    assert_eq!((it.name.as_str(), it.zone()), ("n1", Some("z1")));
    assert_eq!((it.internal_ips.len(), it.external_ips.len()), (2, 1));
    let broken = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"},
        "status": {"addresses": [{"type": "InternalIP", "address": "n1"}]}});
    assert_eq!(bad(broken), "Node n1: status.addresses[0].address: \"n1\" is not an IP address");
}

#[test]
fn r25_a_node_leaves_that_is_deleted_or_tainted_so() {
    let node = |metadata: Value, spec: Value| {
        let mut node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}, "spec": spec});
        node["metadata"].as_object_mut().unwrap().extend(metadata.as_object().unwrap().clone());
        let Some(Object::Node(it)) = objects(node).pop() else { panic!("no node") };
        it.leaving
    };
    let taints = |keys: &[&str]| {
        let taints: Vec<Value> = keys.iter().map(|key| json!({"key": key, "effect": "NoSchedule"})).collect();
        json!({"taints": taints})
    };
    assert!(!node(json!({}), json!({})));
    assert!(!node(json!({}), taints(&["node.kubernetes.io/not-ready"])));
    assert!(node(json!({}), taints(&["node.kubernetes.io/not-ready", "ToBeDeletedByClusterAutoscaler"])));
    assert!(node(json!({"deletionTimestamp": "2026-01-01T00:00:00Z"}), json!({})));
}

#[test]
fn pods_bring_addresses_conditions_and_named_ports() {
    let document = pod(json!({
        "metadata": {"name": "p", "labels": {"app": "web"}, "deletionTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"nodeName": "n1",
            "containers": [{"name": "c", "ports": [
                {"name": "http", "containerPort": 8080}, {"containerPort": 9},
                {"name": "sctp", "containerPort": 7, "protocol": "SCTP"}]}],
            "initContainers": [
                {"name": "once", "ports": [{"name": "setup", "containerPort": 1}]},
                {"name": "sidecar", "restartPolicy": "Always",
                    "ports": [{"name": "dns", "containerPort": 53, "protocol": "UDP"}]}]},
        "status": {"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}],
            "conditions": [{"type": "Ready", "status": "True"}]},
    }));
    let Some(Object::Pod(it)) = objects(document).pop() else { panic!("no pod") };
    assert_eq!((it.node.as_deref(), it.ips.len()), (Some("n1"), 2));
    assert_eq!((it.ready, it.finished, it.terminating), (true, false, true));
    let port = |name: &str, protocol, port| ContainerPort { name: name.into(), protocol, port };
    assert_eq!(it.ports, [port("http", Protocol::Tcp, 8080), port("dns", Protocol::Udp, 53)]);
}

#[test]
fn pods_without_status_are_neither_ready_nor_reachable() {
    let Some(Object::Pod(it)) = objects(pod(json!({}))).pop() else { panic!("no pod") };
    assert_eq!((it.ready, it.finished, it.ips.len(), it.node.clone()), (false, false, 0, None));
    for phase in ["Succeeded", "Failed"] {
        let document = pod(json!({"status": {"phase": phase, "podIP": "10.0.0.1"}}));
        let Some(Object::Pod(it)) = objects(document).pop() else { panic!("no pod") };
        assert_eq!((it.finished, it.ips.len()), (true, 1));
    }
    let not_ready = pod(json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}}));
    let Some(Object::Pod(it)) = objects(not_ready).pop() else { panic!("no pod") };
    assert!(!it.ready);
}

#[test]
fn the_address_of_a_pod_comes_from_either_field() {
    let table = [
        (json!({"podIP": "10.0.0.1"}), "10.0.0.1"),
        (json!({"podIP": "10.0.0.1", "podIPs": []}), "10.0.0.1"),
        (json!({"podIP": "", "podIPs": [{"ip": "fd00::1"}]}), "fd00::1"),
    ];
    for (status, expected) in table {
        let Some(Object::Pod(it)) = objects(pod(json!({"status": status}))).pop() else { panic!("no pod") };
        assert_eq!(it.ips.iter().map(ToString::to_string).collect::<Vec<_>>(), [expected]);
    }
    let none = pod(json!({"status": {"podIP": "", "podIPs": []}}));
    assert!(matches!(objects(none).pop(), Some(Object::Pod(it)) if it.ips.is_empty()));
}

#[test]
fn service_cidrs_must_be_cidrs() {
    let document = json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": "c"},
        "spec": {"cidrs": ["10.96.0.0"]}});
    assert_eq!(
        bad(document),
        "ServiceCIDR c: spec.cidrs[0]: \"10.96.0.0\" is not a CIDR; write address/length, for example 10.0.0.0/8"
    );
}

#[test]
fn of_what_an_api_server_sends_the_same_is_read() {
    let metadata = |more: Value| {
        let mut it = json!({"name": "web", "namespace": "shop", "uid": "u1", "resourceVersion": "7", "generation": 3,
            "creationTimestamp": "2026-01-01T00:00:00Z", "annotations": {
                "a": "b", "balancing.elf.io/nodeId": "7", "endpoints.kubernetes.io/last-change-trigger-time": "2026-01-01T00:00:01Z"},
            "managedFields": [{"manager": "kubelet", "operation": "Update", "fieldsV1": {"f:status": {}}},
                {"manager": "balancing-agent", "operation": "Apply", "apiVersion": "v1", "time": "2026-01-01T00:00:00Z",
                    "fieldsType": "FieldsV1", "fieldsV1": {"f:metadata": {"f:annotations": {"f:balancing.elf.io/nodeId": {}}}}}]});
        it.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        it
    };
    let labels =
        json!({"labels": {"kubernetes.io/service-name": "web", "topology.kubernetes.io/zone": "z1"}});
    let table = [
        json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata(labels.clone()),
            "spec": {"type": "LoadBalancer", "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"], "selector": {"app": "web"},
                "ports": [{"name": "http", "port": 80, "nodePort": 30080}]},
            "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.7"}]}, "conditions": []}}),
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata(labels.clone()),
            "addressType": "IPv4", "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
            "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": false, "serving": true, "terminating": true},
                "nodeName": "n1", "zone": "z1", "hints": {"forZones": [{"name": "z1"}]},
                "targetRef": {"kind": "Pod", "name": "web-1"}}]}),
        json!({"apiVersion": "v1", "kind": "Node", "metadata": metadata(json!({"deletionTimestamp": "2026-01-02T00:00:00Z"}))}),
        json!({"apiVersion": "v1", "kind": "Node", "metadata": metadata(labels),
            "spec": {"podCIDR": "10.0.0.0/24", "taints": [{"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}]},
            "status": {"images": [{"names": ["a"]}], "conditions": [{"type": "Ready", "status": "True"}],
                "addresses": [{"type": "InternalIP", "address": "192.0.2.1"}, {"type": "ExternalIP", "address": "fd00::1"}]}}),
    ];
    for document in table {
        let text = document.to_string();
        let [whole] = <[Object; 1]>::try_from(objects(document)).unwrap();
        assert!(!matches!(&whole, Object::Node(it) if !it.leaving || it.annotations.is_empty()), "{whole:?}");
        assert!(!matches!(&whole, Object::EndpointSlice(it) if it.triggered.is_none()), "{whole:?}");
        if let Object::Node(node) = &whole {
            assert!(node.leaving && node.annotations[&NodeAnnotation::NodeId].is_ours, "{node:?}");
        }
        assert_eq!(from_json(whole.id().kind, &text, &mut Vec::new()), Ok(Some(whole)));
    }
}

#[test]
fn what_is_wrong_in_what_an_api_server_sends_is_named_by_its_field() {
    let bad = |kind, document: Value| {
        from_json(kind, &document.to_string(), &mut Vec::new()).unwrap_err().to_string()
    };
    let slice = json!({"metadata": {"name": "s"}, "addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"], "zone": 7}]});
    let said = bad(Kind::EndpointSlice, slice);
    assert!(said.starts_with("EndpointSlice s: endpoints[0].zone: invalid type: integer `7`"), "{said}");
    // What nobody reads harms nobody.
    let node = json!({"metadata": {"name": "n"}, "status": {"images": 7}});
    assert!(matches!(from_json(Kind::Node, &node.to_string(), &mut Vec::new()), Ok(Some(Object::Node(_)))));
    let without = json!({"metadata": {"name": "s"}, "addressType": "", "endpoints": null});
    assert!(from_json(Kind::EndpointSlice, &without.to_string(), &mut Vec::new()).is_err());
}
