//! `balancing get services`: frontends, joined with names.

use std::{collections::HashMap, net::SocketAddr};

use abi::{
    Name,
    frontend::{mode, record_flag},
};
use agent::explain::source_ranges;
use kernel::Contents;
use observe::event::protocol;
use serde::Serialize;

use super::{
    filter::{Facts, Subject},
    service_port::ServicePort,
};
use crate::{
    output::{Row, or_dash},
    tone::Tone,
};

/// A frontend of a service, also below a policy.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Service {
    #[serde(flatten)]
    service_port: ServicePort,
    protocol: &'static str,
    /// `*` in place of an address: a node port, which is on every node.
    frontend: String,
    mode: &'static str,
    backends: u32,
    /// For how many seconds a client keeps its backend; null = it does not.
    affinity_seconds: Option<u32>,
    /// Addresses that clients must have; empty = whoever likes may use it.
    source_ranges: Vec<String>,
    id: u32,
    record: u32,
    #[serde(skip)]
    address: SocketAddr,
}

impl Subject for Service {
    const NOUN: (&'static str, &'static str) = ("service", "services");
    const LISTING: &'static str = "services";
    const NONE: &'static str =
        "`balancing status` says whether the sources are synced and how many objects there are";
    const FILTERS: &'static [&'static str] = &["--namespace", "--protocol", "--family"];

    fn facts(&self) -> Facts<'_> {
        Facts { protocol: self.protocol, addresses: vec![self.address.ip()], ..self.service_port.facts() }
    }
}

impl Row for Service {
    const HEADS: &'static [&'static str] = &[
        "NAMESPACE",
        "SERVICE",
        "PORT",
        "FRONTEND",
        "PROTOCOL",
        "MODE",
        "BACKENDS",
        "AFFINITY",
        "SOURCE RANGES",
        "ID",
        "RECORD",
    ];
    const NARROW: usize = 7;

    fn cells(&self) -> Vec<String> {
        let [namespace, service, port] = self.service_port.cells();
        vec![
            namespace,
            service,
            port,
            self.frontend.clone(),
            self.protocol.into(),
            self.mode.into(),
            self.backends.to_string(),
            or_dash(self.affinity_seconds.map(|seconds| format!("{seconds} s"))),
            if self.source_ranges.is_empty() { "-".into() } else { self.source_ranges.join(",") },
            self.id.to_string(),
            self.record.to_string(),
        ]
    }

    fn tone(&self) -> Tone {
        if self.backends == 0 { Tone::Warn } else { Tone::Plain }
    }
}

/// `10.96.0.1:80`; a node port, whose address is the unspecified one, is on every node: `*:30080`, in IPv6 `[*]:30080`.
pub(crate) fn frontend(address: SocketAddr) -> String {
    match address {
        SocketAddr::V4(it) if it.ip().is_unspecified() => format!("*:{}", it.port()),
        SocketAddr::V6(it) if it.ip().is_unspecified() => format!("[*]:{}", it.port()),
        address => address.to_string(),
    }
}

/// All of them, by name.
pub(super) fn rows(contents: &Contents) -> Vec<Service> {
    let names: HashMap<u32, &Name> = contents.names.iter().map(|(id, name)| (*id, name)).collect();
    let records: HashMap<u32, _> = contents.records.iter().map(|(index, record)| (*index, record)).collect();
    let mut ranges: HashMap<u32, Vec<String>> = HashMap::new();
    let mut rows: Vec<Service> = contents
        .frontends
        .iter()
        .filter_map(|(key, index)| {
            let record = records.get(index).filter(|record| record.flags & record_flag::POLICY == 0)?;
            let is_restricted = record.flags & record_flag::RESTRICTED != 0;
            let address = key.endpoint.socket_addr();
            Some(Service {
                service_port: ServicePort::new(names.get(&record.service).copied()),
                protocol: protocol(key.transport()),
                frontend: frontend(address),
                mode: mode::name(record.mode),
                backends: record.local.len,
                affinity_seconds: Some(record.affinity).filter(|seconds| *seconds != 0),
                source_ranges: if is_restricted {
                    ranges
                        .entry(record.service)
                        .or_insert_with(|| source_ranges(contents, record.service))
                        .clone()
                } else {
                    Vec::new()
                },
                id: record.service,
                record: *index,
                address,
            })
        })
        .collect();
    rows.sort_by_cached_key(|it| (it.service_port.clone(), it.address, it.protocol));
    rows
}
