//! A table from what the maps hold, on agent start.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
};

use abi::{
    Backend, Key, Name, Range, Record,
    frontend::backend_flag::{self, LIVE},
    name::owner_kind,
};
use model::{Family, Kind, ObjectName, Protocol, ServicePortName};

use super::{
    Capacity, Image, RecordUse, ServicePort, Table,
    room::{Block, Indexes, Pool, Ranges},
};
use crate::{describe, desired::Touched};

/// Something in the maps that this crate never writes. The next diff repairs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inconsistency {
    /// What it is about.
    pub object: String,
    /// What is wrong with it.
    pub problem: String,
}

impl fmt::Display for Inconsistency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.object, self.problem)
    }
}

impl Table {
    /// Takes over what the maps hold: names give ids, backends their indexes and generations, and what
    /// frontends lead to is in use. Everything else is free at once, so let a grace period pass between the
    /// last write of the agent before and the first plan.
    ///
    /// What is damaged stays where a frontend might still be served by it, is never handed out, and is
    /// replaced by the next [`diff`](crate::diff()), which looks at everything, whatever it is told to.
    pub fn restore(image: &Image, capacity: Capacity) -> (Self, Vec<Inconsistency>) {
        let mut restore = Restore { table: Self::new(capacity), found: Vec::new() };
        restore.names(&image.names);
        restore.backends(&image.backends);
        let lists = image.lists.iter().take(capacity.lists as usize);
        restore.table.lists = lists.copied().collect();
        restore.frontends(&image.frontends, &image.records);
        restore.blocks();
        restore.pools();
        restore.clients(image);
        restore.table.pending = Touched::everything();
        (restore.table, restore.found)
    }
}

struct Restore {
    table: Table,
    found: Vec<Inconsistency>,
}

impl Restore {
    fn report(&mut self, object: String, problem: impl Into<String>) {
        self.found.push(Inconsistency { object, problem: problem.into() });
    }

    fn names(&mut self, names: &[(u32, Name)]) {
        for (id, name) in names {
            let object = || format!("name {id}");
            if *id >= self.table.capacity.services {
                self.report(object(), "id out of bounds");
                continue;
            }
            if self.table.services.contains_key(id) {
                self.report(object(), "there twice");
                continue;
            }
            let port = service_port(name);
            match &port {
                None => {
                    self.report(object(), "unreadable");
                    self.table.dead_services.insert(*id);
                }
                Some(port) => {
                    if let Some(twin) = self.table.find_service(port, Name::text(&name.uid)) {
                        self.report(object(), format!("same service port as name {twin}"));
                    }
                    self.table.ids.entry(port.clone()).or_default().insert(*id);
                }
            }
            let service = ServicePort {
                name: Box::new(*name),
                port,
                backends: BTreeMap::new(),
                blocks: BTreeSet::new(),
            };
            self.table.services.insert(*id, service);
        }
    }

    fn backends(&mut self, backends: &[(u32, Backend)]) {
        let mut seen = BTreeSet::new();
        for (index, backend) in backends {
            let object = || format!("backend {index} ({})", describe::backend(backend));
            if *index >= self.table.capacity.backends {
                self.report(object(), "index out of bounds");
                continue;
            }
            if !seen.insert(*index) {
                self.report(object(), "there twice");
                continue;
            }
            if self.table.backends.len() <= *index as usize {
                self.table.backends.resize(*index as usize + 1, Backend::default());
            }
            if let Some(slot) = self.table.backends.get_mut(*index as usize) {
                *slot = *backend;
            }
            if backend.flags & LIVE == 0 {
                if backend.flags != 0 || backend.index != 0 {
                    self.report(object(), "not live, but has flags or padding");
                    // Retiring it cleans it.
                    self.adopt(*index, backend, None);
                }
                continue;
            }
            if backend.flags & !backend_flag::ALL != 0 || backend.index != 0 {
                self.report(object(), "unknown flags or padding");
            }
            let taken = self.table.find_backend(backend.service, backend.endpoint());
            let problem = if backend.generation == 0 {
                Some("live without a generation".to_owned())
            } else if !self.table.services.contains_key(&backend.service) {
                Some("its service port has no name".to_owned())
            } else {
                taken.map(|twin| format!("same endpoint as backend {twin}"))
            };
            self.adopt(*index, backend, problem);
        }
    }

