//! Writing and reading the tables.

#[cfg(feature = "memory")]
mod memory;

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    time::Instant,
};

use abi::{
    Address, Backend, Key, Name, Record, Space,
    client::SourceKey,
    policy::LimitKey,
    space::{Use4, Use6},
};
use bytemuck::Pod;

use crate::{
    Error, Maps,
    frontends::{Words, Writer},
    maps::PinnedMap,
    policies::Kept,
    sys,
};

/// All that the tables hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// `frontends4` and `frontends6`.
    pub frontends: Vec<(Key, u32)>,
    /// `records` that were ever written, at least those that frontends lead to.
    pub records: Vec<(u32, Record)>,
    /// `lists`: indexes of backends, by position; at least as far as records reach.
    pub lists: Vec<u32>,
    /// `backends` that were ever written.
    pub backends: Vec<(u32, Backend)>,
    /// `names`.
    pub names: Vec<(u32, Name)>,
    /// `addresses4` and `addresses6`.
    pub addresses: Vec<(IpAddr, u32)>,
    /// `sources`.
    pub sources: Vec<SourceKey>,
    /// The element of `spaces` that counts.
    pub space: Space,
}

/// Keys, and the indexes of their records.
type Frontends = Vec<(Key, u32)>;

/// Where tables are written to: the bpf maps, or memory.
pub trait TableStore {
    /// Writes names of service ports.
    ///
    /// # Errors
    /// The kernel refuses.
    fn put_names(&mut self, names: &[(u32, Name)]) -> Result<(), Error>;
    /// Writes backends.
    ///
    /// # Errors
    /// The kernel refuses.
    fn put_backends(&mut self, backends: &[(u32, Backend)]) -> Result<(), Error>;
    /// Writes elements of the lists.
    ///
    /// # Errors
    /// The kernel refuses.
    fn put_lists(&mut self, lists: &[(u32, Backend)]) -> Result<(), Error>;
    /// Writes records.
    ///
    /// # Errors
    /// The kernel refuses.
    fn put_records(&mut self, records: &[(u32, Record)]) -> Result<(), Error>;
    /// Points frontends to records, each in one step.
    ///
    /// # Errors
    /// The kernel refuses.
    fn put_frontends(&mut self, frontends: &[(Key, u32)]) -> Result<(), Error>;
    /// Removes frontends; those that are not there are no error.
    ///
    /// # Errors
    /// The kernel refuses.
    fn delete_frontends(&mut self, keys: &[Key]) -> Result<(), Error>;
    /// Frees entries of frontends that lead to a record that is not theirs, and serve nobody; how many.
    ///
    /// # Errors
    /// The kernel refuses.
    fn sweep(&mut self) -> Result<usize, Error>;
    /// Removes names; those that are not there are no error.
    ///
    /// # Errors
    /// The kernel refuses.
    fn delete_names(&mut self, ids: &[u32]) -> Result<(), Error>;
    /// Adds sources.
    ///
    /// # Errors
    /// The kernel refuses.
    fn put_sources(&mut self, sources: &[SourceKey]) -> Result<(), Error>;
    /// Removes sources; those that are not there are no error.
    ///
    /// # Errors
    /// The kernel refuses.
    fn delete_sources(&mut self, sources: &[SourceKey]) -> Result<(), Error>;
    /// Says what addresses are.
    ///
    /// # Errors
    /// The kernel refuses.
    fn put_addresses(&mut self, addresses: &[(IpAddr, u32)]) -> Result<(), Error>;
    /// Removes addresses; those that are not there are no error.
    ///
    /// # Errors
    /// The kernel refuses.
    fn delete_addresses(&mut self, addresses: &[IpAddr]) -> Result<(), Error>;
    /// Puts another space in force, in one step.
    ///
    /// # Errors
    /// The kernel refuses.
    fn put_space(&mut self, space: &Space) -> Result<(), Error>;
    /// Makes the entries that the programs count connections of policies in, for those that have none yet; with `gone` those
    /// of others are removed.
    ///
    /// # Errors
    /// The kernel refuses.
    fn set_policies(
        &mut self,
        policies: &BTreeSet<[u32; 2]>,
        limits: &BTreeSet<LimitKey>,
        gone: bool,
    ) -> Result<Kept, Error>;
    /// Waits until nobody reads any more what frontends no longer lead to.
    fn wait_for_readers(&self);
    /// Reads everything.
    ///
    /// # Errors
    /// The kernel refuses.
    fn read(&self) -> Result<Contents, Error>;
}

