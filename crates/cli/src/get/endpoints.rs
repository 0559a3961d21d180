//! `balancing get endpoints`: backends, joined with what the agent knows of them.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::SocketAddr,
};

use abi::{Name, frontend::backend_flag};
use agent::local::{self, PortEndpoints};
use kernel::Contents;
use observe::event::protocol;
use serde::Serialize;

use super::{
    filter::{Facts, Subject},
    known::Known,
    service_port::ServicePort,
    usage::Chosen,
};
use crate::{
    output::{Row, or_dash},
    tone::Tone,
};

const IN_USE: &str = "in use";
const NOT_SELECTED: &str = "not selected";
/// Standing of what the agent has selected a moment ago, or has no room for.
const NOT_YET: &str = "not yet in the tables";

/// An endpoint of a service port, or a backend of a policy.
#[derive(Serialize)]
pub(super) struct Endpoint {
    #[serde(flatten)]
    service_port: ServicePort,
    protocol: String,
    address: SocketAddr,
    state: &'static str,
    /// Why; null if the agent does not run.
    standing: Option<String>,
    /// Connections of this node to it in the last minute; null if the agent does not say.
    #[serde(rename = "lastMinute")]
    last_minute: Option<u64>,
    /// The same since the agent started.
    total: Option<u64>,
    pod: Option<String>,
    node: Option<String>,
    zone: Option<String>,
    /// Where the tables have it; null if they have not, as nothing leads there.
    index: Option<u32>,
    generation: Option<u32>,
}

impl Subject for Endpoint {
    const NOUN: (&'static str, &'static str) = ("endpoint", "endpoints");
    const LISTING: &'static str = "endpoints";
    const NONE: &'static str =
        "`balancing status` says whether the sources are synced and how many objects there are";
    const FILTERS: &'static [&'static str] = &["--namespace", "--protocol", "--family", "--state"];

    fn key(&self) -> String {
        format!("{}/{}/{}", self.service_port, self.protocol, self.address)
    }

    fn facts(&self) -> Facts<'_> {
        Facts {
            protocol: &self.protocol,
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
        "MINUTE",
        "TOTAL",
        "POD",
        "NODE",
        "ZONE",
        "INDEX",
        "GENERATION",
    ];
    const NARROW: usize = 8;

    fn cells(&self) -> Vec<String> {
        let [namespace, service, port] = self.service_port.cells();
        vec![
            namespace,
            service,
            port,
            self.address.to_string(),
            self.protocol.clone(),
            match &self.standing {
                // It says more, in fewer words.
                Some(why) if self.state == NOT_SELECTED => why.clone(),
                _ => self.state.into(),
            },
            or_dash(self.last_minute),
            or_dash(self.total),
            or_dash(self.pod.as_ref()),
            or_dash(self.node.as_ref()),
            or_dash(self.zone.as_ref()),
            or_dash(self.index),
            or_dash(self.generation),
        ]
    }

    fn tone(&self) -> Tone {
        if self.state == IN_USE { Tone::Plain } else { Tone::Warn }
    }
}

/// All of them, by name of the service: those that the tables have, and those that only the agent knows.
pub(super) fn rows(contents: &Contents, known: Vec<PortEndpoints>, chosen: Option<&Chosen>) -> Vec<Endpoint> {
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
            let count = chosen.map(|chosen| chosen.count(&service_port, address));
            let state = state(backend.flags, listed.contains(index));
            // Another kind of traffic than the agent was asked about may select it all the same, and the other way around.
            let fits = |it: &&local::Endpoint| it.selected == (state != NOT_SELECTED);
            Endpoint {
                service_port,
                protocol: protocol.to_owned(),
                address,
                state,
                standing: detail.filter(fits).map(|it| it.standing.clone()),
                last_minute: count.map(|count| count.minute),
                total: count.map(|count| count.total),
                pod: detail.and_then(|it| it.pod.clone()),
                node: detail.and_then(|it| it.node.clone()),
                zone: detail.and_then(|it| it.zone.clone()),
                index: Some(*index),
                generation: Some(backend.generation),
            }
        })
        .collect();
    let seen: HashSet<_> =
        rows.iter().map(|it| (it.service_port.clone(), it.protocol.clone(), it.address)).collect();
    let unseen = known.all().filter(|(key, _)| !seen.contains(key));
    rows.extend(unseen.map(|((service_port, protocol, address), it)| {
        let count = chosen.map(|chosen| chosen.count(service_port, *address));
        Endpoint {
            service_port: service_port.clone(),
            protocol: protocol.clone(),
            address: *address,
            state: NOT_SELECTED,
            standing: Some(if it.selected { NOT_YET.into() } else { it.standing.clone() }),
            last_minute: count.map(|count| count.minute),
            total: count.map(|count| count.total),
            pod: it.pod.clone(),
            node: it.node.clone(),
            zone: it.zone.clone(),
            index: None,
            generation: None,
        }
    }));
    rows.sort_by_cached_key(|it| (it.service_port.clone(), it.protocol.clone(), it.address));
    rows
}

fn state(flags: u16, listed: bool) -> &'static str {
    match (listed, flags & backend_flag::TERMINATING != 0) {
        (true, true) => "last resort",
        (true, false) => IN_USE,
        (false, _) => NOT_SELECTED,
    }
}
