//! What could not be programmed, and why.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use abi::Key;
use model::ServicePortName;
use thiserror::Error;

use crate::{describe, table::Room};

/// Something desired that is not in the table. It stays desired: each later diff tries again, so it is
/// programmed as soon as there is room.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// There is no room left.
    #[error("{room} full ({capacity} entries): {subject} can't be programmed; raise the capacity of {room}")]
    Full {
        /// What is full.
        room: Room,
        /// How much it holds.
        capacity: u32,
        /// What was left out.
        subject: Subject,
    },
    /// A name is longer than the kernel's tables hold, which no valid Kubernetes name is.
    #[error("the {field} of {} is longer than {limit} bytes", describe::port(.port))]
    Name {
        /// Whose name.
        port: ServicePortName,
        /// Which part of it.
        field: &'static str,
        /// How long it may be.
        limit: usize,
    },
}

impl Refusal {
    /// What is full, if it is that.
    pub fn room(&self) -> Option<Room> {
        match self {
            Self::Full { room, .. } => Some(*room),
            Self::Name { .. } => None,
        }
    }
}

/// What a [`Refusal`] is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A whole service port.
    Port(ServicePortName),
    /// Some backends of a service port; the others are used.
    Backends {
        /// The service port.
        port: ServicePortName,
        /// How many are left out.
        count: usize,
        /// The first of them.
        first: SocketAddr,
    },
    /// A frontend, or a change of it: what it was before stays as it is.
    Frontend(Key),
    /// Source ranges of a service port: its load balancer VIPs stay as they are.
    Sources(ServicePortName),
    /// What an address is.
    Address(IpAddr),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(port) => write!(f, "service port {}", describe::port(port)),
            Self::Backends { port, count, first } => {
                write!(f, "{count} backends of {} (first {first})", describe::port(port))
            }
            Self::Frontend(key) => write!(f, "frontend {}", describe::key(key)),
            Self::Sources(port) => write!(f, "source ranges of {}", describe::port(port)),
            Self::Address(ip) => write!(f, "address {ip}"),
        }
    }
}
