//! R8 for unconnected UDP.

extern crate std;

use super::world::{Application, add_backend, at, change_backend, set_list, stop_serving, tables, udp};
use abi::{Endpoint, Reason};
use datapath::memory::{MemorySocket, Slots, Tables};
use std::{collections::BTreeSet, format, string::String, vec::Vec};

const VIP: &str = "10.96.0.1:53";
const OTHER: &str = "10.96.0.2:53";
const MANY: [&str; 4] = ["10.1.0.1:53", "10.1.0.2:53", "10.1.0.3:53", "10.1.0.4:53"];

#[test]
fn r8_one_choice_for_each_socket_and_vip() {
    let (tables, slots) = (tables(&[(VIP, &MANY)]), Slots::new(64));
    let mut chosen = BTreeSet::new();
    for cookie in 1..=40 {
        let socket = MemorySocket::new(cookie, &slots);
        let first = socket.send(&tables, VIP);
        assert_eq!(first.reason, Reason::Balanced);
        for _ in 0..20 {
            let next = socket.send(&tables, VIP);
            assert_eq!((next.reason, next.backend, next.service), (Reason::Sticky, first.backend, 1));
        }
        assert_eq!(socket.from(&first.backend), at(VIP));
        assert_eq!(socket.named(&first.backend), None, "it is not connected");
        chosen.insert(first.backend);
    }
    assert_eq!(chosen.len(), MANY.len(), "40 sockets");
}

#[test]
fn r8_a_backend_that_no_longer_serves_is_replaced() {
    let (mut tables, slots) = (tables(&[(VIP, &MANY[..2])]), Slots::new(4));
    let socket = MemorySocket::new(1, &slots);
    let first = socket.send(&tables, VIP).backend;
    let (first_text, second_text) =
        if first == at(MANY[0]) { (MANY[0], MANY[1]) } else { (MANY[1], MANY[0]) };
    // Out of the list, but usable (R4: terminating, not ready): it stays.
    let second = tables.backends.iter().find(|(_, it)| it.endpoint() != first).map(|(index, _)| *index);
    set_list(&mut tables, 1, VIP, &[second.unwrap()]);
    assert_eq!(socket.send(&tables, VIP).reason, Reason::Sticky);
    stop_serving(&mut tables, first_text);
    let again = socket.send(&tables, VIP);
    assert_eq!((again.reason, again.backend), (Reason::Balanced, at(second_text)));
    assert_eq!(socket.from(&at(second_text)), at(VIP));
    assert_eq!(socket.send(&tables, VIP).reason, Reason::Sticky);
}

#[test]
fn r8_an_index_that_was_given_to_another_endpoint_is_no_longer_the_backend() {
    let reused: [fn(&mut Tables); 3] = [
        |tables| change_backend(tables, MANY[0], |backend| backend.generation += 1),
        |tables| change_backend(tables, MANY[0], |backend| (backend.service, backend.generation) = (9, 2)),
        |tables| tables.backends.clear(),
    ];
    for reuse in reused {
        let (mut tables, slots) = (tables(&[(VIP, &MANY[..1])]), Slots::new(4));
        let socket = MemorySocket::new(1, &slots);
        socket.send(&tables, VIP);
        reuse(&mut tables);
        let index = add_backend(&mut tables, 1, at(MANY[1]));
        // `clear` has made room at index 0: another generation tells them apart.
        tables.backends.get_mut(&index).unwrap().generation = 2;
        set_list(&mut tables, 1, VIP, &[index]);
        let decision = socket.send(&tables, VIP);
        assert_eq!((decision.reason, decision.backend), (Reason::Balanced, at(MANY[1])));
    }
}

#[test]
fn r8_a_recreated_service_inherits_nothing() {
    let (mut tables, slots) = (tables(&[(VIP, &MANY)]), Slots::new(4));
    let socket = MemorySocket::new(1, &slots);
    socket.send(&tables, VIP);
    let index = add_backend(&mut tables, 2, at("10.1.9.9:53"));
    set_list(&mut tables, 2, VIP, &[index]);
    let decision = socket.send(&tables, VIP);
    assert_eq!((decision.reason, decision.backend), (Reason::Balanced, at("10.1.9.9:53")));
}

