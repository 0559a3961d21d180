//! Sequences of operations, made from bytes, against a simple model of what each socket may be shown.
//!
//! A few sockets share two slots, so that they are always in one another's way. The tables are either well
//! formed, or (`wild`) whatever the bytes say. The model knows of each socket, since its last `connect()`, which
//! VIP led to which backend, in the order of use, and never sees a slot or a table: only what was decided.
//!
//! Also run by the fuzz target `decide`.

extern crate std;

use abi::{
    Backend, Endpoint, Key, Range, Reason, Record, TCP, UDP, Verdict,
    frontend::{
        backend_flag::{LIVE, USABLE},
        mode, record_flag,
    },
};
use datapath::{
    Decision, connect,
    memory::{MemorySocket, Slots, Tables},
    peer, sendmsg, source,
};
use std::{boxed::Box, net::SocketAddr, vec::Vec};

/// How often what happened.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    /// A backend was chosen.
    pub balanced: u32,
    /// A backend was kept.
    pub sticky: u32,
    /// A VIP was shown in place of a backend.
    pub shown: u32,
    /// The same, by a socket whose slot is another's.
    pub stored: u32,
    /// A call failed.
    pub failed: u32,
    /// A pair was forgotten for another.
    pub forgotten: u32,
}

const VIPS: usize = 15;
const BACKENDS: usize = 4;
const SOCKETS: usize = 4;
const SLOTS: usize = 2;

fn vip(n: usize) -> Endpoint {
    // The first one is also a backend's address (R9), and some are IPv6.
    match n % VIPS {
        0 => backend(0),
        n if n % 4 == 3 => SocketAddr::new([0xfd00, 0, 0, 0, 0, 0, 0x96, n as u16].into(), 53).into(),
        n => SocketAddr::new([10, 96, 0, n as u8].into(), 53).into(),
    }
}

fn backend(n: usize) -> Endpoint {
    SocketAddr::new([10, 1, 0, (n % BACKENDS) as u8].into(), 53).into()
}

/// One destination of a socket.
#[derive(Clone, Copy, PartialEq)]
struct Pair {
    vip: Endpoint,
    backend: Endpoint,
    /// Made by `connect()`.
    connected: bool,
    /// The backend was spoken to directly since.
    direct: bool,
    /// The VIP has another backend since. Whether the old one is still known depends on where it was kept.
    replaced: bool,
}

/// What a socket may be shown.
#[derive(Default)]
struct Model {
    /// The one used last is the last.
    pairs: Vec<Pair>,
    /// A pair was forgotten: what is shown may be less than what is here.
    lossy: bool,
}

impl Model {
    fn connection(&self) -> Option<Pair> {
        self.pairs.iter().find(|pair| pair.connected).copied()
    }

    fn chosen(&mut self, vip: Endpoint, backend: Endpoint, connected: bool) {
        self.pairs.retain(|pair| pair.connected || (pair.vip, pair.backend) != (vip, backend));
        let others = self.pairs.iter_mut().filter(|pair| pair.vip == vip && !pair.connected);
        others.for_each(|pair| pair.replaced = true);
        self.pairs.push(Pair { vip, backend, connected, direct: false, replaced: false });
    }

    fn kept(&mut self, vip: Endpoint, backend: Endpoint) {
        let place = self.pairs.iter().position(|pair| (pair.vip, pair.backend) == (vip, backend));
        let mut pair = self.pairs.remove(place.expect("kept on a backend that the VIP never led to"));
        (pair.direct, pair.replaced) = (false, false);
        self.pairs.push(pair);
    }

    fn hang_up(&mut self) {
        self.pairs.retain(|pair| !pair.connected);
    }

    fn direct(&mut self, to: &Endpoint) {
        self.pairs.iter_mut().filter(|pair| pair.backend == *to).for_each(|pair| pair.direct = true);
    }

    /// May this be shown for a datagram from `from`? The VIP used last, of those that are still known.
    fn allows(&self, from: &Endpoint, shown: Option<Endpoint>) -> bool {
        for pair in self.pairs.iter().rev().filter(|pair| pair.backend == *from && !pair.direct) {
            if shown == Some(pair.vip) {
                return true;
            }
            if !pair.replaced {
                return false;
            }
        }
        shown.is_none()
    }
}

struct Application<'a> {
    socket: MemorySocket<'a>,
    protocol: u8,
    model: Model,
}

struct World<'a> {
    tables: Tables,
    slots: &'a Slots,
    sockets: Vec<Application<'a>>,
    cookies: u64,
    tally: Tally,
}

