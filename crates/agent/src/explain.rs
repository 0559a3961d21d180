//! `balancing why`: one decision, replayed on the live tables by the code that the kernel runs.

use std::net::SocketAddr;

use abi::{Endpoint, Key, Name, Range, Reason, Record, frontend::mode};
use datapath::{Caller, Env, affinity, decision, resolve};
use kernel::{LiveTables, Maps};
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
    /// R23: for how many seconds a client keeps its backend; null if the service has no affinity.
    pub affinity_seconds: Option<u32>,
    /// The backend that this client keeps; null if it has none now.
    pub kept: Option<SocketAddr>,
}

/// Who a decision is explained for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asker {
    /// Cookie of its network namespace.
    pub netns: u64,
    /// It is in a cgroup that is left alone.
    pub excluded: bool,
}

impl Caller for Asker {
    fn netns(&self) -> u64 {
        self.netns
    }

    fn is_excluded(&self) -> bool {
        self.excluded
    }
}

impl Explanation {
    /// The same for a client that the programs do not see: nothing happens to it.
    pub fn unseen(self) -> Self {
        let Self { destination, protocol, .. } = self;
        let (verdict, reason) = ("passed", "not-served");
        Self { verdict, reason, ..Self::new(destination, protocol) }
    }

    fn new(destination: SocketAddr, protocol: &'static str) -> Self {
        Self {
            destination,
            protocol,
            verdict: "",
            reason: "",
            service: None,
            mode: None,
            backends: Vec::new(),
            affinity_seconds: None,
            kept: None,
        }
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

/// The live tables, now.
pub fn live(maps: &Maps) -> LiveTables<'_> {
    LiveTables::new(maps).at(host::clock::monotonic())
}

/// Replays what a new connection of `asker` to `destination` would meet in `tables`; `names` gives the owner of a
/// service port id.
pub fn explain<E: Env>(
    tables: &E,
    names: impl Fn(u32) -> Option<Name>,
    asker: &Asker,
    destination: SocketAddr,
    protocol: u8,
) -> Explanation {
    let key = Key { endpoint: Endpoint::from(destination), protocol };
    let mut explanation = Explanation::new(destination, observe::event::protocol(protocol));
    let (record, found) = resolve(tables, asker, &key);
    let mut reason = found.reason;
    if let Some(record) = record {
        explanation.service = names(record.service).as_ref().map(ServicePort::from);
        explanation.mode = Some(mode::name(record.mode));
        explanation.affinity_seconds = Some(record.affinity).filter(|seconds| *seconds != 0);
        if reason == Reason::Balanced {
            explanation.backends = backends(tables, &record);
            let kept = affinity::recalled(tables, asker, &record, found.record);
            let choice = if kept.is_some() { kept } else { decision::choose(tables, &record, 1, |_| false) };
            let (backend, why) = choice.backend(tables, &record);
            explanation.kept =
                backend.filter(|_| kept.is_some()).map(|backend| backend.endpoint().socket_addr());
            reason = why;
        }
    }
    explanation.verdict = reason.verdict().name();
    explanation.reason = reason.name();
    explanation
}

/// All backends in a record's list, in its order.
pub fn backends<E: Env>(tables: &E, record: &Record) -> Vec<SocketAddr> {
    let Range { len, .. } = record.local;
    (0..len)
        .map(|offset| decision::at(tables, record, offset).backend(tables, record))
        .filter_map(|(backend, _)| Some(backend?.endpoint().socket_addr()))
        .collect()
}
