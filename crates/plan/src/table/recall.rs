//! What the table holds of one service or policy, as if it were desired.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use abi::{
    Address, Key, Name, Record,
    client::SourceKey,
    frontend::{backend_flag::LIVE, level, mode, record_flag},
    space::address_use,
};
use ipnet::IpNet;
use model::{Kind, ObjectId, ServicePortName};

use super::Table;
use crate::compile::{FrontendSpec, PortTable, ServiceTables};

impl Table {
    /// Whether a frontend is, at whatever level, served by backends of this service port.
    pub fn serves(&self, key: &Key, port: &ServicePortName) -> bool {
        let levels = [level::FIRST, level::BALANCING, level::SERVICE];
        let mut records = levels.iter().filter_map(|level| self.record(&key.at(*level)));
        let ids = self.ids.get(port);
        records.any(|record| record.local.len > 0 && ids.is_some_and(|ids| ids.contains(&record.service)))
    }

    /// The policies that something is in force for.
    pub fn policies(&self) -> BTreeSet<ObjectId> {
        self.ids.keys().map(ServicePortName::owner).filter(|owner| owner.kind != Kind::Service).collect()
    }

    /// What is in force for a service or policy. To desire this is to leave it as it is.
    pub fn recall(&self, owner: &ObjectId) -> ServiceTables {
        let mut tables = ServiceTables::default();
        let ids: BTreeMap<u32, &ServicePortName> = self
            .ids
            .iter()
            .filter(|(port, _)| port.owner() == *owner)
            .flat_map(|(port, ids)| ids.iter().map(move |id| (*id, port)))
            .collect();
        for (id, name) in &ids {
            let Some(known) = self.services.get(id) else { continue };
            let flags = |index: &u32| self.backend(*index).map_or(0, |backend| backend.flags & !LIVE);
            let backends = known.backends.iter().map(|(at, index)| (at.socket_addr(), flags(index)));
            let table = PortTable {
                name: (*name).clone(),
                uid: Name::text(&known.name.uid).to_owned(),
                port: u16::from_be(known.name.port_be),
                backends: backends.collect(),
                sources: self.sources_of(*id).filter_map(range).collect(),
            };
            tables.ports.insert((*name).clone(), table);
        }
        for (key, index) in &self.frontends {
            let Some(record) = self.records.get(index).map(|it| it.record) else { continue };
            let Some(port) = ids.get(&record.service) else { continue };
            let list: Option<Vec<SocketAddr>> = self.list(record.local).and_then(|list| {
                list.iter().map(|index| Some(self.backend(*index)?.endpoint().socket_addr())).collect()
            });
            // A damaged list is nothing to hold on to.
            let Some(mut list) = list else { continue };
            if record.flags & record_flag::POLICY == 0 {
                list.sort_unstable();
            }
            if let Some((ip, uses)) = address(key, record.mode) {
                *tables.addresses.entry(ip).or_default() |= uses;
            }
            let Record { mode, flags, affinity, limit, .. } = record;
            let spec = FrontendSpec { mode, port: (*port).clone(), list, flags, affinity, limit };
            // Whichever level it is at: what is claimed is the frontend.
            tables.frontends.insert(key.at(level::FIRST), spec);
        }
        tables
    }
}

fn address(key: &Key, mode: u8) -> Option<(IpAddr, u32)> {
    let uses = match mode {
        mode::CLUSTER_IP => address_use::CLUSTER_IP,
        mode::NODE_PORT | mode::LOCAL_REDIRECT | mode::BALANCING => return None,
        _ => address_use::VIP,
    };
    Some((key.endpoint.address.ip(), uses))
}

fn range(key: &SourceKey) -> Option<IpNet> {
    let ip = Address(key.address).ip();
    let bits = key.bits.checked_sub(if ip.is_ipv4() { 32 + 96 } else { 32 })?;
    IpNet::new(ip, u8::try_from(bits).ok()?).ok()
}