/// Stands for an element of `lists` that is not what `backends` has at its index.
const NO_BACKEND: u32 = u32::MAX;

/// Elements of an array or hash that one call reads or writes: more would hardly be faster, and take memory twice.
const STEP: usize = 4096;

pub(crate) fn put<K: Pod, V: Pod>(
    map: &PinnedMap,
    mut entries: impl Iterator<Item = (K, V)>,
) -> Result<(), Error> {
    loop {
        let (keys, values): (Vec<K>, Vec<V>) = entries.by_ref().take(STEP).unzip();
        match (keys.as_slice(), values.as_slice()) {
            ([], _) => return Ok(()),
            ([key], [value]) => {
                sys::update(map.fd(), key, value).map_err(map.error("BPF_MAP_UPDATE_ELEM"))?;
            }
            (keys, values) => {
                sys::update_batch(map.fd(), keys, values).map_err(map.error("BPF_MAP_UPDATE_BATCH"))?;
            }
        }
    }
}

pub(crate) fn delete<K: Pod>(map: &PinnedMap, keys: &[K]) -> Result<(), Error> {
    match keys {
        [] => Ok(()),
        [key] => sys::delete(map.fd(), key).map(drop).map_err(map.error("BPF_MAP_DELETE_ELEM")),
        keys => sys::delete_batch(map.fd(), keys).map_err(map.error("BPF_MAP_DELETE_BATCH")),
    }
}

/// All elements of a hash.
pub(crate) fn read<K: Pod, V: Pod>(map: &PinnedMap) -> Result<Vec<(K, V)>, Error> {
    let mut all = Vec::new();
    sys::for_each(map.fd(), STEP, usize::MAX, |key, value| all.push((key, value)))
        .map_err(map.error("BPF_MAP_LOOKUP_BATCH"))?;
    Ok(all)
}

/// The first `count` elements of an array, as far as they were ever written: arrays are made large, and mostly empty.
fn read_array<V: Pod + PartialEq>(map: &PinnedMap, count: u32) -> Result<Vec<(u32, V)>, Error> {
    let mut all = Vec::new();
    sys::for_each(map.fd(), STEP, count as usize, |index: u32, value: V| {
        if value != V::zeroed() {
            all.push((index, value));
        }
    })
    .map_err(map.error("BPF_MAP_LOOKUP_BATCH"))?;
    Ok(all)
}

/// The keys that records repeat.
fn keys(records: &[(u32, Record)]) -> HashMap<u32, Key> {
    records.iter().map(|(index, record)| (*index, record.key())).collect()
}

impl Maps {
    /// Both tables of frontends, to be written.
    fn writer(&mut self) -> Result<&Writer, Error> {
        let writer = match self.writer.take() {
            Some(writer) => writer,
            None => Writer::new(self)?,
        };
        Ok(self.writer.insert(writer))
    }

    /// Frontends, and the records that they lead to.
    pub(crate) fn frontends(&self) -> Result<(Frontends, Vec<(u32, Record)>), Error> {
        let words = [Words::read(&self.frontends4)?, Words::read(&self.frontends6)?];
        let records = self.records(&words)?;
        let keys = keys(&records);
        let frontends = words.iter().flat_map(|words| words.frontends(&keys)).collect();
        Ok((frontends, records))
    }

    /// Records as far as words lead to them: what nothing leads to does not matter.
    fn records(&self, words: &[Words]) -> Result<Vec<(u32, Record)>, Error> {
        let end = words.iter().map(Words::records).max().unwrap_or_default();
        read_array(&self.records, end.min(self.records.capacity()))
    }
}

impl TableStore for Maps {
    fn put_names(&mut self, names: &[(u32, Name)]) -> Result<(), Error> {
        put(&self.names, names.iter().copied())
    }

    fn put_backends(&mut self, backends: &[(u32, Backend)]) -> Result<(), Error> {
        put(&self.backends, backends.iter().copied())
    }

    fn put_lists(&mut self, lists: &[(u32, Backend)]) -> Result<(), Error> {
        put(&self.lists, lists.iter().copied())
    }

    fn put_records(&mut self, records: &[(u32, Record)]) -> Result<(), Error> {
        put(&self.records, records.iter().copied())
    }

    fn put_frontends(&mut self, frontends: &[(Key, u32)]) -> Result<(), Error> {
        self.writer()?.put(frontends)
    }

    fn delete_frontends(&mut self, keys: &[Key]) -> Result<(), Error> {
        self.writer()?.delete(keys)
    }

