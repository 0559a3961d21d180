//! The whole desired state, kept up to date service by service and policy by policy.

mod packed;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::OnceLock,
};

use abi::{
    Endpoint, Key, Space,
    frontend::{level, mode},
    name::owner_kind,
    policy::{self, LimitKey},
    space::address_use::{CLUSTER_IP, FOREIGN},
};
use ipnet::IpNet;
use model::{Kind, ObjectId, ServicePortName};

use crate::{
    compile::{FrontendSpec, PortTable, ServiceTables},
    desired::packed::Packed,
    space::space,
    table::Usage,
};

/// What every frontend and service port should be.
#[derive(Clone, Debug, Default)]
pub struct Desired {
    owners: BTreeMap<ObjectId, Entry>,
    /// Who wants each frontend, the holder first. Never empty.
    claims: BTreeMap<Key, Vec<Claim>>,
    /// Frontends that more than one service or policy wants.
    contested: BTreeSet<Key>,
    /// What services say of each address, with how many of them say it. Never empty.
    addresses: BTreeMap<IpAddr, BTreeMap<u32, u32>>,
    /// What nodes make of addresses.
    nodes: BTreeMap<IpAddr, u32>,
    cidrs: Vec<IpNet>,
    /// Filled when asked for, emptied when services come, go or move: not once for each of those that a start brings.
    space: OnceLock<Space>,
}

#[derive(Clone, Debug)]
struct Entry {
    age: Age,
    tables: Packed,
}

/// Older is less. A service without a timestamp comes from a manifest and has no known age: it is younger
/// than any that has one, so that a local file never takes an address from a service of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Age {
    Created(i64),
    Unknown,
}

/// Ordered: policies are less than services (P1), then the least is the one whose cluster IP it is, then the oldest, then the
/// first by name. Nobody gets another service's cluster IP by calling it an external IP of his own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Claim {
    level: Level,
    is_external: bool,
    age: Age,
    owner: ObjectId,
}

/// P1: what decides first is less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    LocalRedirect,
    Balancing,
    Service,
}

impl Level {
    fn of(kind: Kind) -> Self {
        match kind {
            Kind::LocalRedirectPolicy => Self::LocalRedirect,
            Kind::BalancingPolicy => Self::Balancing,
            _ => Self::Service,
        }
    }
}

/// A frontend that several services want (R2), or several policies of one kind (P1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The frontend.
    pub key: Key,
    /// Who has it: the oldest.
    pub holder: ObjectId,
    /// The others, in the order in which they would get it.
    pub waiting: Vec<ObjectId>,
}

/// Frontends and service ports to compare with the table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Everything, whatever else is said here.
    pub everything: bool,
    /// Frontends.
    pub keys: BTreeSet<Key>,
    /// Service ports.
    pub ports: BTreeSet<ServicePortName>,
    /// Addresses.
    pub addresses: BTreeSet<IpAddr>,
}

impl Touched {
    /// All frontends and service ports, desired or in the table.
    pub fn everything() -> Self {
        Self { everything: true, ..Self::default() }
    }

    /// Adds what `other` touched.
    pub fn merge(&mut self, other: Self) {
        self.everything |= other.everything;
        self.keys.extend(other.keys);
        self.ports.extend(other.ports);
        self.addresses.extend(other.addresses);
    }

    /// Whether nothing was touched.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn add(&mut self, tables: &Packed) {
        self.keys.extend(tables.keys());
        self.ports.extend(tables.ports.iter().map(|port| port.name.clone()));
        self.addresses.extend(tables.addresses.iter().map(|(ip, _)| ip));
    }
}

impl Desired {
    /// Nothing desired.
    pub fn new() -> Self {
        Self::default()
    }

