//! R7, R10, R11: the frontend, and one of its backends.

extern crate std;

use super::{
    spy::Spy,
    world::{Application, at, delete, set_list, tables, tcp, udp},
};
use abi::{Key, Range, Reason, Settings, TCP, frontend::record_flag};
use datapath::{
    choose, connect, look_up,
    memory::{MemorySocket, Slots, Tables},
    sendmsg,
};
use std::collections::BTreeMap;

const FOUR: &str = "10.96.0.10:80";
const SIX: &str = "[fd00:96::a]:80";

fn both_families() -> Tables {
    tables(&[
        (FOUR, &["10.1.0.1:8080", "10.1.0.2:8080", "10.1.0.3:8080"]),
        (SIX, &["[fd00:1::1]:8080", "[fd00:1::2]:8080"]),
    ])
}

#[test]
fn r7_a_cluster_ip_is_hit_in_both_families_and_protocols() {
    let (tables, slots) = (both_families(), Slots::new(8));
    for (n, (vip, service)) in [(FOUR, 1), (SIX, 2)].into_iter().enumerate() {
        for (m, key) in [tcp(vip), udp(vip)].into_iter().enumerate() {
            let socket = MemorySocket::new((n * 2 + m + 1) as u64, &slots);
            let decision = socket.dial(&tables, key);
            assert_eq!((decision.reason, decision.service, decision.mode), (Reason::Balanced, service, 1));
            let backend = tables.backends.values().find(|it| it.endpoint() == decision.backend).unwrap();
            assert_eq!(backend.service, service);
            assert_eq!(socket.named(&decision.backend), Some(at(vip)));
        }
    }
    assert_eq!(slots.owned(), 4);
}

#[test]
fn r7_what_is_not_exactly_a_frontend_is_left_alone() {
    let (mut tables, slots) = (both_families(), Slots::new(8));
    tables.frontends.remove(&udp(FOUR));
    let misses = [
        udp(FOUR),
        tcp("10.96.0.10:81"),
        tcp("10.96.0.11:80"),
        tcp("[fd00:96::b]:80"),
        udp("[fd00:96::a]:81"),
        tcp("10.1.0.1:8080"),
        Key { protocol: 132, ..tcp(FOUR) },
    ];
    for key in misses {
        let socket = MemorySocket::new(1, &slots);
        for decision in [connect(&tables, &socket, &key), sendmsg(&tables, &socket, &key)] {
            assert_eq!((decision.reason, decision.mode), (Reason::NotAService, 0), "{key:?}");
            assert_eq!(decision.backend, at("[::]:0"));
        }
    }
    assert_eq!(slots.owned(), 0);
}

#[test]
fn r7_backends_are_chosen_evenly() {
    let tables = both_families();
    let (record, _) = look_up(&tables, &tcp(FOUR));
    let record = record.unwrap();
    let mut counts = BTreeMap::new();
    const DRAWS: u32 = 30_000;
    for _ in 0..DRAWS {
        let choice = choose(&tables, &record, 1, |_| false);
        let backend = choice.backend(&tables, &record).0.unwrap();
        *counts.entry(backend.endpoint()).or_insert(0u32) += 1;
    }
    // Five standard deviations (81.6) of a fair draw: the seed is fixed, so that this is no game of chance.
    assert_eq!(counts.len(), 3);
    assert!(counts.values().all(|count| count.abs_diff(DRAWS / 3) < 408), "{counts:?}");
}

#[test]
fn r7_every_candidate_is_tried_before_one_is_taken_that_was_to_be_avoided() {
    let tables = both_families();
    let record = look_up(&tables, &tcp(FOUR)).0.unwrap();
    let bad = [at("10.1.0.1:8080"), at("10.1.0.3:8080")];
    for _ in 0..100 {
        let choice = choose(&tables, &record, 3, |it| bad.contains(it));
        assert_eq!(choice.backend(&tables, &record).0.unwrap().endpoint(), at("10.1.0.2:8080"));
        assert!(choose(&tables, &record, 3, |_| true).is_some());
    }
}

#[test]
fn r10_no_endpoint_anywhere_refuses_and_remembers_nothing() {
    let (mut tables, slots) = (tables(&[(FOUR, &[])]), Slots::new(8));
    let socket = MemorySocket::new(3, &slots);
    for key in [tcp(FOUR), udp(FOUR)] {
        let decision = socket.dial(&tables, key);
        assert_eq!((decision.reason, decision.service, decision.mode), (Reason::NoEndpoints, 1, 1));
    }
    assert_eq!(socket.send(&tables, FOUR).reason, Reason::NoEndpoints);
    assert_eq!(slots.owned(), 0);
    // R10: the next call on the same socket works once an endpoint appears.
    let index = super::world::add_backend(&mut tables, 1, at("10.1.0.9:8080"));
    set_list(&mut tables, 1, FOUR, &[index]);
    assert_eq!(socket.send(&tables, FOUR).backend, at("10.1.0.9:8080"));
    assert_eq!(socket.dial(&tables, udp(FOUR)).reason, Reason::Balanced);
}

