//! Random scenarios, in the kernel and in memory side by side: the same verdicts, the same candidates.
//!
//! `BALANCING_SCENARIO_SEED` repeats one run, `BALANCING_SCENARIOS` says how many.

#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use abi::{Reason, Verdict};
use agent::explain::{self, Asker, Explanation};
use anyhow::{Context, Result, ensure};
use balancing_tests::{
    random::Random,
    scenario::{Client, deletion, upserts},
    world::{Candidates, KernelWorld, MemoryWorld, Outcome, SocketId, World, key},
};
use host::NetworkNamespace;
use model::{Change, NodePortAddresses, Protocol, View};
use testkit::{
    Family,
    object::{endpoint, node, service, service_cidr, slice},
};

const SERVICES: u64 = 3;
const CHANGES: u64 = 3;
/// Destinations looked up each time, besides those that services and nodes have.
const LOOK_UPS: u64 = 20;
/// Destinations of each kind that sockets use each time: ports of cluster IPs, what else is for a service, the rest.
const USED: [usize; 3] = [3, 4, 3];
/// What scenarios must come to, if there are many.
const MET: [Reason; 12] = [
    Reason::Balanced,
    Reason::NotAService,
    Reason::NoEndpoints,
    Reason::NoLocalEndpoint,
    Reason::UnknownPort,
    Reason::UnusedAddress,
    Reason::ForeignService,
    Reason::RemoteNodePort,
    Reason::SourceRange,
    Reason::UnknownClient,
    Reason::Excluded,
    Reason::Affinity,
];
const PORTS: [(Protocol, u16); 2] = [(Protocol::Tcp, 80), (Protocol::Udp, 53)];

fn view(adopts: bool) -> View {
    View { node: "n1".into(), proxy_name: adopts.then(|| "other".into()), resolve_selectors: true }
}

fn vip(service: u64, ipv6: bool) -> IpAddr {
    let service = service as u16;
    if ipv6 { [0xfd00, 0x96, 0, 0, 0, 0, 0, service].into() } else { [10, 96, 0, service as u8].into() }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// One thing that happens.
enum Event {
    Apply(String),
    Delete(String),
    Client(Client),
    /// Which addresses serve node ports, and those of the interfaces.
    Own(Vec<NodePortAddresses>, Vec<IpAddr>),
}

impl Event {
    fn print(&self) {
        match self {
            Self::Apply(manifest) => println!("---\n{manifest}"),
            Self::Delete(name) => println!("# delete {name}"),
            Self::Client(client) => println!("# {client:?}"),
            Self::Own(chosen, interfaces) => println!("# node ports {chosen:?} of {interfaces:?}"),
        }
    }
}

/// What was said of a service.
#[derive(Debug)]
struct Said {
    is_ours: bool,
    /// It has so many of [`PORTS`].
    ports: usize,
    node_ports: [u16; 2],
    families: [bool; 2],
    is_external_local: bool,
    is_internal_local: bool,
    external: Vec<IpAddr>,
    balanced: Vec<IpAddr>,
    ranges: &'static [&'static str],
    has_affinity: bool,
    /// Less is older.
    age: u64,
}

impl Said {
    fn has(&self, ip: IpAddr) -> bool {
        self.families[usize::from(ip.is_ipv6())]
    }

    fn is_cluster_ip(&self, n: u64, ip: IpAddr) -> bool {
        self.has(ip) && vip(n, ip.is_ipv6()) == ip
    }

    fn serves(&self, ports: [u16; 2], protocol: Protocol, port: u16) -> bool {
        (0..self.ports).any(|n| PORTS[n].0 == protocol && ports[n] == port)
    }
}

/// What the rules say of a connection.
#[derive(Debug)]
enum Expected {
    /// It is not balanced, and why.
    Is(Reason),
    /// It is this service's; by the internal traffic policy or by none.
    Of(u64, bool),
}

