//! Addresses, sources and space: what [`diff`](crate::diff()) reads and changes of them.

use std::{collections::BTreeSet, net::IpAddr};

use abi::{Address, Space, client::SourceKey, frontend::record_flag};
use ipnet::IpNet;

use super::{Room, Table};

/// The key of a source range of a service port.
pub fn source_key(service: u32, range: &IpNet) -> SourceKey {
    let mapped = if range.addr().is_ipv4() { 96 } else { 0 };
    SourceKey {
        bits: 32 + mapped + u32::from(range.prefix_len()),
        service,
        address: Address::from(range.network()).0,
    }
}

impl Table {
    pub(crate) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.addresses.keys().copied()
    }

    pub(crate) fn uses(&self, ip: IpAddr) -> u32 {
        self.addresses.get(&ip).copied().unwrap_or_default()
    }

    /// Says what an address is.
    pub(crate) fn set_address(&mut self, ip: IpAddr, uses: u32) -> Result<(), Room> {
        let (room, used) = if ip.is_ipv4() {
            (Room::Addresses4, self.addresses4 as usize)
        } else {
            (Room::Addresses6, self.addresses.len() - self.addresses4 as usize)
        };
        if !self.addresses.contains_key(&ip) && used >= self.capacity.of(room) as usize {
            return Err(room);
        }
        if self.addresses.insert(ip, uses).is_none() {
            self.addresses4 += u32::from(ip.is_ipv4());
        }
        Ok(())
    }

    pub(crate) fn remove_address(&mut self, ip: IpAddr) {
        if self.addresses.remove(&ip).is_some() {
            self.addresses4 -= u32::from(ip.is_ipv4());
        }
    }

    pub(crate) fn space(&self) -> &Space {
        &self.space
    }

    pub(crate) fn set_space(&mut self, space: Space) -> bool {
        let is_new = self.space != space;
        self.space = space;
        is_new
    }

    /// Adds the source ranges that a service port has not yet: those added, all or none.
    pub(crate) fn add_sources(
        &mut self,
        service: u32,
        wanted: &BTreeSet<SourceKey>,
    ) -> Result<Vec<SourceKey>, Room> {
        let new: Vec<SourceKey> =
            wanted.iter().filter(|key| !self.sources.contains(&(service, **key))).copied().collect();
        if self.sources.len() + new.len() > self.capacity.sources as usize {
            return Err(Room::Sources);
        }
        self.sources.extend(new.iter().map(|key| (service, *key)));
        Ok(new)
    }

    /// Takes from `gone` the last source ranges of a service port that some restricted frontend still has, as it could not be
    /// changed: that it stays as it is means for its clients, too.
    pub(crate) fn keep_restricted(&self, gone: &mut Vec<SourceKey>) {
        if gone.is_empty() {
            return;
        }
        let records = self.records.values().map(|it| it.record);
        let restricted = records.filter(|record| record.flags & record_flag::RESTRICTED != 0);
        let restricted: BTreeSet<u32> = restricted.map(|record| record.service).collect();
        let going: BTreeSet<SourceKey> = gone.iter().copied().collect();
        let would_be_empty = |id: u32| self.sources_of(id).all(|key| going.contains(key));
        let kept: BTreeSet<u32> = restricted.into_iter().filter(|id| would_be_empty(*id)).collect();
        gone.retain(|key| !kept.contains(&key.service));
    }

    /// Source ranges whose service port is gone.
    pub(crate) fn orphaned_sources(&self) -> impl Iterator<Item = SourceKey> {
        self.sources.iter().filter(|(id, _)| !self.services.contains_key(id)).map(|(_, key)| *key)
    }

    pub(crate) fn has_source(&self, service: u32, key: &SourceKey) -> bool {
        self.sources.contains(&(service, *key))
    }

    pub(crate) fn remove_sources(&mut self, keys: &[SourceKey]) {
        for key in keys {
            self.sources.remove(&(key.service, *key));
        }
    }

    /// The source ranges of one service port.
    pub(crate) fn sources_of(&self, service: u32) -> impl Iterator<Item = &SourceKey> {
        let at = |bits, service| (service, SourceKey { bits, service, address: [0; 4] });
        self.sources.range(at(0, service)..).take_while(move |(id, _)| *id == service).map(|(_, key)| key)
    }
}
