//! From desired state and table to a plan.

use std::{cmp::Reverse, collections::BTreeSet, net::IpAddr};

use abi::{
    Backend, Key, Name, Record,
    client::SourceKey,
    frontend::{level, record_flag},
};
use model::{Family, ServicePortName};

use crate::{
    compile::{PortTable, protocol_number},
    desired::{BELOW, Desired, Touched, kind_number, policy_number},
    phases::{Phase, Plan},
    refusal::{Refusal, Subject},
    space::widened,
    table::{Room, Table, source_key},
};

/// Whether anything may be deleted: not before every source has synced (R6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletes {
    /// Frontends, backends and names that are no longer desired stay as they are until a diff that allows
    /// deletes.
    Held,
    /// They go.
    Allowed,
}

/// Plans what makes the table of `touched` like `desired`, and of what earlier diffs refused or held back.
///
/// `table` is changed as if the plan were applied. If applying fails, read the maps and
/// [`restore`](Table::restore) it. After applying, a grace period ([`Table::begin_grace`]) makes what the plan
/// freed reusable; if something was refused, diff again after it, with nothing touched.
pub fn diff(desired: &Desired, touched: &Touched, table: &mut Table, deletes: Deletes) -> Plan {
    let mut work = table.take_pending();
    work.merge(touched.clone());
    if work.everything {
        work.ports = desired.ports().map(|it| &it.name).chain(table.ports()).cloned().collect();
        work.keys = desired.frontends().map(|(key, _)| key).chain(table.keys().copied()).collect();
        work.addresses = desired.addresses().chain(table.addresses()).collect();
    }
    let mut differ = Differ { desired, table, writes: Writes::default(), again: Touched::default() };
    for port in &work.ports {
        differ.port(port);
    }
    let keys: BTreeSet<Key> = work.keys.iter().map(|key| key.at(level::FIRST)).collect();
    for key in &keys {
        differ.levels(key);
    }
    for ip in &work.addresses {
        differ.address(*ip);
    }
    differ.finish(deletes)
}

struct Differ<'a> {
    desired: &'a Desired,
    table: &'a mut Table,
    writes: Writes,
    /// What the next diff has to look at again.
    again: Touched,
}

#[derive(Default)]
struct Writes {
    names: Vec<(u32, Name)>,
    backends: Vec<(u32, Backend)>,
    lists: Vec<(u32, Backend)>,
    records: Vec<(u32, Record)>,
    frontends: Vec<(Key, u32)>,
    /// Frontends to delete.
    gone: Vec<Key>,
    sources: Vec<SourceKey>,
    /// Sources to delete.
    gone_sources: Vec<SourceKey>,
    addresses: Vec<(IpAddr, u32)>,
    /// Addresses to delete.
    gone_addresses: Vec<IpAddr>,
    refused: Vec<Refusal>,
    ends_affinity: bool,
}

