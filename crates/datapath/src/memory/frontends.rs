//! The hash tables of frontends in memory: as large as needed.

extern crate std;

use crate::frontends::{self, Table};
use abi::{
    Key,
    lines::{Line, ROOM, Shape},
};
use core::{fmt, ops::Index};
use std::{collections::BTreeMap, vec::Vec};

/// `frontends4` and `frontends6`.
#[derive(Debug, Default)]
pub struct Frontends {
    records: BTreeMap<Key, u32>,
    v4: Family,
    v6: Family,
    dense: bool,
}

/// One of the two.
pub struct Family {
    lines: Vec<Line>,
    keys: BTreeMap<u32, Key>,
}

impl Default for Family {
    fn default() -> Self {
        Self { lines: Vec::from([Line::default()]), keys: BTreeMap::new() }
    }
}

impl fmt::Debug for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.keys.fmt(f)
    }
}

impl Table for Family {
    fn shape(&self) -> Shape {
        Shape { seed: 0x5eed, lines: self.lines.len() as u32 }
    }

    fn line(&self, number: u32) -> Option<&Line> {
        self.lines.get(number as usize)
    }

    fn key(&self, record: u32) -> Option<Key> {
        self.keys.get(&record).copied()
    }
}

impl Frontends {
    /// Grows no sooner than some frontend finds no place.
    pub fn dense() -> Self {
        Self { dense: true, ..Self::default() }
    }

    /// Those of an address family.
    pub fn family(&self, v4: bool) -> &Family {
        if v4 { &self.v4 } else { &self.v6 }
    }

    /// Points a frontend to a record; the record that it had.
    pub fn insert(&mut self, key: Key, record: u32) -> Option<u32> {
        let before = self.remove(&key);
        self.records.insert(key, record);
        let family = if key.is_v4() { &mut self.v4 } else { &mut self.v6 };
        family.keys.insert(record, key);
        let has_room = self.dense || family.keys.len() <= family.lines.len() * ROOM as usize;
        if !has_room || frontends::put(family, &key, record).is_err() {
            self.lay_out(key.is_v4(), 2);
        }
        before
    }

    /// Removes a frontend; the record that it had.
    pub fn remove(&mut self, key: &Key) -> Option<u32> {
        let record = self.records.remove(key)?;
        self.lay_out(key.is_v4(), 1);
        Some(record)
    }

    /// Writes anew all of a family into so many times as many lines, and more until all find a place.
    fn lay_out(&mut self, v4: bool, times: usize) {
        let family = if v4 { &mut self.v4 } else { &mut self.v6 };
        let all = || self.records.iter().filter(|(key, _)| key.is_v4() == v4);
        family.keys = all().map(|(key, record)| (*record, *key)).collect();
        let mut lines = family.lines.len() * times;
        loop {
            family.lines = (0..lines).map(|_| Line::default()).collect();
            if all().all(|(key, record)| frontends::put(family, key, *record).is_ok()) {
                return;
            }
            lines *= 2;
        }
    }

    /// The record of a frontend.
    pub fn get(&self, key: &Key) -> Option<&u32> {
        self.records.get(key)
    }

    /// All.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &u32)> {
        self.records.iter()
    }
}

impl FromIterator<(Key, u32)> for Frontends {
    fn from_iter<I: IntoIterator<Item = (Key, u32)>>(all: I) -> Self {
        let mut frontends = Self::default();
        for (key, record) in all {
            frontends.insert(key, record);
        }
        frontends
    }
}

impl Index<&Key> for Frontends {
    type Output = u32;

    fn index(&self, key: &Key) -> &u32 {
        &self.records[key]
    }
}
