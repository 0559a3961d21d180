//! R8, R9 for `connect()`: TCP and connected UDP.

extern crate std;

use super::world::{Application, add_backend, at, delete, set_list, stop_serving, tables, tcp, udp};
use abi::{Reason, TCP, UDP, slot::owner};
use datapath::memory::{MemorySocket, Slots};
use std::{collections::BTreeSet, vec::Vec};

const VIP: &str = "10.96.0.1:80";
const OTHER: &str = "10.96.0.2:80";

#[test]
fn r8_each_connect_chooses_afresh() {
    let slots = Slots::new(4);
    let tables = tables(&[(VIP, &["10.1.0.1:80", "10.1.0.2:80", "10.1.0.3:80"])]);
    for key in [tcp(VIP), udp(VIP)] {
        let socket = MemorySocket::new(1, &slots);
        let chosen: BTreeSet<_> = (0..60)
            .map(|_| {
                let decision = socket.dial(&tables, key);
                assert_eq!(decision.reason, Reason::Balanced);
                assert_eq!(socket.named(&decision.backend), Some(at(VIP)));
                decision.backend
            })
            .collect();
        assert_eq!(chosen.len(), 3, "one socket, 60 connects");
        socket.release();
    }
}

#[test]
fn r9_the_peer_stays_whatever_happens_to_the_service() {
    let slots = Slots::new(4);
    for protocol in [TCP, UDP] {
        let mut tables = tables(&[(VIP, &["10.1.0.1:80"])]);
        let socket = MemorySocket::new(1, &slots);
        let backend = socket.dial(&tables, abi::Key { protocol, ..tcp(VIP) }).backend;
        set_list(&mut tables, 1, VIP, &[]);
        assert_eq!(socket.named(&backend), Some(at(VIP)));
        stop_serving(&mut tables, "10.1.0.1:80");
        delete(&mut tables, VIP);
        tables.backends.clear();
        assert_eq!(socket.named(&backend), Some(at(VIP)));
        assert_eq!(socket.from(&backend), at(VIP));
        socket.release();
    }
    assert_eq!(slots.owned(), 0);
}

#[test]
fn r9_a_connected_socket_answers_only_for_its_backend() {
    let slots = Slots::new(4);
    let tables = tables(&[(VIP, &["10.1.0.1:80"])]);
    let socket = MemorySocket::new(1, &slots);
    socket.dial(&tables, udp(VIP));
    for stranger in ["10.1.0.1:81", "10.1.0.2:80", "[fd00::1]:80"] {
        assert_eq!(socket.named(&at(stranger)), None);
        assert_eq!(socket.from(&at(stranger)), at(stranger));
    }
}

#[test]
fn r9_a_mapped_sockets_send_passes_even_where_the_backend_is_also_a_vip() {
    let slots = Slots::new(4);
    // The backend's address is a VIP of another service.
    let tables = tables(&[(VIP, &[OTHER]), (OTHER, &["10.1.0.7:80"])]);
    let socket = MemorySocket::new(1, &slots);
    assert_eq!(socket.dial(&tables, udp(VIP)).backend, at(OTHER));
    assert_eq!(socket.send(&tables, OTHER).reason, Reason::Connected);
    assert_eq!(socket.from(&at(OTHER)), at(VIP));
    // Once it is disconnected, the address is what the application means.
    socket.hang_up();
    let decision = socket.send(&tables, OTHER);
    assert_eq!((decision.reason, decision.backend), (Reason::Balanced, at("10.1.0.7:80")));
    assert_eq!(socket.from(&at("10.1.0.7:80")), at(OTHER));
}

#[test]
fn r9_a_connected_socket_may_send_elsewhere_and_keeps_its_peer() {
    let slots = Slots::new(4);
    let tables = tables(&[(VIP, &["10.1.0.1:80"]), (OTHER, &["10.1.0.2:80"])]);
    let socket = MemorySocket::new(1, &slots);
    let first = socket.dial(&tables, udp(VIP)).backend;
    let second = socket.send(&tables, OTHER).backend;
    assert_eq!((socket.named(&first), socket.named(&second)), (Some(at(VIP)), None));
    assert_eq!((socket.from(&first), socket.from(&second)), (at(VIP), at(OTHER)));
    assert_eq!(socket.send(&tables, VIP).reason, Reason::Sticky);
}

#[test]
fn r9_a_slot_that_another_living_socket_has_is_left_to_it() {
    let slots = Slots::new(4);
    let tables = tables(&[(VIP, &["10.1.0.1:80"]), (OTHER, &["10.1.0.2:80"])]);
    // All three cookies mean the same slot.
    let sockets: Vec<MemorySocket<'_>> =
        [1, 5, 9].into_iter().map(|cookie| MemorySocket::new(cookie, &slots)).collect();
    for (socket, vip) in sockets.iter().zip([VIP, OTHER, VIP]) {
        assert_eq!(socket.dial(&tables, tcp(vip)).reason, Reason::Balanced);
    }
    let backends = [at("10.1.0.1:80"), at("10.1.0.2:80"), at("10.1.0.1:80")];
    let check = |which: usize, vip: &str| {
        assert_eq!(sockets[which].named(&backends[which]), Some(at(vip)), "socket {which}");
    };
    [(0, VIP), (1, OTHER), (2, VIP)].into_iter().for_each(|(which, vip)| check(which, vip));
    assert_eq!((slots.owned(), slots.at(1).unwrap().owner.load() & owner::COOKIE), (1, 1));
    // The owner goes; the others still know what they know, also when one of them has the slot next.
    sockets[0].release();
    assert_eq!(slots.owned(), 0);
    [(1, OTHER), (2, VIP)].into_iter().for_each(|(which, vip)| check(which, vip));
    sockets[1].dial(&tables, tcp(OTHER));
    assert_eq!(slots.at(1).unwrap().owner.load() & owner::COOKIE, 5);
    [(1, OTHER), (2, VIP)].into_iter().for_each(|(which, vip)| check(which, vip));
    sockets[1..].iter().for_each(MemorySocket::release);
    assert_eq!(slots.owned(), 0);
}

