//! R23: a client keeps its backend.

extern crate std;

use super::{
    spy::{Spy, address, backends, socket_in},
    world::{Application, Front, at, put, tcp, udp},
};
use abi::{
    Affinity, Endpoint, Key, Reason,
    frontend::{
        backend_flag::{CLUSTER, INTERNAL, LIVE, USABLE},
        mode,
    },
    slot::Ids,
    space::address_use::THIS_NODE,
};
use core::{cell::RefCell, sync::atomic::Ordering::SeqCst};
use datapath::{
    Decision, Env, connect,
    memory::{Slots, Tables},
    sendmsg,
};
use std::{boxed::Box, collections::BTreeSet, sync::Arc, vec::Vec};

const ONE: u64 = 11;
const TWO: u64 = 12;
const SECOND: u64 = 1_000_000_000;
const TIMEOUT: u32 = 10;
/// The tests begin at this time.
const START: u64 = 500 * SECOND;

const VIP: &str = "10.96.0.10:80";
const BALANCER: &str = "192.0.2.1:80";
const EXTERNAL: &str = "192.0.2.2:80";
const NODE: &str = "172.18.0.1:30080";
const OTHER: &str = "10.96.0.20:80";
/// Many: the same one twice is no accident.
const MANY: u32 = 100;

/// Services 1 and 2, of [`MANY`] backends each, all in both lists. Service 1 has a VIP of each kind.
fn tables() -> Tables {
    let mut tables = Tables { now: START.into(), ..Tables::default() };
    (tables.space.first_node_port, tables.space.last_node_port) = (30_080, 30_080);
    tables.addresses.insert(address("172.18.0.1"), THIS_NODE);
    for (service, fronts) in [
        (
            1,
            &[
                (VIP, mode::CLUSTER_IP),
                (BALANCER, mode::LOAD_BALANCER),
                (EXTERNAL, mode::EXTERNAL_IP),
                ("0.0.0.0:30080", mode::NODE_PORT),
            ][..],
        ),
        (2, &[(OTHER, mode::CLUSTER_IP)]),
    ] {
        let all: Vec<_> = (0..MANY).map(|n| std::format!("10.{service}.0.{n}:8080")).collect();
        let all: Vec<&str> = all.iter().map(|text| &**text).collect();
        let list = backends(&mut tables, service, LIVE | USABLE | INTERNAL | CLUSTER, &all);
        for (vip, mode) in fronts {
            for key in [tcp(vip), udp(vip)] {
                put(&mut tables, Front { affinity: TIMEOUT, ..Front::new(key, *mode, service) }, &list);
            }
        }
    }
    tables
}

/// A connection from a new socket.
fn dial(env: &impl Env, client: u64, to: &str) -> Decision {
    let slots = Slots::new(1);
    connect(env, &socket_in(client, 1, &slots), &tcp(to))
}

/// The backend that a client gets now, and why.
fn got(tables: &Tables, client: u64, to: &str) -> (Reason, Endpoint) {
    let decision = dial(tables, client, to);
    (decision.reason, decision.backend)
}

fn wait(tables: &Tables, nanoseconds: u64) {
    tables.now.fetch_add(nanoseconds, SeqCst);
}

/// Index of a backend, by its address.
fn index(tables: &Tables, backend: &Endpoint) -> u32 {
    *tables.backends.iter().find(|(_, it)| it.endpoint() == *backend).unwrap().0
}

fn entry(tables: &Tables, client: u64, service: u32) -> Arc<Affinity> {
    tables.affinities()[&(client, service)].clone()
}

/// Client, service, backend, time of an entry.
fn words(entry: &Affinity) -> (u64, u64, Ids, u64) {
    (entry.client.load(), entry.service.load(), Ids::unpack(entry.ids.load()), entry.used.load())
}

#[test]
fn r23_a_client_keeps_its_backend_whichever_vip_it_uses() {
    let tables = tables();
    let (reason, first) = got(&tables, ONE, VIP);
    assert_eq!(reason, Reason::Balanced);
    for vip in [VIP, BALANCER, EXTERNAL, NODE] {
        for _ in 0..20 {
            assert_eq!(got(&tables, ONE, vip), (Reason::Affinity, first), "{vip}");
        }
    }
    assert_eq!(tables.affinities().len(), 1);
    let expected = Ids { backend: index(&tables, &first), generation: 7 };
    assert_eq!(words(&entry(&tables, ONE, 1)), (ONE, 1, expected, START));
}

