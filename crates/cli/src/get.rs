//! `balancing get`: what the kernel holds, joined with names.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::SocketAddr,
    process::ExitCode,
};

use abi::{
    Name,
    frontend::{backend_flag, mode},
};
use agent::local::{self, PortEndpoints, Request};
use clap::{Args, ValueEnum};
use kernel::{Contents, Maps, TableStore};
use observe::event::protocol;
use serde::Serialize;

use crate::{
    output::{Format, Row, list},
    place::Place,
};

/// List what the kernel holds; works without the agent, which adds pods and nodes
#[derive(Args)]
#[command(
    after_help = "Examples:\n  balancing get services -n default\n  balancing get endpoints -o wide\n  \
                        balancing get maps -o json"
)]
pub(crate) struct Options {
    /// What to list
    #[arg(value_enum)]
    what: What,
    /// Only this namespace
    #[arg(short, long, value_name = "NAME")]
    namespace: Option<String>,
    /// All namespaces, which is the default
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    all_namespaces: bool,
    /// Form of the listing
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    place: Place,
}

#[derive(Clone, Copy, ValueEnum)]
enum What {
    Services,
    Endpoints,
    Maps,
}

impl Options {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let maps = self.place.maps()?;
        let wanted = |namespace: &str| self.namespace.as_deref().is_none_or(|only| only == namespace);
        match self.what {
            What::Services => {
                let mut rows = services(&maps.read()?);
                rows.retain(|row| wanted(&row.namespace));
                list(&rows, self.output, "no services in the kernel's tables")?;
            }
            What::Endpoints => {
                // Without the agent there are no pods and nodes, and that is all that is missing.
                let known =
                    self.place.ask_if_running(&Request::Endpoints { service: None })?.unwrap_or_default();
                let mut rows = endpoints(&maps.read()?, known);
                rows.retain(|row| wanted(&row.namespace));
                list(&rows, self.output, "no endpoints in the kernel's tables")?;
            }
            What::Maps => list(&map_rows(&maps)?, self.output, "no maps")?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

#[derive(Serialize)]
struct Service {
    namespace: String,
    service: String,
    port: String,
    protocol: &'static str,
    frontend: SocketAddr,
    mode: &'static str,
    backends: u32,
    id: u32,
    record: u32,
}

impl Row for Service {
    const HEADS: &'static [&'static str] =
        &["NAMESPACE", "SERVICE", "PORT", "FRONTEND", "PROTOCOL", "MODE", "BACKENDS", "ID", "RECORD"];
    const NARROW: usize = 7;

    fn cells(&self) -> Vec<String> {
        vec![
            self.namespace.clone(),
            self.service.clone(),
            if self.port.is_empty() { "-".into() } else { self.port.clone() },
            self.frontend.to_string(),
            self.protocol.into(),
            self.mode.into(),
            self.backends.to_string(),
            self.id.to_string(),
            self.record.to_string(),
        ]
    }
}

fn services(contents: &Contents) -> Vec<Service> {
    let names: HashMap<u32, &Name> = contents.names.iter().map(|(id, name)| (*id, name)).collect();
    let records: HashMap<u32, _> = contents.records.iter().map(|(index, record)| (*index, record)).collect();
    let mut rows: Vec<Service> = contents
        .frontends
        .iter()
        .filter_map(|(key, index)| {
            let record = records.get(index)?;
            let name = names.get(&record.service);
            Some(Service {
                namespace: text(name.map(|name| &name.namespace[..])),
                service: text(name.map(|name| &name.service[..])),
                port: text(name.map(|name| &name.port[..])),
                protocol: protocol(key.protocol),
                frontend: key.endpoint.socket_addr(),
                mode: mode::name(record.mode),
                backends: record.local.len,
                id: record.service,
                record: *index,
            })
        })
        .collect();
    rows.sort_by(|a, b| {
        (&a.namespace, &a.service, &a.port, a.frontend, a.protocol).cmp(&(
            &b.namespace,
            &b.service,
            &b.port,
            b.frontend,
            b.protocol,
        ))
    });
    rows
}

fn text(bytes: Option<&[u8]>) -> String {
    bytes.map(Name::text).unwrap_or("?").to_owned()
}

#[derive(Serialize)]
struct Endpoint {
    namespace: String,
    service: String,
    port: String,
    protocol: &'static str,
    address: SocketAddr,
    state: &'static str,
    pod: Option<String>,
    node: Option<String>,
    zone: Option<String>,
    index: u32,
    generation: u32,
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
        let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
        vec![
            self.namespace.clone(),
            self.service.clone(),
            if self.port.is_empty() { "-".into() } else { self.port.clone() },
            self.address.to_string(),
            self.protocol.into(),
            self.state.into(),
            or_dash(&self.pod),
            or_dash(&self.node),
            or_dash(&self.zone),
            self.index.to_string(),
            self.generation.to_string(),
        ]
    }
}

