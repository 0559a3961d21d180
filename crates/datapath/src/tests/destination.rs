//! R12, R14, R22: what is no frontend, node ports, and who may use a VIP.

extern crate std;

mod node_ports;
mod source_ranges;

use super::{
    spy::{Spy, address, backends, client, prefix, socket_in, source},
    world::{Application, Front, at, put, tcp, udp},
};
use abi::{
    Key, Reason, TCP, UDP,
    frontend::{
        backend_flag::{CLUSTER, INTERNAL, LIVE, USABLE},
        mode,
        record_flag::{EXTERNAL_LOCAL, HAS_ANY, RESTRICTED},
    },
    space::{
        address_use::{CLUSTER_IP, FOREIGN, LOOPBACK, OTHER_NODE, THIS_NODE, VIP},
        prefix_flag::{RESERVED, SERVICES},
    },
};
use datapath::{
    connect,
    memory::{MemorySocket, Slots, Tables},
    policy, resolve, sendmsg,
};

const HOST: u64 = 1;
const POD: u64 = 2;
const OTHER_POD: u64 = 3;
const ONLY_SIX: u64 = 4;
const STRANGER: u64 = 9;

/// Service 1 has a cluster IP, an unrestricted and a restricted VIP in each family, and node port 30080; the policy of
/// 30081 is Local. Port 30082 is TCP only.
fn tables() -> Tables {
    let mut tables = Tables::default();
    tables.settings.host_netns = HOST;
    tables.settings.space = 1;
    tables.space.v4[0] = prefix("10.96.0.0", 16, SERVICES | RESERVED);
    tables.space.v4[1] = prefix("10.200.0.0", 24, SERVICES);
    tables.space.v6[0] = prefix("fd00:96::", 112, SERVICES | RESERVED);
    (tables.space.first_node_port, tables.space.last_node_port) = (30_000, 32_767);
    let addresses = [
        ("10.96.0.10", CLUSTER_IP),
        ("fd00:96::a", CLUSTER_IP),
        ("10.200.0.1", CLUSTER_IP),
        ("10.96.0.20", FOREIGN),
        ("fd00:96::14", FOREIGN),
        ("10.96.0.30", VIP),
        ("192.0.2.1", VIP),
        ("192.0.2.2", VIP),
        ("2001:db8::1", VIP),
        ("172.18.0.1", THIS_NODE),
        ("2001:db8:1::1", THIS_NODE),
        ("172.18.0.2", OTHER_NODE),
        ("2001:db8:1::2", OTHER_NODE),
        ("172.18.0.3", THIS_NODE | OTHER_NODE),
        ("127.0.0.1", LOOPBACK),
        ("::1", LOOPBACK),
    ];
    tables.addresses.extend(addresses.map(|(text, uses)| (address(text), uses)));
    let flags = LIVE | USABLE | INTERNAL | CLUSTER;
    let four = backends(&mut tables, 1, flags, &["10.1.0.1:8080", "10.1.0.2:8080"]);
    let six = backends(&mut tables, 2, flags, &["[fd00:1::1]:8080"]);
    let fronts = [
        ("10.96.0.10:80", mode::CLUSTER_IP, 0),
        ("[fd00:96::a]:80", mode::CLUSTER_IP, 0),
        ("192.0.2.1:80", mode::LOAD_BALANCER, RESTRICTED),
        ("192.0.2.2:80", mode::LOAD_BALANCER, 0),
        ("[2001:db8::1]:80", mode::LOAD_BALANCER, RESTRICTED),
        ("0.0.0.0:30080", mode::NODE_PORT, 0),
        ("[::]:30080", mode::NODE_PORT, 0),
        ("0.0.0.0:30081", mode::NODE_PORT, EXTERNAL_LOCAL),
        ("[::]:30081", mode::NODE_PORT, EXTERNAL_LOCAL),
        ("0.0.0.0:30082", mode::NODE_PORT, 0),
    ];
    for (text, mode, flags) in fronts {
        let (service, list) = if text.starts_with('[') { (2, &six) } else { (1, &four) };
        for key in [tcp(text), udp(text)] {
            if text != "0.0.0.0:30082" || key.protocol == TCP {
                put(&mut tables, Front { flags, ..Front::new(key, mode, service) }, list);
            }
        }
    }
    let clients = [
        client(HOST, "172.18.0.1", "2001:db8:1::1"),
        client(POD, "10.1.7.1", "fd00:1:7::1"),
        client(OTHER_POD, "10.1.8.1", "fd00:1:8::1"),
        client(ONLY_SIX, "", "fd00:1:7::2"),
    ];
    tables.clients.extend(clients.map(|it| (it.netns, it)));
    tables.sources.extend([source(1, "10.1.7.0", 24), source(2, "fd00:1:7::", 64)]);
    tables
}