#[test]
fn r23_each_client_and_each_service_has_its_own() {
    let tables = tables();
    let clients: Vec<u64> = (1..=20).collect();
    let first: Vec<_> = clients.iter().map(|client| got(&tables, *client, VIP).1).collect();
    assert!(first.iter().collect::<BTreeSet<_>>().len() > 5, "all clients go to few backends");
    for (client, backend) in clients.iter().zip(&first) {
        assert_eq!(got(&tables, *client, VIP), (Reason::Affinity, *backend));
    }
    let (reason, other) = got(&tables, 1, OTHER);
    assert_eq!(reason, Reason::Balanced);
    assert_eq!(got(&tables, 1, OTHER), (Reason::Affinity, other));
    assert_eq!(tables.affinities().len(), 21);
}

#[test]
fn r23_without_affinity_nothing_is_remembered_or_recalled() {
    let mut tables = tables();
    let first = got(&tables, ONE, VIP).1;
    tables.records.values_mut().for_each(|record| record.affinity = 0);
    let all: BTreeSet<_> = (0..50)
        .map(|_| got(&tables, ONE, VIP))
        .collect::<Vec<_>>()
        .into_iter()
        .map(|it| {
            assert_eq!(it.0, Reason::Balanced);
            it.1
        })
        .collect();
    assert!(all.len() > 10);
    assert_eq!(got(&tables, TWO, VIP).0, Reason::Balanced);
    assert_eq!(tables.affinities().len(), 1);
    // It takes effect on a live service, with what is remembered and has not expired.
    tables.records.values_mut().for_each(|record| record.affinity = TIMEOUT);
    assert_eq!(got(&tables, ONE, VIP), (Reason::Affinity, first));
}

#[test]
fn r23_it_expires_strictly_after_its_time() {
    let tables = tables();
    let first = got(&tables, ONE, VIP).1;
    wait(&tables, u64::from(TIMEOUT) * SECOND);
    assert_eq!(got(&tables, ONE, VIP), (Reason::Affinity, first), "at the very moment");
    wait(&tables, u64::from(TIMEOUT) * SECOND + 1);
    assert_eq!(got(&tables, ONE, VIP).0, Reason::Balanced, "a nanosecond later");
}

#[test]
fn r23_each_connection_renews_it() {
    let tables = tables();
    let first = got(&tables, ONE, VIP).1;
    for (n, vip) in [VIP, BALANCER, NODE, VIP, EXTERNAL].into_iter().enumerate() {
        wait(&tables, u64::from(TIMEOUT) * SECOND);
        assert_eq!(got(&tables, ONE, vip), (Reason::Affinity, first), "{n}");
        assert_eq!(entry(&tables, ONE, 1).used.load(), tables.now());
    }
}

#[test]
fn r23_an_expired_entry_is_replaced_in_place_and_counts_from_then() {
    let tables = tables();
    got(&tables, ONE, VIP);
    let before = entry(&tables, ONE, 1);
    wait(&tables, u64::from(TIMEOUT) * SECOND + 1);
    let (reason, second) = got(&tables, ONE, VIP);
    assert_eq!(reason, Reason::Balanced);
    assert!(Arc::ptr_eq(&before, &entry(&tables, ONE, 1)));
    let ids = Ids { backend: index(&tables, &second), generation: 7 };
    assert_eq!(words(&before), (ONE, 1, ids, tables.now()));
    wait(&tables, u64::from(TIMEOUT) * SECOND);
    assert_eq!(got(&tables, ONE, VIP), (Reason::Affinity, second));
}

#[test]
fn r23_a_timeout_that_changes_counts_at_once() {
    let mut tables = tables();
    let first = got(&tables, ONE, VIP).1;
    wait(&tables, 11 * SECOND);
    tables.records.values_mut().for_each(|record| record.affinity = 11);
    assert_eq!(got(&tables, ONE, VIP), (Reason::Affinity, first), "longer");
    wait(&tables, 6 * SECOND);
    tables.records.values_mut().for_each(|record| record.affinity = 5);
    assert_eq!(got(&tables, ONE, VIP).0, Reason::Balanced, "shorter");
}