fn endpoints(contents: &Contents, known: Vec<PortEndpoints>) -> Vec<Endpoint> {
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
    let mut details: HashMap<(String, String, String, String, SocketAddr), local::Endpoint> = HashMap::new();
    for port in known {
        for endpoint in port.endpoints {
            let (namespace, service) = (port.namespace.clone(), port.service.clone());
            let key = (namespace, service, port.port.clone(), port.protocol.clone(), endpoint.address);
            details.insert(key, endpoint);
        }
    }
    let live = contents.backends.iter().filter(|(_, backend)| backend.flags & backend_flag::LIVE != 0);
    let mut rows: Vec<Endpoint> = live
        .map(|(index, backend)| {
            let name = names.get(&backend.service);
            let namespace = text(name.map(|name| &name.namespace[..]));
            let service = text(name.map(|name| &name.service[..]));
            let port = text(name.map(|name| &name.port[..]));
            let protocol = name.map_or("?", |name| protocol(name.protocol));
            let address = backend.endpoint().socket_addr();
            let key = (namespace, service, port, protocol.to_owned(), address);
            let detail = details.remove(&key);
            let (namespace, service, port, _, _) = key;
            Endpoint {
                namespace,
                service,
                port,
                protocol,
                address,
                state: state(backend.flags, listed.contains(index)),
                pod: detail.as_ref().and_then(|it| it.pod.clone()),
                node: detail.as_ref().and_then(|it| it.node.clone()),
                zone: detail.and_then(|it| it.zone),
                index: *index,
                generation: backend.generation,
            }
        })
        .collect();
    rows.sort_by(|a, b| {
        (&a.namespace, &a.service, &a.port, a.protocol, a.address).cmp(&(
            &b.namespace,
            &b.service,
            &b.port,
            b.protocol,
            b.address,
        ))
    });
    rows
}

fn state(flags: u16, listed: bool) -> &'static str {
    match (listed, flags & backend_flag::TERMINATING != 0) {
        (true, true) => "last resort",
        (true, false) => "in use",
        (false, _) => "not selected",
    }
}

#[derive(Serialize)]
struct Map {
    name: &'static str,
    capacity: u32,
    used: Option<usize>,
    id: u32,
}

impl Row for Map {
    const HEADS: &'static [&'static str] = &["MAP", "USED", "CAPACITY", "USE", "ID"];
    const NARROW: usize = 4;

    fn cells(&self) -> Vec<String> {
        let percent =
            self.used.map(|used| (used * 100).checked_div(self.capacity as usize).unwrap_or_default());
        vec![
            self.name.into(),
            self.used.map_or("-".into(), |used| used.to_string()),
            if self.capacity == 0 { "-".into() } else { self.capacity.to_string() },
            percent.map_or("-".into(), |percent| format!("{percent} %")),
            self.id.to_string(),
        ]
    }
}

fn map_rows(maps: &Maps) -> anyhow::Result<Vec<Map>> {
    let contents = maps.read()?;
    let v4 = contents.frontends.iter().filter(|(key, _)| key.v4().is_some()).count();
    let reached: BTreeSet<u32> = contents.frontends.iter().map(|(_, index)| *index).collect();
    let ranges: BTreeMap<u32, u32> = contents
        .records
        .iter()
        .filter(|(index, _)| reached.contains(index))
        .map(|(_, record)| (record.local.start, record.local.len))
        .collect();
    let live = contents.backends.iter().filter(|(_, backend)| backend.flags & backend_flag::LIVE != 0);
    let used: HashMap<&str, usize> = HashMap::from([
        ("frontends4", v4),
        ("frontends6", contents.frontends.len() - v4),
        ("records", reached.len()),
        ("lists", ranges.values().map(|len| *len as usize).sum()),
        ("backends", live.count()),
        ("names", contents.names.len()),
        ("slots", maps.slots_used()?),
    ]);
    Ok(maps
        .all()
        .iter()
        .map(|map| Map {
            name: map.name(),
            capacity: map.capacity(),
            used: used.get(map.name()).copied(),
            id: map.id(),
        })
        .collect())
}