/// What is known of the cluster: the rules R1, R2, R12, R14, R15 and R22 are told here once more, the simple way.
#[derive(Default)]
struct Known {
    adopts: bool,
    services: BTreeMap<u64, Said>,
    nodes: BTreeMap<&'static str, model::Node>,
    cidrs: BTreeMap<&'static str, &'static [&'static str]>,
    client: Client,
    node_ports: Vec<NodePortAddresses>,
    interfaces: Vec<IpAddr>,
}

fn is_within(range: &str, ip: IpAddr) -> bool {
    let (network, len) = range.split_once('/').unwrap();
    let (network, len): (IpAddr, u32) = (network.parse().unwrap(), len.parse().unwrap());
    match (network, ip) {
        (IpAddr::V4(network), IpAddr::V4(ip)) => {
            (network.to_bits() ^ ip.to_bits()).checked_shr(32 - len).unwrap_or(0) == 0
        }
        (IpAddr::V6(network), IpAddr::V6(ip)) => {
            (network.to_bits() ^ ip.to_bits()).checked_shr(128 - len).unwrap_or(0) == 0
        }
        _ => false,
    }
}

impl Known {
    fn expected(&self, protocol: Protocol, to: SocketAddr) -> Expected {
        use Expected::{Is, Of};
        if self.client.excluded {
            return Is(Reason::Excluded);
        }
        let (ip, port) = (to.ip(), to.port());
        let ours = || self.services.iter().filter(|(_, said)| said.is_ours);
        let usual = PORTS.map(|(_, port)| port);
        // R2: whose cluster IP it is, then the oldest, then the first by name.
        let claims = ours().filter(|(_, said)| said.has(ip) && said.serves(usual, protocol, port));
        let holder = claims
            .filter_map(|(n, said)| {
                let is_cluster_ip = said.is_cluster_ip(*n, ip);
                let is_claimed = is_cluster_ip || said.external.contains(&ip) || said.balanced.contains(&ip);
                is_claimed.then_some((!is_cluster_ip, said.age, *n, said))
            })
            .min_by_key(|(is_external, age, n, _)| (*is_external, *age, *n));
        let is_foreign = || self.services.iter().any(|(n, it)| !it.is_ours && it.is_cluster_ip(*n, ip));
        if let Some((is_external, _, n, said)) = holder {
            if is_external && is_foreign() {
                return Is(Reason::ForeignService);
            }
            if is_external && said.balanced.contains(&ip) {
                return self.admit(n, said, ip);
            }
            return Of(n, !is_external);
        }
        if ours().any(|(n, said)| said.is_cluster_ip(*n, ip)) {
            return Is(Reason::UnknownPort);
        }
        let node_port = || ours().find(|(_, s)| s.has(ip) && s.serves(s.node_ports, protocol, port));
        let here = self.nodes.get("n1");
        if NodePortAddresses::select(&self.node_ports, here, &self.interfaces).contains(&ip) {
            let is_reachable = !ip.is_loopback() || self.client.host;
            return node_port()
                .filter(|_| is_reachable)
                .map_or(Is(Reason::NotAService), |(n, _)| Of(*n, false));
        }
        let has = |node: &model::Node| node.internal_ips.contains(&ip) || node.external_ips.contains(&ip);
        let is_own = self.interfaces.contains(&ip) || here.is_some_and(has);
        if !is_own && self.nodes.values().any(has) {
            return match node_port() {
                Some((_, said)) if said.is_external_local => Is(Reason::RemoteNodePort),
                Some((n, _)) => Of(*n, false),
                None => Is(Reason::NotAService),
            };
        }
        if is_foreign() {
            return Is(Reason::ForeignService);
        }
        let is_used = self.services.values().any(|it| it.external.contains(&ip) || it.balanced.contains(&ip));
        let is_reserved = !self.adopts && self.cidrs.values().copied().flatten().any(|it| is_within(it, ip));
        Is(if is_reserved && !is_used { Reason::UnusedAddress } else { Reason::NotAService })
    }

    /// R22.
    fn admit(&self, n: u64, said: &Said, ip: IpAddr) -> Expected {
        let is_v6 = |text: &str| text.contains(':');
        let mut ranges =
            said.ranges.iter().map(|text| text.trim()).filter(|text| is_v6(text) == ip.is_ipv6());
        if ranges.clone().next().is_none() || ranges.clone().any(|text| text.ends_with("/0")) {
            return Expected::Of(n, false);
        }
        let client = self.client.addresses.iter().find(|it| it.is_ipv6() == ip.is_ipv6());
        match client {
            None => Expected::Is(Reason::UnknownClient),
            Some(client) if ranges.any(|range| is_within(range, *client)) => Expected::Of(n, false),
            Some(_) => Expected::Is(Reason::SourceRange),
        }
    }

