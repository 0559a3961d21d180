//! Objects as an API server has them, with all that nobody here reads: it has to be sent, received and passed over.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

use crate::tables::{PORT, TARGET};

/// Images that a kubelet tells of (kubernetes 1.36 pkg/kubelet/apis/config: nodeStatusMaxImages).
const IMAGES: u32 = 50;
/// The node of the agent.
const HERE: &str = "node-1";

/// An endpoint of a slice.
#[derive(Clone, Copy)]
pub(super) struct Endpoint {
    pub(super) address: Ipv4Addr,
    pub(super) terminating: bool,
}

impl Endpoint {
    pub(super) fn ready(address: Ipv4Addr) -> Self {
        Self { address, terminating: false }
    }

    fn value(self) -> Value {
        let Self { address, terminating } = self;
        let number = u32::from(address);
        json!({
            "addresses": [address],
            "conditions": {"ready": !terminating, "serving": true, "terminating": terminating},
            "nodeName": format!("node-{}", number % 1000),
            "targetRef": {
                "kind": "Pod", "namespace": "default", "name": format!("web-6d4cf56db6-{number:08x}"),
                "uid": uid(4, number),
            },
            "zone": zone(number),
        })
    }
}

fn zone(number: u32) -> String {
    format!("eu-central-1{}", ["a", "b", "c"][number as usize % 3])
}

fn uid(kind: u32, number: u32) -> String {
    format!("{number:08x}-93b1-4c4e-8f3a-{kind:012x}")
}

/// What `manager` owns of an object.
fn owned(manager: &str, subresource: &str, fields: Value) -> Value {
    json!({
        "manager": manager, "operation": "Update", "apiVersion": "v1", "time": "2026-11-01T08:00:00Z",
        "fieldsType": "FieldsV1", "fieldsV1": fields, "subresource": subresource,
    })
}

/// A service that answers on the port of each VIP.
pub(super) fn service(name: &str, vip: Ipv4Addr, protocols: &[&str]) -> Value {
    let port =
        |it: &&str| json!({"name": it.to_lowercase(), "protocol": it, "port": PORT, "targetPort": TARGET});
    let labels = json!({"app.kubernetes.io/name": name, "app.kubernetes.io/part-of": "shop", "helm.sh/chart": "web-1.4.2"});
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "name": name, "namespace": "default", "labels": labels,
            "annotations": {"meta.helm.sh/release-name": name, "meta.helm.sh/release-namespace": "default"},
            "managedFields": [owned("helm", "", json!({
                "f:metadata": {"f:annotations": {".": {}, "f:meta.helm.sh/release-name": {}, "f:meta.helm.sh/release-namespace": {}},
                    "f:labels": {".": {}, "f:app.kubernetes.io/name": {}, "f:app.kubernetes.io/part-of": {}, "f:helm.sh/chart": {}}},
                "f:spec": {"f:internalTrafficPolicy": {}, "f:ports": {".": {}, "k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {},
                    "f:name": {}, "f:port": {}, "f:protocol": {}, "f:targetPort": {}}}, "f:selector": {}, "f:sessionAffinity": {}, "f:type": {}},
            }))],
        },
        "spec": {
            "clusterIP": vip, "clusterIPs": [vip], "internalTrafficPolicy": "Cluster", "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack", "ports": protocols.iter().map(port).collect::<Vec<_>>(),
            "selector": {"app.kubernetes.io/name": name}, "sessionAffinity": "None", "type": "ClusterIP",
        },
        "status": {"loadBalancer": {}},
    })
}

/// The one slice of a service, as the endpoint slice controller writes it.
pub(super) fn slice(service: &str, endpoints: impl Iterator<Item = Endpoint>, protocols: &[&str]) -> Value {
    let port = |it: &&str| json!({"name": it.to_lowercase(), "protocol": it, "port": TARGET});
    let labels = json!({
        "app.kubernetes.io/name": service, "app.kubernetes.io/part-of": "shop", "helm.sh/chart": "web-1.4.2",
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io", "kubernetes.io/service-name": service,
    });
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{service}-x7k2p"), "generateName": format!("{service}-"), "namespace": "default", "labels": labels,
            "annotations": {"endpoints.kubernetes.io/last-change-trigger-time": "2026-11-01T08:00:00Z"},
            "ownerReferences": [{"apiVersion": "v1", "kind": "Service", "name": service, "uid": uid(3, 7),
                "controller": true, "blockOwnerDeletion": true}],
            "managedFields": [owned("kube-controller-manager", "", json!({
                "f:addressType": {}, "f:endpoints": {}, "f:ports": {},
                "f:metadata": {"f:annotations": {".": {}, "f:endpoints.kubernetes.io/last-change-trigger-time": {}}, "f:generateName": {},
                    "f:labels": {".": {}, "f:app.kubernetes.io/name": {}, "f:app.kubernetes.io/part-of": {}, "f:helm.sh/chart": {},
                        "f:endpointslice.kubernetes.io/managed-by": {}, "f:kubernetes.io/service-name": {}},
                    "f:ownerReferences": {".": {}, "k:{\"uid\":\"00000007-93b1-4c4e-8f3a-000000000003\"}": {}}},
            }))],
        },
        "addressType": "IPv4",
        "endpoints": endpoints.map(Endpoint::value).collect::<Vec<_>>(),
        "ports": protocols.iter().map(port).collect::<Vec<_>>(),
    })
}

/// Node `index`, that has just said that it is well.
pub(super) fn node(index: u32) -> Value {
    node_at(index, 0)
}