    fn sweep(&mut self) -> Result<usize, Error> {
        let words = [Words::read(&self.frontends4)?, Words::read(&self.frontends6)?];
        let keys = keys(&self.records(&words)?);
        Ok(self.writer()?.sweep(&keys))
    }

    fn delete_names(&mut self, ids: &[u32]) -> Result<(), Error> {
        delete(&self.names, ids)
    }

    fn put_sources(&mut self, sources: &[SourceKey]) -> Result<(), Error> {
        put(&self.sources, sources.iter().map(|key| (*key, 1u32)))
    }

    fn delete_sources(&mut self, sources: &[SourceKey]) -> Result<(), Error> {
        // One by one: the batch of an LPM trie is one only by name, and these are few.
        sources.iter().try_for_each(|key| delete(&self.sources, &[*key]))
    }

    fn put_addresses(&mut self, addresses: &[(IpAddr, u32)]) -> Result<(), Error> {
        let all = || addresses.iter().map(|(ip, uses)| (Address::from(*ip), *uses));
        put(
            &self.addresses4,
            all().filter_map(|(ip, uses)| ip.as_v4().map(|address| (address, Use4 { address, uses }))),
        )?;
        let v6 = all().filter(|(ip, _)| ip.as_v4().is_none());
        put(&self.addresses6, v6.map(|(ip, uses)| (ip.0, Use6 { address: ip.0, uses })))
    }

    fn delete_addresses(&mut self, addresses: &[IpAddr]) -> Result<(), Error> {
        let all = || addresses.iter().map(|ip| Address::from(*ip));
        let v4: Vec<u32> = all().filter_map(|ip| ip.as_v4()).collect();
        let v6: Vec<[u32; 4]> = all().filter(|ip| ip.as_v4().is_none()).map(|ip| ip.0).collect();
        delete(&self.addresses4, &v4)?;
        delete(&self.addresses6, &v6)
    }

    fn put_space(&mut self, space: &Space) -> Result<(), Error> {
        let other = u32::from(self.settings()?.space == 0);
        // Who began to read the other one before it was left must be done.
        if self.space_changed.is_none_or(|at| at.elapsed() < crate::READERS) {
            crate::wait_for_readers();
        }
        self.space_changed = Some(Instant::now());
        put(&self.spaces, [(other, *space)].into_iter())?;
        self.change_settings(|settings| settings.space = other)
    }

    fn set_policies(
        &mut self,
        policies: &BTreeSet<[u32; 2]>,
        limits: &BTreeSet<LimitKey>,
        gone: bool,
    ) -> Result<Kept, Error> {
        self.make_policies(policies, limits, gone)
    }

    fn wait_for_readers(&self) {
        crate::wait_for_readers();
    }

    fn read(&self) -> Result<Contents, Error> {
        let (frontends, records) = self.frontends()?;
        let end = |record: &Record| record.local.start.saturating_add(record.local.len);
        let lists = records.iter().map(|(_, record)| end(record)).max().unwrap_or_default();
        let lists = lists.min(self.lists.capacity());
        let backends: Vec<(u32, Backend)> = read_array(&self.backends, self.backends.capacity())?;
        let known: HashMap<u32, &Backend> =
            backends.iter().map(|(index, backend)| (*index, backend)).collect();
        let mut positions = vec![0; lists as usize];
        sys::for_each(self.lists.fd(), STEP, positions.len(), |position: u32, element: Backend| {
            let is_right = known.get(&element.index).is_some_and(|it| it.listed(element.index) == element);
            if let Some(place) = positions.get_mut(position as usize) {
                *place = if is_right { element.index } else { NO_BACKEND };
            }
        })
        .map_err(self.lists.error("BPF_MAP_LOOKUP_BATCH"))?;
        Ok(Contents {
            frontends,
            records,
            lists: positions,
            backends,
            names: read(&self.names)?,
            addresses: {
                let v4 = read::<u32, Use4>(&self.addresses4)?.into_iter();
                let v6 = read::<[u32; 4], Use6>(&self.addresses6)?.into_iter();
                v4.map(|(ip, it)| (Address::v4(ip).ip(), it.uses))
                    .chain(v6.map(|(ip, it)| (Address(ip).ip(), it.uses)))
                    .collect()
            },
            sources: read::<SourceKey, u32>(&self.sources)?.into_iter().map(|(key, _)| key).collect(),
            space: self.space()?,
        })
    }
}
