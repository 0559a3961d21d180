//! Where connections of a scenario go: where something is, and somewhere at random.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use balancing_tests::random::Random;
use model::Protocol;

use super::known::{Known, PORTS, SERVICES, ip, vip};

/// Destinations looked up each time, besides those that services and nodes have.
const LOOK_UPS: u64 = 20;

/// Addresses of all services, some of those of nodes, and some at random.
pub(super) fn destinations(known: &Known, random: &mut Random) -> BTreeSet<(Protocol, SocketAddr)> {
    let mut destinations = BTreeSet::new();
    for n in 0..SERVICES {
        let of = |(protocol, port)| [false, true].map(|v6| (protocol, SocketAddr::new(vip(n, v6), port)));
        destinations.extend(PORTS.into_iter().flat_map(of));
    }
    for said in known.services.values() {
        for (port, (protocol, number)) in PORTS.into_iter().enumerate() {
            let vips = said.external.iter().chain(&said.balanced);
            destinations.extend(vips.map(|ip| (protocol, SocketAddr::new(*ip, number))));
            let nodes = known.nodes.values().flat_map(|it| it.internal_ips.iter().chain(&it.external_ips));
            let nodes = nodes.filter(|_| random.one_in(3));
            destinations
                .extend(nodes.map(|ip| (protocol, SocketAddr::new(*ip, said.node_ports[port].max(1)))));
        }
    }
    destinations.extend((0..LOOK_UPS).map(|_| random_destination(random)));
    destinations
}

/// Somewhere, more likely where something is.
fn random_destination(random: &mut Random) -> (Protocol, SocketAddr) {
    let ip = match random.below(8) {
        0 => vip(random.below(SERVICES), random.one_in(2)),
        1 => ip(random.one_of(&[
            "10.96.0.9",
            "10.96.0.77",
            "10.96.3.1",
            "10.97.0.1",
            "fd00:96::9",
            "fd00:97::9",
        ])),
        2 => ip(&format!("198.51.100.{}", random.one_of(&[0, 1, 2, 9]))),
        3 => ip(&format!("2001:db8::{}", random.below(SERVICES))),
        4 => ip(random.one_of(&["192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8:1::1", "2001:db8:1::2"])),
        5 => ip(random.one_of(&["127.0.0.1", "::1", "10.9.0.1", "fd00:9::1", "203.0.113.1", "203.0.113.2"])),
        6 => ip(&format!("192.168.7.{}", 1 + random.below(4))),
        _ => ip(&format!("{}{}", random.one_of(&["fd00:7::", "2001:db8:7::"]), 1 + random.below(4))),
    };
    let protocol = random.one_of(&[Protocol::Tcp, Protocol::Udp]);
    let is_of_node = match ip {
        IpAddr::V4(ip) => matches!(ip.octets(), [192, 168, ..] | [203 | 127, 0, ..] | [10, 9, ..]),
        IpAddr::V6(ip) => matches!(ip.segments(), [0xfd00, 7 | 9, ..] | [0x2001, 0xdb8, 7, ..] | [0, ..]),
    };
    let port = match (random.below(6), protocol) {
        (0, _) => 81,
        (1, _) => 30_000 + random.below(6) as u16,
        _ if is_of_node => 30_000 + random.below(6) as u16,
        (2, Protocol::Udp) | (3.., Protocol::Tcp) => 80,
        _ => 53,
    };
    (protocol, SocketAddr::new(ip, port))
}
