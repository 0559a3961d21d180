//! LocalRedirectPolicy and BalancingPolicy: their types, and the rules that their schemas carry.
//!
//! ```text
//! frontend   what is asked for: a service, or an address
//! health     whether an address of a backend answers
//! port       ports of both sides
//! selector   which pods, which nodes
//! status     what the controller says of a policy
//! ```
//!
//! What can be said in CEL is said there and nowhere else: the API server applies it, webhook or not.

#![expect(unreachable_pub, reason = "kube's derive makes public structs inside of functions")]
#![expect(clippy::duplicated_attributes, reason = "columns have their own, of the same names")]

mod conversion;
mod frontend;
mod health;
mod port;
mod selector;
mod status;

use k8s_openapi::{
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use kube::{CustomResource, CustomResourceExt, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use conversion::{from_balancing_policy, from_local_redirect_policy};
pub use frontend::{AddressMatcher, Frontend, ServiceMatcher};
pub use health::{AllUnhealthy, HealthCheck, HealthCheckProtocol};
pub use port::{Port, PortProtocol, TargetPort};
pub use status::PolicyStatus;

/// Most addresses of a policy: what CEL may cost depends on it.
const ADDRESSES: u32 = 512;

/// CEL: each port of a frontend finds one of `targets`. With one on each side only the protocol counts (P2).
macro_rules! ports_match {
    ($frontend:literal, $backend:literal) => {
        concat!(
            "!has(self.frontend.",
            $frontend,
            ") || !has(self.frontend.",
            $frontend,
            ".toPorts) || !has(self.backend",
            $backend,
            ") || self.frontend.",
            $frontend,
            ".toPorts.all(f, self.backend",
            $backend,
            ".toPorts.exists(b, b.protocol == f.protocol && ((size(self.frontend.",
            $frontend,
            ".toPorts) == 1 && size(self.backend",
            $backend,
            ".toPorts) == 1) || (has(b.name) ? b.name : '') == (has(f.name) ? f.name : ''))))"
        )
    };
}

const UNMATCHED: &str = "each frontend port needs a backend port of the same name and protocol; with one port on each side \
                         names need not match";

/// Sends connections to ready pods on the client's own node; without any, as if it were not there.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "balancing.elf.io",
    version = "v1beta1",
    kind = "LocalRedirectPolicy",
    plural = "localredirectpolicies",
    shortname = "lr",
    category = "elf",
    status = "PolicyStatus",
    derive = "PartialEq",
    doc = "Sends connections to ready pods on the client's own node; without any, as if it were not there.",
    printcolumn(name = "Frontend", type_ = "string", json_path = ".status.frontend"),
    printcolumn(name = "Backends", type_ = "integer", json_path = ".status.backends"),
    printcolumn(name = "Ready", type_ = "integer", json_path = ".status.readyBackends"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(ports_match!("serviceMatcher", "")).message(UNMATCHED),
    validation = Rule::new(ports_match!("addressMatcher", "")).message(UNMATCHED),
)]
pub struct LocalRedirectPolicySpec {
    /// Where it applies, and how much of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Config>,
    /// What is asked for.
    pub frontend: Frontend,
    /// Who answers.
    pub backend: LocalBackend,
}

/// Pods of the client's node.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LocalBackend {
    /// Labels of the pods, in all namespaces.
    #[x_kube(validation = selector::valid())]
    pub endpoint_selector: LabelSelector,
    /// Where they listen.
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(validation = port::found_by_name())]
    pub to_ports: Vec<TargetPort>,
}

