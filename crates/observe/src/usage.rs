//! Who uses what: connections as the programs count them, with names.

use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::event::{Policy, Service, Who};

/// How connections have gone lately. What is idle for long, or has no room, is left out; `unattributed` says how much.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// When the programs' counts were last read; null before the first time.
    pub time: Option<Timestamp>,
    /// Seconds between the last two readings: what `recent` counts are about.
    pub seconds: f64,
    /// By client, service port or policy, and reason.
    pub clients: Vec<ClientUse>,
    /// By service port or policy, and backend.
    pub backends: Vec<BackendUse>,
    /// Decisions since the agent started that there was no room to count by client or backend.
    pub unattributed: u64,
}

/// How often decisions were made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Count {
    /// Since the agent started, with what was counted while none ran; or since this was last forgotten as idle.
    pub total: u64,
    /// Between the last two readings.
    pub recent: u64,
    /// In the last minute.
    pub minute: u64,
}

/// What one client asked of one service port or policy, and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClientUse {
    /// Who.
    pub client: Who,
    /// The service port; null where a policy decided, or it was none's.
    pub service: Option<Service>,
    /// The policy that decided.
    pub policy: Option<Policy>,
    /// What became of it.
    pub verdict: String,
    /// Why.
    pub reason: String,
    /// How often.
    #[serde(flatten)]
    pub count: Count,
    /// When it was last seen, to the reading; null: before the agent started.
    pub last: Option<Timestamp>,
}

/// How near a backend is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Locality {
    /// On this node.
    Node,
    /// In this zone.
    Zone,
    /// Elsewhere.
    Other,
    /// It has no node.
    #[default]
    Unknown,
}

impl Locality {
    /// As answers and labels have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Zone => "zone",
            Self::Other => "other",
            Self::Unknown => "unknown",
        }
    }
}

/// What one backend of a service port or policy got.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackendUse {
    /// The service port; null where it is a policy's.
    pub service: Option<Service>,
    /// The policy.
    pub policy: Option<Policy>,
    /// Its address.
    pub ip: IpAddr,
    /// Its port.
    pub port: u16,
    /// Namespace of its pod.
    pub namespace: Option<String>,
    /// Its pod.
    pub pod: Option<String>,
    /// Its node.
    pub node: Option<String>,
    /// How near it is.
    pub locality: Locality,
    /// How often it was chosen.
    #[serde(flatten)]
    pub count: Count,
}