    /// Says what a service or policy should be; `created` is its creationTimestamp, which settles conflicts. Touches
    /// nothing if that is what it was.
    pub fn set(&mut self, owner: &ObjectId, tables: ServiceTables, created: Option<i64>) -> Touched {
        if tables.is_empty() {
            return self.remove(owner);
        }
        let entry = Entry { age: created.map_or(Age::Unknown, Age::Created), tables: tables.into() };
        if let Some(old) = self.owners.get(owner)
            && old.age == entry.age
            && old.tables == entry.tables
        {
            return Touched::default();
        }
        // As when endpoints change, which is nearly always.
        let stays_in_place = self.owners.get(owner).is_some_and(|old| {
            old.tables.addresses == entry.tables.addresses && old.tables.keys().eq(entry.tables.keys())
        });
        let had_node_ports = self.has_node_ports();
        let mut touched = self.take_out(owner);
        touched.add(&entry.tables);
        for (key, frontend) in &entry.tables.frontends {
            let is_external =
                matches!(frontend.mode, mode::NODE_PORT | mode::LOAD_BALANCER | mode::EXTERNAL_IP);
            let claim =
                Claim { level: Level::of(owner.kind), is_external, age: entry.age, owner: owner.clone() };
            let claims = self.claims.entry(*key).or_insert_with(|| Vec::with_capacity(1));
            if let Err(place) = claims.binary_search(&claim) {
                claims.insert(place, claim);
            }
            if claims.len() > 1 {
                self.contested.insert(*key);
            }
        }
        for (ip, uses) in &entry.tables.addresses {
            *self.addresses.entry(*ip).or_default().entry(*uses).or_default() += 1;
        }
        self.owners.insert(owner.clone(), entry);
        if stays_in_place {
            touched.addresses.clear();
        } else {
            self.moved(had_node_ports, &mut touched);
        }
        touched
    }

    /// Nothing is desired of this service or policy any more; those that wait for its frontends get them.
    pub fn remove(&mut self, owner: &ObjectId) -> Touched {
        let had_node_ports = self.has_node_ports();
        let mut touched = self.take_out(owner);
        self.moved(had_node_ports, &mut touched);
        touched
    }

    fn take_out(&mut self, owner: &ObjectId) -> Touched {
        let mut touched = Touched::default();
        let Some(entry) = self.owners.remove(owner) else { return touched };
        touched.add(&entry.tables);
        for key in entry.tables.keys() {
            let Some(claims) = self.claims.get_mut(key) else { continue };
            claims.retain(|claim| claim.owner != *owner);
            if claims.len() < 2 {
                self.contested.remove(key);
            }
            if claims.is_empty() {
                self.claims.remove(key);
            }
        }
        for (ip, uses) in &entry.tables.addresses {
            let Some(said) = self.addresses.get_mut(ip) else { continue };
            if let Some(count) = said.get_mut(uses) {
                *count -= 1;
                if *count == 0 {
                    said.remove(uses);
                }
            }
            if said.is_empty() {
                self.addresses.remove(ip);
            }
        }
        touched
    }

    /// Says what nodes make of addresses ([`crate::node_addresses`]).
    pub fn set_nodes(&mut self, nodes: BTreeMap<IpAddr, u32>) -> Touched {
        let old = std::mem::replace(&mut self.nodes, nodes);
        let changed = |(a, b): (&BTreeMap<IpAddr, u32>, &BTreeMap<IpAddr, u32>)| -> Vec<IpAddr> {
            a.iter().filter(|(ip, uses)| b.get(ip) != Some(uses)).map(|(ip, _)| *ip).collect()
        };
        let addresses = changed((&old, &self.nodes)).into_iter().chain(changed((&self.nodes, &old)));
        let addresses = if self.has_node_ports() { addresses.collect() } else { BTreeSet::new() };
        Touched { addresses, ..Touched::default() }
    }

    /// Says which addresses are kept for cluster IPs (R12); none, where that is nobody's business here.
    pub fn set_cidrs(&mut self, cidrs: Vec<IpNet>) {
        self.cidrs = cidrs;
        self.space.take();
    }

    /// A service has come, gone, or moved: what that touches besides itself.
    fn moved(&mut self, had_node_ports: bool, touched: &mut Touched) {
        self.space.take();
        // Whose an address is says who may have it as an external IP.
        for ip in &touched.addresses {
            touched.keys.extend(self.claimed_at(*ip));
        }
        if had_node_ports != self.has_node_ports() {
            touched.addresses.extend(self.nodes.keys());
        }
    }