    fn random_event(&mut self, random: &mut Random) -> Event {
        let n = random.below(SERVICES);
        match random.below(16) {
            0 => {
                self.services.remove(&n);
                Event::Delete(format!("Service default/s{n}"))
            }
            1 => Event::Delete(format!("EndpointSlice default/s{n}-{}", random.below(4))),
            2 | 3 => self.random_node(random),
            4 => self.random_cidr(random),
            5 | 6 => self.random_client(random),
            7 => self.random_own(random),
            8..=11 => self.random_service(random, n),
            _ => {
                let which = random.below(4);
                Event::Apply(random_slice(random, n, which))
            }
        }
    }

    fn random_node(&mut self, random: &mut Random) -> Event {
        let name = random.one_of(&["n1", "n1", "n2", "n3"]);
        if random.one_in(6) {
            self.nodes.remove(name);
            return Event::Delete(format!("Node {name}"));
        }
        let mut text = node(name);
        if let zone @ 1.. = random.below(3) {
            text = text.zone(["a", "b"][zone as usize - 1]);
        }
        let mut known = model::Node { name: name.into(), ..model::Node::default() };
        // Sometimes it has what is another's.
        let number = if random.one_in(10) { "1" } else { &name[1..] };
        for (prefix, is_internal) in
            [("192.168.7.", true), ("fd00:7::", true), ("203.0.113.", false), ("2001:db8:7::", false)]
        {
            if random.one_in(3) {
                continue;
            }
            let ip = ip(&format!("{prefix}{number}"));
            if is_internal {
                known.internal_ips.push(ip);
                text = text.internal_ip(ip);
            } else {
                known.external_ips.push(ip);
                text = text.external_ip(ip);
            }
        }
        self.nodes.insert(name, known);
        Event::Apply(text.to_string())
    }

    fn random_cidr(&mut self, random: &mut Random) -> Event {
        let name = random.one_of(&["kubernetes", "more"]);
        if random.one_in(3) {
            self.cidrs.remove(name);
            return Event::Delete(format!("ServiceCIDR {name}"));
        }
        let cidrs: &[&str] = random.one_of::<&[&str]>(&[
            &["10.96.0.0/16", "fd00:96::/112"],
            &["10.96.0.0/24"],
            &["fd00:96::/108"],
            &["10.97.0.0/16", "fd00:97::/112"],
        ]);
        self.cidrs.insert(name, cidrs);
        Event::Apply(service_cidr(name, cidrs).to_string())
    }

    fn random_client(&mut self, random: &mut Random) -> Event {
        let mut client =
            Client { host: random.one_in(2), excluded: random.one_in(20), addresses: Vec::new() };
        for pool in [["10.1.9.1", "10.1.8.7", "10.1.8.8"], ["fd00:1:9::1", "fd00:1:8::7", "fd00:1:8::8"]] {
            if !random.one_in(4) {
                client.addresses.push(ip(random.one_of(&pool)));
            }
        }
        self.client = client.clone();
        Event::Client(client)
    }

    fn random_own(&mut self, random: &mut Random) -> Event {
        let chosen: &[&str] = random.one_of::<&[&str]>(&[
            &["primary"],
            &["primary", "localhost"],
            &["localhost"],
            &["all"],
            &["10.9.0.0/16", "fd00:9::/64"],
        ]);
        self.node_ports = chosen.iter().map(|text| text.parse().unwrap()).collect();
        let interfaces = ["192.168.7.1", "10.9.0.1", "fd00:7::1", "fd00:9::1", "127.0.0.1", "::1"];
        self.interfaces = interfaces.into_iter().filter(|_| !random.one_in(3)).map(ip).collect();
        Event::Own(self.node_ports.clone(), self.interfaces.clone())
    }

