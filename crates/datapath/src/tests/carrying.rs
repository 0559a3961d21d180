//! R9 while sockets are carried over from an earlier slot layout.
//!
//! The agent copies each slot and then gives the earlier one up, by compare-and-swap of its owner word
//! (`kernel::carry`); here the test does what the agent does, step by step.

extern crate std;

use super::world::{Application, at, tables, tcp, udp};
use abi::{
    Reason, Slot,
    slot::owner::{COOKIE, COPYING, MORE, OVERFLOW},
};
use datapath::memory::{MemorySocket, Slots, Tables};

const VIP: &str = "10.96.0.1:53";
const OTHER: &str = "10.96.0.2:53";
const BACKEND: &str = "10.1.0.1:53";
const SECOND: &str = "10.1.0.2:53";
const THIRD: &str = "10.96.0.3:53";
const LAST: &str = "10.1.0.3:53";

fn world() -> (Tables, Slots, Slots) {
    (tables(&[(VIP, &[BACKEND]), (OTHER, &[SECOND]), (THIRD, &[LAST])]), Slots::new(1), Slots::new(1))
}

/// A socket that the earlier programs have remembered a connection to [`VIP`] of.
fn remembered<'a>(tables: &Tables, cookie: u64, previous: &'a Slots, slots: &'a Slots) -> MemorySocket<'a> {
    let earlier = MemorySocket::new(cookie, previous);
    assert_eq!(earlier.dial(tables, udp(VIP)).reason, Reason::Balanced);
    let mut socket = MemorySocket::new(cookie, slots);
    socket.previous = Some(previous);
    socket.peer.set(earlier.peer.get());
    socket
}

fn copy(from: &Slot, to: &Slot) {
    to.owner.store(from.owner.load() & !OVERFLOW | to.owner.load() & OVERFLOW | COPYING);
    for (to, from) in
        to.pair.vip.iter().chain(&to.pair.backend).zip(from.pair.vip.iter().chain(&from.pair.backend))
    {
        to.store(from.load());
    }
    to.pair.ids.store(from.pair.ids.load());
    to.pair.service.store(from.pair.service.load());
    to.pair.meta.store(from.pair.meta.load());
}

#[test]
fn r9_a_frozen_socket_is_read_where_it_was() {
    let (tables, previous, slots) = world();
    let socket = remembered(&tables, 1, &previous, &slots);
    assert_eq!(socket.named(&at(BACKEND)), Some(at(VIP)));
    assert_eq!(socket.from(&at(BACKEND)), at(VIP));
    assert_eq!(socket.send(&tables, VIP).reason, Reason::Sticky);
    assert_eq!(socket.send(&tables, BACKEND).reason, Reason::Connected);
    assert_eq!((previous.owned(), slots.owned()), (1, 0));
}

#[test]
fn r9_what_a_frozen_socket_learns_goes_to_its_storage() {
    let (tables, previous, slots) = world();
    let socket = remembered(&tables, 1, &previous, &slots);
    assert_eq!(socket.send(&tables, OTHER).reason, Reason::Balanced);
    assert_eq!(previous.at(1).unwrap().owner.load(), 1 | MORE);
    assert_eq!(slots.owned(), 0, "the agent will bring it there");
    assert_eq!((socket.from(&at(BACKEND)), socket.from(&at(SECOND))), (at(VIP), at(OTHER)));
    assert_eq!(socket.send(&tables, OTHER).reason, Reason::Sticky);
    // Carried over, it knows the same.
    let (from, to) = (previous.at(1).unwrap(), slots.at(1).unwrap());
    copy(from, to);
    from.owner.store(0);
    to.owner.keep(!COPYING);
    assert_eq!(to.owner.load(), 1 | MORE);
    assert_eq!((socket.from(&at(BACKEND)), socket.from(&at(SECOND))), (at(VIP), at(OTHER)));
    assert_eq!(socket.named(&at(BACKEND)), Some(at(VIP)));
    socket.release();
    assert_eq!((previous.owned(), slots.owned()), (0, 0));
}

#[test]
fn r9_forgetting_gives_the_earlier_slot_up() {
    let (tables, previous, slots) = world();
    let socket = remembered(&tables, 1, &previous, &slots);
    socket.send(&tables, OTHER);
    assert_eq!(socket.dial(&tables, udp("192.0.2.1:53")).reason, Reason::NotAService);
    assert_eq!(previous.owned(), 0);
    for backend in [BACKEND, SECOND] {
        assert_eq!((socket.named(&at(backend)), socket.from(&at(backend))), (None, at(backend)));
    }
    // The earlier slot is free: the new one is the socket's.
    assert_eq!(socket.dial(&tables, udp(OTHER)).reason, Reason::Balanced);
    assert_eq!((previous.owned(), slots.owned()), (0, 1));
    assert_eq!(socket.named(&at(SECOND)), Some(at(OTHER)));
}

#[test]
fn r9_a_new_socket_leaves_the_slot_to_one_that_will_be_carried_over() {
    let (tables, previous, slots) = world();
    let old = remembered(&tables, 1, &previous, &slots);
    let mut socket = MemorySocket::new(2, &slots);
    socket.previous = Some(&previous);
    assert_eq!(socket.dial(&tables, tcp(OTHER)).reason, Reason::Balanced);
    assert_eq!(slots.owned(), 0);
    assert_eq!((socket.named(&at(SECOND)), old.named(&at(BACKEND))), (Some(at(OTHER)), Some(at(VIP))));
    // The agent brings the old socket, and the new one still knows.
    let (from, to) = (previous.at(1).unwrap(), slots.at(1).unwrap());
    copy(from, to);
    from.owner.store(0);
    to.owner.keep(!COPYING);
    assert_eq!(to.owner.load() & COOKIE, 1);
    assert_eq!((socket.named(&at(SECOND)), old.named(&at(BACKEND))), (Some(at(OTHER)), Some(at(VIP))));
}

