//! Tables that count what is looked up, and in which something happens between two looks.

extern crate std;

use super::world::at;
use abi::{
    Address, Affinity, Backend, Client, Key, Limit, Policy, Record, Settings, Space,
    client::SourceKey,
    lines::{Line, Shape},
    slot::Ids,
    space::Prefix,
};
use core::cell::{Cell, RefCell};
use datapath::{
    Env, Found, look_up,
    memory::{Held, MemorySocket, Slots, Tables},
};
use std::{
    boxed::Box,
    net::{IpAddr, Ipv6Addr},
    vec::Vec,
};

pub(super) fn address(text: &str) -> Address {
    text.parse::<IpAddr>().unwrap().into()
}

/// A prefix of an address family: `bits` of the address count.
pub(super) fn prefix(network: &str, bits: u32, flags: u32) -> Prefix {
    let bits = if network.contains(':') { bits } else { 96 + bits };
    let mask = IpAddr::from(Ipv6Addr::from(u128::MAX << (128 - bits)));
    Prefix { network: address(network), mask: mask.into(), flags }
}

/// A range that may use a service's VIPs.
pub(super) fn source(service: u32, network: &str, bits: u32) -> SourceKey {
    let bits = 32 + if network.contains(':') { bits } else { 96 + bits };
    SourceKey { bits, service, address: address(network).0 }
}

/// A network namespace's addresses: "" = none of that family.
pub(super) fn client(netns: u64, v4: &str, v6: &str) -> Client {
    let v4 = if v4.is_empty() { 0 } else { address(v4).as_v4().unwrap() };
    let v6 = if v6.is_empty() { [0; 4] } else { address(v6).0 };
    Client { netns, v4, v6, pad: 0 }
}

/// A new socket in a network namespace.
pub(super) fn socket_in(netns: u64, cookie: u64, slots: &Slots) -> MemorySocket<'_> {
    let mut socket = MemorySocket::new(cookie, slots);
    socket.netns = netns;
    socket
}

/// New backends, not yet in any list; their indexes.
pub(super) fn backends(tables: &mut Tables, service: u32, flags: u16, all: &[&str]) -> Vec<u32> {
    let add = |text: &&str| {
        let (abi::Endpoint { address, port_be }, index) = (at(text), tables.backends.len() as u32);
        let backend = Backend { address, port_be, flags, service, generation: 7, index: 0 };
        tables.backends.insert(index, backend);
        index
    };
    all.iter().map(add).collect()
}

type Event<'a> = RefCell<Option<Box<dyn FnOnce(&Tables) + 'a>>>;

/// See the top.
pub(super) struct Spy<'a> {
    pub tables: &'a Tables,
    /// How often a frontend was looked up.
    pub frontends: Cell<usize>,
    /// How often an address was.
    pub uses: Cell<usize>,
    /// How often a client was.
    pub clients: Cell<usize>,
    /// What the first look-ups of a frontend show instead: a record, or nothing.
    pub shown: Vec<Option<u32>>,
    /// Happens before something is remembered of a client.
    pub before_remember: Event<'a>,
    /// Happens after a backend was remembered of a client, or was not, and before it is looked at.
    pub after_remember: Event<'a>,
}

impl<'a> Spy<'a> {
    pub(super) fn on(tables: &'a Tables) -> Self {
        Self {
            tables,
            frontends: Cell::default(),
            uses: Cell::default(),
            clients: Cell::default(),
            shown: Vec::new(),
            before_remember: RefCell::default(),
            after_remember: RefCell::default(),
        }
    }
}

fn count(cell: &Cell<usize>) -> usize {
    cell.replace(cell.get() + 1)
}

impl Env for Spy<'_> {
    type Ref<'b, T: 'b>
        = Held<'b, T>
    where
        Self: 'b;

    fn settings(&self) -> Settings {
        self.tables.settings
    }

    fn shape(&self, v4: bool) -> Shape {
        self.tables.shape(v4)
    }

    fn line(&self, v4: bool, number: u32) -> Option<Held<'_, Line>> {
        self.tables.line(v4, number)
    }

    fn look(&self, key: &Key) -> (u32, bool) {
        match self.shown.get(count(&self.frontends)) {
            Some(shown) => (shown.map_or(0, |record| record + 1), false),
            None => self.tables.look(key),
        }
    }

    fn find(&self, key: &Key) -> Found {
        look_up(self, key).1
    }

    fn record(&self, index: u32) -> Option<Held<'_, Record>> {
        self.tables.record(index)
    }

    fn listed(&self, position: u32) -> Option<Held<'_, Backend>> {
        self.tables.listed(position)
    }

    fn backend(&self, index: u32) -> Option<Held<'_, Backend>> {
        self.tables.backend(index)
    }

    fn space(&self, index: u32) -> Option<Held<'_, Space>> {
        self.tables.space(index)
    }

    fn uses(&self, address: &Address) -> u32 {
        count(&self.uses);
        self.tables.uses(address)
    }

    fn client(&self, netns: u64) -> Option<Held<'_, Client>> {
        count(&self.clients);
        self.tables.client(netns)
    }

    fn admits(&self, service: u32, address: &Address) -> bool {
        self.tables.admits(service, address)
    }

    fn affinity(&self, client: u64, service: u32) -> Option<Held<'_, Affinity>> {
        self.tables.affinity(client, service)
    }

    fn remember(&self, client: u64, service: u32, ids: Ids, now: u64) -> bool {
        if let Some(event) = self.before_remember.take() {
            event(self.tables);
        }
        let is_there = self.tables.remember(client, service, ids, now);
        if let Some(event) = self.after_remember.take() {
            event(self.tables);
        }
        is_there
    }

    fn limit(&self, policy: [u32; 2], limit: u32) -> Option<Held<'_, Limit>> {
        self.tables.limit(policy, limit)
    }

    fn policy(&self, policy: [u32; 2]) -> Option<Held<'_, Policy>> {
        self.tables.policy(policy)
    }

    fn exempts(&self, policy: [u32; 2], client: u64) -> bool {
        self.tables.exempts(policy, client)
    }

    fn now(&self) -> u64 {
        self.tables.now()
    }

    fn now_exactly(&self) -> u64 {
        self.tables.now_exactly()
    }

    fn random(&self) -> u32 {
        self.tables.random()
    }
}