/// Runs the sequence that `bytes` describe: a byte for the tables, then two for each operation.
///
/// # Panics
/// Something did not hold.
pub(super) fn run(bytes: &[u8]) -> Tally {
    let Some((first, bytes)) = bytes.split_first() else { return Tally::default() };
    let wild = first & 1 != 0;
    let (tables, operations) = if wild { wild_tables(bytes) } else { (tables(), bytes) };
    let slots = Slots::new(SLOTS);
    let mut world = World { tables, slots: &slots, sockets: Vec::new(), cookies: 0, tally: Tally::default() };
    for n in 0..SOCKETS {
        let new = world.new_socket(n as u8);
        world.sockets.push(new);
    }
    for operation in operations.chunks_exact(2) {
        let (what, which) = (usize::from(operation[0]), usize::from(operation[1]));
        world.step(what / SOCKETS, what % SOCKETS, which);
        for socket in 0..SOCKETS {
            world.check(socket);
        }
    }
    for application in &world.sockets {
        application.socket.release();
    }
    assert_eq!(slots.owned(), 0, "a released socket has left its slot taken");
    world.tally
}

/// Well-formed tables: each VIP has up to four of the four backends; the last two have none.
fn tables() -> Tables {
    let mut tables = Tables::default();
    for n in 0..VIPS {
        let len = if n >= VIPS - 2 { 0 } else { n % BACKENDS + 1 };
        let start = tables.lists.len() as u32;
        for m in 0..len {
            let Endpoint { address, port_be } = backend(n + m);
            let index = tables.backends.len() as u32;
            let flags = LIVE | USABLE;
            let service = n as u32;
            tables
                .backends
                .insert(index, Backend { address, port_be, flags, service, generation: 1, index: 0 });
            tables.lists.insert(start + m as u32, index);
        }
        let flags = if n == VIPS - 1 || len > 0 { record_flag::HAS_ANY } else { 0 };
        for protocol in [TCP, UDP] {
            let Endpoint { address, port_be } = vip(n);
            let local = Range { start, len: len as u32 };
            let (service, mode) = (n as u32, mode::CLUSTER_IP);
            let record =
                Record { address, port_be, protocol, mode, flags, service, local, ..Record::default() };
            let index = tables.records.len() as u32;
            tables.records.insert(index, record);
            tables.frontends.insert(record.key(), index);
        }
    }
    tables
}

/// Tables in which anything may point anywhere; the bytes that are left.
fn wild_tables(bytes: &[u8]) -> (Tables, &[u8]) {
    let mut tables = tables();
    let (wild, rest) = bytes.split_at(bytes.len().min(64));
    for change in wild.chunks_exact(4) {
        let (n, value) = (u32::from(change[1]), u32::from(change[2]));
        match change[0] % 6 {
            0 => drop(tables.frontends.insert(Key { endpoint: vip(n as usize), protocol: UDP }, value)),
            1 => drop(tables.lists.insert(n, value)),
            2 => drop(tables.backends.remove(&n)),
            3 => drop(tables.records.remove(&n)),
            4 => {
                let start = if change[3] > 250 { u32::MAX } else { value };
                let range = Range { start, len: u32::from(change[3]) };
                tables.records.entry(n % 32).and_modify(|record| record.local = range);
            }
            _ => {
                tables.backends.entry(n % 64).and_modify(|it| (it.service, it.generation) = (value % 16, 2));
            }
        }
    }
    (tables, rest)
}

