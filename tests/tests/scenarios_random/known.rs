//! What the test knows of the cluster, and what the rules say of a connection to some destination: R1, R2, R12, R14, R15
//! and R22 are told here once more, the simple way.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use abi::Reason;
use balancing_tests::scenario::Client;
use model::{NodePortAddresses, Protocol};

/// Services are numbered below this.
pub(super) const SERVICES: u64 = 3;
/// Ports of services; some have only the first.
pub(super) const PORTS: [(Protocol, u16); 2] = [(Protocol::Tcp, 80), (Protocol::Udp, 53)];

/// The cluster IP of a service.
pub(super) fn vip(service: u64, ipv6: bool) -> IpAddr {
    let service = service as u16;
    if ipv6 { [0xfd00, 0x96, 0, 0, 0, 0, 0, service].into() } else { [10, 96, 0, service as u8].into() }
}

pub(super) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// What was said of a service.
#[derive(Debug)]
pub(super) struct Said {
    pub is_ours: bool,
    /// It has so many of [`PORTS`].
    pub ports: usize,
    pub node_ports: [u16; 2],
    pub families: [bool; 2],
    pub is_external_local: bool,
    pub is_internal_local: bool,
    pub external: Vec<IpAddr>,
    pub balanced: Vec<IpAddr>,
    pub ranges: &'static [&'static str],
    pub has_affinity: bool,
    /// Less is older.
    pub age: u64,
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
pub(super) enum Expected {
    /// It is not balanced, and why.
    Is(Reason),
    /// It is this service's; by the internal traffic policy or by none.
    Of(u64, bool),
}

/// What is known of the cluster.
#[derive(Default)]
pub(super) struct Known {
    pub adopts: bool,
    pub services: BTreeMap<u64, Said>,
    pub nodes: BTreeMap<&'static str, model::Node>,
    pub cidrs: BTreeMap<&'static str, &'static [&'static str]>,
    pub client: Client,
    pub node_ports: Vec<NodePortAddresses>,
    pub interfaces: Vec<IpAddr>,
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
    /// Where such a connection ends.
    pub(super) fn expected(&self, protocol: Protocol, to: SocketAddr) -> Expected {
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
}
