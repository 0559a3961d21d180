//! v1 Node.

use std::{collections::BTreeMap, net::IpAddr};

use k8s_openapi::{api::core::v1, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use model::{Annotation, Kind, Node, NodeAnnotation};

use crate::{Invalid, field::Field, identity::identify};

/// The field manager under which agents apply what they write. One name, so that what an agent wrote before is known to
/// the next one.
pub const FIELD_MANAGER: &str = "balancing-agent";

/// The taint of nodes that will be deleted soon (kubernetes 1.36 pkg/proxy/healthcheck/proxy_health.go).
const TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";

/// A Node: its labels and addresses, whether it is there to stay, and what its annotations say about Balancing.
///
/// # Errors
///
/// [`Invalid`] for a bad name, and for an InternalIP or ExternalIP that is no address.
pub fn from_node(it: &v1::Node) -> Result<Node, Invalid> {
    let id = identify(Kind::Node, &it.metadata)?;
    let listed = it.status.as_ref().and_then(|status| status.addresses.as_deref()).unwrap_or_default();
    let at = Field::of(&id, "status.addresses");
    let of_type = |wanted: &str| -> Result<Vec<IpAddr>, Invalid> {
        at.items(listed)
            .filter(|(_, listed)| listed.type_ == wanted)
            .map(|(at, listed)| at.field("address").ip(&listed.address))
            .collect()
    };
    let taints = it.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    Ok(Node {
        leaving: it.metadata.deletion_timestamp.is_some()
            || taints.iter().any(|taint| taint.key == TO_BE_DELETED),
        labels: it.metadata.labels.clone().unwrap_or_default(),
        internal_ips: of_type("InternalIP")?,
        external_ips: of_type("ExternalIP")?,
        uid: it.metadata.uid.clone().unwrap_or_default(),
        created: it.metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second()),
        annotations: annotations(&it.metadata),
        name: id.name.name.clone(),
    })
}

fn annotations(metadata: &ObjectMeta) -> BTreeMap<NodeAnnotation, Annotation> {
    let of = |which: NodeAnnotation| {
        let value = metadata.annotations.as_ref()?.get(which.name())?.clone();
        Some((which, Annotation { value, is_ours: is_ours(metadata, which) }))
    };
    NodeAnnotation::ALL.into_iter().filter_map(of).collect()
}

/// An agent owns it, and nobody else does.
fn is_ours(metadata: &ObjectMeta, which: NodeAnnotation) -> bool {
    let (mut is_ours, mut is_anothers) = (false, false);
    for entry in metadata.managed_fields.iter().flatten() {
        let key = format!("f:{}", which.name());
        let fields = entry.fields_v1.as_ref().map(|fields| &fields.0);
        if fields.is_some_and(|fields| fields["f:metadata"]["f:annotations"].get(&key).is_some()) {
            let applies = entry.operation.as_deref() == Some("Apply");
            let is_agents = applies && entry.manager.as_deref() == Some(FIELD_MANAGER);
            is_ours |= is_agents;
            is_anothers |= !is_agents;
        }
    }
    is_ours && !is_anothers
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Manager, operation, annotation.
    type Owner<'a> = (&'a str, &'a str, &'a str);

    fn node(annotations: Value, owners: &[Owner<'_>]) -> Node {
        let entry = |(manager, operation, key): &Owner<'_>| {
            json!({"manager": manager, "operation": operation, "fieldsType": "FieldsV1",
                "fieldsV1": {"f:metadata": {"f:annotations": {format!("f:{key}"): {}}}}})
        };
        let entries: Vec<Value> = owners.iter().map(entry).collect();
        let node = json!({"metadata": {"name": "n1", "uid": "u", "creationTimestamp": "1970-01-01T00:01:00Z",
            "annotations": annotations, "managedFields": entries}});
        from_node(&serde_json::from_value(node).unwrap()).unwrap()
    }

    #[test]
    fn of_annotations_it_is_known_what_they_say_and_whose_they_are() {
        let id = NodeAnnotation::NodeId.name();
        let ours = (FIELD_MANAGER, "Apply", id);
        let table: [(&[Owner<'_>], bool); 6] = [
            (&[ours], true),
            (&[], false),
            (&[("kubectl-annotate", "Update", id)], false),
            (&[ours, ("argocd", "Apply", id)], false),
            (&[(FIELD_MANAGER, "Update", id)], false),
            (&[(FIELD_MANAGER, "Apply", "example.com/else")], false),
        ];
        for (owners, is_ours) in table {
            let node = node(json!({id: "7", "example.com/else": "x"}), owners);
            let expected = (NodeAnnotation::NodeId, Annotation { value: "7".into(), is_ours });
            assert_eq!(node.annotations, BTreeMap::from([expected]), "{owners:?}");
            assert_eq!((node.uid.as_str(), node.created), ("u", 60));
        }
    }

    #[test]
    fn an_id_is_a_number_and_not_0() {
        let id = |text: &str| node(json!({NodeAnnotation::NodeId.name(): text}), &[]).id();
        assert_eq!((id("1"), id("4294967295")), (Some(1), Some(u32::MAX)));
        for text in ["", "0", "-1", "+1", "01", "1.0", "4294967296", "one"] {
            assert_eq!(id(text), None, "{text:?}");
        }
        assert_eq!(node(json!({}), &[]).id(), None);
    }
}
