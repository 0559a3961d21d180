//! The live maps, looked up from user space by the very code that the kernel runs.

use std::{cell::RefCell, ops::Deref};

use abi::{
    Address, Affinity, Backend, Client, Limit, Name, Policy, Record, Settings, Space, Word,
    client::{AffinityKey, AffinityWords, SourceKey},
    lines::{Line, LineWords, Shape},
    policy::{ExemptKey, LimitKey, LimitWords},
    slot::Ids,
    space::{Use4, Use6},
};
use bytemuck::Pod;
use datapath::Env;

use crate::{Error, Maps, frontends, maps::PinnedMap, sys};

/// An [`Env`] over the pinned maps.
#[derive(Debug)]
pub struct LiveTables<'a> {
    maps: &'a Maps,
    error: RefCell<Option<Error>>,
    now: u64,
}

impl<'a> LiveTables<'a> {
    /// Over `maps`.
    pub fn new(maps: &'a Maps) -> Self {
        Self { maps, error: RefCell::new(None), now: 0 }
    }

    /// The same, at a time of the programs' clock, CLOCK_MONOTONIC of the machine in nanoseconds: before that is said no
    /// affinity has expired.
    pub fn at(self, now: u64) -> Self {
        Self { now, ..self }
    }

    /// The first thing that could not be read, if any: answers since then are not to be trusted.
    pub fn error(self) -> Option<Error> {
        self.error.into_inner()
    }

    /// Who a service port id belongs to.
    pub fn name(&self, id: u32) -> Option<Name> {
        self.get(&self.maps.names, &id)
    }

    fn table(&self, v4: bool) -> &PinnedMap {
        if v4 { &self.maps.frontends4 } else { &self.maps.frontends6 }
    }

    fn get<K: Pod, V: Pod>(&self, map: &PinnedMap, key: &K) -> Option<V> {
        match sys::lookup(map.fd(), key) {
            Ok(value) => value,
            Err(source) => {
                self.error.borrow_mut().get_or_insert_with(|| map.error("BPF_MAP_LOOKUP_ELEM")(source));
                None
            }
        }
    }
}

/// An element, copied out of its map.
#[derive(Debug)]
pub struct Copied<T>(T);

impl<T> Deref for Copied<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl Env for LiveTables<'_> {
    type Ref<'a, T: 'a>
        = Copied<T>
    where
        Self: 'a;

    fn settings(&self) -> Settings {
        self.get(&self.maps.settings, &0u32).unwrap_or_default()
    }

    fn shape(&self, v4: bool) -> Shape {
        let read = frontends::shape(self.table(v4));
        read.unwrap_or_else(|error| {
            self.error.borrow_mut().get_or_insert(error);
            Shape { seed: 0, lines: 1 }
        })
    }

    fn line(&self, v4: bool, number: u32) -> Option<Copied<Line>> {
        self.get(self.table(v4), &number).map(|words: LineWords| Copied(words.into()))
    }

    fn record(&self, index: u32) -> Option<Copied<Record>> {
        self.get(&self.maps.records, &index).map(Copied)
    }

    fn listed(&self, position: u32) -> Option<Copied<Backend>> {
        self.get(&self.maps.lists, &position).map(Copied)
    }

    fn backend(&self, index: u32) -> Option<Copied<Backend>> {
        self.get(&self.maps.backends, &index).map(Copied)
    }

    fn space(&self, index: u32) -> Option<Copied<Space>> {
        self.get(&self.maps.spaces, &index).map(Copied)
    }

    fn uses(&self, address: &Address) -> u32 {
        match address.as_v4() {
            Some(key) => self.get(&self.maps.addresses4, &key).map_or(0, |it: Use4| it.uses),
            None => self.get(&self.maps.addresses6, &address.0).map_or(0, |it: Use6| it.uses),
        }
    }

    fn client(&self, netns: u64) -> Option<Copied<Client>> {
        self.get(&self.maps.clients, &netns).map(Copied)
    }

    fn admits(&self, service: u32, address: &Address) -> bool {
        let key = SourceKey { bits: SourceKey::WHOLE, service, address: address.0 };
        self.get::<_, u32>(&self.maps.sources, &key).is_some()
    }

    fn affinity(&self, client: u64, service: u32) -> Option<Copied<Affinity>> {
        let words: AffinityWords = self.get(&self.maps.affinity, &AffinityKey { client, service, pad: 0 })?;
        Some(Copied(Affinity {
            client: Word::new(words.client),
            service: Word::new(words.service),
            ids: Word::new(words.ids),
            used: Word::new(words.used),
        }))
    }

    /// To look changes nothing.
    fn remember(&self, _client: u64, _service: u32, _ids: Ids, _now: u64) -> bool {
        true
    }

    /// A copy: to look counts nothing.
    fn limit(&self, policy: [u32; 2], limit: u32) -> Option<Copied<Limit>> {
        let words: LimitWords = self.get(&self.maps.limits, &LimitKey { policy, limit })?;
        Some(Copied(words.into()))
    }

    /// To look counts nothing.
    fn policy(&self, _policy: [u32; 2]) -> Option<Copied<Policy>> {
        None
    }

    fn exempts(&self, policy: [u32; 2], client: u64) -> bool {
        self.get::<_, u32>(&self.maps.exempt, &ExemptKey::new(policy, client)).is_some()
    }

    fn now(&self) -> u64 {
        self.now
    }

    fn now_exactly(&self) -> u64 {
        self.now
    }

    /// Nobody here chooses at random: explanations walk the whole list.
    fn random(&self) -> u32 {
        0
    }
}