#[test]
fn r11_endpoints_only_elsewhere_are_unreachable_and_nothing_is_remembered() {
    let (mut tables, slots) = (tables(&[(FOUR, &[])]), Slots::new(8));
    tables.records.values_mut().for_each(|record| record.flags |= record_flag::HAS_ANY);
    let socket = MemorySocket::new(3, &slots);
    assert_eq!(socket.dial(&tables, tcp(FOUR)).reason, Reason::NoLocalEndpoint);
    assert_eq!(socket.dial(&tables, udp(FOUR)).reason, Reason::NoLocalEndpoint);
    assert_eq!(socket.send(&tables, FOUR).reason, Reason::NoLocalEndpoint);
    assert_eq!(slots.owned(), 0);
}

#[test]
fn r13_a_deleted_service_stops_answering() {
    let (mut tables, slots) = (both_families(), Slots::new(8));
    let socket = MemorySocket::new(1, &slots);
    assert_eq!(socket.send(&tables, FOUR).reason, Reason::Balanced);
    delete(&mut tables, FOUR);
    assert_eq!(socket.send(&tables, FOUR).reason, Reason::NotAService);
    assert_eq!(socket.dial(&tables, udp(FOUR)).reason, Reason::NotAService);
}

#[test]
fn pause_lets_everything_pass_but_keeps_peers() {
    let (mut tables, slots) = (both_families(), Slots::new(8));
    let (connected, other) = (MemorySocket::new(1, &slots), MemorySocket::new(2, &slots));
    let backend = connected.dial(&tables, udp(FOUR)).backend;
    let answered = other.send(&tables, FOUR).backend;
    tables.settings = Settings { paused: 1, ..Settings::default() };
    assert_eq!(other.send(&tables, FOUR).reason, Reason::Paused);
    // What a mapped socket's send() on an established connection shows is the backend: still no business of ours.
    assert_eq!(
        sendmsg(&tables, &connected, &Key { endpoint: backend, ..udp(FOUR) }).reason,
        Reason::Connected
    );
    assert_eq!(connected.named(&backend), Some(at(FOUR)));
    assert_eq!(other.from(&answered), at(FOUR));
    assert_eq!(connected.dial(&tables, udp(FOUR)).reason, Reason::Paused);
    assert_eq!(connected.named(&backend), None);
}

#[test]
fn pause_does_not_disguise_a_backend_that_is_spoken_to_directly() {
    let (mut tables, slots) = (tables(&[(FOUR, &["10.1.0.1:8080"])]), Slots::new(8));
    let socket = MemorySocket::new(1, &slots);
    let backend = socket.send(&tables, FOUR).backend;
    tables.settings.paused = 1;
    socket.send(&tables, "10.1.0.1:8080");
    assert_eq!(socket.from(&backend), backend);
}

#[test]
fn another_frontends_record_is_never_used() {
    let tables = both_families();
    let stranger = Some(tables.frontends[&tcp(SIX)]);
    // Another frontend may look alike: then it is looked for in all places.
    let found = |shown: Option<u32>, key: Key| {
        let env = Spy { shown: [shown].to_vec(), ..Spy::on(&tables) };
        let (record, found) = look_up(&env, &key);
        (record.map(|record| (record.service, record.protocol)), found.reason)
    };
    // The other protocol of the same VIP is another key, too.
    for shown in [stranger, Some(tables.frontends[&udp(FOUR)])] {
        assert_eq!(found(shown, tcp(FOUR)), (Some((1, TCP)), Reason::Balanced));
        assert_eq!(found(shown, tcp("10.96.0.99:80")), (None, Reason::NotAService));
    }
}

#[test]
fn tables_that_contradict_themselves_refuse() {
    let broken = |breaking: fn(&mut Tables)| {
        let (mut tables, slots) = (both_families(), Slots::new(4));
        breaking(&mut tables);
        for _ in 0..20 {
            let socket = MemorySocket::new(1, &slots);
            assert_eq!(socket.dial(&tables, tcp(FOUR)).reason, Reason::BrokenTable);
            assert_eq!(socket.send(&tables, FOUR).reason, Reason::BrokenTable);
        }
        assert_eq!(slots.owned(), 0);
    };
    broken(|tables| tables.records.clear());
    broken(|tables| tables.lists.clear());
    broken(|tables| tables.backends.clear());
    broken(|tables| tables.backends.values_mut().for_each(|backend| backend.service = 77));
    broken(|tables| {
        tables.records.values_mut().for_each(|record| record.local = Range { start: u32::MAX - 9, len: 3 })
    });
}
