//! The tables and sockets in memory.

extern crate std;

use crate::{Env, Socket};
use abi::{Backend, Endpoint, Key, Name, Pairs, Record, Settings, Slot};
use core::{cell::Cell, sync::atomic::AtomicU32};
use std::{boxed::Box, collections::BTreeMap, sync::OnceLock, vec::Vec};

/// The tables, as plain maps.
#[derive(Debug, Default)]
pub struct Tables {
    /// `settings`.
    pub settings: Settings,
    /// `frontends4` and `frontends6`.
    pub frontends: BTreeMap<Key, u32>,
    /// `records`.
    pub records: BTreeMap<u32, Record>,
    /// `lists`.
    pub lists: BTreeMap<u32, u32>,
    /// `backends`.
    pub backends: BTreeMap<u32, Backend>,
    /// `names`.
    pub names: BTreeMap<u32, Name>,
    /// State of the pseudo-random numbers; a given seed gives a given sequence.
    pub seed: AtomicU32,
}

impl Env for Tables {
    type Ref<'a, T: 'a> = &'a T;

    fn settings(&self) -> Settings {
        self.settings
    }

    fn frontend(&self, key: &Key) -> Option<u32> {
        self.frontends.get(key).copied()
    }

    fn record(&self, index: u32) -> Option<&Record> {
        self.records.get(&index)
    }

    fn listed(&self, position: u32) -> Option<u32> {
        self.lists.get(&position).copied()
    }

    fn backend(&self, index: u32) -> Option<&Backend> {
        self.backends.get(&index)
    }

    fn random(&self) -> u32 {
        use core::sync::atomic::Ordering::Relaxed;
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
