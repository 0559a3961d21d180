//! The live maps, looked up from user space by the very code that the kernel runs.

use std::{cell::RefCell, ops::Deref};

use abi::{Backend, Key, Name, Record, Settings};
use bytemuck::Pod;
use datapath::Env;

use crate::{Error, Maps, maps::PinnedMap, sys};

/// An [`Env`] over the pinned maps.
#[derive(Debug)]
pub struct LiveTables<'a> {
    maps: &'a Maps,
    error: RefCell<Option<Error>>,
}

impl<'a> LiveTables<'a> {
    /// Over `maps`.
    pub fn new(maps: &'a Maps) -> Self {
        Self { maps, error: RefCell::new(None) }
    }

    /// The first thing that could not be read, if any: answers since then are not to be trusted.
    pub fn error(self) -> Option<Error> {
        self.error.into_inner()
    }

    /// Who a service port id belongs to.
    pub fn name(&self, id: u32) -> Option<Name> {
        self.get(&self.maps.names, &id)
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

    fn frontend(&self, key: &Key) -> Option<u32> {
        match key.v4() {
            Some(key) => self.get(&self.maps.frontends4, &key),
            None => self.get(&self.maps.frontends6, &key.v6()),
        }
    }

    fn record(&self, index: u32) -> Option<Copied<Record>> {
        self.get(&self.maps.records, &index).map(Copied)
    }

    fn listed(&self, position: u32) -> Option<u32> {
        self.get(&self.maps.lists, &position)
    }

    fn backend(&self, index: u32) -> Option<Copied<Backend>> {
        self.get(&self.maps.backends, &index).map(Copied)
    }

    /// Nobody here chooses at random: explanations walk the whole list.
    fn random(&self) -> u32 {
        0
    }
}
