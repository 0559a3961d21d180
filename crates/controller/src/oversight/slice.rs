//! A slice as the API has it.

use k8s_openapi::api::discovery::v1;
use model::{EndpointSlice, Family, ObjectName};
use serde_json::{Map, Value, json};

use super::packing::Draft;

/// The group and version of policies.
const API_VERSION: &str = "balancing.elf.io/v1beta1";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const SERVICE_NAME: &str = "kubernetes.io/service-name";
const POLICY_UID: &str = "balancing.elf.io/policy-uid";
const TRIGGERED: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// A BalancingPolicy that slices are made for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Owner {
    pub(super) name: String,
    pub(super) uid: String,
}

/// A slice that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) version: Version,
    /// The policy that it was made for.
    pub(super) owner: Option<Owner>,
    /// Labels and owner are as we write them.
    is_marked: bool,
    /// What it holds, if that makes sense.
    pub(super) slice: Option<EndpointSlice>,
}

/// A `metadata.resourceVersion`. They are numbers, and grow (kubernetes 1.35 on, and always were).
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version {
    number: u64,
    pub(super) text: String,
}

impl From<&str> for Version {
    fn from(text: &str) -> Self {
        // What is no number is newer than anything.
        Self { number: text.parse().unwrap_or(u64::MAX), text: text.to_owned() }
    }
}

impl Version {
    /// Whether this says nothing that `other` did not.
    pub(super) fn is_up_to(&self, other: &Self) -> bool {
        self == other || (self.number != u64::MAX && self.number <= other.number)
    }
}

impl Seen {
    /// Of what a server has sent: its name, and what it is.
    pub(super) fn read(object: &v1::EndpointSlice) -> (ObjectName, Self) {
        let metadata = &object.metadata;
        let text = |it: &Option<String>| it.clone().unwrap_or_default();
        let name = ObjectName::new(text(&metadata.namespace), text(&metadata.name));
        let owners = metadata.owner_references.as_deref().unwrap_or_default();
        let owner = match owners {
            [it] if it.kind == "BalancingPolicy" && it.api_version == API_VERSION => {
                (it.controller == Some(true)).then(|| Owner { name: it.name.clone(), uid: it.uid.clone() })
            }
            _ => None,
        };
        let label = |key: &str| metadata.labels.as_ref().and_then(|labels| labels.get(key));
        let is_marked = owner.as_ref().is_some_and(|owner| label(POLICY_UID) == Some(&owner.uid))
            && label(MANAGED_BY).is_some_and(|by| by == api::SLICE_MANAGER)
            && label(SERVICE_NAME).is_none();
        let slice = api::from_slice(object, &mut Vec::new()).ok().flatten();
        let version = text(&metadata.resource_version).as_str().into();
        (name, Self { version, owner, is_marked, slice })
    }

    /// Whether it is what it should be.
    pub(super) fn is(&self, draft: &Draft, owner: &Owner) -> bool {
        let holds = |slice: &EndpointSlice| {
            (slice.family, &slice.ports) == (draft.family, &draft.ports)
                && slice.endpoints.len() == draft.endpoints.len()
                && slice.endpoints.iter().zip(draft.endpoints.values()).all(|(is, wanted)| is == wanted)
        };
        self.is_marked && self.owner.as_ref() == Some(owner) && self.slice.as_ref().is_some_and(holds)
    }
}

/// What is written: `version` of what it replaces, and when that happened which it tells of (for latencies; as kube-proxy's
/// agents measure them, kubernetes 1.36 pkg/proxy/endpointschangetracker.go).
pub(super) fn write(
    name: &ObjectName,
    draft: &Draft,
    owner: &Owner,
    version: Option<&Version>,
    triggered: &str,
) -> Value {
    let endpoints = draft.endpoints.iter().map(|(pod, it)| {
        let mut endpoint = json!({
            "addresses": [it.address.to_string()],
            "conditions": {"ready": it.ready, "serving": it.serving, "terminating": it.terminating},
            "targetRef": {"kind": "Pod", "namespace": &*pod.namespace, "name": pod.name},
        });
        for (key, value) in [("nodeName", &it.node), ("zone", &it.zone)] {
            if let Some(value) = value {
                endpoint[key] = (&**value).into();
            }
        }
        endpoint
    });
    let ports = draft
        .ports
        .iter()
        .map(|port| json!({"name": &*port.name, "protocol": port.protocol.to_string(), "port": port.port}));
    let mut metadata = json!({
        "name": name.name,
        "namespace": &*name.namespace,
        "labels": {MANAGED_BY: api::SLICE_MANAGER, POLICY_UID: owner.uid},
        "annotations": {TRIGGERED: triggered},
        "ownerReferences": [{"apiVersion": API_VERSION, "kind": "BalancingPolicy", "name": owner.name,
            "uid": owner.uid, "controller": true}],
    });
    if let Some(version) = version {
        metadata["resourceVersion"] = version.text.as_str().into();
    }
    Value::Object(Map::from_iter([
        ("apiVersion".to_owned(), "discovery.k8s.io/v1".into()),
        ("kind".to_owned(), "EndpointSlice".into()),
        ("metadata".to_owned(), metadata),
        (
            "addressType".to_owned(),
            match draft.family {
                Family::V4 => "IPv4",
                Family::V6 => "IPv6",
            }
            .into(),
        ),
        ("endpoints".to_owned(), endpoints.collect()),
        ("ports".to_owned(), ports.collect()),
    ]))
}