    /// The frontends that services want at an address.
    fn claimed_at(&self, ip: IpAddr) -> impl Iterator<Item = &Key> {
        let at =
            move |port_be, protocol| Key { endpoint: Endpoint { address: ip.into(), port_be }, protocol };
        self.claims.range(at(0, 0)..=at(u16::MAX, u8::MAX)).map(|(key, _)| key)
    }

    fn node_ports(&self) -> impl Iterator<Item = u16> {
        let any = [IpAddr::from(Ipv4Addr::UNSPECIFIED), IpAddr::from(Ipv6Addr::UNSPECIFIED)];
        any.into_iter().flat_map(|ip| self.claimed_at(ip)).map(|key| u16::from_be(key.endpoint.port_be))
    }

    /// Without a node port the addresses of nodes mean nothing: thousands of entries that nobody would look at.
    fn has_node_ports(&self) -> bool {
        self.node_ports().next().is_some()
    }

    fn nodes(&self) -> impl Iterator<Item = (&IpAddr, &u32)> {
        let has_node_ports = self.has_node_ports();
        self.nodes.iter().filter(move |_| has_node_ports)
    }

    /// Which addresses and ports may mean something though they are no frontend.
    pub fn space(&self) -> &Space {
        self.space.get_or_init(|| {
            let is_cluster_ip =
                |said: &BTreeMap<u32, u32>| said.keys().any(|uses| uses & (CLUSTER_IP | FOREIGN) != 0);
            let cluster_ips =
                self.addresses.iter().filter(|(_, said)| is_cluster_ip(said)).map(|(ip, _)| *ip);
            space(&self.cidrs, cluster_ips, self.node_ports())
        })
    }

    /// What services say of an address.
    fn said(&self, ip: IpAddr) -> u32 {
        self.addresses.get(&ip).into_iter().flat_map(BTreeMap::keys).fold(0, |all, uses| all | uses)
    }

    /// What an address is ([`abi::space::address_use`]); 0 = nothing that is known.
    pub fn uses(&self, ip: IpAddr) -> u32 {
        self.said(ip) | self.nodes.get(&ip).copied().filter(|_| self.has_node_ports()).unwrap_or_default()
    }