    /// Takes a backend over, as one to retire if there is a problem with it or it is not live.
    fn adopt(&mut self, index: u32, backend: &Backend, problem: Option<String>) {
        self.table.live += 1;
        self.table.service_uses.add(backend.service);
        match self.table.services.get_mut(&backend.service) {
            // Those of an unreadable service port go with it.
            Some(service) if service.port.is_some() && problem.is_none() && backend.flags & LIVE != 0 => {
                service.backends.insert(backend.endpoint(), index);
            }
            _ => {
                self.table.dead_backends.insert(index);
            }
        }
        if let Some(problem) = problem {
            self.report(format!("backend {index} ({})", describe::backend(backend)), problem);
        }
    }

    fn frontends(&mut self, frontends: &[(Key, u32)], records: &[(u32, Record)]) {
        let mut known: BTreeMap<u32, Record> = BTreeMap::new();
        for (index, record) in records {
            if known.insert(*index, *record).is_some() {
                self.report(format!("record {index}"), "there twice");
            }
        }
        for (key, index) in frontends {
            let object = || format!("frontend {}", describe::key(key));
            if self.table.frontends.contains_key(key) {
                self.report(object(), "there twice");
                continue;
            }
            self.table.frontends.insert(*key, *index);
            self.table.frontends4 += u32::from(key.is_v4());
            if *index >= self.table.capacity.records {
                self.report(object(), format!("record {index} is out of bounds"));
                continue;
            }
            let record = known.get(index).copied().unwrap_or_default();
            for problem in self.problems(key, *index, &record) {
                self.report(object(), problem);
            }
            if let Some(entry) = self.table.records.get_mut(index) {
                entry.refs += 1;
                self.report(object(), format!("shares record {index} with another frontend"));
            } else {
                self.table.records.insert(*index, RecordUse { record, refs: 1, block: None });
                self.table.service_uses.add(record.service);
            }
        }
    }

    fn problems(&self, key: &Key, index: u32, record: &Record) -> Vec<String> {
        let mut problems = Vec::new();
        if record.key() != *key {
            let other = describe::key(&record.key());
            return vec![format!("its record {index} is that of {other}")];
        }
        if record.pad != [0; 3] {
            problems.push(format!("record {index} has padding"));
        }
        if !self.table.services.contains_key(&record.service) {
            problems.push(format!("its service port {} has no name", record.service));
        }
        match self.table.list(record.local) {
            None => problems.push(format!("its {} are out of bounds", describe::range(record.local))),
            Some(list) => {
                let strange = list.iter().filter(|index| !self.is_backend(**index, record.service)).count();
                if strange > 0 {
                    problems.push(format!(
                        "{strange} of its {} are no live backends of service port {}",
                        describe::range(record.local),
                        record.service
                    ));
                }
            }
        }
        problems
    }

    fn is_backend(&self, index: u32, service: u32) -> bool {
        self.table.backend(index).is_some_and(|it| it.flags & LIVE != 0 && it.service == service)
    }

