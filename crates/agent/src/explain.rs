//! `balancing why`: one decision, replayed on the live tables by the code that the kernel runs.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use abi::{
    Address, Endpoint, Key, Name, Range, Reason, Record,
    client::SourceKey,
    frontend::{level, mode, record_flag},
    name::owner_kind,
    reason::fallen,
    space::{Prefix, address_use, prefix_flag},
};
use datapath::{Caller, Env, affinity, decision, policy, resolve};
use kernel::{Contents, LiveTables, Maps};
use serde::Serialize;

/// A decision, and what it was made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// What is asked for.
    pub destination: SocketAddr,
    /// `TCP` or `UDP`.
    pub protocol: &'static str,
    /// What would become of it.
    pub verdict: &'static str,
    /// Why.
    pub reason: &'static str,
    /// The service port; null if it is none, a policy's, or its name is not known.
    pub service: Option<ServicePort>,
    /// The policies of this frontend, in the order in which they are asked, and what each does with this client's connections.
    pub policies: Vec<PolicyStep>,
    /// Kind of frontend.
    pub mode: Option<&'static str>,
    /// Backends, one of which would be chosen, each as likely as the others.
    pub backends: Vec<SocketAddr>,
    /// R23: for how many seconds a client keeps its backend; null if the service has no affinity.
    pub affinity_seconds: Option<u32>,
    /// The backend that this client keeps; null if it has none now.
    pub kept: Option<SocketAddr>,
    /// How much of its time is left, if it does not connect again.
    pub kept_seconds: Option<u64>,
    /// R22: the ranges that clients must be in; empty if whoever likes may use it.
    pub source_ranges: Vec<String>,
    /// The client's address, where it matters for those ranges and is known.
    pub client_address: Option<IpAddr>,
    /// What the address is: `cluster-ip`, `other-cluster-ip`, `vip`, `this-node`, `other-node`, `loopback`.
    pub address: Vec<&'static str>,
    /// Ports of a cluster IP that are there, where the one asked for is not, as `80/TCP`.
    pub ports: Vec<String>,
    /// Whose cluster IP it is, as `namespace/name`, where no service port has it.
    pub owner: Option<String>,
    /// The ServiceCIDR that the address is in, where no service has it.
    pub service_cidr: Option<String>,
    /// The node that has the address, if the agent says so.
    pub node: Option<String>,
    /// The record that decided.
    #[serde(skip)]
    pub record: Option<Record>,
}

/// Who a decision is explained for.
#[derive(Clone, Debug, Default)]
pub struct Asker {
    /// Cookie of its network namespace.
    pub netns: u64,
    /// It is in a cgroup that is left alone.
    pub excluded: bool,
    /// Policies of whose backends' cgroups it is in one (P7); in halves.
    pub backend_of: BTreeSet<[u32; 2]>,
}

/// What a policy does with a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PolicyStep {
    /// `LocalRedirectPolicy` or `BalancingPolicy`; null if its name is not known.
    pub kind: Option<&'static str>,
    /// Its name.
    pub name: Option<String>,
    /// `takes`, or why it does not: `no-backend`, `limit`, `own-backend`. A policy after one that takes is not asked.
    pub outcome: &'static str,
}

impl Caller for Asker {
    fn netns(&self) -> u64 {
        self.netns
    }

    fn is_excluded(&self) -> bool {
        self.excluded
    }

    fn is_backend_of(&self, policy: [u32; 2]) -> bool {
        self.backend_of.contains(&policy)
    }
}

impl Explanation {
    /// The same for a client that the programs do not see: nothing happens to it.
    pub fn unseen(self) -> Self {
        let Self { destination, protocol, .. } = self;
        let (verdict, reason) = ("passed", "not-served");
        Self { verdict, reason, ..Self::new(destination, protocol) }
    }

