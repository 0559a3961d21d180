//! Tables of a service, as they are kept: there are ten thousands of them, most with one port and one frontend, and a
//! B-tree makes room for eleven of each.

use std::net::IpAddr;

use abi::Key;
use model::ServicePortName;

use crate::compile::{FrontendSpec, PortTable, ServiceTables};

/// [`ServiceTables`] in as much memory as they need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Packed {
    /// By name.
    pub(super) ports: Box<[PortTable]>,
    /// By key.
    pub(super) frontends: Box<[(Key, FrontendSpec)]>,
    /// By address.
    pub(super) addresses: Box<[(IpAddr, u32)]>,
}

impl From<ServiceTables> for Packed {
    fn from(tables: ServiceTables) -> Self {
        Self {
            ports: tables.ports.into_values().collect(),
            frontends: tables.frontends.into_iter().collect(),
            addresses: tables.addresses.into_iter().collect(),
        }
    }
}

impl Packed {
    /// Its keys.
    pub(super) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.frontends.iter().map(|(key, _)| key)
    }

    /// A frontend.
    pub(super) fn frontend(&self, key: &Key) -> Option<&FrontendSpec> {
        let place = self.frontends.binary_search_by_key(key, |(key, _)| *key).ok()?;
        self.frontends.get(place).map(|(_, frontend)| frontend)
    }

    /// A service port.
    pub(super) fn port(&self, name: &ServicePortName) -> Option<&PortTable> {
        let place = self.ports.binary_search_by(|port| port.name.cmp(name)).ok()?;
        self.ports.get(place)
    }
}