impl<'a> World<'a> {
    fn new_socket(&mut self, kind: u8) -> Application<'a> {
        self.cookies += 1;
        let mut socket = MemorySocket::new(self.cookies, self.slots);
        socket.no_storage = kind % 8 == 7;
        Application {
            socket,
            protocol: if kind.is_multiple_of(4) { TCP } else { UDP },
            model: Model::default(),
        }
    }

    fn step(&mut self, what: usize, who: usize, which: usize) {
        let to = if which % 17 < VIPS { vip(which) } else { backend(which) };
        match what % 16 {
            0 => self.connect(who, to),
            1 => {
                self.sockets[who].socket.peer.set(None);
                self.sockets[who].model.hang_up();
            }
            2..=10 => self.send(who, to),
            11 if which.is_multiple_of(4) => {
                self.sockets[who].socket.release();
                self.sockets[who] = self.new_socket(which as u8);
            }
            12 => {
                let index = (which % self.tables.backends.len().max(1)) as u32;
                self.tables.backends.entry(index).and_modify(|backend| backend.flags ^= USABLE);
            }
            13 => {
                // The index goes to another endpoint of the service.
                let index = (which % self.tables.backends.len().max(1)) as u32;
                let Endpoint { address, port_be } = backend(which / 16);
                self.tables.backends.entry(index).and_modify(|backend| {
                    (backend.address, backend.port_be) = (address, port_be);
                    backend.generation += 1;
                });
            }
            11 | 14 => {
                let key = Key { endpoint: vip(which), protocol: UDP };
                if self.tables.frontends.remove(&key).is_none() {
                    let same = |(index, record): (&u32, &Record)| (record.key() == key).then_some(*index);
                    if let Some(index) = self.tables.records.iter().find_map(same) {
                        self.tables.frontends.insert(key, index);
                    }
                }
            }
            _ => self.tables.settings.paused = u32::from(which.is_multiple_of(8)),
        }
    }

    fn connect(&mut self, who: usize, to: Endpoint) {
        let Application { socket, protocol, model } = &mut self.sockets[who];
        if *protocol == TCP && socket.peer.get().is_some() {
            // The kernel says EISCONN before any hook.
            return;
        }
        let key = Key { endpoint: to, protocol: *protocol };
        let decision = connect(&self.tables, socket, &key);
        // What fails leaves a connected UDP socket as it is.
        if !(decision.reason.verdict().is_failure() && socket.peer.get().is_some()) {
            *model = Model::default();
        }
        socket.peer.set(match decision.reason.verdict() {
            Verdict::Translated => Some(decision.backend),
            Verdict::Passed => Some(to),
            _ => socket.peer.get(),
        });
        if decision.reason == Reason::NotRemembered {
            assert!(*protocol == TCP && socket.no_storage);
        } else if decision.reason.verdict() == Verdict::Translated {
            model.chosen(to, decision.backend, true);
        }
        self.count(&decision, &to);
    }

    fn send(&mut self, who: usize, to: Endpoint) {
        let Application { socket, protocol, model } = &mut self.sockets[who];
        if *protocol == TCP {
            return;
        }
        let decision = sendmsg(&self.tables, socket, &Key { endpoint: to, protocol: UDP });
        let connection = model.connection();
        let to_connection = socket.peer.get() == Some(to);
        assert_eq!(decision.reason == Reason::Connected, to_connection, "{decision:?}");
        match decision.reason {
            Reason::Connected => {}
            Reason::NotAService | Reason::Paused => model.direct(&to),
            Reason::Sticky => model.kept(to, decision.backend),
            Reason::Balanced | Reason::PairForgotten => {
                // The VIP that the connection stands on has two backends from now on, and which is kept is not
                // for this model to say.
                let two = connection.is_some_and(|pair| pair.vip == to);
                model.lossy |= decision.reason == Reason::PairForgotten || two;
                model.chosen(to, decision.backend, false);
            }
            Reason::NoMemory => assert!(socket.no_storage),
            Reason::BrokenTable => model.lossy = true,
            Reason::NoEndpoints | Reason::NoLocalEndpoint => {}
            other => panic!("UDP, and {other:?}"),
        }
        self.count(&decision, &to);
    }

    fn count(&mut self, decision: &Decision, to: &Endpoint) {
        let zero = Endpoint::default();
        let translated = decision.reason.verdict() == Verdict::Translated;
        assert_eq!(decision.backend != zero, translated, "to {to:?}: {decision:?}");
        self.tally.balanced += u32::from(decision.reason == Reason::Balanced);
        self.tally.sticky += u32::from(decision.reason == Reason::Sticky);
        self.tally.failed += u32::from(decision.reason.verdict().is_failure());
        self.tally.forgotten += u32::from(decision.reason == Reason::PairForgotten);
    }

    fn check(&mut self, who: usize) {
        let Application { socket, model, .. } = &self.sockets[who];
        let addresses: Box<[Endpoint]> = (0..VIPS).map(vip).chain((0..BACKENDS).map(backend)).collect();
        for address in &addresses {
            let named = peer(socket, address);
            let connection = model.connection().filter(|pair| pair.backend == *address).map(|pair| pair.vip);
            if socket.peer.get().is_some() {
                assert_eq!(named, connection, "socket {who}: getpeername for {address:?}");
            }
            let shown = source(socket, address);
            if model.lossy {
                let known = |vip| model.pairs.iter().any(|pair| (pair.vip, pair.backend) == (vip, *address));
                assert!(shown.is_none_or(known), "socket {who}: {shown:?} for {address:?}");
            } else {
                assert!(model.allows(address, shown), "socket {who}: {shown:?} for {address:?}");
            }
            if shown.is_some() {
                self.tally.shown += 1;
                let slot = self.slots.at(socket.cookie).map(|slot| slot.owner.load());
                let is_owner = slot.is_some_and(|held| held & abi::slot::owner::COOKIE == socket.cookie);
                self.tally.stored += u32::from(!is_owner);
            }
        }
    }
}