#[cfg(test)]
mod tests {
    use model::{Endpoint, Protocol, SlicePort};

    use super::*;
    use crate::oversight::sample::pod_name;

    fn owner() -> Owner {
        Owner { name: "web".into(), uid: "u1".into() }
    }

    fn draft() -> Draft {
        let endpoint = |number: usize| Endpoint {
            address: [10, 0, 0, 1].into(),
            ready: number == 1,
            serving: true,
            terminating: false,
            node: Some("n1".into()),
            zone: (number == 1).then(|| "z1".into()),
            zone_hints: vec![],
            node_hints: vec![],
            pod: Some(pod_name(number)),
        };
        Draft {
            family: Family::V4,
            ports: vec![SlicePort { name: "p".into(), protocol: Protocol::Udp, port: Some(53) }],
            endpoints: [1, 2].map(|number| (pod_name(number), endpoint(number))).into(),
        }
    }

    fn written() -> Value {
        let name = ObjectName::new("system", "web-1");
        write(&name, &draft(), &owner(), Some(&"7".into()), "2026-01-01T00:00:00.5Z")
    }

    fn seen(object: Value) -> Seen {
        Seen::read(&serde_json::from_value(object).unwrap()).1
    }

    #[test]
    fn what_is_written_is_read_as_what_was_meant() {
        let object: v1::EndpointSlice = serde_json::from_value(written()).unwrap();
        let (name, seen) = Seen::read(&object);
        assert_eq!((name, seen.version.text.as_str()), (ObjectName::new("system", "web-1"), "7"));
        assert!(seen.is(&draft(), &owner()));
        let slice = seen.slice.unwrap();
        assert_eq!(
            slice.policy.unwrap().to_string(),
            "BalancingPolicy web",
            "agents take it for the policy's"
        );
        assert_eq!((slice.service, slice.triggered), (None, Some(1_767_225_600_500_000_000)));
    }

    #[test]
    fn whatever_somebody_edits_is_noticed() {
        let changes = [
            ("/metadata/labels/balancing.elf.io~1policy-uid", json!("u2")),
            ("/metadata/labels/kubernetes.io~1service-name", json!("web")),
            ("/metadata/ownerReferences/0/uid", json!("u2")),
            ("/metadata/ownerReferences/0/controller", json!(false)),
            ("/metadata/ownerReferences", json!([])),
            ("/ports/0/port", json!(54)),
            ("/ports/0/name", json!("q")),
            ("/endpoints/0/addresses/0", json!("10.0.0.9")),
            ("/endpoints/0/conditions/ready", json!(false)),
            ("/endpoints/1/zone", json!("z2")),
            ("/endpoints/0/nodeName", json!("n2")),
            ("/endpoints/0/targetRef/name", json!("p9")),
            ("/endpoints/0/hints", json!({"forZones": [{"name": "z"}]})),
            ("/endpoints", json!([])),
        ];
        for (path, value) in changes {
            let mut object = written();
            let (parent, key) = path.rsplit_once('/').unwrap();
            let key = key.replace("~1", "/");
            let parent = object.pointer_mut(parent).unwrap();
            match key.parse::<usize>().ok().filter(|_| parent.is_array()) {
                Some(index) => parent[index] = value,
                None => parent[key] = value,
            }
            assert!(!seen(object).is(&draft(), &owner()), "{path}");
        }
        let other = Owner { uid: "u2".into(), ..owner() };
        assert!(!seen(written()).is(&draft(), &other), "the policy is another one of the name");
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        let version = |text: &str| Version::from(text);
        assert!(version("9").is_up_to(&version("10")) && version("10").is_up_to(&version("10")));
        assert!(!version("11").is_up_to(&version("10")));
        assert!(!version("x").is_up_to(&version("y")) && version("x").is_up_to(&version("x")));
    }
}
