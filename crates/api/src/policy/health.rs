//! Whether an address of a backend answers.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How each agent asks an address whether it is well.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.timeoutSeconds <= self.intervalSeconds")
        .message("timeoutSeconds must not be more than intervalSeconds"),
    validation = Rule::new("self.protocol == 'http' || !has(self.path)")
        .message("path means something with protocol http only"),
)]
pub struct HealthCheck {
    /// `tcp`: it accepts a connection. `http`: it answers a GET with a status from 200 to 399.
    pub protocol: HealthCheckProtocol,
    /// The port that is asked; the first of `toPorts` that is of TCP, if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
    /// What is asked for with `http`; `/`, if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = Rule::new("self.matches('^/[!-~]*$')").message("must begin with / and have no spaces"))]
    pub path: Option<String>,
    /// From one question to the next.
    #[serde(default = "ten")]
    #[schemars(range(min = 1, max = 300))]
    pub interval_seconds: u32,
    /// No answer for so long is a bad one.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 300))]
    pub timeout_seconds: u32,
    /// So many good answers one after another make an address healthy.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 10))]
    pub healthy_threshold: u32,
    /// So many bad answers one after another make an address unhealthy.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 10))]
    pub unhealthy_threshold: u32,
    /// What is done while no address is healthy.
    #[serde(default)]
    pub when_all_unhealthy: AllUnhealthy,
}

/// What an address is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HealthCheckProtocol {
    /// For a connection.
    Tcp,
    /// For an answer to a GET.
    Http,
}

/// What is done while no address is healthy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AllUnhealthy {
    /// As if all were: the checks may be what is wrong.
    #[default]
    UseAll,
    /// Connections are refused.
    Refuse,
}

fn one() -> u32 {
    1
}

fn three() -> u32 {
    3
}

fn ten() -> u32 {
    10
}
