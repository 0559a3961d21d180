//! Ports of frontends and backends.

use kube::{KubeSchema, core::Rule};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A port by number.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// 1 to 65535, as a text.
    #[schemars(length(min = 1, max = 5))]
    #[x_kube(validation = Rule::new("self.matches('^[0-9]{1,5}$') && int(self) >= 1 && int(self) <= 65535")
        .message("must be a port number from 1 to 65535, as a text: \"80\""))]
    pub port: String,
    /// TCP or UDP.
    pub protocol: PortProtocol,
    /// What tells it from others of its protocol, and ties it to that of the other side.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub name: Option<String>,
}

/// A port of pods: a number, or the name of a container port, which may be another number in each pod.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetPort {
    /// 1 to 65535 as a text, or a name.
    #[schemars(length(min = 1, max = 15))]
    #[x_kube(validation = Rule::new("self.matches('^[0-9]+$') ? size(self) <= 5 && int(self) >= 1 && int(self) <= 65535 \
        : self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')")
        .message("must be a port number from 1 to 65535, as a text: \"80\"; or the name of a container port"))]
    pub port: String,
    /// TCP or UDP.
    pub protocol: PortProtocol,
    /// What tells it from others of its protocol, and ties it to that of the other side.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub name: Option<String>,
}

/// TCP or UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum PortProtocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// Of frontends: no port twice.
pub(super) fn numbered_once() -> Rule {
    Rule::new("self.all(p, self.exists_one(q, q.protocol == p.protocol && q.port == p.port))")
        .message("each port and protocol once")
}

/// Of frontends: no name twice. Any number may have none.
pub(super) fn named_once() -> Rule {
    Rule::new(
        "self.all(p, !has(p.name) || p.name == '' || \
         self.exists_one(q, q.protocol == p.protocol && has(q.name) && q.name == p.name))",
    )
    .message("each name once for each protocol")
}

/// Of backends: each is found by its name, so only one may have none.
pub(super) fn found_by_name() -> Rule {
    Rule::new(
        "self.all(p, self.exists_one(q, q.protocol == p.protocol && \
         (has(q.name) ? q.name : '') == (has(p.name) ? p.name : '')))",
    )
    .message("each name once for each protocol, and one without a name at most")
}
