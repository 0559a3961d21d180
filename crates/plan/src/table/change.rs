//! What [`diff`](crate::diff()) reads and changes.

use std::collections::{BTreeMap, BTreeSet};

use abi::{Backend, Endpoint, Key, Name, Range, Record, frontend::backend_flag::LIVE};
use model::ServicePortName;

use super::{RecordUse, Room, ServicePort, Table, room::Freed};
use crate::desired::Touched;

/// The writes that switch one frontend.
#[derive(Debug)]
pub(crate) struct Switch {
    pub(crate) index: u32,
    pub(crate) record: Record,
    /// First position of a newly written range.
    pub(crate) written: Option<u32>,
}

impl Table {
    pub(crate) fn take_pending(&mut self) -> Touched {
        std::mem::take(&mut self.pending)
    }

    pub(crate) fn set_pending(&mut self, pending: Touched) {
        self.pending = pending;
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.frontends.keys()
    }

    pub(crate) fn ports(&self) -> impl Iterator<Item = &ServicePortName> {
        self.ids.keys()
    }

    pub(crate) fn has_frontend(&self, key: &Key) -> bool {
        self.frontends.contains_key(key)
    }

    pub(crate) fn ids(&self, port: &ServicePortName) -> Vec<u32> {
        self.ids.get(port).into_iter().flatten().copied().collect()
    }

    /// The id of a service port. One with another uid is another service; an empty uid says nothing. Of several the one
    /// that is not buried.
    pub(crate) fn find_service(&self, port: &ServicePortName, uid: &str) -> Option<u32> {
        let known = |id: u32| self.services.get(&id).map_or("", |it| Name::text(&it.name.uid));
        self.ids
            .get(port)?
            .iter()
            .copied()
            .filter(|id| uid.is_empty() || known(*id).is_empty() || known(*id) == uid)
            .min_by_key(|id| (known(*id) != uid, self.dead_services.contains(id), *id))
    }

    pub(crate) fn service_name(&self, id: u32) -> Option<&Name> {
        self.services.get(&id).map(|it| &*it.name)
    }

    pub(crate) fn add_service(&mut self, port: &ServicePortName, name: Name) -> Option<u32> {
        let uses = &self.service_uses;
        let id = self.service_pool.take(|id| !uses.any(id))?;
        let service = ServicePort {
            name: Box::new(name),
            port: Some(port.clone()),
            backends: BTreeMap::new(),
            blocks: BTreeSet::new(),
        };
        self.services.insert(id, service);
        self.ids.entry(port.clone()).or_default().insert(id);
        Some(id)
    }

    pub(crate) fn set_name(&mut self, id: u32, name: Name) {
        if let Some(service) = self.services.get_mut(&id) {
            *service.name = name;
        }
    }

    pub(crate) fn service_backends(&self, id: u32) -> Option<&BTreeMap<Endpoint, u32>> {
        self.services.get(&id).map(|it| &it.backends)
    }

    pub(crate) fn find_backend(&self, service: u32, endpoint: Endpoint) -> Option<u32> {
        self.services.get(&service)?.backends.get(&endpoint).copied()
    }

    /// Gives an index to an endpoint that has none.
    pub(crate) fn add_backend(
        &mut self,
        service: u32,
        endpoint: Endpoint,
        flags: u16,
    ) -> Option<(u32, Backend)> {
        let uses = &self.backend_uses;
        let index = self.backend_pool.take(|index| !uses.any(index))?;
        if self.backends.len() <= index as usize {
            self.backends.resize(index as usize + 1, Backend::default());
        }
        let slot = self.backends.get_mut(index as usize)?;
        let Endpoint { address, port_be } = endpoint;
        let generation = slot.generation.saturating_add(1);
        *slot = Backend { address, port_be, flags: flags | LIVE, service, generation, index: 0 };
        self.live += 1;
        self.service_uses.add(service);
        if let Some(service) = self.services.get_mut(&service) {
            service.backends.insert(endpoint, index);
        }
        Some((index, *slot))
    }

    /// The backend's new value, if the flags or anything else about it have to change.
    pub(crate) fn update_backend(&mut self, index: u32, flags: u16) -> Option<Backend> {
        let slot = self.backends.get_mut(index as usize)?;
        let want = Backend { flags: flags | LIVE, index: 0, ..*slot };
        (*slot != want).then(|| {
            *slot = want;
            want
        })
    }

    pub(crate) fn bury_backend(&mut self, index: u32, dead: bool) {
        if dead {
            self.dead_backends.insert(index)
        } else {
            self.dead_backends.remove(&index)
        };
    }

    /// Marks a service port and all of its backends as not desired.
    pub(crate) fn bury_service(&mut self, id: u32) {
        self.dead_services.insert(id);
        if let Some(service) = self.services.get(&id) {
            self.dead_backends.extend(service.backends.values());
        }
    }

    /// The service port is desired again. Its backends are judged one by one.
    pub(crate) fn revive_service(&mut self, id: u32) {
        self.dead_services.remove(&id);
    }

    pub(crate) fn is_dead_service(&self, id: u32) -> bool {
        self.dead_services.contains(&id) || !self.services.contains_key(&id)
    }

    /// Whether the frontend already does what `want` (with an empty range) and `content` say, and its range is
    /// its service port's own: one that overlaps another's would keep that alive, and one that a damaged image has given
    /// up is anybody's.
    pub(crate) fn agrees(&self, want: &Record, content: &[u32]) -> bool {
        let Some(entry) = self.frontends.get(&want.key()).and_then(|index| self.records.get(index)) else {
            return false;
        };
        let have = entry.record;
        let block = entry.block.and_then(|start| self.ranges.used.get(&start));
        Record { local: Range::default(), ..have } == *want
            && self.list(have.local) == Some(content)
            && (content.is_empty() || block.is_some_and(|it| it.owner == Some(want.service)))
    }

