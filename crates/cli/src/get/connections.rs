//! `balancing get connections`: sockets that were translated and live, as their slots tell.

use std::{collections::HashMap, net::SocketAddr};

use abi::{Backend, Name};
use agent::local::PortEndpoints;
use kernel::{Maps, Slots, TableStore};
use observe::event::protocol;
use serde::Serialize;

use super::{
    filter::{Facts, Subject},
    known::Known,
    service_port::ServicePort,
};
use crate::{
    output::{Row, or_dash},
    tone::Tone,
};

/// A living socket and its first destination.
#[derive(Serialize)]
pub(super) struct Connection {
    #[serde(flatten)]
    service_port: ServicePort,
    protocol: &'static str,
    /// What the application asked for.
    original: SocketAddr,
    /// Where it went.
    backend: SocketAddr,
    state: &'static str,
    /// By `connect()`; else by sending.
    connected: bool,
    /// It may have more destinations than this one, in its storage.
    more: bool,
    pod: Option<String>,
    node: Option<String>,
    cookie: u64,
}

impl Subject for Connection {
    const NOUN: (&'static str, &'static str) = ("connection", "connections");
    const LISTING: &'static str = "connections";
    const NONE: &'static str =
        "no living socket has been led to a backend; `balancing events -f --level all` shows new ones";
    const FILTERS: &'static [&'static str] = &["--namespace", "--protocol", "--family", "--state"];

    fn key(&self) -> String {
        self.cookie.to_string()
    }

    fn facts(&self) -> Facts<'_> {
        Facts {
            protocol: self.protocol,
            addresses: vec![self.original.ip()],
            state: self.state,
            ..self.service_port.facts()
        }
    }
}

impl Row for Connection {
    const HEADS: &'static [&'static str] = &[
        "NAMESPACE",
        "SERVICE",
        "PORT",
        "PROTOCOL",
        "ORIGINAL",
        "BACKEND",
        "STATE",
        "BY",
        "MORE",
        "POD",
        "NODE",
        "COOKIE",
    ];
    const NARROW: usize = 7;

    fn cells(&self) -> Vec<String> {
        let [namespace, service, port] = self.service_port.cells();
        vec![
            namespace,
            service,
            port,
            self.protocol.into(),
            self.original.to_string(),
            self.backend.to_string(),
            self.state.into(),
            if self.connected { "connect".into() } else { "send".into() },
            if self.more { "yes".into() } else { "-".into() },
            or_dash(self.pod.as_ref()),
            or_dash(self.node.as_ref()),
            self.cookie.to_string(),
        ]
    }

    fn tone(&self) -> Tone {
        if self.state == "stale" { Tone::Warn } else { Tone::Plain }
    }
}

/// All of them, by service and destination.
pub(super) fn rows(maps: &Maps, known: Vec<PortEndpoints>) -> anyhow::Result<Vec<Connection>> {
    let slots = Slots::open(maps)?;
    let contents = maps.read()?;
    let names: HashMap<u32, &Name> = contents.names.iter().map(|(id, name)| (*id, name)).collect();
    let backends: HashMap<u32, &Backend> = contents.backends.iter().map(|(index, it)| (*index, it)).collect();
    let known = Known::new(known);
    let mut rows: Vec<Connection> = slots
        .connections()
        .map(|connection| {
            let service_port = ServicePort::new(names.get(&connection.service).copied());
            let (protocol, backend) = (protocol(connection.protocol), connection.backend.socket_addr());
            let detail = known.find(&service_port, protocol, backend);
            let stays = connection.may_stay(backends.get(&connection.ids.backend).copied());
            Connection {
                protocol,
                original: connection.vip.socket_addr(),
                backend,
                state: if stays { "in use" } else { "stale" },
                connected: connection.connected,
                more: slots.uses_storage(connection.cookie),
                pod: detail.and_then(|it| it.pod.clone()),
                node: detail.and_then(|it| it.node.clone()),
                cookie: connection.cookie,
                service_port,
            }
        })
        .collect();
    rows.sort_by_cached_key(|it| (it.service_port.clone(), it.original, it.protocol, it.backend, it.cookie));
    Ok(rows)
}