#[test]
fn r8_every_decision_names_the_index_of_its_backend() {
    let (tables, slots) = (tables(&[(OTHER, &MANY), (VIP, &MANY[..1])]), Slots::new(4));
    let index = MANY.len() as u32;
    let socket = MemorySocket::new(1, &slots);
    for reason in [Reason::Balanced, Reason::Sticky] {
        let decision = socket.send(&tables, VIP);
        assert_eq!((decision.reason, decision.ids.backend), (reason, index));
        assert_eq!(tables.backends[&decision.ids.backend].endpoint(), decision.backend);
    }
    let decision = MemorySocket::new(2, &slots).dial(&tables, udp(VIP));
    assert_eq!((decision.reason, decision.ids.backend), (Reason::Balanced, index));
}

#[test]
fn r8_a_second_vip_avoids_the_backend_of_the_first() {
    // Every word of the IPv6 addresses counts, so that none of it may be left out when they are compared.
    const SIX: [&str; 2] = ["[fd00:1:2:3:4:5:6:7]:53", "[fd00:1:2:3:4:5:6:8]:53"];
    for backends in [&MANY[..2], &SIX] {
        for slot_is_taken in [false, true] {
            let (tables, slots) = (tables(&[(VIP, backends), (OTHER, backends)]), Slots::new(1));
            if slot_is_taken {
                MemorySocket::new(99, &slots).send(&tables, VIP);
            }
            for cookie in 1..=50 {
                let socket = MemorySocket::new(cookie, &slots);
                let (first, second) =
                    (socket.send(&tables, VIP).backend, socket.send(&tables, OTHER).backend);
                assert_ne!(first, second);
                assert_eq!((socket.from(&first), socket.from(&second)), (at(VIP), at(OTHER)));
                socket.release();
            }
        }
    }
}

#[test]
fn r8_the_one_backend_that_is_free_is_found_however_many_a_socket_has() {
    // As many destinations as a socket can have, and one more with all of their backends and one of its own.
    let (mut tables, vips) = many_vips(9);
    let mut all: Vec<u32> =
        vips.iter().map(|(_, endpoint)| add_backend(&mut tables, 10, *endpoint)).collect();
    all.insert(4, add_backend(&mut tables, 10, at(MANY[0])));
    set_list(&mut tables, 10, VIP, &all);
    let slots = Slots::new(64);
    for cookie in 1..=40 {
        let socket = MemorySocket::new(cookie, &slots);
        for (vip, _) in &vips {
            socket.send(&tables, vip);
        }
        assert_eq!(socket.send(&tables, VIP).backend, at(MANY[0]));
    }
}

#[test]
fn r9_ipv6_addresses_are_shown_whole() {
    const SIX: [(&str, &[&str]); 2] = [
        ("[fd00:9:8:7:6:5:4:3]:53", &["[fd00:1:2:3:4:5:6:7]:53"]),
        ("[fd00:9:8:7:6:5:4:2]:54", &["[fd00:1:2:3:4:5:6:8]:54"]),
    ];
    // The first is in the slot and the second in storage.
    let (tables, slots) = (tables(&SIX), Slots::new(1));
    let socket = MemorySocket::new(1, &slots);
    for (vip, backends) in SIX {
        assert_eq!(socket.send(&tables, vip).backend, at(backends[0]));
    }
    for (vip, backends) in SIX {
        assert_eq!(socket.from(&at(backends[0])), at(vip));
        assert_eq!(socket.send(&tables, vip).reason, Reason::Sticky);
    }
}

/// Of one service, and alike in the half by which addresses are told apart first.
#[test]
fn r8_r9_two_addresses_that_look_alike_are_two_destinations() {
    const ALIKE: [&str; 2] = ["[fd00:1::5]:53", "[fd00:2::5]:53"];
    let (mut tables, slots) = (tables(&[(ALIKE[0], &["[fd00:3::1]:53", "[fd00:3::2]:53"])]), Slots::new(4));
    set_list(&mut tables, 1, ALIKE[1], &[0, 1]);
    let socket = MemorySocket::new(1, &slots);
    let chosen = ALIKE.map(|vip| {
        let decision = socket.send(&tables, vip);
        assert_eq!(decision.reason, Reason::Balanced, "{vip}");
        decision.backend
    });
    assert_ne!(chosen[0], chosen[1], "a backend that is free is preferred");
    for (vip, backend) in ALIKE.into_iter().zip(chosen) {
        assert_eq!(socket.from(&backend), at(vip));
        let again = socket.send(&tables, vip);
        assert_eq!((again.reason, again.backend), (Reason::Sticky, backend));
    }
}