    fn random_service(&mut self, random: &mut Random, n: u64) -> Event {
        let mut text = service(&format!("s{n}"));
        let families = random.one_of(&[[true, false], [false, true], [true, true]]);
        for is_v6 in [false, true].into_iter().filter(|is_v6| families[usize::from(*is_v6)]) {
            text = text.cluster_ip(vip(n, is_v6));
        }
        text = match families {
            [true, true] => {
                text.field("ipFamilyPolicy", "PreferDualStack").field("ipFamilies", "[IPv4, IPv6]")
            }
            [true, false] => text.field("ipFamilies", "[IPv4]"),
            _ => text.field("ipFamilies", "[IPv6]"),
        };
        let is_internal_local = random.one_in(3);
        if is_internal_local {
            text = text.field("internalTrafficPolicy", "Local");
        }
        let kind = random.one_of(&["ClusterIP", "NodePort", "NodePort", "LoadBalancer", "LoadBalancer"]);
        text = text.field("type", kind);
        let is_external_local = kind != "ClusterIP" && random.one_in(2);
        if is_external_local {
            text = text.field("externalTrafficPolicy", "Local");
        }
        let first = 30_000 + 2 * n as u16;
        let node_ports = match kind {
            "ClusterIP" => [0, 0],
            "LoadBalancer" if random.one_in(3) => [0, 0],
            _ if random.one_in(2) => [first, first],
            _ => [first, first + 1],
        };
        let (mut external, mut balanced, mut proxied) = (Vec::new(), Vec::new(), None);
        let mut ranges: &[&str] = &[];
        if random.one_in(2) {
            for _ in 0..1 + random.below(2) {
                // Shared ones, one of a ServiceCIDR, one that is a cluster IP, one that is a load balancer's.
                let pool = ["192.0.2.1", "192.0.2.2", "2001:db8:1::1", "2001:db8:1::2", "10.96.0.77"];
                let rare = ["10.96.0.2", "fd00:96::1", "198.51.100.1", "2001:db8::1"];
                external.push(ip(if random.one_in(5) { random.one_of(&rare) } else { random.one_of(&pool) }));
            }
        }
        if kind == "LoadBalancer" {
            for prefix in ["198.51.100.", "2001:db8::"] {
                if !random.one_in(3) {
                    // Sometimes another's.
                    let n = if random.one_in(6) { 1 } else { n };
                    balanced.push(ip(&format!("{prefix}{n}")));
                }
            }
            proxied = random.one_in(4).then(|| ip("198.51.100.9"));
            ranges = random.one_of::<&[&str]>(&[
                &[],
                &["10.1.9.0/24", "fd00:1:9::/48"],
                &[" 10.1.8.7/32 ", "172.16.0.0/12"],
                &["10.1.9.0/24", "0.0.0.0/0", "fd00:1:8::7/128"],
                &["fd00:1:9::/48"],
            ]);
        }
        external.retain(|ip| !balanced.contains(ip) && *ip != vip(n, ip.is_ipv6()));
        external.sort_unstable();
        external.dedup();
        text = external.iter().fold(text, |text, ip| text.external_ip(ip));
        text = balanced.iter().fold(text, |text, ip| text.load_balancer_ip(ip));
        text = proxied.iter().fold(text, |text, ip| text.proxied_ip(ip));
        text = ranges.iter().fold(text, |text, range| text.source_range(range));
        let has_affinity = random.one_in(3);
        if has_affinity {
            text = text.affinity(if random.one_in(2) { 60 } else { 10_800 });
        }
        let is_labelled = if self.adopts { !random.one_in(4) } else { random.one_in(8) };
        if is_labelled {
            text = text.label("service.kubernetes.io/service-proxy-name", "other");
        }
        let age = random.below(4);
        if age < 3 {
            text = text.created(&format!("2026-0{}-01T00:00:00Z", age + 1));
        }
        let ports = if random.one_in(5) { 1 } else { 2 };
        for (words, number) in ["t:80", "u:53/UDP"].into_iter().zip(node_ports).take(ports) {
            let number = number.to_string();
            let fields = [("nodePort", number.as_str())];
            text = text.port_with(words, if number == "0" { &[] } else { &fields });
        }
        let is_ours = is_labelled == self.adopts;
        let said = Said {
            is_ours,
            ports,
            node_ports,
            families,
            is_external_local,
            is_internal_local,
            external,
            balanced,
            ranges,
            has_affinity,
            age,
        };
        self.services.insert(n, said);
        Event::Apply(text.to_string())
    }
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

fn random_slice(random: &mut Random, n: u64, which: u64) -> String {
    let ipv6 = which % 2 == 1;
    let mut slice = slice(&format!("s{n}-{which}"), &format!("s{n}"));
    if ipv6 {
        slice = slice.ipv6();
    }
    slice = slice.port("t:8080");
    if !random.one_in(4) {
        slice = slice.port("u:5353/UDP");
    }
    for _ in 0..random.below(5) {
        let host = 1 + random.below(6);
        let mut it = endpoint(if ipv6 { format!("fd00:1::{host}") } else { format!("10.1.0.{host}") });
        if random.one_in(3) {
            it = match random.below(3) {
                0 => it.ready(false),
                1 => it.ready(false).serving(true).terminating(true),
                _ => it.ready(false).serving(false).terminating(true),
            };
        }
        if random.one_in(2) {
            it = it.node(["n1", "n2"][random.below(2) as usize]);
        }
        if !random.one_in(3) {
            it = it.for_zone(["a", "b"][random.below(2) as usize]);
        }
        if random.one_in(4) {
            it = it.for_node(["n1", "n2"][random.below(2) as usize]);
        }
        slice = slice.endpoint(it);
    }
    slice.to_string()
}

/// The two worlds, and a socket of each kind that lives as long as the scenario.
struct Both<'a> {
    kernel: &'a mut KernelWorld,
    memory: &'a mut MemoryWorld,
    netns: u64,
    lasting: BTreeMap<&'static str, [SocketId; 2]>,
    /// What those of the kernel and of memory reached last by each address.
    reached: [BTreeMap<(&'static str, SocketAddr), SocketAddr>; 2],
    /// R23: what this client keeps since the last change, by service, protocol and IPv6.
    kept: [BTreeMap<(u64, Protocol, bool), SocketAddr>; 2],
    exchanges: u64,
    /// How many destinations that sockets used were decided for each reason.
    met: BTreeMap<&'static str, u64>,
}

/// A destination, and what the rules and the tables say of it.
struct Target {
    protocol: Protocol,
    to: SocketAddr,
    candidates: Candidates,
    /// R23: the service whose clients keep their backend.
    affinity: Option<u64>,
}

impl Both<'_> {
    /// One after the other, or all objects at once, as at the start of an agent.
    fn apply_all(&mut self, events: &[Event], is_single: bool) -> Result<()> {
        if is_single {
            return events.iter().try_for_each(|event| self.apply(event));
        }
        let mut changes = Vec::new();
        for event in events {
            match event {
                Event::Apply(manifest) => changes.extend(upserts(manifest)?),
                Event::Delete(name) => changes.push(deletion(name)?),
                Event::Client(_) | Event::Own(..) => self.apply(event)?,
            }
        }
        self.kernel.change(changes.clone())?;
        self.memory.change(changes)
    }

    /// R6, R27: a new agent finds out again what has been `played`, and at no time is anything else served.
    fn restart(&mut self, played: &[Event], known: &Known, random: &mut Random) -> Result<()> {
        let mut objects = BTreeMap::new();
        for event in played {
            let changes = match event {
                Event::Apply(manifest) => upserts(manifest)?,
                Event::Delete(name) => vec![deletion(name)?],
                Event::Client(_) | Event::Own(..) => continue,
            };
            for change in changes {
                match change {
                    Change::Upsert(object) => objects.insert(object.id(), object),
                    Change::Delete(id) => objects.remove(&id),
                };
            }
        }
        self.kernel.restart()?;
        self.memory.restart()?;
        self.compare(known, random).context("after the restart")?;
        let mut objects: Vec<_> = objects.into_values().map(Change::Upsert).collect();
        for n in (1..objects.len()).rev() {
            objects.swap(n, random.below(n as u64 + 1) as usize);
        }
        let at_once = random.one_in(2);
        let half = random.below(objects.len() as u64 + 1) as usize;
        let later = if at_once { Vec::new() } else { objects.split_off(half) };
        self.apply(&Event::Own(known.node_ports.clone(), known.interfaces.clone()))?;
        for some in [objects, later] {
            self.kernel.change(some.clone())?;
            self.memory.change(some)?;
        }
        // What half of the objects said in between is held until the sync where it would be a delete (R6): an address that
        // is a node's no more, say.
        if at_once {
            self.compare(known, random).context("all is known again, but not synced")?;
        }
        self.kernel.sync()?;
        self.memory.sync()?;
        self.compare(known, random).context("synced again")
    }

    fn apply(&mut self, event: &Event) -> Result<()> {
        let changes = match event {
            Event::Apply(manifest) => upserts(manifest)?,
            Event::Delete(name) => vec![deletion(name)?],
            Event::Client(client) => {
                // In memory a socket knows for good whether its application is left alone.
                for [kernel, memory] in std::mem::take(&mut self.lasting).into_values() {
                    self.kernel.close(kernel);
                    self.memory.close(memory);
                }
                self.reached = Default::default();
                self.kernel.client(client)?;
                return self.memory.client(client);
            }
            Event::Own(chosen, interfaces) => {
                self.kernel.own_addresses(chosen, interfaces)?;
                return self.memory.own_addresses(chosen, interfaces);
            }
        };
        self.kernel.change(changes.clone())?;
        self.memory.change(changes)
    }

    fn compare(&mut self, known: &Known, random: &mut Random) -> Result<()> {
        self.kept = Default::default();
        let mut kinds: [Vec<Target>; 3] = Default::default();
        let mut destinations = BTreeSet::new();
        for n in 0..SERVICES {
            let of = |(protocol, port)| [false, true].map(|v6| (protocol, SocketAddr::new(vip(n, v6), port)));
            destinations.extend(PORTS.into_iter().flat_map(of));
        }
        for said in known.services.values() {
            for (port, (protocol, number)) in PORTS.into_iter().enumerate() {
                let vips = said.external.iter().chain(&said.balanced);
                destinations.extend(vips.map(|ip| (protocol, SocketAddr::new(*ip, number))));
                let nodes =
                    known.nodes.values().flat_map(|it| it.internal_ips.iter().chain(&it.external_ips));
                let nodes = nodes.filter(|_| random.one_in(3));
                destinations
                    .extend(nodes.map(|ip| (protocol, SocketAddr::new(*ip, said.node_ports[port].max(1)))));
            }
        }
        destinations.extend((0..LOOK_UPS).map(|_| random_destination(random)));
        let maps = self.kernel.machine().maps()?;
        let live = explain::live(&maps);
        let asker = Asker { netns: self.netns, excluded: known.client.excluded };
        for (protocol, to) in destinations {
            let key = key(protocol, to);
            let about = || format!("{to} {protocol}");
            let found = explain::explain(&live, |id| live.name(id), &asker, to, key.protocol);
            let candidates = self.memory.candidates(&key)?;
            let expected = known.expected(protocol, to);
            check(known, &found, &candidates, &expected).with_context(about)?;
            let is_cluster_ip = known.services.keys().any(|n| vip(*n, to.is_ipv6()) == to.ip());
            let kind = match expected {
                _ if is_cluster_ip && PORTS.contains(&(protocol, to.port())) => 0,
                Expected::Of(..) => 1,
                Expected::Is(Reason::RemoteNodePort | Reason::SourceRange | Reason::UnknownClient) => 1,
                Expected::Is(_) => 2,
            };
            let affinity = match expected {
                Expected::Of(n, _) => known.services.get(&n).filter(|it| it.has_affinity).map(|_| n),
                Expected::Is(_) => None,
            };
            kinds[kind].push(Target { protocol, to, candidates, affinity });
        }
        ensure!(live.error().is_none(), "the maps can't be read");
        for (mut targets, used) in kinds.into_iter().zip(USED) {
            for _ in 0..used.min(targets.len()) {
                let target = targets.swap_remove(random.below(targets.len() as u64) as usize);
                let about = || format!("{} {}", target.to, target.protocol);
                self.exchange(&target).with_context(about)?;
            }
        }
        Ok(())
    }

    fn exchange(&mut self, target: &Target) -> Result<()> {
        let kernel = self.kernel.candidates(&key(target.protocol, target.to))?;
        let Target { candidates, .. } = target;
        ensure!(kernel == *candidates, "candidates {kernel:?} in the kernel, {candidates:?} in memory");
        let is_silent = target.to.ip().is_loopback() && target.protocol == Protocol::Udp;
        if is_silent && verdict(candidates) == "nobody" {
            // A closed port of the loopback says nothing in time.
            return Ok(());
        }
        let reason = candidates.as_ref().map_or_else(|reason| reason.name(), |_| Reason::Balanced.name());
        *self.met.entry(reason).or_default() += 1;
        let families = if target.to.is_ipv6() { &[Family::V6][..] } else { &[Family::V4, Family::Mapped] };
        for family in families {
            self.exchanges += self.one(*family, target).with_context(|| format!("{family:?}"))?;
        }
        Ok(())
    }

    /// R23: on one side, a choice that was not the socket's own.
    fn keeps(&mut self, side: usize, target: &Target, backend: SocketAddr) -> Result<()> {
        let Some(n) = target.affinity else { return Ok(()) };
        let key = (n, target.protocol, target.to.is_ipv6());
        let old = self.kept[side].insert(key, backend);
        // Another list may lack it.
        let old = old.filter(|old| target.candidates.as_ref().is_ok_and(|it| it.contains(old)));
        if old.is_some() && target.candidates.as_ref().is_ok_and(|it| it.len() > 1) {
            *self.met.entry(Reason::Affinity.name()).or_default() += 1;
        }
        let side = ["kernel", "memory"][side];
        ensure!(old.is_none_or(|old| old == backend), "R23: {backend} in the {side}, not {old:?}");
        Ok(())
    }

    fn one(&mut self, family: Family, target: &Target) -> Result<u64> {
        let Target { protocol, to, ref candidates, affinity } = *target;
        let expected = meets(candidates, to);
        let times = if affinity.is_some() { 2 } else { 1 };
        for _ in 0..times {
            let (kernel, memory) = (self.kernel.open(protocol, family)?, self.memory.open(protocol, family)?);
            let connected = [self.kernel.connect(kernel, to)?, self.memory.connect(memory, to)?];
            self.kernel.close(kernel);
            self.memory.close(memory);
            agree(connected, to, expected, candidates).context("connect")?;
            for (side, outcome) in connected.into_iter().enumerate() {
                if let Outcome::Answered { backend, .. } = outcome {
                    self.keeps(side, target, backend).context("connect")?;
                }
            }
        }
        if protocol == Protocol::Tcp {
            return Ok(times);
        }
        let name = match family {
            Family::V4 => "v4",
            Family::V6 => "v6",
            Family::Mapped => "mapped",
        };
        let [kernel, memory] = match self.lasting.get(name) {
            Some(sockets) => *sockets,
            None => {
                let new = [self.kernel.open(protocol, family)?, self.memory.open(protocol, family)?];
                self.lasting.insert(name, new);
                new
            }
        };
        let first = [self.kernel.ask(kernel, Some(to))?, self.memory.ask(memory, Some(to))?];
        let second = [self.kernel.ask(kernel, Some(to))?, self.memory.ask(memory, Some(to))?];
        ensure!(first == second, "R8: {first:?}, and then {second:?}");
        for (side, outcome) in first.into_iter().enumerate() {
            let Outcome::Answered { backend, shown } = outcome else {
                ensure!(kind(outcome) == expected, "sendto: {outcome:?}, but {candidates:?}");
                continue;
            };
            ensure!(shown == to, "R9: {outcome:?}");
            // It may stay on what it has while that is usable, whatever is chosen from now.
            let had = self.reached[side].insert((name, to), backend) == Some(backend);
            let chosen = candidates.as_ref().is_ok_and(|candidates| candidates.contains(&backend));
            let kept = had && self.memory.is_usable(&key(protocol, to), backend);
            ensure!(chosen || kept, "R8: {outcome:?}, had: {had}, candidates: {candidates:?}");
            if !had {
                self.keeps(side, target, backend).context("sendto")?;
            }
        }
        Ok(times + 2)
    }
}

/// The kernel's tables, those in memory, and the rules agree.
fn check(known: &Known, found: &Explanation, candidates: &Candidates, expected: &Expected) -> Result<()> {
    let about = || format!("expected {expected:?}, found {found:?} in the kernel, {candidates:?} in memory");
    match candidates {
        Ok(some) => ensure!(some.iter().eq(found.backends.iter()) && found.verdict == "translated", about()),
        Err(reason) => ensure!(found.backends.is_empty() && found.reason == reason.name(), about()),
    }
    match expected {
        Expected::Is(reason) => ensure!(found.reason == reason.name(), about()),
        Expected::Of(n, is_internal) => {
            let said = known.services.get(n).with_context(about)?;
            let is_right = match candidates {
                Ok(_) => true,
                Err(Reason::NoEndpoints) => true,
                Err(Reason::NoLocalEndpoint) => *is_internal && said.is_internal_local,
                Err(_) => false,
            };
            ensure!(is_right, about());
            let service = found.service.as_ref().with_context(about)?;
            ensure!(service.name == format!("s{n}"), about());
            ensure!(found.affinity_seconds.is_some() == said.has_affinity, about());
        }
    }
    Ok(())
}

fn kind(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Answered { .. } => "answered",
        Outcome::Refused => "refused",
        Outcome::Unreachable => "unreachable",
        Outcome::Denied => "denied",
        Outcome::NoMemory => "no memory",
        Outcome::Nobody => "nobody",
    }
}

/// What a new connection meets.
fn verdict(candidates: &Candidates) -> &'static str {
    match candidates {
        Ok(_) => "answered",
        Err(Reason::BrokenTable | Reason::NoMemory) => "broken",
        Err(reason) => match reason.verdict() {
            Verdict::Refused => "refused",
            Verdict::Unreachable => "unreachable",
            Verdict::Denied => "denied",
            Verdict::Passed | Verdict::Translated => "nobody",
        },
    }
}

