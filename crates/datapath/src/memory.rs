//! The tables and sockets in memory.

extern crate std;

mod frontends;

pub use frontends::Frontends;

use crate::{Caller, Env, Socket, frontends::Table};
use abi::{
    Address, Affinity, Backend, Client, Endpoint, Limit, Name, Pairs, Policy, Record, Settings, Slot, Space,
    client::SourceKey,
    lines::{Line, Shape},
    policy::{ExemptKey, LimitKey},
    slot::Ids,
};
use core::{
    cell::Cell,
    ops::Deref,
    sync::atomic::{
        AtomicU32, AtomicU64,
        Ordering::{Relaxed, SeqCst},
    },
};
use std::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    vec::Vec,
};

/// Entries of [`Tables::affinity`]: client and service port.
pub type Affinities = BTreeMap<(u64, u32), Arc<Affinity>>;

/// The tables, as plain maps.
#[derive(Debug, Default)]
pub struct Tables {
    /// `settings`.
    pub settings: Settings,
    /// `frontends4` and `frontends6`.
    pub frontends: Frontends,
    /// `records`.
    pub records: BTreeMap<u32, Record>,
    /// `lists`: indexes of backends.
    pub lists: BTreeMap<u32, u32>,
    /// `backends`.
    pub backends: BTreeMap<u32, Backend>,
    /// `names`.
    pub names: BTreeMap<u32, Name>,
    /// The element of `spaces` that counts.
    pub space: Space,
    /// `addresses4` and `addresses6`.
    pub addresses: BTreeMap<Address, u32>,
    /// `clients`.
    pub clients: BTreeMap<u64, Client>,
    /// `sources`.
    pub sources: BTreeSet<SourceKey>,
    /// `affinity`: client and service port.
    pub affinity: Mutex<Affinities>,
    /// How many entries `affinity` has room for; `None` = any number.
    pub affinity_room: Option<usize>,
    /// `limits`.
    pub limits: BTreeMap<LimitKey, Box<Limit>>,
    /// `policies`.
    pub policies: BTreeMap<[u32; 2], Policy>,
    /// `exempt`.
    pub exempt: BTreeSet<ExemptKey>,
    /// CLOCK_MONOTONIC.
    pub now: AtomicU64,
    /// State of the pseudo-random numbers; a given seed gives a given sequence.
    pub seed: AtomicU32,
}

impl Tables {
    /// `affinity`, to look at or to change.
    pub fn affinities(&self) -> std::sync::MutexGuard<'_, Affinities> {
        self.affinity.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Something in a table.
pub enum Held<'a, T> {
    /// In its place.
    There(&'a T),
    /// Shared with who holds it.
    Shared(Arc<T>),
}

impl<T> Deref for Held<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        match self {
            Self::There(it) => it,
            Self::Shared(it) => it,
        }
    }
}

impl Env for Tables {
    type Ref<'a, T: 'a> = Held<'a, T>;

    fn settings(&self) -> Settings {
        self.settings
    }

    fn shape(&self, v4: bool) -> Shape {
        self.frontends.family(v4).shape()
    }

    fn line(&self, v4: bool, number: u32) -> Option<Held<'_, Line>> {
        Table::line(self.frontends.family(v4), number).map(Held::There)
    }

    fn record(&self, index: u32) -> Option<Held<'_, Record>> {
        self.records.get(&index).map(Held::There)
    }

    fn listed(&self, position: u32) -> Option<Held<'_, Backend>> {
        let index = self.lists.get(&position)?;
        Some(Held::Shared(Arc::new(self.backends.get(index)?.listed(*index))))
    }

    fn backend(&self, index: u32) -> Option<Held<'_, Backend>> {
        self.backends.get(&index).map(Held::There)
    }

    fn space(&self, index: u32) -> Option<Held<'_, Space>> {
        (index == self.settings.space).then_some(Held::There(&self.space))
    }

    fn uses(&self, address: &Address) -> u32 {
        self.addresses.get(address).copied().unwrap_or_default()
    }

    fn client(&self, netns: u64) -> Option<Held<'_, Client>> {
        self.clients.get(&netns).map(Held::There)
    }

    fn admits(&self, service: u32, address: &Address) -> bool {
        self.sources.iter().any(|source| source.service == service && source.covers(address))
    }

    fn affinity(&self, client: u64, service: u32) -> Option<Held<'_, Affinity>> {
        self.affinities().get(&(client, service)).cloned().map(Held::Shared)
    }

    fn remember(&self, client: u64, service: u32, ids: Ids, now: u64) -> bool {
        let mut entries = self.affinities();
        if entries.contains_key(&(client, service)) {
            return true;
        }
        if self.affinity_room.is_some_and(|room| entries.len() >= room) {
            return false;
        }
        let entry = Affinity::default();
        entry.client.store(client);
        entry.service.store(service.into());
        entry.ids.store(ids.pack());
        entry.used.store(now);
        entries.insert((client, service), Arc::new(entry));
        true
    }

    fn limit(&self, policy: [u32; 2], limit: u32) -> Option<Held<'_, Limit>> {
        self.limits.get(&LimitKey { policy, limit }).map(|limit| Held::There(&**limit))
    }

    fn policy(&self, policy: [u32; 2]) -> Option<Held<'_, Policy>> {
        self.policies.get(&policy).map(Held::There)
    }

    fn exempts(&self, policy: [u32; 2], client: u64) -> bool {
        self.exempt.contains(&ExemptKey::new(policy, client))
    }

    fn now(&self) -> u64 {
        self.now.load(SeqCst)
    }

    fn now_exactly(&self) -> u64 {
        self.now()
    }

    fn random(&self) -> u32 {
        // splitmix32: a good spread for a counter's worth of state.
        let mut x = self.seed.fetch_add(0x9e37_79b9, Relaxed).wrapping_add(0x9e37_79b9);
        x = (x ^ (x >> 16)).wrapping_mul(0x21f0_aaad);
        x = (x ^ (x >> 15)).wrapping_mul(0x735a_2d97);
        x ^ (x >> 15)
    }
}

