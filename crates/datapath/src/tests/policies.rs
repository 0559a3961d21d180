//! P1, P5 to P7, P9: which level of a frontend decides about each connection.

extern crate std;

use abi::{
    Key, Reason, Verdict,
    client::SourceKey,
    frontend::{level, mode, record_flag},
    policy::{ExemptKey, LimitKey},
    reason::fallen,
    space::address_use,
};
use datapath::{
    Decision, Env, connect,
    memory::{MemorySocket, Slots, Tables},
    sendmsg,
};
use std::{collections::BTreeSet, vec, vec::Vec};

use super::{
    spy::Spy,
    world::{Front, add_backend, at, put, stop_serving, tcp, udp},
};

const VIP: &str = "10.96.0.10:53";
/// Service port ids, and for policies their numbers.
const SERVICE: u32 = 1;
const REDIRECT: u32 = 2;
const BALANCING: u32 = 3;

/// Who has a backend on the VIP: `R` a LocalRedirectPolicy, `B` a BalancingPolicy, `S` a service; small: without one. Backends
/// are 10.0.0.<id>.
fn tables(owners: &str) -> Tables {
    let mut tables = Tables::default();
    let mut first = true;
    for owner in owners.chars() {
        let (id, mode, below) = match owner.to_ascii_uppercase() {
            'R' => (REDIRECT, mode::LOCAL_REDIRECT, level::FIRST),
            'B' => (BALANCING, mode::BALANCING, level::BALANCING),
            _ => (SERVICE, mode::CLUSTER_IP, level::SERVICE),
        };
        let backend = add_backend(&mut tables, id, at(&std::format!("10.0.0.{id}:53")));
        let backends = if owner.is_uppercase() { vec![backend] } else { vec![] };
        for key in [tcp(VIP), udp(VIP)] {
            let key = key.at(if first { level::FIRST } else { below });
            let policy = if id == SERVICE { 0 } else { id };
            let flags = if id == SERVICE { 0 } else { record_flag::POLICY };
            put(&mut tables, Front { flags, policy, ..Front::new(key, mode, id) }, &backends);
        }
        if id != SERVICE {
            tables.policies.entry([id, 0]).or_default();
        }
        first = false;
    }
    tables
}

fn limit(tables: &mut Tables, policy: u32, limit: u32) {
    for record in tables.records.values_mut().filter(|record| record.policy == [policy, 0]) {
        record.limit = limit;
    }
    tables.limits.entry(LimitKey { policy: [policy, 0], limit }).or_default();
}

fn counted(tables: &Tables, policy: u32) -> [u64; 3] {
    let it = &tables.policies[&[policy, 0]];
    [it.fallbacks.load(), it.spills.load(), it.own.load()]
}

/// A fresh socket connects: whose backend it gets, why, and what became of the first policy.
fn fresh(tables: &Tables) -> (u32, Reason, u8) {
    let slots = Slots::new(16);
    told(&connect(tables, &MemorySocket::new(7, &slots), &tcp(VIP)))
}

fn told(decision: &Decision) -> (u32, Reason, u8) {
    let id = match decision.reason.verdict() {
        Verdict::Translated => decision.backend.address.0[3].to_be() & 0xff,
        _ => 0,
    };
    (id, decision.reason, decision.fallen)
}

#[test]
fn p1_p5_the_first_that_has_a_backend_decides() {
    use Reason::{Balanced, Fallback, NoEndpoints};
    let cases = [
        ("RBS", (REDIRECT, Balanced, fallen::NO)),
        ("RS", (REDIRECT, Balanced, fallen::NO)),
        ("BS", (BALANCING, Balanced, fallen::NO)),
        ("R", (REDIRECT, Balanced, fallen::NO)),
        ("rBS", (BALANCING, Fallback, fallen::NO_BACKEND)),
        ("rbS", (SERVICE, Fallback, fallen::NO_BACKEND)),
        ("rS", (SERVICE, Fallback, fallen::NO_BACKEND)),
        ("bS", (SERVICE, Fallback, fallen::NO_BACKEND)),
        ("rb", (0, NoEndpoints, fallen::NO_BACKEND)),
        ("r", (0, NoEndpoints, fallen::NO_BACKEND)),
        ("rbs", (0, NoEndpoints, fallen::NO_BACKEND)),
    ];
    for (owners, expected) in cases {
        let tables = tables(owners);
        assert_eq!(fresh(&tables), expected, "{owners}");
        let slots = Slots::new(16);
        let sent = sendmsg(&tables, &MemorySocket::new(8, &slots), &udp(VIP));
        assert_eq!(told(&sent), expected, "{owners}, sent");
        for (owner, id) in [('r', REDIRECT), ('b', BALANCING)] {
            if owners.contains(owner) {
                assert_eq!(counted(&tables, id), [2, 0, 0], "{owners}");
            }
        }
    }
}

