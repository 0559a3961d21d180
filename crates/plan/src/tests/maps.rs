//! The kernel's maps, in memory, and what readers of them may rely on.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use abi::{
    Backend, Key, Name, Record, Space,
    client::SourceKey,
    frontend::{backend_flag::LIVE, record_flag},
};

use crate::{Image, Phase, Plan};

#[derive(Clone, Debug, Default)]
pub(super) struct Maps {
    pub(super) frontends: BTreeMap<Key, u32>,
    pub(super) records: BTreeMap<u32, Record>,
    pub(super) lists: Vec<u32>,
    pub(super) backends: BTreeMap<u32, Backend>,
    pub(super) names: BTreeMap<u32, Name>,
    pub(super) addresses: BTreeMap<IpAddr, u32>,
    pub(super) sources: BTreeSet<SourceKey>,
    pub(super) space: Space,
}

/// What a reader that has looked up a frontend holds, until a grace period ends.
#[derive(Clone, Debug)]
pub(super) struct Reader {
    index: u32,
    record: Record,
    list: Vec<(u32, Backend)>,
}

impl Maps {
    pub(super) fn image(&self) -> Image {
        Image {
            frontends: self.frontends.iter().map(|(k, v)| (*k, *v)).collect(),
            records: self.records.iter().map(|(k, v)| (*k, *v)).collect(),
            lists: self.lists.clone(),
            backends: self.backends.iter().map(|(k, v)| (*k, *v)).collect(),
            names: self.names.iter().map(|(k, v)| (*k, *v)).collect(),
            addresses: self.addresses.iter().map(|(k, v)| (*k, *v)).collect(),
            sources: self.sources.iter().copied().collect(),
            space: self.space,
        }
    }

    /// From an image that was tampered with: the last of several entries for one key is what a map has.
    pub(super) fn of(image: &Image) -> Self {
        Self {
            frontends: image.frontends.iter().copied().collect(),
            records: image.records.iter().copied().collect(),
            lists: image.lists.clone(),
            backends: image.backends.iter().copied().collect(),
            names: image.names.iter().copied().collect(),
            addresses: image.addresses.iter().copied().collect(),
            sources: image.sources.iter().copied().collect(),
            space: image.space,
        }
    }

    /// Applies a plan write by write and calls `check` after each.
    pub(super) fn apply(&mut self, plan: &Plan, mut check: impl FnMut(&Self)) {
        for phase in &plan.phases {
            assert!(!phase.is_empty());
            for single in singles(phase) {
                self.write(single);
                check(self);
            }
        }
    }

    fn write(&mut self, phase: Phase) {
        match phase {
            Phase::Names(writes) => self.names.extend(writes),
            Phase::Backends(writes) | Phase::RetireBackends(writes) => self.backends.extend(writes),
            Phase::Lists(writes) => {
                for (at, element) in writes {
                    // What may change of a backend is not in lists, and the rest is as it is there.
                    assert_eq!(self.backends[&element.index].listed(element.index), element);
                    if self.lists.len() <= at as usize {
                        self.lists.resize(at as usize + 1, 0);
                    }
                    self.lists[at as usize] = element.index;
                }
            }
            Phase::Records(writes) => self.records.extend(writes),
            Phase::Frontends(writes) => self.frontends.extend(writes),
            Phase::Sources(keys) => {
                for key in keys {
                    assert!(self.sources.insert(key));
                }
            }
            Phase::Addresses(writes) => self.addresses.extend(writes),
            Phase::Space(space) => self.space = *space,
            Phase::DeleteAddresses(ips) => {
                for ip in ips {
                    assert!(self.addresses.remove(&ip).is_some());
                }
            }
            Phase::DeleteSources(keys) => {
                for key in keys {
                    assert!(self.sources.remove(&key));
                }
            }
            Phase::DeleteFrontends(keys) => {
                for key in keys {
                    assert!(self.frontends.remove(&key).is_some());
                }
            }
            Phase::DeleteNames(ids) => {
                for id in ids {
                    assert!(self.names.remove(&id).is_some());
                }
            }
        }
    }

    /// The entries of a record's range.
    pub(super) fn list(&self, record: &Record) -> Vec<(u32, Backend)> {
        let (start, len) = (record.local.start as usize, record.local.len as usize);
        self.lists[start..start + len].iter().map(|index| (*index, self.backends[index])).collect()
    }

    /// Every frontend leads to a record of its own, and that to live backends of its service port.
    pub(super) fn assert_sound(&self) {
        for (key, index) in &self.frontends {
            let record = self.records[index];
            assert_eq!(record.key(), *key);
            assert!(self.names.contains_key(&record.service), "{key:?} belongs to nobody");
            // One that some may use and nobody is known to may be used by nobody.
            let is_restricted = record.flags & record_flag::RESTRICTED != 0;
            assert!(!is_restricted || self.sources.iter().any(|source| source.service == record.service));
            for (_, backend) in self.list(&record) {
                assert!(backend.flags & LIVE != 0, "{key:?} lists a dead backend");
                assert_eq!(backend.service, record.service, "{key:?} lists another's backend");
            }
        }
    }

    /// One reader for each frontend.
    pub(super) fn readers(&self) -> Vec<Reader> {
        let reader = |index: &u32| {
            let record = self.records[index];
            Reader { index: *index, record, list: self.list(&record) }
        };
        self.frontends.values().map(reader).collect()
    }

    /// What the reader found is still there; backends may have been retired, but not replaced.
    pub(super) fn assert_undisturbed(&self, reader: &Reader) {
        assert_eq!(self.records[&reader.index], reader.record);
        for ((now, backend), (then, old)) in self.list(&reader.record).iter().zip(&reader.list) {
            assert_eq!(now, then);
            assert_eq!(backend.endpoint(), old.endpoint());
            assert_eq!((backend.service, backend.generation), (old.service, old.generation));
        }
    }
}

fn singles(phase: &Phase) -> Vec<Phase> {
    fn each<T: Clone>(writes: &[T], wrap: impl Fn(Vec<T>) -> Phase) -> Vec<Phase> {
        writes.iter().map(|write| wrap(vec![write.clone()])).collect()
    }
    match phase {
        Phase::Names(it) => each(it, Phase::Names),
        Phase::Backends(it) => each(it, Phase::Backends),
        Phase::Lists(it) => each(it, Phase::Lists),
        Phase::Records(it) => each(it, Phase::Records),
        Phase::Frontends(it) => each(it, Phase::Frontends),
        Phase::Sources(it) => each(it, Phase::Sources),
        Phase::Addresses(it) => each(it, Phase::Addresses),
        Phase::Space(it) => vec![Phase::Space(it.clone())],
        Phase::DeleteAddresses(it) => each(it, Phase::DeleteAddresses),
        Phase::DeleteSources(it) => each(it, Phase::DeleteSources),
        Phase::DeleteFrontends(it) => each(it, Phase::DeleteFrontends),
        Phase::RetireBackends(it) => each(it, Phase::RetireBackends),
        Phase::DeleteNames(it) => each(it, Phase::DeleteNames),
    }
}