    fn new(destination: SocketAddr, protocol: &'static str) -> Self {
        Self {
            destination,
            protocol,
            verdict: "",
            reason: "",
            service: None,
            policies: Vec::new(),
            mode: None,
            backends: Vec::new(),
            affinity_seconds: None,
            kept: None,
            kept_seconds: None,
            source_ranges: Vec::new(),
            client_address: None,
            address: Vec::new(),
            ports: Vec::new(),
            owner: None,
            service_cidr: None,
            node: None,
            record: None,
        }
    }

    /// Puts in what the tables have around the decision: what the address is, whose, and who else may use it.
    pub fn look_around(&mut self, contents: &Contents) {
        let asked = Endpoint::from(self.destination).address;
        let uses = contents.addresses.iter().filter(|(ip, _)| Address::from(*ip) == asked);
        let uses = uses.fold(0, |bits, (_, uses)| bits | uses);
        self.address = USES.iter().filter(|(bit, _)| uses & bit != 0).map(|(_, word)| *word).collect();
        if self.reason == Reason::UnknownPort.name() {
            for (key, index) in contents.frontends.iter().filter(|(key, _)| key.endpoint.address == asked) {
                let record = contents.records.iter().find(|(it, _)| it == index).map(|(_, record)| record);
                if record.is_none_or(|record| record.mode != mode::CLUSTER_IP) {
                    continue;
                }
                let protocol = observe::event::protocol(key.transport());
                self.ports.push(format!("{}/{protocol}", u16::from_be(key.endpoint.port_be)));
                let name = contents.names.iter().find(|(id, _)| record.is_some_and(|it| it.service == *id));
                self.owner = name.map(|(_, name)| ServicePort::from(name)).map(|it| it.service());
            }
            self.ports.sort();
        }
        if self.reason == Reason::UnusedAddress.name() {
            let space = &contents.space;
            let prefixes = if asked.as_v4().is_some() { &space.v4 } else { &space.v6 };
            let is_it = |it: &&Prefix| it.flags & prefix_flag::RESERVED != 0 && it.covers(&asked);
            self.service_cidr = prefixes.iter().find(is_it).map(|prefix| {
                let bits: u32 = prefix.mask.0.iter().map(|word| word.count_ones()).sum();
                range(&prefix.network, bits)
            });
        }
        if let Some(record) = self.record.filter(|record| record.flags & record_flag::RESTRICTED != 0) {
            self.source_ranges = source_ranges(contents, record.service);
        }
    }
}

/// What an address is, in words.
const USES: [(u32, &str); 6] = [
    (address_use::CLUSTER_IP, "cluster-ip"),
    (address_use::FOREIGN, "other-cluster-ip"),
    (address_use::VIP, "vip"),
    (address_use::THIS_NODE, "this-node"),
    (address_use::OTHER_NODE, "other-node"),
    (address_use::LOOPBACK, "loopback"),
];

/// R22: the ranges that may use the load balancer VIPs of a service port.
pub fn source_ranges(contents: &Contents, service: u32) -> Vec<String> {
    let of = contents.sources.iter().filter(|key| key.service == service);
    let mut keys: Vec<&SourceKey> = of.collect();
    keys.sort_by_key(|key| (Address(key.address).ip(), key.bits));
    keys.iter().map(|key| range(&Address(key.address), key.bits.saturating_sub(32))).collect()
}

/// A network and how many bits of it count; those that make an IPv4 address a mapped one are not shown.
fn range(network: &Address, bits: u32) -> String {
    let bits = if network.as_v4().is_some() { bits.saturating_sub(96) } else { bits };
    format!("{}/{bits}", network.ip())
}

/// A service port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServicePort {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Name of the port.
    pub port: String,
}