/// What comes of each way to reach `to` over a protocol, from this network namespace.
#[track_caller]
fn assert_each(tables: &Tables, netns: u64, to: Key, reason: Reason) {
    let slots = Slots::new(4);
    let socket = socket_in(netns, 1, &slots);
    let decision = connect(tables, &socket, &to);
    assert_eq!(decision.reason, reason, "connect to {to:?} from {netns}");
    let is_remembered = reason == Reason::Balanced;
    assert_eq!(slots.owned(), usize::from(is_remembered), "{to:?}");
    if to.protocol == UDP {
        let slots = Slots::new(4);
        let socket = socket_in(netns, 1, &slots);
        assert_eq!(sendmsg(tables, &socket, &to), decision_like(&decision, tables), "sendmsg to {to:?}");
        assert_eq!(slots.owned(), usize::from(is_remembered), "{to:?}");
    }
    fn decision_like(it: &datapath::Decision, tables: &Tables) -> datapath::Decision {
        // Another of the same list may have been chosen: one that exists.
        let mut decision = *it;
        if it.reason == Reason::Balanced {
            let backend = tables.backends.values().find(|backend| backend.service == it.service).unwrap();
            decision.backend = backend.endpoint();
        }
        decision
    }
}

/// The same for both protocols, from two pods and the host.
#[track_caller]
fn assert_all(tables: &Tables, to: &str, reason: Reason) {
    for netns in [HOST, POD, STRANGER] {
        assert_each(tables, netns, tcp(to), reason);
        assert_each(tables, netns, udp(to), reason);
    }
}

/// One backend in each list: what is chosen is known.
fn one_backend() -> Tables {
    let mut tables = tables();
    tables.records.values_mut().for_each(|record| record.local.len = 1);
    tables
}

#[test]
fn r12_other_ports_of_a_cluster_ip_are_refused() {
    let tables = one_backend();
    for to in ["10.96.0.10:81", "10.96.0.10:30080", "[fd00:96::a]:81", "10.200.0.1:80", "10.96.0.10:0"] {
        assert_all(&tables, to, Reason::UnknownPort);
    }
    for to in ["10.96.0.10:80", "[fd00:96::a]:80"] {
        assert_all(&tables, to, Reason::Balanced);
    }
    // Neither TCP nor UDP.
    assert_eq!(
        resolve_from(&tables, POD, &Key { protocol: 132, ..tcp("10.96.0.10:80") }),
        Reason::UnknownPort
    );
}

fn resolve_from(tables: &Tables, netns: u64, key: &Key) -> Reason {
    let slots = Slots::new(1);
    resolve(tables, &socket_in(netns, 1, &slots), key, |_| policy::NOTHING_HELD).1.reason
}

#[test]
fn r12_a_reserved_address_that_no_service_has_is_unreachable() {
    let tables = one_backend();
    for to in ["10.96.0.11:80", "10.96.255.255:30080", "[fd00:96::b]:80"] {
        assert_all(&tables, to, Reason::UnusedAddress);
    }
    // In a prefix that only covers what services have.
    assert_all(&tables, "10.200.0.2:80", Reason::NotAService);
}

#[test]
fn r12_the_address_of_a_service_that_is_not_ours_is_left_alone() {
    let tables = one_backend();
    for to in ["10.96.0.20:80", "10.96.0.20:30080", "[fd00:96::14]:80"] {
        assert_all(&tables, to, Reason::ForeignService);
    }
}

#[test]
fn r12_other_ports_of_vips_are_somebody_elses_also_inside_a_service_cidr() {
    let tables = one_backend();
    for to in ["192.0.2.2:81", "192.0.2.1:30080", "10.96.0.30:80", "[2001:db8::1]:81"] {
        assert_all(&tables, to, Reason::NotAService);
    }
}