/// A slot array of one layout.
pub struct Slots(Vec<Slot>);

impl Slots {
    /// `len` free slots; a power of two.
    pub fn new(len: usize) -> Self {
        Self((0..len).map(|_| Slot::default()).collect())
    }

    /// The slot of a cookie.
    pub fn at(&self, cookie: u64) -> Option<&Slot> {
        self.0.get(cookie as usize & (self.0.len().checked_sub(1)?))
    }

    /// Slots that somebody owns.
    pub fn owned(&self) -> usize {
        self.0.iter().filter(|slot| slot.owner.load() & abi::slot::owner::COOKIE != 0).count()
    }
}

/// A socket in memory.
pub struct MemorySocket<'a> {
    /// Its cookie.
    pub cookie: u64,
    /// Cookie of its network namespace.
    pub netns: u64,
    /// Is who calls in an excluded cgroup?
    pub excluded: bool,
    /// Policies in cgroups of whose backends who calls is; in halves.
    pub backend_of: BTreeSet<[u32; 2]>,
    /// The slots that it shares with others.
    pub slots: &'a Slots,
    /// The previous layout's slots, during a replacement.
    pub previous: Option<&'a Slots>,
    /// What the kernel has it connected to.
    pub peer: Cell<Option<Endpoint>>,
    /// Storage can't be had.
    pub no_storage: bool,
    storage: OnceLock<Box<Pairs>>,
}

impl<'a> MemorySocket<'a> {
    /// A new socket.
    pub fn new(cookie: u64, slots: &'a Slots) -> Self {
        Self {
            cookie,
            netns: 1,
            excluded: false,
            backend_of: BTreeSet::new(),
            slots,
            previous: None,
            peer: Cell::new(None),
            no_storage: false,
            storage: OnceLock::new(),
        }
    }
}

impl MemorySocket<'_> {
    /// The last close: the release hook runs.
    pub fn release(&self) {
        crate::release(self.cookie, [self.previous_slot(), self.slot()]);
    }
}

impl Caller for MemorySocket<'_> {
    fn netns(&self) -> u64 {
        self.netns
    }

    fn is_excluded(&self) -> bool {
        self.excluded
    }

    fn is_backend_of(&self, policy: [u32; 2]) -> bool {
        self.backend_of.contains(&policy)
    }
}

impl Socket for MemorySocket<'_> {
    fn cookie(&self) -> u64 {
        self.cookie
    }

    fn slot(&self) -> Option<&Slot> {
        self.slots.at(self.cookie)
    }

    fn previous_slot(&self) -> Option<&Slot> {
        self.previous?.at(self.cookie)
    }

    fn stored(&self) -> Option<&Pairs> {
        self.storage.get().map(|pairs| &**pairs)
    }

    fn store(&self) -> Option<&Pairs> {
        (!self.no_storage).then(|| &**self.storage.get_or_init(Box::default))
    }

    fn is_connected(&self) -> bool {
        self.peer.get().is_some()
    }

    fn is_connected_to(&self, endpoint: &Endpoint) -> bool {
        self.peer.get() == Some(*endpoint)
    }
}