impl ServicePort {
    /// `namespace/name`.
    pub fn service(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

impl From<&Name> for ServicePort {
    fn from(name: &Name) -> Self {
        Self {
            namespace: Name::text(&name.namespace).into(),
            name: Name::text(&name.service).into(),
            port: Name::text(&name.port).into(),
        }
    }
}

/// The live tables, now.
pub fn live(maps: &Maps) -> LiveTables<'_> {
    LiveTables::new(maps).at(host::clock::monotonic())
}

/// Replays what a new connection of `asker` to `destination` would meet in `tables`; `names` gives the owner of a
/// service port id.
pub fn explain<E: Env>(
    tables: &E,
    names: impl Fn(u32) -> Option<Name>,
    asker: &Asker,
    destination: SocketAddr,
    protocol: u8,
) -> Explanation {
    let key = Key { endpoint: Endpoint::from(destination), protocol };
    let mut explanation = Explanation::new(destination, observe::event::protocol(protocol));
    let (record, found) = resolve(tables, asker, &key, |_| policy::NOTHING_HELD);
    let mut reason = found.reason;
    if let Some(record) = record {
        let name = names(record.service).filter(|name| name.kind == owner_kind::SERVICE);
        explanation.service = name.as_ref().map(ServicePort::from);
        explanation.mode = Some(mode::name(record.mode));
        explanation.affinity_seconds = Some(record.affinity).filter(|seconds| *seconds != 0);
        explanation.record = Some(*record);
        if record.flags & record_flag::RESTRICTED != 0 {
            explanation.client_address = client_address(tables, asker.netns, destination.ip());
        }
        if reason == Reason::Balanced {
            explanation.backends = backends(tables, &record);
            let kept = affinity::recalled(tables, asker, &record, found.record);
            let choice = if kept.is_some() { kept } else { decision::choose(tables, &record, 1, |_| false) };
            let (backend, why) = choice.backend(tables, &record);
            explanation.kept =
                backend.filter(|_| kept.is_some()).map(|backend| backend.endpoint().socket_addr());
            explanation.kept_seconds = tables
                .affinity(asker.netns, record.service)
                .filter(|_| kept.is_some())
                .map(|entry| left(record.affinity, entry.used.load(), tables.now()));
            reason = why;
        }
    }
    explanation.policies = policies(tables, names, asker, &key);
    let reason = found.told(reason);
    explanation.verdict = reason.verdict().name();
    explanation.reason = reason.name();
    explanation
}

/// The policies of a frontend, up to the one that takes the connection.
fn policies<E: Env>(
    tables: &E,
    names: impl Fn(u32) -> Option<Name>,
    asker: &Asker,
    key: &Key,
) -> Vec<PolicyStep> {
    let mut steps = Vec::new();
    for at in [level::FIRST, level::BALANCING] {
        let index = tables.find(&key.at(at)).record;
        let Some(record) = tables.record(index).filter(|it| it.flags & record_flag::POLICY != 0) else {
            continue;
        };
        let why = tables.stands_back(asker, index);
        let name = names(record.service);
        steps.push(PolicyStep {
            kind: name.as_ref().map(|name| owner_kind::name(name.kind)),
            name: name.as_ref().map(|name| Name::text(&name.service).to_owned()),
            outcome: if why == fallen::NO { "takes" } else { fallen::name(why) },
        });
        if why == fallen::NO {
            break;
        }
    }
    steps
}

/// Seconds until what was last used then is forgotten.
fn left(affinity: u32, used: u64, now: u64) -> u64 {
    u64::from(affinity).saturating_sub(now.saturating_sub(used) / 1_000_000_000)
}

/// The address that a network namespace is known by, in the family of `destination`.
fn client_address<E: Env>(tables: &E, netns: u64, destination: IpAddr) -> Option<IpAddr> {
    let client = tables.client(netns)?;
    let address = if destination.to_canonical().is_ipv4() {
        Address::v4(Some(client.v4).filter(|word| *word != 0)?)
    } else {
        Address(Some(client.v6).filter(|words| *words != [0; 4])?)
    };
    Some(address.ip())
}

/// All backends in a record's list, in its order.
pub fn backends<E: Env>(tables: &E, record: &Record) -> Vec<SocketAddr> {
    let Range { len, .. } = record.local;
    (0..len)
        .map(|offset| decision::at(tables, record, offset).backend(tables, record))
        .filter_map(|(backend, _)| Some(backend?.endpoint().socket_addr()))
        .collect()
}