#[test]
fn r9_a_socket_released_while_it_is_copied_leaves_nothing() {
    let (tables, previous, slots) = world();
    let socket = remembered(&tables, 1, &previous, &slots);
    let (from, to) = (previous.at(1).unwrap(), slots.at(1).unwrap());
    copy(from, to);
    let (held, meta) = (from.owner.load(), to.pair.meta.load());
    socket.release();
    // Another socket may come before the agent has noticed, and the agent has not finished writing.
    let mut heir = MemorySocket::new(2, &slots);
    heir.previous = Some(&previous);
    assert_eq!(heir.dial(&tables, udp(OTHER)).reason, Reason::Balanced);
    to.pair.meta.store(meta);
    assert!(!from.owner.replace(held, 0), "the agent must notice");
    to.pair.meta.store(0);
    to.owner.keep(OVERFLOW);
    assert_eq!(heir.named(&at(SECOND)), Some(at(OTHER)));
    assert_eq!(heir.named(&at(BACKEND)), None);
}

#[test]
fn r9_forgetting_just_after_the_copy_forgets_the_copy() {
    let (tables, previous, slots) = world();
    let socket = remembered(&tables, 1, &previous, &slots);
    let (from, to) = (previous.at(1).unwrap(), slots.at(1).unwrap());
    copy(from, to);
    assert!(from.owner.replace(1, 0));
    // The agent is stopped here; its last step comes after the application's next connect.
    socket.dial(&tables, udp("192.0.2.1:53"));
    to.owner.keep(!COPYING);
    assert_eq!((socket.named(&at(BACKEND)), socket.from(&at(BACKEND))), (None, at(BACKEND)));
    assert_eq!(slots.owned(), 0);
}

#[test]
fn r9_a_pair_learned_just_after_the_copy_is_found_again() {
    let (tables, previous, slots) = world();
    let socket = remembered(&tables, 1, &previous, &slots);
    let (from, to) = (previous.at(1).unwrap(), slots.at(1).unwrap());
    copy(from, to);
    assert!(from.owner.replace(1, 0));
    socket.send(&tables, OTHER);
    to.owner.keep(!COPYING);
    assert_eq!((socket.from(&at(BACKEND)), socket.from(&at(SECOND))), (at(VIP), at(OTHER)));
}

#[test]
fn r9_the_words_of_a_frozen_socket_are_not_written() {
    let (tables, previous, slots) = world();
    let earlier = MemorySocket::new(1, &previous);
    earlier.send(&tables, VIP);
    let mut socket = MemorySocket::new(1, &slots);
    socket.previous = Some(&previous);
    let pair = &previous.at(1).unwrap().pair;
    let words = || [pair.meta.load(), pair.ids.load(), pair.service.load()];
    let before = words();
    // What would be written there: that it speaks to the backend itself, and which destination it used last.
    for to in [BACKEND, OTHER, VIP] {
        socket.send(&tables, to);
        assert_eq!(words(), before, "the agent is copying them");
    }
}

#[test]
fn r9_what_a_frozen_socket_has_stored_does_not_come_back() {
    // The earlier slot is the socket's own, or another's.
    for cookie in [1, 2] {
        let (tables, previous, slots) = world();
        remembered(&tables, 1, &previous, &slots);
        let mut socket = MemorySocket::new(cookie, &slots);
        socket.previous = Some(&previous);
        socket.send(&tables, OTHER);
        assert_eq!(socket.from(&at(SECOND)), at(OTHER));
        socket.dial(&tables, udp("192.0.2.1:53"));
        socket.hang_up();
        // Two more destinations: the socket uses its storage again.
        for (vip, backend) in [(VIP, BACKEND), (THIRD, LAST)] {
            assert_eq!(
                (socket.send(&tables, vip).backend, socket.from(&at(backend))),
                (at(backend), at(vip))
            );
        }
        assert_eq!(socket.from(&at(SECOND)), at(SECOND));
    }
}

#[test]
fn r9_a_stored_pair_is_found_after_the_owner_of_the_earlier_slot_is_gone() {
    let (tables, previous, slots) = world();
    let owner = remembered(&tables, 1, &previous, &slots);
    let mut socket = MemorySocket::new(2, &slots);
    socket.previous = Some(&previous);
    socket.dial(&tables, udp(OTHER));
    // Only the earlier slot says that somebody has used storage: as if there had been no new one then.
    slots.at(2).unwrap().owner.store(0);
    previous.at(2).unwrap().owner.set(OVERFLOW);
    owner.release();
    assert_eq!(socket.named(&at(SECOND)), Some(at(OTHER)));
}

#[test]
fn r9_a_pair_learned_while_the_agent_copies_in_vain_is_found_again() {
    let (tables, previous, slots) = world();
    let socket = remembered(&tables, 1, &previous, &slots);
    let to = slots.at(1).unwrap();
    socket.dial(&tables, udp("192.0.2.1:53"));
    // The agent has looked at the earlier slot before that, and claims the new one after it.
    to.owner.store(1 | COPYING);
    socket.send(&tables, OTHER);
    // It finds the earlier one given up, and takes back what it did.
    to.pair.meta.store(0);
    to.owner.keep(OVERFLOW);
    assert_eq!(socket.from(&at(SECOND)), at(OTHER));
}
