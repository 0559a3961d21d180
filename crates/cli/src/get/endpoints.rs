//! `balancing get endpoints`: backends, joined with what the agent knows of them.

use std::{
    collections::{BTreeSet, HashMap},
    net::SocketAddr,
};

use abi::{Name, frontend::backend_flag};
use agent::local::PortEndpoints;
use kernel::Contents;
use observe::event::protocol;
use serde::Serialize;

use super::{
    filter::{Facts, Subject},
    known::Known,
    service_port::ServicePort,
};
use crate::output::{Row, or_dash};

/// A backend of a service port.
#[derive(Serialize)]
pub(super) struct Endpoint {
    #[serde(flatten)]
    service_port: ServicePort,
    protocol: &'static str,
    address: SocketAddr,
    state: &'static str,
    pod: Option<String>,
    node: Option<String>,
    zone: Option<String>,
    index: u32,
    generation: u32,
}

impl Subject for Endpoint {
    const NOUN: (&'static str, &'static str) = ("endpoint", "endpoints");
    const FILTERS: &'static [&'static str] = &["--namespace", "--protocol", "--family", "--state"];

    fn key(&self) -> String {
        format!("{}/{}/{}", self.service_port, self.protocol, self.address)
    }

    fn facts(&self) -> Facts<'_> {
        Facts {
            protocol: self.protocol,
            addresses: vec![self.address.ip()],
            state: self.state,
            ..self.service_port.facts()
        }
    }
}

impl Row for Endpoint {
    const HEADS: &'static [&'static str] = &[
        "NAMESPACE",
        "SERVICE",
        "PORT",
        "ADDRESS",
        "PROTOCOL",
        "STATE",
        "POD",
        "NODE",
        "ZONE",
        "INDEX",
        "GENERATION",
    ];
    const NARROW: usize = 6;

    fn cells(&self) -> Vec<String> {
        let [namespace, service, port] = self.service_port.cells();
        vec![
            namespace,
            service,
            port,
            self.address.to_string(),
            self.protocol.into(),
            self.state.into(),
            or_dash(self.pod.as_ref()),
            or_dash(self.node.as_ref()),
            or_dash(self.zone.as_ref()),
            self.index.to_string(),
            self.generation.to_string(),
        ]
    }
}

/// All of them, by name of the service.
pub(super) fn rows(contents: &Contents, known: Vec<PortEndpoints>) -> Vec<Endpoint> {
    let names: HashMap<u32, &Name> = contents.names.iter().map(|(id, name)| (*id, name)).collect();
    let mut listed: BTreeSet<u32> = BTreeSet::new();
    let records: HashMap<u32, _> = contents.records.iter().map(|(index, record)| (*index, record)).collect();
    for (_, index) in &contents.frontends {
        let Some(range) = records.get(index).map(|record| record.local) else { continue };
        let end = range.start.saturating_add(range.len) as usize;
        for backend in contents.lists.get(range.start as usize..end).unwrap_or_default() {
            listed.insert(*backend);
        }
    }
    let known = Known::new(known);
    let live = contents.backends.iter().filter(|(_, backend)| backend.flags & backend_flag::LIVE != 0);
    let mut rows: Vec<Endpoint> = live
        .map(|(index, backend)| {
            let name = names.get(&backend.service).copied();
            let service_port = ServicePort::new(name);
            let protocol = name.map_or("?", |name| protocol(name.protocol));
            let address = backend.endpoint().socket_addr();
            let detail = known.find(&service_port, protocol, address);
            Endpoint {
                service_port,
                protocol,
                address,
                state: state(backend.flags, listed.contains(index)),
                pod: detail.and_then(|it| it.pod.clone()),
                node: detail.and_then(|it| it.node.clone()),
                zone: detail.and_then(|it| it.zone.clone()),
                index: *index,
                generation: backend.generation,
            }
        })
        .collect();
    rows.sort_by_cached_key(|it| (it.service_port.clone(), it.protocol, it.address));
    rows
}

fn state(flags: u16, listed: bool) -> &'static str {
    match (listed, flags & backend_flag::TERMINATING != 0) {
        (true, true) => "last resort",
        (true, false) => "in use",
        (false, _) => "not selected",
    }
}
