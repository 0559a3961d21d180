//! Tables in memory.

use std::{collections::BTreeSet, net::IpAddr};

use abi::{Backend, Key, Name, Record, Space, client::SourceKey, policy::LimitKey};
use datapath::memory::Tables;

use super::{Contents, TableStore};
use crate::{Error, policies::Kept};

impl TableStore for Tables {
    fn put_names(&mut self, names: &[(u32, Name)]) -> Result<(), Error> {
        self.names.extend(names.iter().copied());
        Ok(())
    }

    fn put_backends(&mut self, backends: &[(u32, Backend)]) -> Result<(), Error> {
        self.backends.extend(backends.iter().copied());
        Ok(())
    }

    fn put_lists(&mut self, lists: &[(u32, Backend)]) -> Result<(), Error> {
        self.lists.extend(lists.iter().map(|(position, element)| (*position, element.index)));
        Ok(())
    }

    fn put_records(&mut self, records: &[(u32, Record)]) -> Result<(), Error> {
        self.records.extend(records.iter().copied());
        Ok(())
    }

    fn put_frontends(&mut self, frontends: &[(Key, u32)]) -> Result<(), Error> {
        for (key, record) in frontends {
            self.frontends.insert(*key, *record);
        }
        Ok(())
    }

    fn delete_frontends(&mut self, keys: &[Key]) -> Result<(), Error> {
        for key in keys {
            self.frontends.remove(key);
        }
        Ok(())
    }

    /// There is no garbage: what is written here is never damaged.
    fn sweep(&mut self) -> Result<usize, Error> {
        Ok(0)
    }

    fn delete_names(&mut self, ids: &[u32]) -> Result<(), Error> {
        self.names.retain(|id, _| !ids.contains(id));
        Ok(())
    }

    fn put_sources(&mut self, sources: &[SourceKey]) -> Result<(), Error> {
        self.sources.extend(sources);
        Ok(())
    }

    fn delete_sources(&mut self, sources: &[SourceKey]) -> Result<(), Error> {
        self.sources.retain(|key| !sources.contains(key));
        Ok(())
    }

    fn put_addresses(&mut self, addresses: &[(IpAddr, u32)]) -> Result<(), Error> {
        self.addresses.extend(addresses.iter().map(|(ip, uses)| ((*ip).into(), *uses)));
        Ok(())
    }

    fn delete_addresses(&mut self, addresses: &[IpAddr]) -> Result<(), Error> {
        self.addresses.retain(|address, _| !addresses.contains(&address.ip()));
        Ok(())
    }

    fn put_space(&mut self, space: &Space) -> Result<(), Error> {
        self.space = *space;
        Ok(())
    }

    fn set_policies(
        &mut self,
        policies: &BTreeSet<[u32; 2]>,
        limits: &BTreeSet<LimitKey>,
        gone: bool,
    ) -> Result<Kept, Error> {
        let before = self.policies.len() + self.limits.len();
        self.policies.retain(|key, _| !gone || policies.contains(key));
        self.limits.retain(|key, _| !gone || limits.contains(key));
        let left = self.policies.len() + self.limits.len();
        for key in policies {
            self.policies.entry(*key).or_default();
        }
        for key in limits {
            self.limits.entry(*key).or_default();
        }
        let now = self.policies.len() + self.limits.len();
        Ok(Kept { writes: before - left + now - left, left_out: 0 })
    }

    /// Readers borrow the tables: there are none while they are written.
    fn wait_for_readers(&self) {}

    fn read(&self) -> Result<Contents, Error> {
        let end = self.lists.keys().next_back().map_or(0, |position| position + 1);
        Ok(Contents {
            frontends: self.frontends.iter().map(|(key, index)| (*key, *index)).collect(),
            records: self.records.iter().map(|(index, record)| (*index, *record)).collect(),
            lists: (0..end).map(|position| self.lists.get(&position).copied().unwrap_or_default()).collect(),
            backends: self.backends.iter().map(|(index, backend)| (*index, *backend)).collect(),
            names: self.names.iter().map(|(id, name)| (*id, *name)).collect(),
            addresses: self.addresses.iter().map(|(address, uses)| (address.ip(), *uses)).collect(),
            sources: self.sources.iter().copied().collect(),
            space: self.space,
        })
    }
}
