//! Objects as an API server sends them, of which only what is used is read: the rest is most of it (images of nodes, fields
//! and who manages them), and comes again with each heartbeat.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{core::v1 as core, discovery::v1 as discovery},
    apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry, ObjectMeta, OwnerReference, Time},
};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Map, Value, json};

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    creation_timestamp: Option<Time>,
    deletion_timestamp: Option<Time>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
    managed_fields: Option<Vec<Owner>>,
    owner_references: Option<Vec<OwnerReference>>,
}

/// Who has written annotations; who has written all else is nobody's business.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Owner {
    manager: Option<String>,
    operation: Option<String>,
    fields_v1: Option<Fields>,
}

#[derive(Deserialize)]
struct Fields {
    #[serde(rename = "f:metadata")]
    metadata: Option<MetadataFields>,
}

#[derive(Deserialize)]
struct MetadataFields {
    #[serde(rename = "f:annotations")]
    annotations: Option<BTreeMap<String, IgnoredAny>>,
}

impl From<Metadata> for ObjectMeta {
    fn from(it: Metadata) -> Self {
        Self {
            name: it.name,
            namespace: it.namespace,
            uid: it.uid,
            creation_timestamp: it.creation_timestamp,
            deletion_timestamp: it.deletion_timestamp,
            labels: it.labels,
            annotations: it.annotations,
            owner_references: it.owner_references,
            managed_fields: it.managed_fields.map(|owners| owners.into_iter().map(Into::into).collect()),
            ..Self::default()
        }
    }
}

impl From<Owner> for ManagedFieldsEntry {
    fn from(it: Owner) -> Self {
        let annotations = it.fields_v1.and_then(|fields| fields.metadata?.annotations).unwrap_or_default();
        let annotations: Map<String, Value> = annotations.into_keys().map(|key| (key, json!({}))).collect();
        Self {
            manager: it.manager,
            operation: it.operation,
            fields_v1: Some(FieldsV1(json!({"f:metadata": {"f:annotations": annotations}}))),
            ..Self::default()
        }
    }
}

/// A Service.
#[derive(Deserialize)]
pub(crate) struct Service {
    #[serde(default)]
    metadata: Metadata,
    spec: Option<core::ServiceSpec>,
    status: Option<core::ServiceStatus>,
}

impl From<Service> for core::Service {
    fn from(it: Service) -> Self {
        Self { metadata: it.metadata.into(), spec: it.spec, status: it.status }
    }
}

/// An EndpointSlice.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EndpointSlice {
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    address_type: String,
    endpoints: Option<Vec<discovery::Endpoint>>,
    ports: Option<Vec<discovery::EndpointPort>>,
}

impl From<EndpointSlice> for discovery::EndpointSlice {
    fn from(it: EndpointSlice) -> Self {
        let EndpointSlice { metadata, address_type, endpoints, ports } = it;
        Self { metadata: metadata.into(), address_type, endpoints, ports }
    }
}

/// A Namespace.
#[derive(Deserialize)]
pub(crate) struct Namespace {
    #[serde(default)]
    metadata: Metadata,
}

impl From<Namespace> for core::Namespace {
    fn from(it: Namespace) -> Self {
        Self { metadata: it.metadata.into(), ..Self::default() }
    }
}

/// A Node.
#[derive(Deserialize)]
pub(crate) struct Node {
    #[serde(default)]
    metadata: Metadata,
    spec: Option<NodeSpec>,
    status: Option<NodeStatus>,
}

#[derive(Deserialize)]
struct NodeSpec {
    taints: Option<Vec<core::Taint>>,
}

#[derive(Deserialize)]
struct NodeStatus {
    addresses: Option<Vec<core::NodeAddress>>,
}

impl From<Node> for core::Node {
    fn from(it: Node) -> Self {
        let addresses = it.status.and_then(|status| status.addresses);
        let status = core::NodeStatus { addresses, ..core::NodeStatus::default() };
        let taints = it.spec.and_then(|spec| spec.taints);
        let spec = core::NodeSpec { taints, ..core::NodeSpec::default() };
        Self { metadata: it.metadata.into(), spec: Some(spec), status: Some(status) }
    }
}