#[test]
fn r23_the_longest_timeout_is_no_overflow() {
    let mut tables = tables();
    tables.records.values_mut().for_each(|record| record.affinity = u32::MAX);
    let first = got(&tables, ONE, VIP).1;
    wait(&tables, u64::from(u32::MAX) * SECOND);
    assert_eq!(got(&tables, ONE, VIP), (Reason::Affinity, first));
    wait(&tables, u64::from(u32::MAX) * SECOND + 1);
    assert_eq!(got(&tables, ONE, VIP).0, Reason::Balanced);
}

#[test]
fn r23_what_was_used_in_the_future_is_kept() {
    // Another processor's clock may be a tick ahead.
    let tables = tables();
    let first = got(&tables, ONE, VIP).1;
    tables.now.fetch_sub(SECOND, SeqCst);
    assert_eq!(got(&tables, ONE, VIP), (Reason::Affinity, first));
}

/// What happens to the backend that a client has, and whether it keeps it through a cluster IP and a node port.
#[track_caller]
fn assert_kept(change: impl Fn(&mut abi::Backend), cluster_ip: bool, node_port: bool) {
    for (vip, kept) in [(VIP, cluster_ip), (NODE, node_port), (BALANCER, node_port), (EXTERNAL, node_port)] {
        let mut tables = tables();
        let first = got(&tables, ONE, VIP).1;
        let index = index(&tables, &first);
        // What is gone from a list would not be chosen from it.
        tables.lists.values_mut().filter(|it| **it == index).for_each(|it| *it = (index + 1) % MANY);
        change(tables.backends.get_mut(&index).unwrap());
        let (reason, backend) = got(&tables, ONE, vip);
        assert_eq!(reason, if kept { Reason::Affinity } else { Reason::Balanced }, "{vip}");
        assert_eq!(backend == first, kept, "{vip}");
        // What was chosen instead is kept from now on.
        assert_eq!(got(&tables, ONE, vip), (Reason::Affinity, backend), "{vip}");
    }
}

#[test]
fn r23_only_a_member_of_the_list_that_counts_now_is_kept() {
    assert_kept(|_| {}, true, true);
    assert_kept(|it| it.flags &= !INTERNAL, false, true);
    assert_kept(|it| it.flags &= !CLUSTER, true, false);
    assert_kept(|it| it.flags &= !(INTERNAL | CLUSTER), false, false);
    // Dead, whatever else it says.
    assert_kept(|it| it.flags &= !LIVE, false, false);
    // Usable is what may stay on it, not what may be chosen: a member of the list is.
    assert_kept(|it| it.flags &= !USABLE, true, true);
}

#[test]
fn r23_an_index_that_is_another_backends_now_is_not_kept() {
    assert_kept(|it| it.generation += 1, false, false);
    assert_kept(|it| it.service = 2, false, false);
    let mut tables = tables();
    let first = got(&tables, ONE, VIP).1;
    let index = index(&tables, &first);
    tables.lists.values_mut().filter(|it| **it == index).for_each(|it| *it = (index + 1) % MANY);
    tables.backends.remove(&index);
    let (reason, second) = got(&tables, ONE, VIP);
    assert_eq!(reason, Reason::Balanced);
    assert_eq!(got(&tables, ONE, VIP), (Reason::Affinity, second));
}

#[test]
fn r23_nothing_to_choose_from_leaves_what_is_remembered() {
    let mut tables = tables();
    let first = got(&tables, ONE, VIP).1;
    let full = tables.records.clone();
    tables.records.values_mut().for_each(|record| (record.local.len, record.flags) = (0, 0));
    tables.backends.values_mut().for_each(|it| it.flags &= !(INTERNAL | CLUSTER));
    assert_eq!(got(&tables, ONE, VIP).0, Reason::NoEndpoints);
    assert_eq!(got(&tables, TWO, VIP).0, Reason::NoEndpoints);
    assert_eq!(tables.affinities().len(), 1);
    tables.records = full;
    tables.backends.values_mut().for_each(|it| it.flags |= INTERNAL | CLUSTER);
    assert_eq!(got(&tables, ONE, VIP), (Reason::Affinity, first));
}

#[test]
fn r23_a_service_made_anew_inherits_nothing() {
    let mut tables = tables();
    got(&tables, ONE, VIP);
    tables.backends.values_mut().filter(|it| it.service == 1).for_each(|it| it.service = 3);
    tables.records.values_mut().filter(|it| it.service == 1).for_each(|it| it.service = 3);
    assert_eq!(got(&tables, ONE, VIP).0, Reason::Balanced);
    assert_eq!(tables.affinities().len(), 2);
}