#[test]
fn p5_as_if_the_policy_were_not_there_holds_for_what_is_no_frontend_too() {
    // Another port of a cluster IP, which a policy has taken.
    let mut tables = tables("r");
    let address = tcp(VIP).endpoint.address;
    tables.addresses.insert(address, address_use::CLUSTER_IP);
    assert_eq!(fresh(&tables), (0, Reason::UnknownPort, fallen::NO_BACKEND));
    // A cluster IP that somebody else serves.
    tables.addresses.insert(address, address_use::FOREIGN);
    assert_eq!(fresh(&tables), (0, Reason::ForeignService, fallen::NO_BACKEND));
    // A node's address and a node port.
    tables.addresses.insert(address, address_use::OTHER_NODE);
    (tables.space.first_node_port, tables.space.last_node_port) = (53, 53);
    let backend = add_backend(&mut tables, SERVICE, at("10.0.0.1:53"));
    put(&mut tables, Front::new(tcp("0.0.0.0:53"), mode::NODE_PORT, SERVICE), &[backend]);
    assert_eq!(fresh(&tables), (SERVICE, Reason::Fallback, fallen::NO_BACKEND));
}

#[test]
fn p5_r22_a_restricted_vip_below_a_policy_stays_so() {
    let mut tables = tables("rS");
    for record in tables.records.values_mut().filter(|record| record.service == SERVICE) {
        (record.mode, record.flags) = (mode::LOAD_BALANCER, record_flag::RESTRICTED | record_flag::HAS_ANY);
    }
    assert_eq!(fresh(&tables), (0, Reason::UnknownClient, fallen::NO_BACKEND));
    tables
        .clients
        .insert(1, abi::Client { netns: 1, v4: at("10.1.0.1:1").address.0[3], ..abi::Client::default() });
    assert_eq!(fresh(&tables), (0, Reason::SourceRange, fallen::NO_BACKEND));
    tables.sources.insert(SourceKey { bits: 32, service: SERVICE, address: [0; 4] });
    assert_eq!(fresh(&tables), (SERVICE, Reason::Fallback, fallen::NO_BACKEND));
}

#[test]
fn p6_what_is_more_than_the_limit_spills_to_the_next_level() {
    let mut tables = tables("RBS");
    limit(&mut tables, REDIRECT, 2);
    limit(&mut tables, BALANCING, 1);
    tables.now = 5_000_000_000.into();
    let all: Vec<_> = (0..5).map(|_| fresh(&tables)).collect();
    let spilled = |id| (id, Reason::Spilled, fallen::LIMIT);
    let redirected = (REDIRECT, Reason::Balanced, fallen::NO);
    assert_eq!(all, [redirected, redirected, spilled(BALANCING), spilled(SERVICE), spilled(SERVICE)]);
    assert_eq!((counted(&tables, REDIRECT), counted(&tables, BALANCING)), ([0, 3, 0], [0, 2, 0]));
    *tables.now.get_mut() += 1_001_000_000;
    assert_eq!(fresh(&tables), redirected);
    // One that is gone limits nothing.
    tables.limits.clear();
    assert!((0..10).all(|_| fresh(&tables) == redirected));
}