impl Differ<'_> {
    fn full(&mut self, room: Room, subject: Subject) {
        let capacity = self.table.capacity().of(room);
        self.writes.refused.push(Refusal::Full { room, capacity, subject });
    }

    /// A service port: its name and its backends.
    fn port(&mut self, port: &ServicePortName) {
        self.part_twins(port);
        let kept = self.desired.port(port).and_then(|want| self.keep(want));
        for id in self.table.ids(port) {
            if Some(id) != kept {
                self.table.bury_service(id);
            }
        }
        if let Some((want, id)) = self.desired.port(port).zip(kept) {
            self.sources(id, want);
        }
    }

    /// A damaged image may have another service port's id, or none's, under the same name: the one that the frontends
    /// use is right, and what sockets are on (R8) is of it.
    fn part_twins(&mut self, port: &ServicePortName) {
        let mut twins = self.table.ids(port);
        twins.retain(|id| !self.table.is_dead_service(*id));
        if twins.len() < 2 {
            return;
        }
        let keys = self.desired.frontends_of(port);
        let keys =
            keys.flat_map(|key| [level::FIRST, level::BALANCING, level::SERVICE].map(|level| key.at(level)));
        let used = keys.filter_map(|key| self.table.record(&key).map(|record| record.service));
        let used: Vec<u32> = used.collect();
        let uses = |id: u32| used.iter().filter(|it| **it == id).count();
        twins.sort_by_key(|id| (Reverse(uses(*id)), *id));
        for id in twins.into_iter().skip(1) {
            self.table.bury_service(id);
        }
    }

    /// Who may use the load balancer VIPs of a service port (R22).
    fn sources(&mut self, id: u32, want: &PortTable) {
        let wanted: BTreeSet<SourceKey> = want.sources.iter().map(|range| source_key(id, range)).collect();
        match self.table.add_sources(id, &wanted) {
            Ok(new) => self.writes.sources.extend(new),
            Err(room) => {
                self.full(room, Subject::Sources(want.name.clone()));
                self.again.ports.insert(want.name.clone());
                return;
            }
        }
        let gone = self.table.sources_of(id).filter(|key| !wanted.contains(key));
        let gone: Vec<SourceKey> = gone.copied().collect();
        if !gone.is_empty() {
            // For a diff that may delete.
            self.again.ports.insert(want.name.clone());
        }
        self.writes.gone_sources.extend(gone);
    }

    /// Whether the ranges that `want` needs are all there.
    fn has_sources(&self, id: u32, want: &PortTable) -> bool {
        want.sources.iter().all(|range| self.table.has_source(id, &source_key(id, range)))
    }

    fn address(&mut self, ip: IpAddr) {
        let (have, want) = (self.table.uses(ip), self.desired.uses(ip));
        if want == 0 && have != 0 {
            self.writes.gone_addresses.push(ip);
        } else if want != have {
            match self.table.set_address(ip, want) {
                Ok(()) => self.writes.addresses.push((ip, want)),
                Err(room) => {
                    self.full(room, Subject::Address(ip));
                    self.again.addresses.insert(ip);
                }
            }
        }
    }

    fn keep(&mut self, want: &PortTable) -> Option<u32> {
        let known = self.table.find_service(&want.name, &want.uid);
        let uid = match known.and_then(|id| self.table.service_name(id)) {
            // A source that does not know the uid says nothing against the one that is known.
            Some(name) if want.uid.is_empty() => Name::text(&name.uid).to_owned(),
            _ => want.uid.clone(),
        };
        let name = match encode(want, &uid) {
            Ok(name) => name,
            Err(refusal) => {
                self.writes.refused.push(refusal);
                self.again.ports.insert(want.name.clone());
                return None;
            }
        };
        let id = match known {
            Some(id) => {
                if self.table.service_name(id) != Some(&name) {
                    self.table.set_name(id, name);
                    self.writes.names.push((id, name));
                }
                self.table.revive_service(id);
                id
            }
            None => match self.table.add_service(&want.name, name) {
                Some(id) => {
                    self.writes.names.push((id, name));
                    id
                }
                None => {
                    self.full(Room::Services, Subject::Port(want.name.clone()));
                    self.again.ports.insert(want.name.clone());
                    return None;
                }
            },
        };
        self.backends(id, want);
        Some(id)
    }

    fn backends(&mut self, id: u32, want: &PortTable) {
        let had = self.table.service_backends(id).map(|it| it.values().copied().collect::<Vec<u32>>());
        for index in had.into_iter().flatten() {
            self.table.bury_backend(index, true);
        }
        let mut refused = Vec::new();
        for (addr, flags) in &want.backends {
            let endpoint = (*addr).into();
            match self.table.find_backend(id, endpoint) {
                Some(index) => {
                    self.table.bury_backend(index, false);
                    let changed = self.table.update_backend(index, *flags);
                    self.writes.backends.extend(changed.map(|backend| (index, backend)));
                }
                None => match self.table.add_backend(id, endpoint, *flags) {
                    Some(added) => self.writes.backends.push(added),
                    None => refused.push(*addr),
                },
            }
        }
        if let Some(first) = refused.first().copied() {
            let port = want.name.clone();
            self.again.ports.insert(port.clone());
            self.full(Room::Backends, Subject::Backends { port, count: refused.len(), first });
        }
    }

    /// A frontend at all levels. A policy is put above only where what it falls back to is there, and that goes only where no
    /// policy is above it any more (P5).
    fn levels(&mut self, key: &Key) {
        let below = BELOW.map(|level| key.at(level));
        if below.map(|key| self.frontend(&key)) != [true; 2] {
            self.leave(key);
            return;
        }
        let is_right = match self.desired.frontend(key) {
            Some(_) => self.frontend(key),
            None => {
                self.writes.gone.extend(Some(*key).filter(|key| self.table.has_frontend(key)));
                true
            }
        };
        let unwanted = below.iter().filter(|key| self.desired.frontend(key).is_none());
        let unwanted = unwanted.filter(|key| self.table.has_frontend(key)).copied();
        if is_right {
            self.writes.gone.extend(unwanted);
        }
    }

    /// A frontend at one level, if it is desired there: is it now as it should be?
    fn frontend(&mut self, key: &Key) -> bool {
        let Some(spec) = self.desired.frontend(key) else { return true };
        let service = self
            .desired
            .port(&spec.port)
            .and_then(|want| self.table.find_service(&spec.port, &want.uid))
            .filter(|id| !self.table.is_dead_service(*id));
        // Without an id the service port has been refused.
        let Some(service) = service else {
            self.leave(key);
            return false;
        };
        if spec.flags & record_flag::RESTRICTED != 0
            && !self.desired.port(&spec.port).is_some_and(|want| self.has_sources(service, want))
        {
            self.leave(key);
            return false;
        }

        let found = spec.list.iter().filter_map(|addr| self.table.find_backend(service, (*addr).into()));
        let content: Vec<u32> = found.collect();
        if content.len() < spec.list.len() {
            // Some of its backends have been refused. The others will do until there is room.
            self.again.keys.insert(*key);
            if content.is_empty() {
                self.leave(key);
                return false;
            }
        }
        let want = Record {
            address: key.endpoint.address,
            port_be: key.endpoint.port_be,
            protocol: key.protocol,
            mode: spec.mode,
            flags: spec.flags,
            service,
            affinity: spec.affinity,
            limit: spec.limit,
            policy: policy_number(&spec.port.owner()),
            ..Record::default()
        };
        if self.table.agrees(&want, &content) {
            return true;
        }
        self.writes.ends_affinity |= want.affinity == 0 && self.has_affinity(key);
        match self.table.switch(want, &content) {
            Ok(switch) => {
                if let Some(start) = switch.written {
                    let element = |index: u32| Some(self.table.backend(index)?.listed(index));
                    self.writes.lists.extend((start..).zip(content.into_iter().filter_map(element)));
                }
                self.writes.records.push((switch.index, switch.record));
                self.writes.frontends.push((*key, switch.index));
                true
            }
            Err(room) => {
                self.full(room, Subject::Frontend(*key));
                self.leave(key);
                false
            }
        }
    }

    fn has_affinity(&self, key: &Key) -> bool {
        self.table.record(key).is_some_and(|record| record.affinity != 0)
    }

    /// Leaves a refused frontend as it is; unless it is still that of a service that is gone, which must stop
    /// answering (R13) and makes room by going. A policy that is gone goes on until what it was above can take its place.
    fn leave(&mut self, key: &Key) {
        self.again.keys.insert(*key);
        let is_gone = |record: &Record| {
            record.flags & record_flag::POLICY == 0 && self.table.is_dead_service(record.service)
        };
        if self.table.record(key).is_some_and(is_gone) {
            self.writes.gone.push(*key);
        }
    }

    fn finish(mut self, deletes: Deletes) -> Plan {
        let (mut gone, mut retired, mut removed) = (Vec::new(), Vec::new(), Vec::new());
        let (mut gone_addresses, mut gone_sources) = (Vec::new(), Vec::new());
        let mut space = *self.desired.space();
        match deletes {
            Deletes::Held => {
                self.again.keys.extend(self.writes.gone);
                self.again.addresses.extend(self.writes.gone_addresses);
                space = widened(&space, self.table.space());
            }
            Deletes::Allowed => {
                self.writes.ends_affinity |= self.writes.gone.iter().any(|key| self.has_affinity(key));
                gone = self.writes.gone;
                for key in &gone {
                    self.table.remove_frontend(key);
                }
                gone_addresses = self.writes.gone_addresses;
                for ip in &gone_addresses {
                    self.table.remove_address(*ip);
                }
                retired = self.table.retire_backends();
                removed = self.table.remove_services();
                gone_sources = self.writes.gone_sources;
                self.table.keep_restricted(&mut gone_sources);
                gone_sources.extend(self.table.orphaned_sources());
                self.table.remove_sources(&gone_sources);
            }
        }
        self.table.set_pending(self.again);
        let spaces = self.table.set_space(space).then(|| Phase::Space(Box::new(space)));
        // What a policy falls back to comes before it.
        self.writes.frontends.sort_by_key(|(key, _)| Reverse(key.level()));
        let mut phases = vec![
            Phase::Names(self.writes.names),
            Phase::Backends(self.writes.backends),
            Phase::Sources(self.writes.sources),
            Phase::Lists(self.writes.lists),
            Phase::Records(self.writes.records),
            Phase::Frontends(self.writes.frontends),
            Phase::Addresses(self.writes.addresses),
        ];
        phases.extend(spaces);
        phases.extend([
            Phase::DeleteFrontends(gone),
            Phase::DeleteAddresses(gone_addresses),
            Phase::DeleteSources(gone_sources),
            Phase::RetireBackends(retired),
            Phase::DeleteNames(removed),
        ]);
        phases.retain(|phase| !phase.is_empty());
        Plan { phases, refused: self.writes.refused, ends_affinity: self.writes.ends_affinity }
    }
}

fn encode(want: &PortTable, uid: &str) -> Result<Name, Refusal> {
    fn bytes<const N: usize>(want: &PortTable, field: &'static str, text: &str) -> Result<[u8; N], Refusal> {
        Name::bytes(text).ok_or_else(|| Refusal::Name { port: want.name.clone(), field, limit: N })
    }
    Ok(Name {
        namespace: bytes(want, "namespace", &want.name.service.namespace)?,
        service: bytes(want, "name", &want.name.service.name)?,
        port: bytes(want, "port name", &want.name.port)?,
        uid: bytes(want, "uid", uid)?,
        port_be: want.port.to_be(),
        protocol: protocol_number(want.name.protocol),
        family: match want.name.family {
            Family::V4 => 4,
            Family::V6 => 6,
        },
        kind: kind_number(want.name.kind),
        pad: [0; 3],
    })
}
