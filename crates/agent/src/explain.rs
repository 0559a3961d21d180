//! `balancing why`: one decision, replayed on the live tables by the code that the kernel runs.

use std::net::SocketAddr;

use abi::{Endpoint, Key, Name, Range, Reason, Record, frontend::mode};
use datapath::{Env, decision, look_up};
use serde::Serialize;

/// A decision, and what it was made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// What is asked for.
    pub destination: SocketAddr,
    /// `TCP` or `UDP`.
    pub protocol: &'static str,
    /// What would become of it.
    pub verdict: &'static str,
    /// Why.
    pub reason: &'static str,
    /// The service port; null if it is none, or its name is not known.
    pub service: Option<ServicePort>,
    /// Kind of frontend.
    pub mode: Option<&'static str>,
    /// Backends, one of which would be chosen, each as likely as the others.
    pub backends: Vec<SocketAddr>,
}

impl Explanation {
    /// The same for a client that the programs do not see: nothing happens to it.
    pub fn unseen(self) -> Self {
        let Self { destination, protocol, .. } = self;
        let (verdict, reason) = ("passed", "not-served");
        Self { destination, protocol, verdict, reason, service: None, mode: None, backends: Vec::new() }
    }
}

/// A service port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServicePort {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Name of the port.
    pub port: String,
}

impl From<&Name> for ServicePort {
    fn from(name: &Name) -> Self {
        Self {
            namespace: Name::text(&name.namespace).into(),
            name: Name::text(&name.service).into(),
            port: Name::text(&name.port).into(),
        }
    }
}

/// Replays what a new connection to `destination` would meet in `tables`; `names` gives the owner of a service
/// port id.
pub fn explain<E: Env>(
    tables: &E,
    names: impl Fn(u32) -> Option<Name>,
    destination: SocketAddr,
    protocol: u8,
) -> Explanation {
    let key = Key { endpoint: Endpoint::from(destination), protocol };
    let mut explanation = Explanation {
        destination,
        protocol: observe::event::protocol(protocol),
        verdict: "",
        reason: "",
        service: None,
        mode: None,
        backends: Vec::new(),
    };
    let reason = if tables.settings().paused != 0 {
        Reason::Paused
    } else {
        match look_up(tables, &key) {
            (None, reason) => reason,
            (Some(record), _) => {
                explanation.service = names(record.service).as_ref().map(ServicePort::from);
                explanation.mode = Some(mode::name(record.mode));
                explanation.backends = backends(tables, &record);
                decision::choose(tables, &record, 1, |_| false).reason
            }
        }
    };
    explanation.verdict = reason.verdict().name();
    explanation.reason = reason.name();
    explanation
}

/// All backends in a record's list, in its order.
pub fn backends<E: Env>(tables: &E, record: &Record) -> Vec<SocketAddr> {
    let Range { len, .. } = record.local;
    (0..len)
        .map(|offset| decision::at(tables, record, offset))
        .filter(decision::Choice::is_some)
        .map(|choice| choice.endpoint.socket_addr())
        .collect()
}
