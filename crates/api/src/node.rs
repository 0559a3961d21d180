//! v1 Node.

use std::net::IpAddr;

use k8s_openapi::api::core::v1;
use model::{Kind, Node};

use crate::{Invalid, field::Field, identity::identify};

/// The taint of nodes that will be deleted soon (kubernetes 1.36 pkg/proxy/healthcheck/proxy_health.go).
const TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";

/// A Node: its labels and addresses, and whether it is there to stay.
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
        name: id.name.name.clone(),
    })
}
