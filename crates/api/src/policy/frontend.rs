//! What is asked for.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::port::{self, Port};

/// What is asked for: exactly one of these.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.serviceMatcher) != has(self.addressMatcher)")
    .message("give exactly one of serviceMatcher and addressMatcher"))]
pub struct Frontend {
    /// The cluster IPs of a service, which need not exist yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_matcher: Option<ServiceMatcher>,
    /// An address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address_matcher: Option<AddressMatcher>,
}

/// A service, by name.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceMatcher {
    /// Its name.
    #[schemars(length(min = 1, max = 63))]
    pub service_name: String,
    /// Its namespace.
    #[schemars(length(min = 1, max = 63))]
    pub namespace: String,
    /// Those of its ports that are meant, by number and protocol; all, if not given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = port::numbered_once(), validation = port::named_once())]
    pub to_ports: Vec<Port>,
}

/// An address, which may be anybody's, and ports.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AddressMatcher {
    /// IPv4 or IPv6.
    #[schemars(length(min = 2, max = 45))]
    #[x_kube(validation = Rule::new("isIP(self)").message("must be an IPv4 or IPv6 address"))]
    pub ip: String,
    /// Its ports.
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(validation = port::numbered_once(), validation = port::named_once())]
    pub to_ports: Vec<Port>,
}