/// Sends connections to pods, nodes or addresses; without any, as if it were not there.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "balancing.elf.io",
    version = "v1beta1",
    kind = "BalancingPolicy",
    plural = "balancingpolicies",
    shortname = "bl",
    category = "elf",
    status = "PolicyStatus",
    derive = "PartialEq",
    doc = "Sends connections to pods, nodes or addresses; without any, as if it were not there.",
    printcolumn(name = "Frontend", type_ = "string", json_path = ".status.frontend"),
    printcolumn(name = "Mode", type_ = "string", json_path = ".status.mode"),
    printcolumn(name = "Backends", type_ = "integer", json_path = ".status.backends"),
    printcolumn(name = "Ready", type_ = "integer", json_path = ".status.readyBackends"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(ports_match!("serviceMatcher", ".serviceEndpoint")).message(UNMATCHED),
    validation = Rule::new(ports_match!("addressMatcher", ".serviceEndpoint")).message(UNMATCHED),
    validation = Rule::new(ports_match!("serviceMatcher", ".addressEndpoint")).message(UNMATCHED),
    validation = Rule::new(ports_match!("addressMatcher", ".addressEndpoint")).message(UNMATCHED),
    validation = Rule::new("!has(self.frontend.addressMatcher) || !has(self.backend.addressEndpoint) \
        || self.backend.addressEndpoint.addresses.exists(a, a.contains(':') == self.frontend.addressMatcher.ip.contains(':'))")
        .message("none of the addresses is of the family of the frontend's ip"),
)]
pub struct BalancingPolicySpec {
    /// Where it applies, and how much of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Config>,
    /// What is asked for.
    pub frontend: Frontend,
    /// Who answers.
    pub backend: Backend,
}

/// Who answers: exactly one of these.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.serviceEndpoint) != has(self.addressEndpoint)")
    .message("give exactly one of serviceEndpoint and addressEndpoint"))]
pub struct Backend {
    /// Pods, or the nodes that they run on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_endpoint: Option<ServiceEndpoint>,
    /// Addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address_endpoint: Option<AddressEndpoint>,
}

/// Pods, or the nodes that they run on.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.redirectMode == 'podEndpoint' || self.toPorts.all(p, p.port.matches('^[0-9]+$'))")
    .message("names of container ports mean nothing but with redirectMode podEndpoint: give numbers"))]
pub struct ServiceEndpoint {
    /// Labels of the pods, in all namespaces.
    #[x_kube(validation = selector::valid())]
    pub endpoint_selector: LabelSelector,
    /// Which of their addresses is used.
    #[serde(default)]
    pub redirect_mode: RedirectMode,
    /// Where they listen.
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(validation = port::found_by_name())]
    pub to_ports: Vec<TargetPort>,
}

/// Which address of a pod is used (P8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum RedirectMode {
    /// The pod's own.
    #[default]
    PodEndpoint,
    /// The InternalIP of its node.
    HostPort,
    /// What its node's annotation `balancing.elf.io/nodeProxyIpv4` or `nodeProxyIpv6` says.
    NodeProxy,
}

/// Addresses, of one family or both.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.weights) || size(self.weights) == size(self.addresses)")
        .message("weights needs as many items as addresses: the first weight is that of the first address"),
    validation = Rule::new("!has(self.healthCheck) || has(self.healthCheck.port) || self.toPorts.exists(p, p.protocol == 'TCP')")
        .message("healthCheck needs a port, for no port of toPorts is of TCP, and nothing can be asked over UDP"),
)]
pub struct AddressEndpoint {
    /// The addresses: each frontend uses those of its own family.
    #[schemars(length(min = 1, max = ADDRESSES), inner(length(min = 2, max = 45)))]
    #[x_kube(
        validation = Rule::new("self.all(a, isIP(a))").message("each must be an IPv4 or IPv6 address"),
        validation = Rule::new("self.all(a, self.exists_one(b, b == a))").message("each address once"),
    )]
    pub addresses: Vec<String>,
    /// How much each address gets compared with the others, in the order of `addresses`: 1 to 100. All the same, if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = ADDRESSES), inner(range(min = 1, max = 100)))]
    pub weights: Option<Vec<u32>>,
    /// Where they listen.
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(validation = port::found_by_name())]
    pub to_ports: Vec<Port>,
    /// Each agent asks the addresses whether they are well, and sends nobody to those that are not. Nobody is asked, if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check: Option<HealthCheck>,
}

/// Where a policy applies, and how much of it.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    /// Labels of the nodes where it applies; all, if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = selector::valid())]
    pub node_label_selector: Option<LabelSelector>,
    /// Whether it applies on hosts that are no nodes of the cluster.
    #[serde(default = "yes")]
    pub enable_out_cluster: bool,
    /// Most connections that it redirects in a second, on each node; 0 = any number. What is more goes where it would go
    /// without the policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qos_limit: Option<u32>,
}

fn yes() -> bool {
    true
}

/// Both CustomResourceDefinitions.
pub fn crds() -> [CustomResourceDefinition; 2] {
    [LocalRedirectPolicy::crd(), BalancingPolicy::crd()]
}

#[cfg(test)]
mod tests;