#[test]
fn p6_datagrams_of_a_socket_that_has_a_backend_are_no_connections() {
    let mut tables = tables("RS");
    limit(&mut tables, REDIRECT, 1);
    tables.now = 5_000_000_000.into();
    let slots = Slots::new(16);
    let (first, second) = (MemorySocket::new(1, &slots), MemorySocket::new(2, &slots));
    let send = |tables: &Tables, socket| told(&sendmsg(tables, socket, &udp(VIP)));
    assert_eq!(send(&tables, &first), (REDIRECT, Reason::Balanced, fallen::NO));
    assert_eq!(send(&tables, &second), (SERVICE, Reason::Spilled, fallen::LIMIT));
    for _ in 0..3 {
        // Each stays where it is, also when there is room again.
        *tables.now.get_mut() += 2_000_000_000;
        assert_eq!(send(&tables, &first), (REDIRECT, Reason::Sticky, fallen::NO));
        assert_eq!(send(&tables, &second), (SERVICE, Reason::Sticky, fallen::STAYED));
    }
    assert_eq!(counted(&tables, REDIRECT), [0, 1, 0]);
    // Once its backend is gone it is a connection again.
    stop_serving(&mut tables, "10.0.0.1:53");
    assert_eq!(send(&tables, &second), (REDIRECT, Reason::Balanced, fallen::NO));
}

#[test]
fn p5_p9_what_a_socket_remembers_follows_the_policies() {
    let slots = Slots::new(16);
    let socket = MemorySocket::new(1, &slots);
    let send = |tables: &Tables| told(&sendmsg(tables, &socket, &udp(VIP)));
    let mut all = tables("S");
    assert_eq!(send(&all), (SERVICE, Reason::Balanced, fallen::NO));
    // A policy comes: it has the sockets of before, too.
    let replace = |all: &mut Tables, owners: &str| {
        let new = tables(owners);
        (all.frontends, all.records, all.lists) = (new.frontends, new.records, new.lists);
        // The same backends as before, at the same indexes.
        all.backends = new.backends;
        all.policies = new.policies;
    };
    replace(&mut all, "RS");
    assert_eq!(send(&all).0, REDIRECT);
    // Its backend is drained: at once elsewhere, and there it stays while the policy comes back.
    replace(&mut all, "rS");
    for backend in all.backends.values_mut().filter(|it| it.service == REDIRECT) {
        backend.flags = 0;
    }
    assert_eq!(send(&all), (SERVICE, Reason::Fallback, fallen::NO_BACKEND));
    replace(&mut all, "RS");
    assert_eq!(send(&all), (SERVICE, Reason::Sticky, fallen::STAYED));
    // The policy goes: it is the service's as if there had been none.
    replace(&mut all, "S");
    for record in all.records.values_mut() {
        record.service = SERVICE;
    }
    assert_eq!(send(&all).0, SERVICE);
}

/// R4: a drained backend is given to nobody, and whoever has it keeps it while it serves. Also that of the first service port of
/// all, whose id is 0.
#[test]
fn p5_a_socket_stays_with_a_drained_backend_that_still_serves() {
    const FIRST: u32 = 0;
    let tables = |owners| {
        let mut tables = tables(owners);
        tables.records.values_mut().filter(|it| it.service == REDIRECT).for_each(|it| it.service = FIRST);
        tables.backends.values_mut().filter(|it| it.service == REDIRECT).for_each(|it| it.service = FIRST);
        tables
    };
    let slots = Slots::new(16);
    let socket = MemorySocket::new(1, &slots);
    let send = |tables: &Tables| told(&sendmsg(tables, &socket, &udp(VIP)));
    let mut all = tables("RS");
    assert_eq!(send(&all), (REDIRECT, Reason::Balanced, fallen::NO));
    let drained = tables("rS");
    (all.frontends, all.records, all.lists) = (drained.frontends, drained.records, drained.lists);
    assert_eq!(send(&all), (REDIRECT, Reason::Sticky, fallen::NO));
    assert_eq!(fresh(&all), (SERVICE, Reason::Fallback, fallen::NO_BACKEND));
    // Its successor is ready, and it still serves.
    let next = add_backend(&mut all, FIRST, at("10.0.0.9:53"));
    for key in [tcp(VIP), udp(VIP)] {
        let front = Front::new(key, mode::LOCAL_REDIRECT, FIRST);
        put(&mut all, Front { flags: record_flag::POLICY, policy: REDIRECT, ..front }, &[next]);
    }
    assert_eq!(fresh(&all).0, 9);
    assert_eq!(send(&all), (REDIRECT, Reason::Sticky, fallen::NO));
    stop_serving(&mut all, "10.0.0.2:53");
    assert_eq!(send(&all).0, 9);
}

