//! Small tables, and applications over sockets in memory.

extern crate std;

use abi::{
    Backend, Endpoint, Key, Range, Record, TCP, UDP, Verdict,
    frontend::{
        backend_flag::{LIVE, USABLE},
        mode,
        record_flag::HAS_ANY,
    },
};
use datapath::{
    Decision, connect,
    memory::{MemorySocket, Tables},
    peer, sendmsg, source,
};
use std::{net::SocketAddr, option::Option, vec::Vec};

/// `10.0.0.1:80`, `[fd00::1]:80`.
pub(super) fn at(text: &str) -> Endpoint {
    text.parse::<SocketAddr>().unwrap().into()
}

pub(super) fn udp(text: &str) -> Key {
    Key { endpoint: at(text), protocol: UDP }
}

pub(super) fn tcp(text: &str) -> Key {
    Key { endpoint: at(text), protocol: TCP }
}

/// Tables of services: each VIP:port, for TCP and for UDP, with its backends. A service's id is its place in
/// the list + 1.
pub(super) fn tables(services: &[(&str, &[&str])]) -> Tables {
    let mut tables = Tables::default();
    for (n, (vip, backends)) in services.iter().enumerate() {
        let service = n as u32 + 1;
        let indexes: Vec<u32> =
            backends.iter().map(|text| add_backend(&mut tables, service, at(text))).collect();
        set_list(&mut tables, service, vip, &indexes);
    }
    tables
}

/// A new backend; its index.
pub(super) fn add_backend(tables: &mut Tables, service: u32, endpoint: Endpoint) -> u32 {
    let index = tables.backends.len() as u32;
    let Endpoint { address, port_be } = endpoint;
    let flags = LIVE | USABLE;
    tables.backends.insert(index, Backend { address, port_be, flags, service, generation: 1, index: 0 });
    index
}

/// A frontend and what it should do.
#[derive(Clone, Copy)]
pub(super) struct Front {
    pub key: Key,
    pub mode: u8,
    /// [`abi::frontend::record_flag`]s besides HAS_ANY.
    pub flags: u32,
    pub service: u32,
    pub affinity: u32,
    /// A policy, and how many connections a second it takes.
    pub policy: u32,
    pub limit: u32,
}

impl Front {
    pub(super) fn new(key: Key, mode: u8, service: u32) -> Self {
        Self { key, mode, flags: 0, service, affinity: 0, policy: 0, limit: 0 }
    }
}

/// Adds a frontend, or gives it a new record.
pub(super) fn put(tables: &mut Tables, front: Front, backends: &[u32]) -> u32 {
    let (start, index) = (tables.lists.len() as u32, tables.records.len() as u32);
    tables.lists.extend((start..).zip(backends.iter().copied()));
    let Front { key, mode, flags, service, affinity, policy, limit } = front;
    let record = Record {
        address: key.endpoint.address,
        port_be: key.endpoint.port_be,
        protocol: key.protocol,
        mode,
        flags: flags | if backends.is_empty() { 0 } else { HAS_ANY },
        service,
        local: Range { start, len: backends.len() as u32 },
        affinity,
        policy: [policy, 0],
        limit,
        ..Record::default()
    };
    tables.records.insert(index, record);
    tables.frontends.insert(key, index);
    index
}

/// Gives the cluster IP of a service this list, for both protocols.
pub(super) fn set_list(tables: &mut Tables, service: u32, vip: &str, backends: &[u32]) {
    for key in [tcp(vip), udp(vip)] {
        put(tables, Front::new(key, mode::CLUSTER_IP, service), backends);
    }
}

/// Deletes the frontends of a VIP.
pub(super) fn delete(tables: &mut Tables, vip: &str) {
    tables.frontends.remove(&tcp(vip));
    tables.frontends.remove(&udp(vip));
}

/// Changes a backend.
pub(super) fn change_backend(tables: &mut Tables, address: &str, change: impl Fn(&mut Backend)) {
    let wanted = at(address);
    let found = tables.backends.values_mut().filter(|backend| backend.endpoint() == wanted);
    assert_ne!(found.map(change).count(), 0, "no backend {address}");
}

/// It no longer serves (R4).
pub(super) fn stop_serving(tables: &mut Tables, address: &str) {
    change_backend(tables, address, |backend| backend.flags &= !USABLE);
}

/// What the application does with a socket, and what becomes of it.
pub(super) trait Application {
    /// `connect()`: the socket is connected if it succeeds.
    fn dial(&self, tables: &Tables, to: Key) -> Decision;
    /// `connect()` to AF_UNSPEC: no hook runs.
    fn hang_up(&self);
    /// `sendto()`.
    fn send(&self, tables: &Tables, to: &str) -> Decision;
    /// What `recvfrom()` shows for a datagram from a backend.
    fn from(&self, backend: &Endpoint) -> Endpoint;
    /// What `getpeername()` shows where the kernel has `backend`.
    fn named(&self, backend: &Endpoint) -> Option<Endpoint>;
}

impl Application for MemorySocket<'_> {
    fn dial(&self, tables: &Tables, to: Key) -> Decision {
        let decision = connect(tables, self, &to);
        self.peer.set(match decision.reason.verdict() {
            Verdict::Translated => Some(decision.backend),
            Verdict::Passed => Some(to.endpoint),
            _ => self.peer.get(),
        });
        decision
    }

    fn hang_up(&self) {
        self.peer.set(None);
    }

    fn send(&self, tables: &Tables, to: &str) -> Decision {
        sendmsg(tables, self, &udp(to))
    }

    fn from(&self, backend: &Endpoint) -> Endpoint {
        source(self, backend).unwrap_or(*backend)
    }

    fn named(&self, backend: &Endpoint) -> Option<Endpoint> {
        peer(self, backend)
    }
}
