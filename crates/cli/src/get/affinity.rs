//! `balancing get affinity`: which backend each client keeps (R23).

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
};

use abi::{
    Address, Backend, Client, Name,
    frontend::backend_flag::{CLUSTER, INTERNAL, LIVE},
    slot::Ids,
};
use agent::local::PortEndpoints;
use kernel::{Maps, TableStore};
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

const SECOND: u64 = 1_000_000_000;

/// A client and what it keeps.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Affinity {
    #[serde(flatten)]
    service_port: ServicePort,
    protocol: &'static str,
    /// Cookie of the client's network namespace.
    netns_cookie: u64,
    /// It is the host's network namespace.
    host: bool,
    /// The client's address; null where nothing tells.
    client: Option<IpAddr>,
    /// Null if it is gone.
    backend: Option<SocketAddr>,
    state: &'static str,
    /// Since its last connection.
    age_seconds: u64,
    /// Until it is forgotten; null if the service has no affinity any more.
    expires_in_seconds: Option<u64>,
    pod: Option<String>,
    node: Option<String>,
    index: u32,
    #[serde(skip)]
    family: Option<IpAddr>,
}

impl Subject for Affinity {
    const NOUN: (&'static str, &'static str) = ("affinity", "affinities");
    const LISTING: &'static str = "affinity";
    const NONE: &'static str = "only services with sessionAffinity ClientIP have clients that keep a backend";
    const FILTERS: &'static [&'static str] = &["--namespace", "--protocol", "--family", "--state"];

    fn key(&self) -> String {
        format!("{}/{}/{}/{:?}", self.netns_cookie, self.service_port, self.protocol, self.family)
    }

    fn facts(&self) -> Facts<'_> {
        Facts {
            protocol: self.protocol,
            addresses: self.family.into_iter().collect(),
            state: self.state,
            ..self.service_port.facts()
        }
    }
}

impl Row for Affinity {
    const HEADS: &'static [&'static str] = &[
        "NAMESPACE",
        "SERVICE",
        "PORT",
        "PROTOCOL",
        "CLIENT",
        "NETNS",
        "BACKEND",
        "STATE",
        "AGE",
        "LEFT",
        "POD",
        "NODE",
        "INDEX",
    ];
    const NARROW: usize = 10;

    fn cells(&self) -> Vec<String> {
        let [namespace, service, port] = self.service_port.cells();
        let client = match (self.client, self.host) {
            (Some(ip), _) => ip.to_string(),
            (None, true) => "host".into(),
            (None, false) => "-".into(),
        };
        vec![
            namespace,
            service,
            port,
            self.protocol.into(),
            client,
            self.netns_cookie.to_string(),
            or_dash(self.backend),
            self.state.into(),
            format!("{} s", self.age_seconds),
            or_dash(self.expires_in_seconds.map(|left| format!("{left} s"))),
            or_dash(self.pod.as_ref()),
            or_dash(self.node.as_ref()),
            self.index.to_string(),
        ]
    }

    fn tone(&self) -> Tone {
        if self.state == "stale" { Tone::Warn } else { Tone::Plain }
    }
}

/// All of them, by service and client.
pub(super) fn rows(maps: &Maps, known: Vec<PortEndpoints>) -> anyhow::Result<Vec<Affinity>> {
    let kept = maps.affinities()?;
    let now = agent::client::monotonic();
    let contents = maps.read()?;
    let host = maps.settings()?.host_netns;
    let clients: BTreeMap<u64, Client> = maps.clients()?.into_iter().collect();
    // Who is nowhere in `clients`, which is kept for source ranges only, may be found all the same.
    let is_known = kept.iter().all(|it| clients.contains_key(&it.client));
    let seen = if is_known { BTreeMap::new() } else { agent::client::addresses() };
    let names: HashMap<u32, &Name> = contents.names.iter().map(|(id, name)| (*id, name)).collect();
    let backends: HashMap<u32, &Backend> = contents.backends.iter().map(|(index, it)| (*index, it)).collect();
    let seconds: HashMap<u32, u64> = contents
        .records
        .iter()
        .filter(|(_, record)| record.affinity != 0)
        .map(|(_, record)| (record.service, record.affinity.into()))
        .collect();
    let known = Known::new(known);
    let mut rows: Vec<Affinity> =
        kept.into_iter()
            .map(|entry| {
                let name = names.get(&entry.service).copied();
                let service_port = ServicePort::new(name);
                let protocol = name.map_or("?", |name| protocol(name.protocol));
                let ids = Ids::unpack(entry.words.ids);
                let is_it = |it: &&&Backend| it.generation == ids.generation && it.service == entry.service;
                let backend = backends.get(&ids.backend).filter(is_it);
                let is_v4 = name.is_some_and(|name| name.family == 4);
                let address = backend.map(|backend| backend.endpoint().socket_addr());
                let detail = address.and_then(|it| known.find(&service_port, protocol, it));
                let age = now.saturating_sub(entry.words.used);
                let timeout = seconds.get(&entry.service).map(|seconds| seconds * SECOND);
                let is_over = timeout.is_none_or(|timeout| age > timeout);
                let is_listed = |it: &&Backend| it.flags & LIVE != 0 && it.flags & (INTERNAL | CLUSTER) != 0;
                let is_used = !is_over && backend.is_some_and(is_listed);
                Affinity {
                    protocol,
                    netns_cookie: entry.client,
                    host: entry.client == host,
                    client: clients.get(&entry.client).and_then(|client| address_of(client, is_v4)).or_else(
                        || seen.get(&entry.client)?.iter().find(|ip| ip.is_ipv4() == is_v4).copied(),
                    ),
                    backend: address,
                    state: if is_used { "in use" } else { "stale" },
                    age_seconds: age / SECOND,
                    expires_in_seconds: timeout.map(|timeout| timeout.saturating_sub(age) / SECOND),
                    pod: detail.and_then(|it| it.pod.clone()),
                    node: detail.and_then(|it| it.node.clone()),
                    index: ids.backend,
                    family: name.map(|name| match name.family {
                        4 => IpAddr::from([0u8; 4]),
                        _ => IpAddr::from([0u8; 16]),
                    }),
                    service_port,
                }
            })
            .collect();
    rows.sort_by_cached_key(|it| {
        (it.service_port.clone(), it.protocol, it.family, it.client, it.netns_cookie)
    });
    Ok(rows)
}

/// Its address of a family.
fn address_of(client: &Client, is_v4: bool) -> Option<IpAddr> {
    let (word, words) = (client.v4, client.v6);
    let v4 = || (word != 0).then(|| Address::v4(word).ip());
    let v6 = || (words != [0; 4]).then(|| Address(words).ip());
    if is_v4 { v4() } else { v6() }
}