#[test]
fn r23_words_of_another_client_or_service_are_none() {
    for change in [
        (|it: &Affinity| it.client.store(TWO)) as fn(&Affinity),
        |it| it.service.store(2),
        |it| it.service.store(1 | 1 << 32),
    ] {
        let tables = tables();
        let first = got(&tables, ONE, VIP).1;
        let entry = entry(&tables, ONE, 1);
        change(&entry);
        let before = words(&entry);
        wait(&tables, SECOND);
        let all: BTreeSet<_> = (0..20)
            .map(|_| {
                let (reason, backend) = got(&tables, ONE, VIP);
                assert_eq!(reason, Reason::Balanced);
                backend
            })
            .collect();
        assert!(all.len() > 3, "not {first:?} only");
        // It is somebody else's: nothing of it changes.
        assert_eq!(words(&entry), before);
    }
}

#[test]
fn r23_where_there_is_no_room_it_is_balanced_each_time() {
    let mut tables = tables();
    tables.affinity_room = Some(1);
    let first = got(&tables, ONE, VIP).1;
    let slots = Slots::new(8);
    let all: BTreeSet<_> = (0..20)
        .map(|n| {
            let socket = socket_in(TWO, n, &slots);
            let decision = connect(&tables, &socket, &tcp(VIP));
            assert_eq!(decision.reason, Reason::AffinityFull);
            assert_eq!(socket.named(&decision.backend), Some(at(VIP)));
            decision.backend
        })
        .collect();
    assert!(all.len() > 3);
    assert_eq!(socket_in(TWO, 99, &slots).send(&tables, VIP).reason, Reason::AffinityFull);
    // Who is in keeps what he has, also when he has to choose anew.
    assert_eq!(got(&tables, ONE, VIP), (Reason::Affinity, first));
    wait(&tables, 11 * SECOND);
    let (reason, second) = got(&tables, ONE, VIP);
    assert_eq!(reason, Reason::Balanced);
    assert_eq!(got(&tables, ONE, VIP), (Reason::Affinity, second));
}

/// Another connection of client ONE is made while the first is about to remember its choice; both backends, why the
/// first, and what is remembered.
fn race(tables: &Tables, before: bool) -> (Decision, Decision, Endpoint) {
    let quick = RefCell::new(None);
    let event: Box<dyn FnOnce(&Tables)> = Box::new(|tables| {
        quick.replace(Some(dial(tables, ONE, VIP)));
    });
    let (event, none) = (RefCell::new(Some(event)), RefCell::new(None));
    let (before_remember, after_remember) = if before { (event, none) } else { (none, event) };
    let slow = dial(&Spy { before_remember, after_remember, ..Spy::on(tables) }, ONE, VIP);
    let (quick, kept) = (quick.take().unwrap(), got(tables, ONE, VIP));
    assert_eq!(kept.0, Reason::Affinity);
    (quick, slow, kept.1)
}

#[test]
fn r23_of_two_connections_at_once_both_get_what_the_quicker_one_chose() {
    for before in [true, false] {
        for stale in [false, true] {
            let tables = tables();
            if stale {
                got(&tables, ONE, VIP);
                wait(&tables, 11 * SECOND);
            }
            let (quick, slow, kept) = race(&tables, before);
            let case = (before, stale);
            assert_eq!((quick.backend, slow.backend), (kept, kept), "{case:?}");
            assert_eq!(slow.reason, Reason::Balanced);
            // Behind the entry that the slower one made there is nothing left to choose.
            let expected = if before || stale { Reason::Balanced } else { Reason::Affinity };
            assert_eq!(quick.reason, expected, "{case:?}");
        }
    }
}

#[test]
fn r23_an_entry_that_goes_between_two_looks_is_no_loss() {
    let tables = tables();
    let after_remember = RefCell::new(Some(Box::new(|tables: &Tables| tables.affinities().clear()) as _));
    let decision = dial(&Spy { after_remember, ..Spy::on(&tables) }, ONE, VIP);
    assert_eq!(decision.reason, Reason::Balanced);
    assert!(tables.affinities().is_empty());
}

