//! A mirror of what the pinned maps hold, and who has which id, index and range.

mod capacity;
mod change;
mod client;
mod compare;
mod recall;
mod restore;
mod room;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::IpAddr,
};

use abi::{Backend, Endpoint, Key, Name, Range, Record, Space, client::SourceKey};
use model::ServicePortName;

pub use capacity::{Capacity, Room, Usage};
pub use client::source_key;
pub use compare::Difference;
pub use restore::Inconsistency;

use crate::desired::Touched;
use room::{Freed, Indexes, Pool, Quarantine, Ranges, Uses};

/// Contents of the maps, as read from the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// `frontends4` and `frontends6`: key, record index.
    pub frontends: Vec<(Key, u32)>,
    /// `records`: index, record. Those that no frontend points to do not matter.
    pub records: Vec<(u32, Record)>,
    /// `lists` from position 0; may end where no range reaches.
    pub lists: Vec<u32>,
    /// `backends`: index, backend. All whose generation is not 0, free ones included.
    pub backends: Vec<(u32, Backend)>,
    /// `names`: id, name.
    pub names: Vec<(u32, Name)>,
    /// `addresses4` and `addresses6`.
    pub addresses: Vec<(IpAddr, u32)>,
    /// `sources`.
    pub sources: Vec<SourceKey>,
    /// The element of `spaces` that counts.
    pub space: Space,
}

/// A grace period that has begun: see [`Table::begin_grace`].
#[derive(Debug)]
#[must_use = "what was freed before it is reusable only after `grace_passed`"]
pub struct Grace(u64);

/// A reading of what the programs have told that has begun: see [`Table::begin_reading`].
#[derive(Debug)]
#[must_use = "ids that were freed before it are reusable only after `has_read`"]
pub struct Reading(u64);

/// Exactly what the pinned maps hold, plus the allocation state.
///
/// [`diff`](crate::diff()) changes it as if its plan were applied. If applying fails, the table is wrong: read
/// the maps again and [`Table::restore`] from them.
#[derive(Clone, Debug)]
pub struct Table {
    capacity: Capacity,
    frontends: BTreeMap<Key, u32>,
    /// How many of `frontends` are IPv4.
    frontends4: u32,
    /// Those that frontends point to.
    records: BTreeMap<u32, RecordUse>,
    record_pool: Pool,
    /// `lists`, up to the highest position ever used.
    lists: Vec<u32>,
    ranges: Ranges,
    /// `backends`, up to the highest index ever used; zero where never used.
    backends: Vec<Backend>,
    live: u32,
    backend_pool: Indexes,
    /// How often blocks in use list each backend.
    backend_uses: Uses,
    services: BTreeMap<u32, ServicePort>,
    /// More than one only while a re-created service (another uid) or a damaged image has left old ones.
    ids: BTreeMap<ServicePortName, BTreeSet<u32>>,
    service_pool: Pool,
    /// How many records in use and live backends bear each service port id.
    service_uses: Uses,
    addresses: BTreeMap<IpAddr, u32>,
    /// How many of `addresses` are IPv4.
    addresses4: u32,
    /// By service port id.
    sources: BTreeSet<(u32, SourceKey)>,
    space: Space,
    quarantine: Quarantine<Freed>,
    /// Ids of service ports that are gone, and their names: there may be decisions that bear them and that nobody has read.
    resting: Quarantine<(u32, Box<Name>)>,
    /// Live, but no longer desired: retired once no list has them and deletes are allowed.
    dead_backends: BTreeSet<u32>,
    /// The same for service ports.
    dead_services: BTreeSet<u32>,
    /// What the last diff refused or held back.
    pending: Touched,
}

#[derive(Clone, Debug)]
struct RecordUse {
    record: Record,
    /// How many frontends; more than one only in a damaged image.
    refs: u32,
    /// The block that its range is in.
    block: Option<u32>,
}

#[derive(Clone, Debug)]
struct ServicePort {
    /// Apart, since it is large and nodes of B-trees are half empty.
    name: Box<Name>,
    /// `None` if a damaged image has no readable name.
    port: Option<ServicePortName>,
    backends: BTreeMap<Endpoint, u32>,
    /// Starts of its blocks.
    blocks: BTreeSet<u32>,
}

impl Table {
    /// Empty maps.
    pub fn new(capacity: Capacity) -> Self {
        Self {
            capacity,
            frontends: BTreeMap::new(),
            frontends4: 0,
            records: BTreeMap::new(),
            record_pool: Pool::new(capacity.records, &BTreeSet::new()),
            lists: Vec::new(),
            ranges: Ranges::new(capacity.lists, BTreeMap::new()),
            backends: Vec::new(),
            live: 0,
            backend_pool: Indexes::new(capacity.backends, 0, VecDeque::new()),
            backend_uses: Uses::default(),
            services: BTreeMap::new(),
            ids: BTreeMap::new(),
            service_pool: Pool::new(capacity.services, &BTreeSet::new()),
            service_uses: Uses::default(),
            addresses: BTreeMap::new(),
            addresses4: 0,
            sources: BTreeSet::new(),
            space: Space::default(),
            quarantine: Quarantine::default(),
            resting: Quarantine::default(),
            dead_backends: BTreeSet::new(),
            dead_services: BTreeSet::new(),
            pending: Touched::default(),
        }
    }

    /// How much each map holds.
    pub fn capacity(&self) -> Capacity {
        self.capacity
    }

