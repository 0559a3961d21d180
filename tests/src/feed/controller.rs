//! A cluster's EndpointSlice controller, and that of BalancingPolicies: what selectors pick becomes slices, by the model's own
//! rules ([`model::resolve`], [`model::resolve_policy`]).

use std::collections::BTreeMap;

use model::{
    Change, Cluster, EndpointSlice, Family, Kind, ObjectName, Policy, View, resolve, resolve_policy,
};
use serde_json::{Value, json};

/// See the module.
pub(super) struct Controller {
    seen: Cluster,
    made: BTreeMap<ObjectName, EndpointSlice>,
}

/// What it does to slices.
#[derive(Debug, Default)]
pub(super) struct Work {
    /// Manifests of those that are new, or look different.
    pub(super) put: Vec<Value>,
    /// Names of those that are to go.
    pub(super) remove: Vec<ObjectName>,
}

impl Controller {
    pub(super) fn new() -> Self {
        Self { seen: Cluster::new(View::default()), made: BTreeMap::new() }
    }

    /// What is to be done after changes of services, policies, pods and nodes.
    pub(super) fn work(&mut self, changes: Vec<Change>) -> Work {
        self.seen.apply_all(changes);
        let zone_of = |node: &str| Some(self.seen.node(node)?.zone()?.to_owned());
        let services = self.seen.services().flat_map(|service| resolve(service, self.seen.pods(), zone_of));
        let of_cluster = |policy: &&Policy| policy.kind() == Kind::BalancingPolicy;
        let policies = self.seen.policies().filter(of_cluster);
        let policies = policies.flat_map(|policy| resolve_policy(policy, self.seen.pods(), zone_of));
        let wanted: BTreeMap<_, _> =
            services.chain(policies).map(named).map(|slice| (slice.name.clone(), slice)).collect();
        let changed = wanted.iter().filter(|(name, slice)| self.made.get(*name) != Some(*slice));
        let gone = self.made.keys().filter(|name| !wanted.contains_key(*name));
        let work = Work {
            put: changed.map(|(_, slice)| manifest(slice)).collect(),
            remove: gone.cloned().collect(),
        };
        self.made = wanted;
        work
    }
}

/// The model's names for what it resolves itself are none that a cluster would have.
fn named(slice: EndpointSlice) -> EndpointSlice {
    let name = slice.name.name.replace(':', "-");
    let name = match slice.policy {
        Some(_) => ObjectName::new("balancing-policies", name),
        None => ObjectName::new(slice.name.namespace.clone(), name),
    };
    EndpointSlice { name, ..slice }
}

fn manifest(slice: &EndpointSlice) -> Value {
    let ports = slice
        .ports
        .iter()
        .map(|port| json!({"name": &*port.name, "protocol": port.protocol.to_string(), "port": port.port}));
    let endpoints = slice.endpoints.iter().map(|it| {
        let zones = it.zone_hints.iter().map(|zone| json!({"name": &**zone}));
        let nodes = it.node_hints.iter().map(|node| json!({"name": &**node}));
        let pod =
            it.pod.as_ref().map(|pod| json!({"kind": "Pod", "namespace": &*pod.namespace, "name": pod.name}));
        json!({
            "addresses": [it.address],
            "conditions": {"ready": it.ready, "serving": it.serving, "terminating": it.terminating},
            "nodeName": it.node.as_deref(),
            "zone": it.zone.as_deref(),
            "hints": {"forZones": zones.collect::<Vec<_>>(), "forNodes": nodes.collect::<Vec<_>>()},
            "targetRef": pod,
        })
    });
    let mut metadata = json!({"namespace": &*slice.name.namespace, "name": slice.name.name});
    match &slice.policy {
        Some(policy) => {
            metadata["labels"] = json!({"endpointslice.kubernetes.io/managed-by": "balancing-controller"});
            metadata["ownerReferences"] = json!([{
                "apiVersion": "balancing.elf.io/v1beta1", "kind": policy.kind.to_string(), "name": policy.name.name, "uid": "",
            }]);
        }
        None => metadata["labels"] = json!({"kubernetes.io/service-name": slice.service}),
    }
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": metadata,
        "addressType": match slice.family {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        },
        "ports": ports.collect::<Vec<_>>(),
        "endpoints": endpoints.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{deletion, upserts};

    const CLUSTER: &str = r#"
apiVersion: v1
kind: Node
metadata: {name: n1, labels: {topology.kubernetes.io/zone: a}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  clusterIPs: [10.96.0.10, "fd00:96::a"]
  ipFamilies: [IPv4, IPv6]
  trafficDistribution: PreferSameNode
  ports: [{name: t, port: 80, targetPort: http}, {name: u, port: 53, protocol: UDP}]
  selector: {app: web}
---
apiVersion: balancing.elf.io/v1beta1
kind: BalancingPolicy
metadata: {name: web}
spec:
  frontend: {serviceMatcher: {serviceName: web, namespace: default}}
  backend: {serviceEndpoint: {endpointSelector: {matchLabels: {app: web}}, toPorts: [{port: http, protocol: TCP}]}}
---
apiVersion: balancing.elf.io/v1beta1
kind: LocalRedirectPolicy
metadata: {name: web}
spec:
  frontend: {serviceMatcher: {serviceName: web, namespace: default}}
  backend: {endpointSelector: {matchLabels: {app: web}}, toPorts: [{port: http, protocol: TCP}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web-1, labels: {app: web}}
spec:
  nodeName: n1
  containers: [{name: main, image: none, ports: [{name: http, containerPort: 8080}]}]
status:
  phase: Running
  conditions: [{type: Ready, status: "True"}]
  podIP: 10.1.0.1
  podIPs: [{ip: 10.1.0.1}, {ip: "fd00:1::1"}]
"#;

    #[test]
    fn slices_are_what_the_model_resolves_and_no_more_are_written_than_need_be() {
        let mut controller = Controller::new();
        let work = controller.work(upserts(CLUSTER).unwrap());
        // For both families; of the service, and of the policy that is not each node's own business.
        assert_eq!((work.put.len(), work.remove.len()), (4, 0), "{work:?}");
        let read: Vec<Change> = work.put.iter().flat_map(|it| upserts(&it.to_string()).unwrap()).collect();
        let made = controller.made.values().cloned();
        assert_eq!(read, made.clone().map(|slice| Change::Upsert(slice.into())).collect::<Vec<_>>());
        let (of_policy, of_service): (Vec<_>, Vec<_>) = made.partition(|slice| slice.policy.is_some());
        assert_eq!(of_policy.len(), 2);
        assert!(of_service.iter().all(|it| &*it.endpoints[0].zone_hints[0] == "a"));
        let work = controller.work(upserts(CLUSTER).unwrap());
        assert!(work.put.is_empty() && work.remove.is_empty(), "{work:?}");
        let work = controller.work(vec![deletion("Pod default/web-1").unwrap()]);
        assert_eq!((work.put.len(), work.remove.len()), (0, 4), "{work:?}");
    }
}