#[test]
fn r9_without_memory_tcp_is_translated_and_udp_refused() {
    let slots = Slots::new(1);
    let tables = tables(&[(VIP, &["10.1.0.1:80"])]);
    let owner = MemorySocket::new(1, &slots);
    owner.dial(&tables, tcp(VIP));
    let mut socket = MemorySocket::new(2, &slots);
    socket.no_storage = true;
    let decision = socket.dial(&tables, tcp(VIP));
    assert_eq!((decision.reason, decision.backend), (Reason::NotRemembered, at("10.1.0.1:80")));
    assert_eq!(socket.named(&decision.backend), None);
    for decision in [socket.dial(&tables, udp(VIP)), socket.send(&tables, VIP)] {
        assert_eq!((decision.reason, decision.backend), (Reason::NoMemory, at("[::]:0")));
    }
    assert_eq!(socket.from(&at("10.1.0.1:80")), at("10.1.0.1:80"));
    // The owner's memory was not touched, and the slot is no longer in anybody's way once it is gone.
    assert_eq!(owner.named(&at("10.1.0.1:80")), Some(at(VIP)));
    owner.release();
    assert_eq!(socket.dial(&tables, udp(VIP)).reason, Reason::Balanced);
}

#[test]
fn r9_release_frees_only_the_sockets_own_slot() {
    let slots = Slots::new(2);
    let tables = tables(&[(VIP, &["10.1.0.1:80"])]);
    let (owner, other) = (MemorySocket::new(2, &slots), MemorySocket::new(4, &slots));
    owner.dial(&tables, tcp(VIP));
    other.dial(&tables, tcp(VIP));
    other.release();
    assert_eq!(slots.owned(), 1);
    assert_eq!(owner.named(&at("10.1.0.1:80")), Some(at(VIP)));
    owner.release();
    assert_eq!(slots.owned(), 0);
    // A new socket of the same slot inherits nothing.
    let heir = MemorySocket::new(6, &slots);
    assert_eq!(heir.named(&at("10.1.0.1:80")), None);
    heir.peer.set(Some(at("10.1.0.1:80")));
    assert_eq!(heir.from(&at("10.1.0.1:80")), at("10.1.0.1:80"));
}

#[test]
fn r9_what_an_address_becomes_later_does_not_touch_a_connection_to_it() {
    let slots = Slots::new(4);
    let socket = MemorySocket::new(1, &slots);
    let to = "10.9.9.9:53";
    assert_eq!(socket.dial(&tables(&[]), udp(to)).reason, Reason::NotAService);
    let later = tables(&[(to, &["10.1.0.1:53"])]);
    assert_eq!(socket.send(&later, to).reason, Reason::Connected);
    socket.hang_up();
    assert_eq!(socket.send(&later, to).reason, Reason::Balanced);
}

#[test]
fn r9_a_refused_connect_leaves_the_connection_that_a_udp_socket_has() {
    let slots = Slots::new(4);
    let tables = tables(&[(VIP, &["10.1.0.1:80"]), (OTHER, &[])]);
    let socket = MemorySocket::new(1, &slots);
    let backend = socket.dial(&tables, udp(VIP)).backend;
    assert_eq!(socket.dial(&tables, udp(OTHER)).reason, Reason::NoEndpoints);
    assert_eq!(socket.named(&backend), Some(at(VIP)));
    assert_eq!(socket.from(&backend), at(VIP));
    // One that was disconnected before has nothing to keep.
    socket.hang_up();
    assert_eq!(socket.dial(&tables, udp(OTHER)).reason, Reason::NoEndpoints);
    assert_eq!(socket.named(&backend), None);
}

#[test]
fn r9_a_connection_keeps_its_peer_when_sends_to_its_vip_get_another_backend() {
    let (first, second) = ("10.1.0.1:80", "10.1.0.2:80");
    for slot_is_taken in [false, true] {
        let (mut tables, slots) = (tables(&[(VIP, &[first])]), Slots::new(1));
        let (owner, socket) = (MemorySocket::new(1, &slots), MemorySocket::new(2, &slots));
        if slot_is_taken {
            owner.dial(&tables, tcp(VIP));
        }
        socket.dial(&tables, udp(VIP));
        stop_serving(&mut tables, first);
        let index = add_backend(&mut tables, 1, at(second));
        set_list(&mut tables, 1, VIP, &[index]);
        assert_eq!(socket.send(&tables, VIP).backend, at(second));
        assert_eq!(socket.named(&at(first)), Some(at(VIP)));
        assert_eq!((socket.from(&at(first)), socket.from(&at(second))), (at(VIP), at(VIP)));
    }
}