#[test]
fn r23_a_backend_that_goes_as_it_is_chosen_is_not_sent_astray() {
    let mut tables = tables();
    // Listed, but without the flag: the flags of a list that is about to be switched come later or earlier.
    tables.backends.values_mut().for_each(|it| it.flags = LIVE | USABLE);
    let (reason, first) = got(&tables, ONE, VIP);
    assert_eq!(reason, Reason::Balanced);
    let ids = Ids { backend: index(&tables, &first), generation: 7 };
    assert_eq!(words(&entry(&tables, ONE, 1)), (ONE, 1, ids, START));
    // Remembered, and counts as soon as it is a member.
    tables.backends.values_mut().for_each(|it| it.flags |= INTERNAL);
    assert_eq!(got(&tables, ONE, VIP), (Reason::Affinity, first));
}

#[test]
fn r23_connected_udp_and_datagrams_share_it() {
    let (tables, slots) = (tables(), Slots::new(64));
    let new = |cookie| socket_in(ONE, cookie, &slots);
    let decision = new(1).send(&tables, VIP);
    assert_eq!(decision.reason, Reason::Balanced);
    let first = decision.backend;
    for cookie in 2..12 {
        let decision = new(cookie).send(&tables, BALANCER);
        assert_eq!((decision.reason, decision.backend), (Reason::Affinity, first));
        let socket = new(cookie + 20);
        let decision = socket.dial(&tables, udp(VIP));
        assert_eq!((decision.reason, decision.backend), (Reason::Affinity, first));
        assert_eq!(socket.named(&first), Some(at(VIP)));
    }
}

#[test]
fn r8_r23_a_socket_that_stays_on_its_backend_renews_nothing_and_a_fresh_choice_does() {
    let (tables, slots) = (tables(), Slots::new(64));
    let socket = socket_in(ONE, 1, &slots);
    let first = socket.send(&tables, VIP).backend;
    let used = || entry(&tables, ONE, 1).used.load();
    wait(&tables, 9 * SECOND);
    assert_eq!(socket.send(&tables, VIP).reason, Reason::Sticky);
    assert_eq!(used(), START);
    let other = socket_in(ONE, 2, &slots);
    let decision = other.send(&tables, VIP);
    assert_eq!((decision.reason, decision.backend, used()), (Reason::Affinity, first, tables.now()));
    // The socket stays though the client's affinity has expired, and remembers nothing for it.
    wait(&tables, 11 * SECOND);
    let decision = socket.send(&tables, VIP);
    assert_eq!((decision.reason, decision.backend), (Reason::Sticky, first));
    assert_eq!(used(), tables.now() - 11 * SECOND);
    let decision = socket_in(ONE, 3, &slots).send(&tables, VIP);
    assert_eq!((decision.reason, used()), (Reason::Balanced, tables.now()));
}

#[test]
fn r23_is_before_the_wish_for_another_backend_on_one_socket() {
    // R8 prefers another backend for a second VIP; R23 says which one it is.
    let (tables, slots) = (tables(), Slots::new(4));
    let socket = socket_in(ONE, 1, &slots);
    let first = socket.send(&tables, VIP).backend;
    let decision = socket.send(&tables, BALANCER);
    assert_eq!((decision.reason, decision.backend), (Reason::Affinity, first));
    assert_eq!(socket.from(&first), at(BALANCER), "the VIP that was used last");
}

#[test]
fn r23_the_failing_lookups_of_a_record_are_no_affinity() {
    let tables = tables();
    assert_eq!(datapath::affinity::recall(&tables, ONE, 999).generation, 0);
    // A record that is gone is as good as none: the choice stands.
    let kept = datapath::affinity::keep(&tables, ONE, 999, 3);
    assert_eq!(kept, Ids { backend: 3, generation: 7 });
    assert!(tables.affinities().is_empty());
}

#[test]
fn r23_a_broken_list_remembers_nothing() {
    let (mut tables, slots) = (tables(), Slots::new(4));
    tables.lists.clear();
    let key: Key = udp(VIP);
    assert_eq!(connect(&tables, &socket_in(ONE, 1, &slots), &key).reason, Reason::BrokenTable);
    assert_eq!(sendmsg(&tables, &socket_in(ONE, 1, &slots), &key).reason, Reason::BrokenTable);
    assert!(tables.affinities().is_empty());
}
