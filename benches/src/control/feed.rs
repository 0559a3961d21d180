//! Where the agent has its services from, and how these change.

use std::{ffi::OsString, net::Ipv4Addr};

use anyhow::Result;

use crate::tables::ENDPOINTS;

/// The service that is asked.
pub(super) const ASKED: &str = "asked";
/// Services, besides the one that is asked, of which a hundred change at once.
pub(super) const APART: u32 = 100;
/// Endpoints of all but the service that is asked: nobody asks them.
const OTHERS: Ipv4Addr = Ipv4Addr::new(10, 128, 0, 0);
/// How far two turns of an endpoint are from each other, and how many there are before the first comes again.
const TURN: u32 = 1 << 20;
const TURNS: u32 = 8;

/// See the module.
pub(super) trait Feed: Sync {
    /// What the agent is to be told to follow it.
    fn arguments(&self) -> Vec<OsString>;

    /// Gets ready to give the service that is asked the endpoints from `first` on; it keeps those that it has.
    fn prepare(&self, first: Ipv4Addr) -> Result<()>;

    /// Does that.
    fn change(&self) -> Result<()>;

    /// Changes all endpoints of a hundred services, as fast as it can.
    fn change_hundred(&self, turn: u32) -> Result<()>;
}

/// What service `index` is called.
pub(super) fn name(index: u32) -> String {
    format!("service-{index}")
}

/// Where endpoint `slot` of service `index` is, each turn elsewhere.
pub(super) fn endpoint(index: u32, slot: u32, turn: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(OTHERS) + turn % TURNS * TURN + index * ENDPOINTS + slot)
}

/// The addresses of a slice from the first on.
pub(super) fn addresses(first: Ipv4Addr) -> impl Iterator<Item = Ipv4Addr> {
    (0..ENDPOINTS).map(move |index| Ipv4Addr::from(u32::from(first) + index))
}
