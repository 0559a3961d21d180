//! When a socket's storage is looked at: in the kernel that is a call and a look-up in a list, which a socket that has
//! all that is known of it in its slot should not pay for.

extern crate std;

use super::world::{Application, at, tables, tcp, udp};
use abi::{Endpoint, Key, Pairs, Reason, Slot};
use core::cell::Cell;
use datapath::{
    Caller, Socket, connect,
    memory::{MemorySocket, Slots, Tables},
    peer, sendmsg, source,
};

const VIP: &str = "10.96.0.1:53";
const OTHER: &str = "10.96.0.2:53";
const BACKEND: &str = "10.1.0.1:53";
const NOBODYS: &str = "192.0.2.1:53";

/// A socket that counts how often its storage is looked at.
struct Counting<'a> {
    socket: MemorySocket<'a>,
    looks: Cell<u32>,
}

impl<'a> Counting<'a> {
    fn new(cookie: u64, slots: &'a Slots, previous: Option<&'a Slots>) -> Self {
        let mut socket = MemorySocket::new(cookie, slots);
        socket.previous = previous;
        Self { socket, looks: Cell::default() }
    }

    /// Everything that is not remembered: looks for what is known, and finally forgets it.
    fn ask(&self, tables: &Tables) {
        let nobodys = udp(NOBODYS);
        assert_eq!(sendmsg(tables, self, &nobodys).reason, Reason::NotAService);
        source(self, &at(BACKEND));
        peer(self, &at(BACKEND));
        assert_eq!(connect(tables, self, &nobodys).reason, Reason::NotAService);
    }
}

impl Caller for Counting<'_> {
    fn netns(&self) -> u64 {
        self.socket.netns()
    }

    fn is_excluded(&self) -> bool {
        self.socket.is_excluded()
    }

    fn is_backend_of(&self, _policy: [u32; 2]) -> bool {
        false
    }
}

impl Socket for Counting<'_> {
    fn cookie(&self) -> u64 {
        self.socket.cookie()
    }

    fn slot(&self) -> Option<&Slot> {
        self.socket.slot()
    }

    fn previous_slot(&self) -> Option<&Slot> {
        self.socket.previous_slot()
    }

    fn stored(&self) -> Option<&Pairs> {
        self.looks.set(self.looks.get() + 1);
        self.socket.stored()
    }

    fn store(&self) -> Option<&Pairs> {
        self.socket.store()
    }

    fn is_connected(&self) -> bool {
        self.socket.is_connected()
    }

    fn is_connected_to(&self, endpoint: &Endpoint) -> bool {
        self.socket.is_connected_to(endpoint)
    }
}

fn two_vips() -> Tables {
    tables(&[(VIP, &[BACKEND]), (OTHER, &["10.1.0.2:53"])])
}

#[test]
fn r9_a_socket_with_one_destination_never_looks_into_storage() {
    let (tables, slots, previous) = (two_vips(), Slots::new(1), Slots::new(1));
    for previous in [None, Some(&previous)] {
        let socket = Counting::new(1, &slots, previous);
        let keys: [Key; 2] = [tcp(VIP), udp(VIP)];
        for key in keys {
            assert_eq!(connect(&tables, &socket, &key).reason, Reason::Balanced);
            assert_eq!(peer(&socket, &at(BACKEND)), Some(at(VIP)));
            socket.ask(&tables);
        }
        for _ in 0..3 {
            sendmsg(&tables, &socket, &udp(VIP));
            assert_eq!(source(&socket, &at(BACKEND)), Some(at(VIP)));
        }
        socket.ask(&tables);
        assert_eq!(socket.looks.get(), 0);
    }
}

#[test]
fn r9_a_socket_that_is_carried_over_with_one_destination_never_looks_into_storage() {
    let (tables, slots, previous) = (two_vips(), Slots::new(1), Slots::new(1));
    MemorySocket::new(1, &previous).send(&tables, VIP);
    let socket = Counting::new(1, &slots, Some(&previous));
    assert_eq!(source(&socket, &at(BACKEND)), Some(at(VIP)));
    socket.ask(&tables);
    assert_eq!(socket.looks.get(), 0);
}

/// What an owner of a slot has in its storage is no business of those that come by.
#[test]
fn r9_a_socket_that_nothing_is_known_of_never_looks_into_storage() {
    let tables = two_vips();
    for destinations in [&[][..], &[VIP], &[VIP, OTHER]] {
        let (slots, previous) = (Slots::new(1), Slots::new(1));
        for slots in [&slots, &previous] {
            let owner = MemorySocket::new(1, slots);
            for vip in destinations {
                owner.send(&tables, vip);
            }
        }
        for previous in [None, Some(&previous)] {
            let socket = Counting::new(2, &slots, previous);
            socket.ask(&tables);
            assert_eq!(socket.looks.get(), 0, "{destinations:?}");
        }
    }
}
