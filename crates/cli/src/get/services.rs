//! `balancing get services`: frontends, joined with names.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
};

use abi::{Name, frontend::mode};
use kernel::Contents;
use observe::event::protocol;
use serde::Serialize;

use super::{filter::Subject, text};
use crate::output::Row;

/// A frontend of a service.
#[derive(Serialize)]
pub(super) struct Service {
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

impl Subject for Service {
    const NOUN: (&'static str, &'static str) = ("service", "services");
    const FILTERS: &'static [&'static str] = &["--namespace", "--protocol", "--family"];

    fn namespace(&self) -> &str {
        &self.namespace
    }

    fn name(&self) -> &str {
        &self.service
    }

    fn protocol(&self) -> &str {
        self.protocol
    }

    fn addresses(&self) -> Vec<IpAddr> {
        vec![self.frontend.ip()]
    }
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

/// All of them, by name.
pub(super) fn rows(contents: &Contents) -> Vec<Service> {
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