/// What a new connection to an address meets.
fn meets(candidates: &Candidates, to: SocketAddr) -> &'static str {
    match verdict(candidates) {
        // It arrives, and nobody listens.
        "nobody" if to.ip().is_loopback() => "refused",
        verdict => verdict,
    }
}

fn agree(outcomes: [Outcome; 2], to: SocketAddr, expected: &str, candidates: &Candidates) -> Result<()> {
    let [kernel, memory] = outcomes;
    ensure!(kind(kernel) == kind(memory), "{kernel:?} in the kernel, {memory:?} in memory");
    ensure!(kind(kernel) == expected, "{kernel:?}, but {candidates:?}");
    for outcome in outcomes {
        if let Outcome::Answered { backend, shown } = outcome {
            ensure!(shown == to, "R9: {backend} is shown as {shown}");
            let right = candidates.as_ref().is_ok_and(|candidates| candidates.contains(&backend));
            ensure!(right, "reached {backend}, not of {candidates:?}");
        }
    }
    Ok(())
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap())
}

#[test]
fn random_scenarios() {
    let first = number("BALANCING_SCENARIO_SEED").unwrap_or_else(Random::seed);
    let count = number("BALANCING_SCENARIOS").unwrap_or(200);
    println!("BALANCING_SCENARIO_SEED={first} ({count} scenarios)");
    let mut kernel = KernelWorld::new("random", view(false)).unwrap();
    let netns = kernel.machine().run(NetworkNamespace::own).unwrap().cookie.unwrap_or_default();
    let begun = Instant::now();
    let (mut exchanges, mut met) = (0, BTreeMap::new());
    for seed in (first..).take(count as usize) {
        let mut random = Random::new(seed);
        let mut known = Known { adopts: random.one_in(6), ..Known::default() };
        let mut memory = MemoryWorld::new(view(known.adopts), 4, seed as u32).unwrap();
        kernel.reset(view(known.adopts)).unwrap();
        memory.sync().unwrap();
        let mut both = Both {
            kernel: &mut kernel,
            memory: &mut memory,
            netns,
            lasting: BTreeMap::new(),
            reached: Default::default(),
            kept: Default::default(),
            exchanges: 0,
            met: std::mem::take(&mut met),
        };
        let mut played = Vec::new();
        let mut play = || -> Result<()> {
            let start = (0..SERVICES).flat_map(|n| [(n, 0), (n, 1), (n, 2), (n, 3)]);
            played.extend(start.map(|(n, which)| Event::Apply(random_slice(&mut random, n, which))));
            played.extend((0..SERVICES).map(|n| known.random_service(&mut random, n)));
            played.push(known.random_client(&mut random));
            played.push(known.random_own(&mut random));
            played.extend((0..4).map(|_| known.random_node(&mut random)));
            played.extend((0..2).map(|_| known.random_cidr(&mut random)));
            both.apply_all(&played, random.one_in(8))?;
            both.compare(&known, &mut random)?;
            for _ in 0..CHANGES {
                let event = known.random_event(&mut random);
                played.push(event);
                both.apply(played.last().unwrap())?;
                both.compare(&known, &mut random)?;
            }
            if random.one_in(20) {
                both.restart(&played, &known, &mut random)?;
            }
            Ok(())
        };
        let outcome = play();
        exchanges += both.exchanges;
        met = both.met;
        if let Err(error) = outcome {
            played.iter().for_each(Event::print);
            panic!("BALANCING_SCENARIO_SEED={seed}: {error:#}");
        }
    }
    println!("{count} scenarios, {exchanges} exchanges each way, {:?}, decided: {met:?}", begun.elapsed());
    if count >= 100 {
        let missing: Vec<Reason> =
            MET.into_iter().filter(|reason| !met.contains_key(reason.name())).collect();
        assert!(missing.is_empty(), "never met: {missing:?}");
    }
}