    /// Reserves the ranges of records in use. Of a damaged range that is the part up to its last good entry:
    /// a wrong length must not take all the room that the repair needs.
    fn blocks(&mut self) {
        let mut ranges: Vec<(Range, u32, bool)> = Vec::new();
        for (index, entry) in &self.table.records {
            let whole = entry.record.local;
            let list = self.table.lists.iter().skip(whole.start as usize).take(whole.len as usize);
            let mut good = list.enumerate().filter(|(_, it)| self.is_backend(**it, entry.record.service));
            let len = good.next_back().and_then(|(i, _)| u32::try_from(i + 1).ok()).unwrap_or(0);
            if len > 0 {
                ranges.push((Range { start: whole.start, len }, *index, len == whole.len));
            }
        }
        ranges.sort_unstable();

        let mut used: BTreeMap<u32, Block> = BTreeMap::new();
        for (range, index, is_whole) in ranges {
            let Some(entry) = self.table.records.get_mut(&index) else { continue };
            let service = entry.record.service;
            if let Some(mut last) = used.last_entry()
                && range.start < last.key() + last.get().len
            {
                let start = *last.key();
                let block = last.get_mut();
                entry.block = Some(start);
                block.refs += 1;
                let same = start == range.start && block.len == range.len && is_whole;
                if !same || block.owner != Some(service) {
                    block.owner = None;
                    block.len = block.len.max(range.start - start + range.len);
                    let object = format!("record {index}");
                    self.report(object, format!("its {} overlap another's", describe::range(range)));
                }
            } else {
                entry.block = Some(range.start);
                let owner = is_whole.then_some(service).filter(|id| self.table.services.contains_key(id));
                used.insert(range.start, Block { len: range.len, refs: 1, owner });
            }
        }
        for (start, block) in &used {
            for index in self.table.lists.iter().skip(*start as usize).take(block.len as usize) {
                self.table.backend_uses.add(*index);
            }
            if let Some(service) = block.owner.and_then(|id| self.table.services.get_mut(&id)) {
                service.blocks.insert(*start);
            }
        }
        self.table.ranges = Ranges::new(self.table.capacity.lists, used);
    }

    /// Addresses, sources and space: nothing refers to them, so whatever is wrong is simply set right.
    fn clients(&mut self, image: &Image) {
        for (ip, uses) in &image.addresses {
            self.table.addresses.insert(*ip, *uses);
            self.table.addresses4 += u32::from(ip.is_ipv4());
        }
        for key in &image.sources {
            if !self.table.services.contains_key(&key.service) {
                let object = format!("source {}", describe::source(key));
                self.report(object, format!("its service port {} has no name", key.service));
            }
            self.table.sources.insert((key.service, *key));
        }
        self.table.space = image.space;
    }

    fn pools(&mut self) {
        let table = &mut self.table;
        let capacity = table.capacity;
        table.service_pool = Pool::new(capacity.services, &table.services.keys().copied().collect());
        table.record_pool = Pool::new(capacity.records, &table.records.keys().copied().collect());

        // The order in which indexes were freed is forgotten; those used least often come first.
        let mut free: Vec<(u32, u32)> = (0..)
            .zip(&table.backends)
            .filter(|(index, it)| {
                let held = it.flags & LIVE != 0 || table.dead_backends.contains(index);
                !held && it.generation < u32::MAX
            })
            .map(|(index, it)| (it.generation, index))
            .collect();
        free.sort_unstable();
        let next = u32::try_from(table.backends.len()).unwrap_or(u32::MAX);
        let free: VecDeque<u32> = free.into_iter().map(|(_, index)| index).collect();
        table.backend_pool = Indexes::new(capacity.backends, next, free);
    }
}

/// Reads a name; `None` if this crate can't have written it.
fn service_port(name: &Name) -> Option<ServicePortName> {
    fn text<const N: usize>(bytes: &[u8; N]) -> Option<&str> {
        let text = Name::text(bytes);
        (Name::bytes::<N>(text).as_ref() == Some(bytes)).then_some(text)
    }
    text(&name.uid)?;
    Some(ServicePortName {
        kind: match name.kind {
            owner_kind::SERVICE => Kind::Service,
            owner_kind::LOCAL_REDIRECT => Kind::LocalRedirectPolicy,
            owner_kind::BALANCING => Kind::BalancingPolicy,
            _ => return None,
        },
        service: ObjectName::new(text(&name.namespace)?, text(&name.service)?),
        port: text(&name.port)?.into(),
        protocol: match name.protocol {
            abi::TCP => Protocol::Tcp,
            abi::UDP => Protocol::Udp,
            _ => return None,
        },
        family: match name.family {
            4 => Family::V4,
            6 => Family::V6,
            _ => return None,
        },
    })
}