/// The same, as it says so for the `beat`th time: nothing that matters is different.
pub(super) fn node_at(index: u32, beat: u32) -> Value {
    let name = format!("node-{index}");
    let time = format!("2026-11-01T{:02}:{:02}:00Z", beat / 60 % 24, beat % 60);
    let condition = |kind: &str, status: &str, reason: &str| {
        json!({"type": kind, "status": status, "reason": reason, "message": format!("kubelet: {reason} on this node"),
            "lastHeartbeatTime": time, "lastTransitionTime": "2026-10-01T08:00:00Z"})
    };
    let image = |image: u32| {
        let name = format!("registry.example.com/team-{}/application-{image}", image % 7);
        json!({"names": [format!("{name}@sha256:{:064x}", u64::from(image) << 32 | u64::from(index)), format!("{name}:v1.{image}.0")],
            "sizeBytes": 10_000_000 + image * 1_234_567})
    };
    let ip = Ipv4Addr::from(u32::from(Ipv4Addr::new(172, 16, 0, 10)) + index);
    let room = json!({"cpu": "15890m", "ephemeral-storage": "95551679124", "memory": "62288Mi", "pods": "110",
        "hugepages-1Gi": "0", "hugepages-2Mi": "0"});
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
                "node.kubernetes.io/instance-type": "m6i.4xlarge", "topology.kubernetes.io/region": "eu-central-1",
                "topology.kubernetes.io/zone": zone(index)},
            "annotations": {"node.alpha.kubernetes.io/ttl": "0", "volumes.kubernetes.io/controller-managed-attach-detach": "true",
                "csi.volume.kubernetes.io/nodeid": format!("{{\"ebs.csi.aws.com\":\"i-{index:017x}\"}}")},
            "managedFields": [owned("kubelet", "status", json!({"f:status": {"f:allocatable": {}, "f:capacity": {}, "f:images": {},
                "f:conditions": {"k:{\"type\":\"DiskPressure\"}": {"f:lastHeartbeatTime": {}}, "k:{\"type\":\"MemoryPressure\"}":
                {"f:lastHeartbeatTime": {}}, "k:{\"type\":\"PIDPressure\"}": {"f:lastHeartbeatTime": {}}, "k:{\"type\":\"Ready\"}":
                {"f:lastHeartbeatTime": {}}}}}))],
        },
        "spec": {"podCIDR": "10.244.0.0/24", "podCIDRs": ["10.244.0.0/24"], "providerID": format!("aws:///eu-central-1a/i-{index:017x}")},
        "status": {
            "addresses": [{"type": "InternalIP", "address": ip}, {"type": "Hostname", "address": name}],
            "allocatable": room, "capacity": room,
            "conditions": [condition("MemoryPressure", "False", "KubeletHasSufficientMemory"),
                condition("DiskPressure", "False", "KubeletHasNoDiskPressure"),
                condition("PIDPressure", "False", "KubeletHasSufficientPID"), condition("Ready", "True", "KubeletReady")],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
            "images": (0..IMAGES).map(image).collect::<Vec<_>>(),
            "nodeInfo": {"architecture": "amd64", "bootID": uid(5, index), "containerRuntimeVersion": "containerd://2.1.4",
                "kernelVersion": "6.12.0", "kubeProxyVersion": "", "kubeletVersion": "v1.36.0", "machineID": format!("{index:032x}"),
                "operatingSystem": "linux", "osImage": "Debian GNU/Linux 13 (trixie)", "systemUUID": uid(6, index)},
        },
    })
}

/// The lease of node `index`, which its kubelet renews every ten seconds.
pub(super) fn lease(index: u32) -> Value {
    lease_at(index, 0)
}

/// The same, as it is renewed for the `beat`th time.
pub(super) fn lease_at(index: u32, beat: u32) -> Value {
    let name = format!("node-{index}");
    let time = format!("2026-11-01T08:{:02}:{:02}.000000Z", beat / 60 % 60, beat % 60);
    json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": name, "namespace": "kube-node-lease",
            "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": name, "uid": uid(1, index)}]},
        "spec": {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": time},
    })
}

/// A pod on the node of the agent.
pub(super) fn pod(index: u32) -> Value {
    let name = format!("web-6d4cf56db6-{index:05x}");
    let ip = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 244, 0, 10)) + index);
    let variable = |number: u32| json!({"name": format!("SETTING_{number}"), "value": format!("value of setting {number}")});
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": {"app.kubernetes.io/name": "web"}},
        "spec": {"nodeName": HERE, "containers": [{"name": "web", "image": "registry.example.com/web:v1",
            "env": (0..40).map(variable).collect::<Vec<_>>(),
            "ports": [{"name": "http", "containerPort": TARGET, "protocol": "TCP"}]}]},
        "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "hostIP": "172.16.0.11",
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-10-01T08:00:00Z"}]},
    })
}

/// One of a cluster's pods, of application `app`.
pub(super) fn labelled_pod(index: u32, app: u32, ready: bool) -> Value {
    let mut it = pod(index);
    let name = format!("web-{app}");
    it["metadata"]["labels"] = json!({"app.kubernetes.io/name": name, "app.kubernetes.io/part-of": "shop",
        "helm.sh/chart": "web-1.4.2", "pod-template-hash": format!("6d4cf56d{app:02x}")});
    it["metadata"]["uid"] = uid(7, index).into();
    it["spec"]["nodeName"] = format!("node-{}", index % 1000).into();
    it["status"]["conditions"][0]["status"] = if ready { "True" } else { "False" }.into();
    it
}

/// Where cluster IPs come from.
pub(super) fn service_cidr() -> Value {
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": "kubernetes"},
        "spec": {"cidrs": ["10.96.0.0/12"]}})
}