#[test]
fn r12_an_address_that_is_ours_and_also_somebody_elses_is_ours() {
    let mut tables = one_backend();
    tables.addresses.insert(address("10.96.0.10"), CLUSTER_IP | FOREIGN | VIP | THIS_NODE);
    assert_all(&tables, "10.96.0.10:30080", Reason::UnknownPort);
    // A foreign service's that is also a node's: a node port that exists is ours.
    tables.addresses.insert(address("10.96.0.20"), FOREIGN | THIS_NODE);
    assert_all(&tables, "10.96.0.20:30080", Reason::Balanced);
    assert_all(&tables, "10.96.0.20:80", Reason::ForeignService);
}

#[test]
fn r12_nothing_is_remembered_after_a_refusal_and_the_socket_works_on() {
    let (tables, slots) = (one_backend(), Slots::new(4));
    let socket = socket_in(POD, 1, &slots);
    for (to, reason) in [("10.96.0.10:81", Reason::UnknownPort), ("10.96.0.11:80", Reason::UnusedAddress)] {
        assert_eq!(socket.dial(&tables, udp(to)).reason, reason);
        assert_eq!(socket.send(&tables, to).reason, reason);
        assert_eq!(slots.owned(), 0);
    }
    assert_eq!(socket.dial(&tables, udp("10.96.0.10:80")).reason, Reason::Balanced);
    assert_eq!(socket.named(&at("10.1.0.1:8080")), Some(at("10.96.0.10:80")));
    // A connect that fails leaves a UDP socket connected to what it was.
    assert_eq!(socket.dial(&tables, udp("10.96.0.10:81")).reason, Reason::UnknownPort);
    assert_eq!(socket.named(&at("10.1.0.1:8080")), Some(at("10.96.0.10:80")));
    // Sent to a refused port, it still is.
    assert_eq!(socket.send(&tables, "10.96.0.11:80").reason, Reason::UnusedAddress);
    assert_eq!(socket.from(&at("10.1.0.1:8080")), at("10.96.0.10:80"));
}

#[test]
fn r12_what_is_in_no_prefix_and_no_node_port_is_looked_up_once() {
    let tables = tables();
    let slots = Slots::new(1);
    let socket = socket_in(POD, 1, &slots);
    // (frontends, addresses, clients)
    let looked = |to: &str| {
        let spy = Spy::on(&tables);
        resolve(&spy, &socket, &tcp(to), |_| policy::NOTHING_HELD);
        (spy.frontends.get(), spy.uses.get(), spy.clients.get())
    };
    for to in ["198.51.100.1:443", "172.18.0.1:22", "[2001:db8:1::1]:22", "192.0.2.2:81", "0.0.0.0:80"] {
        assert_eq!(looked(to), (1, 0, 0), "{to}");
    }
    // Services neither.
    for to in ["10.96.0.10:80", "192.0.2.2:80"] {
        assert_eq!(looked(to), (1, 0, 0), "{to}");
    }
    assert_eq!(looked("10.96.0.11:80"), (2, 1, 0));
    assert_eq!(looked("198.51.100.1:30080"), (2, 1, 0), "might be a node's");
    assert_eq!(looked("172.18.0.1:30080"), (3, 1, 0));
    assert_eq!(looked("192.0.2.1:80"), (2, 0, 1));
}

#[test]
fn r12_without_a_space_nothing_but_frontends_is_ours() {
    let mut tables = one_backend();
    tables.space = abi::Space::default();
    for to in ["10.96.0.10:81", "10.96.0.11:80", "172.18.0.1:30080", "10.96.0.20:80"] {
        assert_all(&tables, to, Reason::NotAService);
    }
    assert_all(&tables, "10.96.0.10:80", Reason::Balanced);
    // The unspecified address is a frontend by its key only.
    assert_all(&tables, "0.0.0.0:30080", Reason::NotAService);
}

#[test]
fn an_excluded_caller_is_left_alone() {
    let (mut tables, slots) = (one_backend(), Slots::new(4));
    let socket = |excluded| {
        let mut socket = socket_in(OTHER_POD, 1, &slots);
        socket.excluded = excluded;
        socket
    };
    let all = ["10.96.0.10:80", "10.96.0.10:81", "10.96.0.11:80", "172.18.0.1:30080", "192.0.2.1:80"];
    for to in all {
        // No cgroup is excluded: nobody asks.
        assert_ne!(socket(true).send(&tables, to).reason, Reason::Excluded, "{to}");
    }
    tables.settings.excluded = 1;
    for to in all {
        assert_ne!(socket(false).send(&tables, to).reason, Reason::Excluded, "{to}");
        for key in [tcp(to), udp(to)] {
            let decision = socket(true).dial(&tables, key);
            assert_eq!((decision.reason, decision.mode), (Reason::Excluded, 0), "{to}");
        }
        assert_eq!(socket(true).send(&tables, to).reason, Reason::Excluded, "{to}");
    }
    let spy = Spy::on(&tables);
    resolve(&spy, &socket(true), &tcp("10.96.0.10:80"), |_| policy::NOTHING_HELD);
    assert_eq!(spy.frontends.get(), 0);
}