    /// All addresses that are something.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.addresses.keys().chain(self.nodes().map(|(ip, _)| ip)).copied()
    }

    /// Who has a frontend at each level: the oldest of those that claim it there. No service, if all that it has for it is an
    /// external IP that is the cluster IP of a service of another proxy (R12).
    fn holders(&self, key: &Key) -> [Option<&ObjectId>; 3] {
        let claims = self.claims.get(&key.at(level::FIRST)).map(Vec::as_slice).unwrap_or_default();
        let at = |level: Level| claims.iter().find(|claim| claim.level == level);
        let is_foreign = || self.said(key.endpoint.address.ip()) & FOREIGN != 0;
        let service = at(Level::Service).filter(|claim| !claim.is_external || !is_foreign());
        [at(Level::LocalRedirect), at(Level::Balancing), service].map(|claim| claim.map(|claim| &claim.owner))
    }

    /// What a frontend should do at its level ([`abi::frontend::level`]): at the first what the first says that has it; below
    /// what the others say, if there is somebody above.
    pub fn frontend(&self, key: &Key) -> Option<&FrontendSpec> {
        let [redirect, balancing, service] = self.holders(key);
        let owner = match key.level() {
            level::FIRST => redirect.or(balancing).or(service),
            level::BALANCING => balancing.filter(|_| redirect.is_some()),
            _ => service.filter(|_| redirect.or(balancing).is_some()),
        };
        self.owners.get(owner?)?.tables.frontend(&key.at(level::FIRST))
    }

    /// What a service port should be.
    pub fn port(&self, port: &ServicePortName) -> Option<&PortTable> {
        self.owners.get(&port.owner())?.tables.port(port)
    }

    /// All frontends, at all levels.
    pub fn frontends(&self) -> impl Iterator<Item = (Key, &FrontendSpec)> {
        let below = self.contested.iter().flat_map(|key| BELOW.map(|level| key.at(level)));
        self.claims.keys().copied().chain(below).filter_map(|key| Some((key, self.frontend(&key)?)))
    }

    /// The frontends that a service port claims.
    pub(crate) fn frontends_of(&self, port: &ServicePortName) -> impl Iterator<Item = &Key> {
        let frontends = self.owners.get(&port.owner()).into_iter().flat_map(|it| it.tables.frontends.iter());
        frontends.filter(move |(_, spec)| spec.port == *port).map(|(key, _)| key)
    }

    /// All service ports, by name.
    pub fn ports(&self) -> impl Iterator<Item = &PortTable> {
        self.owners.values().flat_map(|entry| entry.tables.ports.iter())
    }

    /// How much room all of it takes, if nothing is shared but the lists that are equal.
    pub fn need(&self) -> Usage {
        let mut need = Usage::new(|_| 0);
        let add = |to: &mut u32, n: usize| *to = to.saturating_add(u32::try_from(n).unwrap_or(u32::MAX));
        for tables in self.owners.values().map(|entry| &entry.tables) {
            add(&mut need.services, tables.ports.len());
            for port in &tables.ports {
                add(&mut need.backends, port.backends.len());
                add(&mut need.sources, port.sources.len());
            }
            let lists: BTreeSet<_> = tables.frontends.iter().map(|(_, it)| (&it.port, &it.list)).collect();
            add(&mut need.lists, lists.into_iter().map(|(_, list)| list.len()).sum());
        }
        for (key, _) in self.frontends() {
            add(if key.is_v4() { &mut need.frontends4 } else { &mut need.frontends6 }, 1);
            add(&mut need.records, 1);
        }
        for ip in self.addresses() {
            add(if ip.is_ipv4() { &mut need.addresses4 } else { &mut need.addresses6 }, 1);
        }
        need
    }

    /// Frontends that several services want, or several policies of one kind, by key.
    pub fn conflicts(&self) -> impl Iterator<Item = Conflict> {
        self.contested.iter().flat_map(|key| {
            let claims = self.claims.get(key).map(Vec::as_slice).unwrap_or_default();
            claims.chunk_by(|a, b| a.level == b.level).filter_map(|claims| {
                let (holder, waiting) = claims.split_first().filter(|(_, waiting)| !waiting.is_empty())?;
                Some(Conflict {
                    key: *key,
                    holder: holder.owner.clone(),
                    waiting: waiting.iter().map(|claim| claim.owner.clone()).collect(),
                })
            })
        })
    }

    /// The numbers of all policies that have frontends, and the limits of those that have some (P6).
    pub fn policies(&self) -> (BTreeSet<[u32; 2]>, BTreeSet<LimitKey>) {
        let (mut policies, mut limits) = (BTreeSet::new(), BTreeSet::new());
        // Services are the first of all kinds, and by far the most.
        let first = ObjectId { kind: Kind::LocalRedirectPolicy, name: model::ObjectName::new("", "") };
        for (owner, entry) in self.owners.range(first..) {
            let policy = policy_number(owner);
            policies.insert(policy);
            let own = entry.tables.frontends.iter().map(|(_, spec)| spec.limit).filter(|limit| *limit != 0);
            limits.extend(own.map(|limit| LimitKey { policy, limit }));
        }
        (policies, limits)
    }
}

/// Levels below the first, the deepest first.
pub(crate) const BELOW: [u8; 2] = [level::SERVICE, level::BALANCING];

/// The kind of an owner as the maps have it.
pub(crate) fn kind_number(kind: Kind) -> u8 {
    match kind {
        Kind::LocalRedirectPolicy => owner_kind::LOCAL_REDIRECT,
        Kind::BalancingPolicy => owner_kind::BALANCING,
        _ => owner_kind::SERVICE,
    }
}

/// The number of a policy, in halves; 0 of a service.
pub fn policy_number(owner: &ObjectId) -> [u32; 2] {
    match kind_number(owner.kind) {
        owner_kind::SERVICE => [0; 2],
        kind => policy::halves(policy::number(kind, owner.name.name.as_bytes())),
    }
}