    /// Points the frontend to a new record: `want` with a range of `content`.
    pub(crate) fn switch(&mut self, want: Record, content: &[u32]) -> Result<Switch, Room> {
        let key = want.key();
        let (room, used) = if key.is_v4() {
            (Room::Frontends4, self.frontends4 as usize)
        } else {
            (Room::Frontends6, self.frontends.len() - self.frontends4 as usize)
        };
        let is_new = !self.frontends.contains_key(&key);
        if is_new && used >= self.capacity.of(room) as usize {
            return Err(room);
        }
        let index = self.record_pool.take(|_| true).ok_or(Room::Records)?;
        let Some((local, written)) = self.place(want.service, content) else {
            self.record_pool.give(index);
            return Err(Room::Lists);
        };
        let block = (local.len > 0).then_some(local.start);
        if let Some(block) = block.and_then(|start| self.ranges.used.get_mut(&start)) {
            block.refs += 1;
        }
        let record = Record { local, ..want };
        self.service_uses.add(record.service);
        self.records.insert(index, RecordUse { record, refs: 1, block });
        match self.frontends.insert(key, index) {
            Some(old) => self.release_record(old),
            None => self.frontends4 += u32::from(room == Room::Frontends4),
        }
        Ok(Switch { index, record, written: written.then_some(local.start) })
    }

    /// A range with `content`: one that the service port has, or a new one (`true`).
    fn place(&mut self, service: u32, content: &[u32]) -> Option<(Range, bool)> {
        let len = u32::try_from(content.len()).ok()?;
        if len == 0 {
            return Some((Range::default(), false));
        }
        let range = |start| Range { start, len };
        let mut blocks = self.services.get(&service).into_iter().flat_map(|it| &it.blocks).copied();
        let same = |start: u32| {
            self.ranges.used.get(&start).is_some_and(|block| block.len == len)
                && self.list(range(start)) == Some(content)
        };
        if let Some(start) = blocks.find(|start| same(*start)) {
            return Some((range(start), false));
        }
        let start = self.ranges.take(len, service)?;
        let end = start as usize + content.len();
        self.lists.resize(self.lists.len().max(end), 0);
        self.lists.get_mut(start as usize..end)?.copy_from_slice(content);
        for index in content {
            self.backend_uses.add(*index);
        }
        if let Some(service) = self.services.get_mut(&service) {
            service.blocks.insert(start);
        }
        Some((range(start), true))
    }

    pub(crate) fn remove_frontend(&mut self, key: &Key) {
        if let Some(index) = self.frontends.remove(key) {
            self.frontends4 -= u32::from(key.is_v4());
            self.release_record(index);
        }
    }

    fn release_record(&mut self, index: u32) {
        let Some(entry) = self.records.get_mut(&index) else { return };
        entry.refs -= 1;
        if entry.refs > 0 {
            return;
        }
        let (service, block) = (entry.record.service, entry.block);
        self.records.remove(&index);
        self.service_uses.drop(service);
        self.quarantine.put(Freed::Record(index));
        if let Some(start) = block {
            self.release_block(start);
        }
    }

    fn release_block(&mut self, start: u32) {
        let Some(block) = self.ranges.used.get_mut(&start) else { return };
        block.refs -= 1;
        if block.refs > 0 {
            return;
        }
        let (len, owner) = (block.len, block.owner);
        self.ranges.used.remove(&start);
        for index in self.lists.iter().skip(start as usize).take(len as usize) {
            self.backend_uses.drop(*index);
        }
        if let Some(service) = owner.and_then(|id| self.services.get_mut(&id)) {
            service.blocks.remove(&start);
        }
        self.quarantine.put(Freed::Range { start, len });
    }

    /// Retires the backends that are not desired and that no list has.
    pub(crate) fn retire_backends(&mut self) -> Vec<(u32, Backend)> {
        let uses = &self.backend_uses;
        let dead: Vec<u32> = self.dead_backends.iter().copied().filter(|index| !uses.any(*index)).collect();
        let mut retired = Vec::with_capacity(dead.len());
        for index in dead {
            self.dead_backends.remove(&index);
            let Some(slot) = self.backends.get_mut(index as usize) else { continue };
            (slot.flags, slot.index) = (0, 0);
            retired.push((index, *slot));
            self.live -= 1;
            self.service_uses.drop(slot.service);
            self.quarantine.put(Freed::Backend(index));
            if let Some(service) = self.services.get_mut(&slot.service)
                && service.backends.get(&slot.endpoint()) == Some(&index)
            {
                service.backends.remove(&slot.endpoint());
            }
        }
        retired
    }

    /// Removes the service ports that are not desired and that nothing refers to.
    pub(crate) fn remove_services(&mut self) -> Vec<u32> {
        let uses = &self.service_uses;
        let dead: Vec<u32> = self.dead_services.iter().copied().filter(|id| !uses.any(*id)).collect();
        for id in &dead {
            self.dead_services.remove(id);
            let Some(service) = self.services.remove(id) else { continue };
            if let Some(port) = service.port
                && let Some(ids) = self.ids.get_mut(&port)
            {
                ids.remove(id);
                if ids.is_empty() {
                    self.ids.remove(&port);
                }
            }
            self.resting.put((*id, service.name));
        }
        dead
    }
}