#[test]
fn pause_comes_before_everything() {
    let mut tables = one_backend();
    (tables.settings.paused, tables.settings.excluded) = (1, 1);
    for to in [
        "10.96.0.10:80",
        "10.96.0.10:81",
        "10.96.0.11:80",
        "10.96.0.20:80",
        "172.18.0.2:30081",
        "192.0.2.1:80",
        "198.51.100.1:80",
    ] {
        assert_all(&tables, to, Reason::Paused);
    }
    let (spy, slots) = (Spy::on(&tables), Slots::new(1));
    let mut socket = socket_in(POD, 1, &slots);
    socket.excluded = true;
    assert_eq!(
        resolve(&spy, &socket, &tcp("10.96.0.10:80"), |_| policy::NOTHING_HELD).1.reason,
        Reason::Paused
    );
    assert_eq!(spy.frontends.get(), 0);
}

/// What is decided where the first look-ups of a frontend show this.
fn shown(tables: &Tables, netns: u64, to: &str, shown: &[Option<u32>]) -> (Reason, u32) {
    let slots = Slots::new(4);
    let spy = Spy { shown: shown.to_vec(), ..Spy::on(tables) };
    let decision = connect(&spy, &socket_in(netns, 1, &slots), &tcp(to));
    (decision.reason, decision.service)
}

#[test]
fn frontends_that_look_alike_are_told_apart_on_each_way() {
    let tables = one_backend();
    let stranger = Some(tables.frontends[&tcp("10.96.0.10:80")]);
    for (to, reason) in [
        ("172.18.0.1:30080", Reason::Balanced),
        ("172.18.0.2:30081", Reason::RemoteNodePort),
        ("192.0.2.1:80", Reason::Balanced),
    ] {
        let own = tables.frontends.get(&tcp(to)).copied();
        for first in [&[stranger][..], &[own, stranger], &[stranger; 2], &[own, own, stranger]] {
            assert_eq!(shown(&tables, POD, to, first), (reason, 1), "{to} {first:?}");
        }
    }
    assert_eq!(shown(&tables, POD, "172.18.0.1:30080", &[None, None, stranger]), (Reason::Balanced, 1));
    assert_eq!(shown(&tables, POD, "203.0.113.1:80", &[stranger; 3]), (Reason::NotAService, 0));
}

#[test]
fn what_changes_between_two_looks_is_decided_by_the_second() {
    let tables = one_backend();
    let index = |to: &str| tables.frontends.get(&tcp(to)).copied();
    // It was none, and is one now: an unrestricted and a restricted VIP.
    for netns in [POD, OTHER_POD, STRANGER] {
        assert_eq!(shown(&tables, netns, "10.96.0.10:80", &[None]), (Reason::Balanced, 1));
    }
    let restricted = {
        let mut tables = one_backend();
        tables.space.v4[2] = prefix("192.0.2.0", 24, SERVICES);
        tables
    };
    assert_eq!(shown(&restricted, OTHER_POD, "192.0.2.1:80", &[None]), (Reason::SourceRange, 1));
    assert_eq!(shown(&restricted, POD, "192.0.2.1:80", &[None]), (Reason::Balanced, 1));
    // It was one, and is none now.
    assert_eq!(shown(&tables, POD, "192.0.2.1:80", &[index("192.0.2.1:80"), None]), (Reason::NotAService, 0));
    assert_eq!(
        shown(&tables, HOST, "0.0.0.0:30080", &[index("0.0.0.0:30080"), None]),
        (Reason::NotAService, 0)
    );
}

#[test]
fn r12_a_frontend_whose_record_is_not_there_is_no_unused_port() {
    let mut tables = tables();
    tables.records.clear();
    let slots = Slots::new(4);
    for to in [tcp("10.96.0.10:80"), tcp("[fd00:96::a]:80")] {
        assert_eq!(connect(&tables, &socket_in(POD, 1, &slots), &to).reason, Reason::BrokenTable, "{to:?}");
    }
}