#[test]
fn r8_a_shared_backend_answers_as_the_vip_used_last() {
    let (tables, slots) = (tables(&[(VIP, &MANY[..1]), (OTHER, &MANY[..1])]), Slots::new(4));
    let socket = MemorySocket::new(1, &slots);
    let backend = at(MANY[0]);
    for vip in [VIP, OTHER, VIP, VIP, OTHER, OTHER, VIP, OTHER] {
        assert_eq!(socket.send(&tables, vip).backend, backend);
        assert_eq!(socket.from(&backend), at(vip));
    }
}

#[test]
fn r8_a_choice_made_anew_counts_as_the_last_use() {
    // VIP has the slot and OTHER is stored; then VIP must move to OTHER's backend.
    let (mut tables, slots) = (tables(&[(VIP, &MANY[..1]), (OTHER, &MANY[1..2])]), Slots::new(4));
    let socket = MemorySocket::new(1, &slots);
    socket.send(&tables, VIP);
    socket.send(&tables, OTHER);
    stop_serving(&mut tables, MANY[0]);
    let index = add_backend(&mut tables, 1, at(MANY[1]));
    set_list(&mut tables, 1, VIP, &[index]);
    assert_eq!(socket.send(&tables, VIP).reason, Reason::Balanced);
    assert_eq!(socket.from(&at(MANY[1])), at(VIP));
    socket.send(&tables, OTHER);
    assert_eq!(socket.from(&at(MANY[1])), at(OTHER));
}

#[test]
fn r8_the_slot_taken_late_counts_as_the_last_use() {
    // The slot is another's at first: OTHER goes to storage. Then VIP gets the slot.
    let (tables, slots) = (tables(&[(VIP, &MANY[..1]), (OTHER, &MANY[..1])]), Slots::new(1));
    let (owner, socket) = (MemorySocket::new(1, &slots), MemorySocket::new(2, &slots));
    owner.send(&tables, VIP);
    socket.send(&tables, OTHER);
    assert_eq!(socket.from(&at(MANY[0])), at(OTHER));
    owner.release();
    socket.send(&tables, VIP);
    assert_eq!(slots.owned(), 1);
    assert_eq!(socket.from(&at(MANY[0])), at(VIP));
}

#[test]
fn r8_a_backend_spoken_to_directly_answers_as_itself_until_the_vip_is_used_again() {
    let (tables, slots) = (tables(&[(VIP, &MANY[..1])]), Slots::new(4));
    let socket = MemorySocket::new(1, &slots);
    let backend = at(MANY[0]);
    socket.send(&tables, VIP);
    assert_eq!(socket.send(&tables, MANY[0]).reason, Reason::NotAService);
    assert_eq!(socket.from(&backend), backend);
    assert_eq!(socket.send(&tables, VIP).reason, Reason::Sticky);
    assert_eq!(socket.from(&backend), at(VIP));
    // Somebody else's address changes nothing.
    socket.send(&tables, "192.0.2.1:53");
    assert_eq!(socket.from(&backend), at(VIP));
}

/// `count` VIPs, each with a backend of its own; their VIPs and backends.
pub(super) fn many_vips(count: usize) -> (Tables, Vec<(String, Endpoint)>) {
    let texts: Vec<(String, String)> =
        (0..count).map(|n| (format!("10.96.1.{n}:53"), format!("10.1.1.{n}:53"))).collect();
    let backends: Vec<[&str; 1]> = texts.iter().map(|(_, backend)| [backend.as_str()]).collect();
    let services: Vec<(&str, &[&str])> =
        texts.iter().zip(&backends).map(|((vip, _), backend)| (vip.as_str(), backend.as_slice())).collect();
    let tables = tables(&services);
    (tables, texts.into_iter().map(|(vip, backend)| (vip, at(&backend))).collect())
}