    /// The maps have become larger, and hold what they held. Nothing becomes smaller.
    pub fn enlarge(&mut self, capacity: &Capacity) {
        let capacity = self.capacity.max(capacity);
        self.record_pool.enlarge(capacity.records);
        self.service_pool.enlarge(capacity.services);
        self.backend_pool.enlarge(capacity.backends);
        if capacity.lists > self.capacity.lists {
            self.ranges.give(self.capacity.lists, capacity.lists - self.capacity.lists);
        }
        self.capacity = capacity;
    }

    /// How much of it is in use, without what is in quarantine.
    pub fn usage(&self) -> Usage {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Usage {
            services: count(self.services.len()),
            backends: self.live,
            lists: self.ranges.used.values().map(|block| block.len).sum(),
            records: count(self.records.len()),
            frontends4: self.frontends4,
            frontends6: count(self.frontends.len()) - self.frontends4,
            addresses4: self.addresses4,
            addresses6: count(self.addresses.len()) - self.addresses4,
            sources: count(self.sources.len()),
        }
    }

    /// How many freed ids, indexes, ranges and records wait for a grace period.
    pub fn quarantined(&self) -> usize {
        self.quarantine.len()
    }

    /// Call when all plans so far are applied; then wait until every program that was running has ended
    /// (`synchronize_rcu`, by membarrier), then call [`Table::grace_passed`]. Later plans may be made and
    /// applied in between.
    pub fn begin_grace(&mut self) -> Grace {
        Grace(self.quarantine.end_period())
    }

    /// What was freed before `grace` began may be reused from now on.
    pub fn grace_passed(&mut self, grace: Grace) {
        while let Some(freed) = self.quarantine.release(grace.0) {
            match freed {
                Freed::Record(index) => self.record_pool.give(index),
                Freed::Range { start, len } => self.ranges.give(start, len),
                Freed::Backend(index) => {
                    // An index whose generations are used up is never used again.
                    if self.backends.get(index as usize).is_some_and(|it| it.generation < u32::MAX) {
                        self.backend_pool.give(index);
                    }
                }
            }
        }
    }

    /// Call when all plans so far are applied; then wait until every program that was running has ended, read all that the
    /// programs have told of by then, then call [`Table::has_read`]. Later plans may be made and applied in between.
    pub fn begin_reading(&mut self) -> Reading {
        Reading(self.resting.end_period())
    }

    /// No decision that is yet to be read bears an id that was freed before `reading` began: they may be reused.
    pub fn has_read(&mut self, reading: Reading) {
        while let Some((id, _)) = self.resting.release(reading.0) {
            self.service_pool.give(id);
        }
    }

    /// How many ids of service ports wait until what bears them has been read.
    pub fn resting(&self) -> usize {
        self.resting.len()
    }

    /// This table was restored: what rested in the one `before` still does.
    pub fn rest_on(&mut self, before: Self) {
        self.resting = before.resting;
        self.resting.retain(|(id, _)| !self.services.contains_key(id));
        let used = self.services.keys().copied().chain(self.resting.iter().map(|(id, _)| *id));
        self.service_pool = Pool::new(self.capacity.services, &used.collect());
    }

    /// Whose a service port id is, or was when decisions that bear it were made.
    pub fn name(&self, id: u32) -> Option<&Name> {
        let resting = || self.resting.iter().find(|(resting, _)| *resting == id);
        self.services.get(&id).map(|it| &it.name).or_else(|| Some(&resting()?.1)).map(|name| &**name)
    }

    /// The id of a service port, and its name as the map has it.
    pub fn services(&self) -> impl Iterator<Item = (u32, &Name)> {
        self.services.iter().map(|(id, service)| (*id, &*service.name))
    }

    /// For how many seconds clients keep their backend, by service port id: those that have affinity.
    pub fn affinities(&self) -> BTreeMap<u32, u32> {
        let records = self.records.values().map(|it| it.record).filter(|record| record.affinity != 0);
        records.map(|record| (record.service, record.affinity)).collect()
    }

    /// Whether some VIP is restricted to source ranges (R22).
    pub fn has_sources(&self) -> bool {
        !self.sources.is_empty()
    }

    /// The backend at an index, live or freed.
    pub fn backend(&self, index: u32) -> Option<&Backend> {
        self.backends.get(index as usize).filter(|it| it.generation != 0)
    }

    /// The record that a frontend leads to.
    pub fn record(&self, key: &Key) -> Option<&Record> {
        self.records.get(self.frontends.get(key)?).map(|it| &it.record)
    }

    /// The backend indexes of a range.
    pub fn list(&self, range: Range) -> Option<&[u32]> {
        let end = range.start.checked_add(range.len)?;
        self.lists.get(range.start as usize..end as usize)
    }

    /// What the maps hold.
    pub fn image(&self) -> Image {
        let numbered = |(i, it): (usize, &Backend)| Some((u32::try_from(i).ok()?, *it));
        Image {
            frontends: self.frontends.iter().map(|(key, index)| (*key, *index)).collect(),
            records: self.records.iter().map(|(index, it)| (*index, it.record)).collect(),
            lists: self.lists.clone(),
            backends: self
                .backends
                .iter()
                .enumerate()
                .filter(|(_, it)| it.generation != 0)
                .filter_map(numbered)
                .collect(),
            names: self.services().map(|(id, name)| (id, *name)).collect(),
            addresses: self.addresses.iter().map(|(ip, uses)| (*ip, *uses)).collect(),
            sources: self.sources.iter().map(|(_, key)| *key).collect(),
            space: self.space,
        }
    }
}
