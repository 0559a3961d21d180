//! Who asks: the network namespaces of the machine and their addresses (R22), and what clients keep (R23).

use std::{
    collections::BTreeSet,
    net::IpAddr,
    time::{Duration, Instant},
};

use abi::{Address, Client};
use host::Addresses;
use model::{Family, NodePortAddresses};
use tokio::sync::mpsc;

use super::Agent;
use crate::{
    Error,
    client::{Found, find},
};

/// What can fail.
const FINDING: &str = "finding the addresses of network namespaces (R22)";
const SWEEPING: &str = "sweeping what clients keep (R23)";
const OWN: &str = "reading this node's own addresses (R14)";

/// How often namespaces are looked through while some VIP is for some clients only; at once when a program meets one
/// that is not known.
const FIND_EVERY: Duration = Duration::from_secs(2);
/// How often this node's own addresses are looked at.
const OWN_EVERY: Duration = Duration::from_secs(5);

/// What a look at addresses has seen: this node's own, and those of namespaces, which are none if nobody asks.
pub(super) struct Seen {
    own: Result<Vec<IpAddr>, host::Error>,
    namespaces: Result<Found, host::Error>,
}

/// Looking at addresses: on another thread, since namespaces may be many, and routing tables long.
pub(super) struct Finding {
    results: mpsc::Sender<Seen>,
    running: bool,
    due: Instant,
    /// The last look was at namespaces too.
    all: bool,
}

impl Finding {
    /// And where results come out.
    pub(super) fn new() -> (Self, mpsc::Receiver<Seen>) {
        let (results, seen) = mpsc::channel(1);
        (Self { results, running: false, due: Instant::now() + OWN_EVERY, all: false }, seen)
    }
}

/// The addresses that a client in this namespace is known by: of its own addresses those of a pod of this node, else
/// the preferred ones.
fn client(netns: u64, addresses: &[IpAddr], pods: &BTreeSet<IpAddr>) -> Client {
    let known = |family| {
        let of = || addresses.iter().filter(|ip| Family::of(**ip) == family);
        of().find(|ip| pods.contains(ip)).or(of().next()).map(|ip| Address::from(*ip))
    };
    Client {
        netns,
        v4: known(Family::V4).and_then(|address| address.as_v4()).unwrap_or_default(),
        v6: known(Family::V6).map_or([0; 4], |address| address.0),
        pad: 0,
    }
}

impl Agent {
    /// Some VIP is for some clients only, or some policy has pods here.
    fn needs_clients(&self) -> bool {
        self.reconciler.table().has_sources() || self.exemptions.matter()
    }

    /// Looks at addresses if that is due; at those of namespaces only while some VIP is for some clients only, some policy
    /// has pods here, or an event's client is not known otherwise.
    pub(super) fn look_for_clients(&mut self) {
        let all = self.needs_clients() || self.namespaces_wanted;
        let is_due = Instant::now() >= self.finding.due || all && !self.finding.all;
        if self.finding.running || !is_due {
            return;
        }
        (self.finding.running, self.finding.all) = (true, all);
        let results = self.finding.results.clone();
        let look = move || Seen {
            own: Addresses::own().map(Addresses::all),
            namespaces: if all { find() } else { Ok(Found::new()) },
        };
        tokio::task::spawn_blocking(move || drop(results.blocking_send(look())));
    }

    /// A program has met a client that is not known.
    pub(super) fn look_for_clients_now(&mut self) {
        self.finding.due = Instant::now();
        self.look_for_clients();
    }

    pub(super) fn clients_found(&mut self, seen: Seen) {
        self.finding.running = false;
        self.finding.due = Instant::now() + if self.finding.all { FIND_EVERY } else { OWN_EVERY };
        if self.set_own_addresses(seen.own) {
            self.round();
        }
        if self.finding.all
            && let Ok(found) = &seen.namespaces
        {
            self.namespaces_wanted = false;
            self.identities.set_namespaces(found);
            self.exempt_found(found);
        }
        let namespaces = seen.namespaces.map(|found| if self.needs_clients() { found } else { Found::new() });
        match namespaces.map_err(Error::from).and_then(|found| self.set_clients(found)) {
            Ok(0) => drop(self.failures.remove(FINDING)),
            Ok(left_out) => {
                let text = format!("{left_out} network namespaces have no room in the map clients");
                self.failures.insert(FINDING, text);
            }
            Err(error) => self.failed(FINDING, &error),
        }
    }

    fn set_clients(&mut self, mut found: Found) -> Result<usize, Error> {
        let cluster = self.reconciler.cluster();
        let here = Some(self.config.node_name.as_str());
        let pods: BTreeSet<IpAddr> = cluster
            .pods()
            .filter(|pod| pod.node.as_deref() == here)
            .flat_map(|pod| &pod.ips)
            .copied()
            .collect();
        if let Some(host) = found.get_mut(&self.reconciler.store().settings()?.host_netns) {
            // Processes of the host, and pods on its network, have the node's address.
            let node = cluster.node(&self.config.node_name);
            let own =
                NodePortAddresses::select(&[NodePortAddresses::Primary], node, self.reconciler.interfaces());
            *host = own.into_iter().collect();
        }
        let clients = found.iter().map(|(netns, addresses)| (*netns, client(*netns, addresses, &pods)));
        Ok(self.reconciler.store().set_clients(&clients.collect())?)
    }

    /// Forgets what clients keep no longer.
    pub(super) fn sweep_affinity(&mut self) {
        let seconds = self.reconciler.table().affinities();
        match self.reconciler.store().sweep_affinity(&seconds, host::clock::monotonic()) {
            Ok(_) => drop(self.failures.remove(SWEEPING)),
            Err(error) => self.failed(SWEEPING, &error),
        }
    }

    /// Follows the addresses of this node's interfaces; have they changed?
    pub(super) fn set_own_addresses(&mut self, own: Result<Vec<IpAddr>, host::Error>) -> bool {
        let interfaces = match own {
            Ok(interfaces) => interfaces,
            Err(error) => {
                self.failed(OWN, &error);
                return false;
            }
        };
        self.failures.remove(OWN);
        if interfaces == self.reconciler.interfaces() {
            return false;
        }
        tracing::info!(addresses = ?interfaces, "addresses of this node");
        self.reconciler.set_own_addresses(&self.config.node_port_addresses, interfaces);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn r22_a_client_is_known_by_its_pods_addresses_or_the_preferred_ones() {
        let addresses = ["10.1.0.5", "192.168.0.5", "fd00::5", "fd00:9::5"].map(ip);
        let known = |pods: &[&str]| {
            let client = client(7, &addresses, &pods.iter().map(|text| ip(text)).collect());
            assert_eq!(client.netns, 7);
            (Address::v4(client.v4).ip(), Address(client.v6).ip())
        };
        assert_eq!(known(&[]), (ip("10.1.0.5"), ip("fd00::5")));
        assert_eq!(known(&["192.168.0.5", "fd00:9::5", "10.9.9.9"]), (ip("192.168.0.5"), ip("fd00:9::5")));
        let none = client(7, &[], &BTreeSet::new());
        assert_eq!((none.v4, none.v6), (0, [0; 4]), "nothing is known of it");
    }
}