#[test]
fn p7_a_policys_own_backend_is_not_redirected() {
    let own = (SERVICE, Reason::Balanced, fallen::OWN_BACKEND);
    let mut by_netns = tables("RS");
    by_netns.exempt.insert(ExemptKey::new([REDIRECT, 0], 1));
    assert_eq!(fresh(&by_netns), own);
    assert_eq!(counted(&by_netns, REDIRECT), [0, 0, 1]);
    // Another's namespace, and another policy's.
    for key in [ExemptKey::new([REDIRECT, 0], 2), ExemptKey::new([BALANCING, 0], 1)] {
        by_netns.exempt = BTreeSet::from([key]);
        assert_eq!(fresh(&by_netns), (REDIRECT, Reason::Balanced, fallen::NO));
    }
    // On the host's network: by cgroup, which is looked at only where that can matter.
    let mut by_cgroup = tables("RS");
    let slots = Slots::new(16);
    let mut socket = MemorySocket::new(1, &slots);
    socket.backend_of = BTreeSet::from([[REDIRECT, 0]]);
    let connected = |tables: &Tables| told(&connect(tables, &socket, &tcp(VIP)));
    assert_eq!(connected(&by_cgroup), (REDIRECT, Reason::Balanced, fallen::NO));
    by_cgroup.settings.exempt_cgroups = 1;
    assert_eq!(connected(&by_cgroup), own);
}

#[test]
fn p7_an_own_backend_reaches_the_real_address_that_only_the_policy_has_taken() {
    let mut alone = tables("R");
    alone.exempt.insert(ExemptKey::new([REDIRECT, 0], 1));
    assert_eq!(fresh(&alone), (0, Reason::OwnBackend, fallen::OWN_BACKEND));
    assert_eq!(Reason::OwnBackend.verdict(), Verdict::Passed);
    // But not past a policy below that it is no backend of.
    let mut two = tables("Rb");
    two.exempt.insert(ExemptKey::new([REDIRECT, 0], 1));
    assert_eq!(fresh(&two), (0, Reason::NoEndpoints, fallen::NO_BACKEND));
}

/// A level that goes while it is looked for: who decides is seen anew, nobody is sent past a policy that has a backend.
#[test]
fn p9_levels_that_change_while_a_program_runs_are_looked_at_again() {
    let tables = tables("BS");
    let first = tables.look(&tcp(VIP)).0 - 1;
    let service = tables.look(&tcp(VIP).at(level::SERVICE)).0 - 1;
    // As it was before: a LocalRedirectPolicy without backends was first, below it the BalancingPolicy.
    let mut tables = tables;
    let redirect = put(
        &mut tables,
        Front {
            flags: record_flag::POLICY,
            policy: REDIRECT,
            ..Front::new(tcp(VIP), mode::LOCAL_REDIRECT, REDIRECT)
        },
        &[],
    );
    tables.frontends.insert(tcp(VIP), first);
    let mut spy = Spy::on(&tables);
    // Of resolving, of the round's beginning, of its first level; then what was below it is gone, and the service is found.
    spy.shown = vec![Some(redirect), Some(redirect), Some(redirect), None, Some(service)];
    let slots = Slots::new(16);
    let decision = connect(&spy, &MemorySocket::new(7, &slots), &tcp(VIP));
    assert_eq!(told(&decision), (BALANCING, Reason::Balanced, fallen::NO));
}

#[test]
fn levels_are_frontends_of_their_own() {
    let key: Key = tcp(VIP);
    assert_eq!((key.level(), key.transport()), (level::FIRST, abi::TCP));
    let below = udp(VIP).at(level::SERVICE);
    assert_eq!((below.level(), below.transport()), (level::SERVICE, abi::UDP));
    assert_eq!(below.at(level::FIRST), udp(VIP));
    assert_ne!(below, udp(VIP).at(level::BALANCING));
}
