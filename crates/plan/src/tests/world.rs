//! Small random services, and what the tables mean.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use abi::{
    Endpoint, Key, Name, Space,
    client::SourceKey,
    frontend::{
        backend_flag::{LIVE, USABLE},
        mode, record_flag,
    },
    name::owner_kind,
    space::address_use,
};
use ipnet::IpNet;
use model::{Family, Kind, ObjectId, ObjectName, Protocol, ServicePortName};
use proptest::prelude::*;

use super::maps::Maps;
use crate::{
    Capacity, Deletes, Desired, FrontendSpec, PortTable, ServiceTables, Table, Touched, diff, policy_number,
    source_key,
};

/// Room for everything that the generators make, twice.
pub(super) const ROOMY: Capacity = Capacity {
    services: 100,
    backends: 400,
    lists: 800,
    records: 200,
    frontends4: 60,
    frontends6: 60,
    addresses4: 60,
    addresses6: 60,
    sources: 200,
};

/// A service in short.
#[derive(Clone, Debug)]
pub(super) struct Sketch {
    pub(super) uid: String,
    pub(super) created: Option<i64>,
    pub(super) ports: Vec<PortSketch>,
}

#[derive(Clone, Debug)]
pub(super) struct PortSketch {
    pub(super) port: u16,
    pub(super) family: Family,
    /// Last part of the VIPs; few, so that services get into conflict.
    pub(super) vips: BTreeSet<u8>,
    /// Last part of the address, whether it is usable, whether it is in the list.
    pub(super) backends: BTreeMap<u8, (bool, bool)>,
    /// Second part of the ranges that may use it; none = all.
    pub(super) sources: BTreeSet<u8>,
    pub(super) affinity: u32,
}

/// Up to 199 a service, 200 and 201 a LocalRedirectPolicy, else a BalancingPolicy.
pub(super) fn service(n: u8) -> ObjectId {
    let (kind, namespace) = match n {
        0..200 => (Kind::Service, "default"),
        200..202 => (Kind::LocalRedirectPolicy, ""),
        _ => (Kind::BalancingPolicy, ""),
    };
    ObjectId { kind, name: ObjectName::new(namespace, format!("s{n}")) }
}

pub(super) fn vip(family: Family, n: u8, port: u16) -> Key {
    let addr: SocketAddr = match family {
        Family::V4 => SocketAddr::new([10, 96, 0, n].into(), port),
        Family::V6 => SocketAddr::new([0xfd00, 0, 0, 0, 0, 0, 0x60, u16::from(n)].into(), port),
    };
    Key { endpoint: addr.into(), protocol: abi::TCP }
}

fn backend(family: Family, n: u8) -> SocketAddr {
    match family {
        Family::V4 => SocketAddr::new([10, 1, 0, n].into(), 8080),
        Family::V6 => SocketAddr::new([0xfd00, 0, 0, 0, 0, 0, 1, u16::from(n)].into(), 8080),
    }
}

impl PortSketch {
    pub(super) fn v4(port: u16, vip: u8, backends: impl IntoIterator<Item = u8>) -> Self {
        let backends = backends.into_iter().map(|n| (n, (true, true))).collect();
        Self { port, family: Family::V4, vips: [vip].into(), backends, sources: BTreeSet::new(), affinity: 0 }
    }
}

impl Sketch {
    pub(super) fn new(uid: &str, ports: impl IntoIterator<Item = PortSketch>) -> Self {
        Self { uid: uid.into(), created: None, ports: ports.into_iter().collect() }
    }

    pub(super) fn tables(&self, owner: &ObjectId) -> ServiceTables {
        let mut tables = ServiceTables::default();
        for sketch in &self.ports {
            let name = ServicePortName {
                kind: owner.kind,
                service: owner.name.clone(),
                port: format!("p{}", sketch.port).into(),
                protocol: Protocol::Tcp,
                family: sketch.family,
            };
            let address = |n: &u8| backend(sketch.family, *n);
            let list: Vec<SocketAddr> =
                sketch.backends.iter().filter(|(_, (_, listed))| *listed).map(|(n, _)| address(n)).collect();
            let has_any = !list.is_empty();
            let is_policy = owner.kind != Kind::Service;
            let sources = sketch.sources.iter().filter(|_| !is_policy);
            let sources: BTreeSet<IpNet> = sources.map(|n| range(sketch.family, *n)).collect();
            let any = if has_any { record_flag::HAS_ANY } else { 0 };
            for n in &sketch.vips {
                // The last are what some may use, and node ports.
                let (mode, flags, mut key) = match n {
                    _ if owner.kind == Kind::LocalRedirectPolicy => {
                        (mode::LOCAL_REDIRECT, record_flag::POLICY, None)
                    }
                    _ if owner.kind == Kind::BalancingPolicy => (mode::BALANCING, record_flag::POLICY, None),
                    3 if !sources.is_empty() => (mode::LOAD_BALANCER, record_flag::RESTRICTED, None),
                    4 => (
                        mode::NODE_PORT,
                        record_flag::EXTERNAL_LOCAL,
                        Some(node_port(sketch.family, sketch.port)),
                    ),
                    _ => (mode::CLUSTER_IP, 0, None),
                };
                let key = *key.get_or_insert(vip(sketch.family, *n, sketch.port));
                let (port, mut list, affinity) = (name.clone(), list.clone(), sketch.affinity);
                let flags = if is_policy { flags } else { flags | any };
                let limit = if is_policy { affinity / 100 } else { 0 };
                if is_policy {
                    // The first weighs twice as much.
                    list.extend(list.first().copied());
                }
                tables.frontends.insert(key, FrontendSpec { mode, port, list, flags, affinity, limit });
                let uses = if mode == mode::CLUSTER_IP { address_use::CLUSTER_IP } else { address_use::VIP };
                if mode != mode::NODE_PORT && !is_policy {
                    *tables.addresses.entry(key.endpoint.address.ip()).or_default() |= uses;
                }
            }
            let flags = |usable: bool| if usable { USABLE } else { 0 };
            let backends = sketch.backends.iter().map(|(n, (usable, _))| (address(n), flags(*usable)));
            let table = PortTable {
                uid: self.uid.clone(),
                port: sketch.port,
                backends: backends.collect(),
                sources,
                name: name.clone(),
            };
            tables.ports.insert(name, table);
        }
        tables
    }
}

fn range(family: Family, n: u8) -> IpNet {
    match family {
        Family::V4 => IpNet::new([10, n, 0, 0].into(), 16).unwrap(),
        Family::V6 => IpNet::new([0xfd00, u16::from(n), 0, 0, 0, 0, 0, 0].into(), 32).unwrap(),
    }
}

fn node_port(family: Family, port: u16) -> Key {
    let ip: IpAddr = match family {
        Family::V4 => [0; 4].into(),
        Family::V6 => [0u16; 8].into(),
    };
    Key { endpoint: SocketAddr::new(ip, 30_000 + port).into(), protocol: abi::TCP }
}

pub(super) fn sketch() -> impl Strategy<Value = Sketch> {
    let port = (
        prop_oneof![Just(Family::V4), Just(Family::V6)],
        prop::collection::btree_set(0..5u8, 0..3),
        prop::collection::btree_map(0..8u8, any::<(bool, bool)>(), 0..6),
        prop::collection::btree_set(0..4u8, 0..3),
        prop_oneof![Just(0), Just(10_800u32)],
    );
    let ports = prop::collection::btree_map(80..83u16, port, 1..3);
    let uid = prop_oneof![Just(""), Just("uid-a"), Just("uid-b")];
    (uid, prop::option::of(0..3i64), ports).prop_map(|(uid, created, ports)| Sketch {
        uid: uid.into(),
        created,
        ports: ports
            .into_iter()
            .map(|(port, (family, vips, backends, sources, affinity))| PortSketch {
                port,
                family,
                vips,
                backends,
                sources,
                affinity,
            })
            .collect(),
    })
}

/// One edit: a service appears, changes or (`None`) goes.
pub(super) type Edit = (u8, Option<Sketch>);

/// Five services and two policies of each kind.
pub(super) fn owners() -> impl Strategy<Value = u8> {
    prop_oneof![0..5u8, 0..5u8, 200..204u8]
}

pub(super) fn edits(count: impl Into<prop::collection::SizeRange>) -> impl Strategy<Value = Vec<Edit>> {
    prop::collection::vec((owners(), prop::option::weighted(0.8, sketch())), count)
}

pub(super) fn edit(desired: &mut Desired, (n, sketch): &Edit) -> Touched {
    let name = service(*n);
    match sketch {
        Some(sketch) => desired.set(&name, sketch.tables(&name), sketch.created),
        None => desired.remove(&name),
    }
}

fn kind_number(kind: Kind) -> u8 {
    match kind {
        Kind::LocalRedirectPolicy => owner_kind::LOCAL_REDIRECT,
        Kind::BalancingPolicy => owner_kind::BALANCING,
        _ => owner_kind::SERVICE,
    }
}

/// Who a service port is, by name, and of which family and kind.
type Who = (String, String, u8, u8);
/// What a frontend means: mode, flags, affinity and limit, policy, service port and endpoints.
type Frontend = (u8, u32, [u32; 2], [u32; 2], Who, Vec<Endpoint>);

/// What all maps mean.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Meaning {
    frontends: BTreeMap<Key, Frontend>,
    /// Live ones with their flags.
    backends: BTreeSet<(Who, Endpoint, u16)>,
    ports: BTreeSet<Who>,
    addresses: BTreeMap<IpAddr, u32>,
    sources: BTreeSet<(Who, SourceKey)>,
    space: Space,
}

/// What a reader of the maps understands.
pub(super) fn meaning(maps: &Maps) -> Meaning {
    let who = |id: u32| {
        let name = &maps.names[&id];
        (Name::text(&name.service).to_owned(), Name::text(&name.port).to_owned(), name.family, name.kind)
    };
    let frontends = maps.frontends.iter().map(|(key, index)| {
        let record = maps.records[index];
        let list = maps.list(&record).iter().map(|(_, it)| it.endpoint()).collect();
        let numbers = [record.affinity, record.limit];
        (*key, (record.mode, record.flags, numbers, record.policy, who(record.service), list))
    });
    let live = maps.backends.values().filter(|it| it.flags & LIVE != 0);
    Meaning {
        frontends: frontends.collect(),
        backends: live.map(|it| (who(it.service), it.endpoint(), it.flags)).collect(),
        ports: maps.names.keys().map(|id| who(*id)).collect(),
        addresses: maps.addresses.clone(),
        sources: maps.sources.iter().map(|it| (who(it.service), SourceKey { service: 0, ..*it })).collect(),
        space: maps.space,
    }
}

/// What it should understand.
pub(super) fn intent(desired: &Desired) -> Meaning {
    let who = |port: &ServicePortName| {
        let family = if port.family == Family::V4 { 4 } else { 6 };
        (port.service.name.clone(), port.port.to_string(), family, kind_number(port.kind))
    };
    let frontends = desired.frontends().map(|(key, spec)| {
        let list = spec.list.iter().map(|it| (*it).into()).collect();
        let numbers = [spec.affinity, spec.limit];
        (key, (spec.mode, spec.flags, numbers, policy_number(&spec.port.owner()), who(&spec.port), list))
    });
    let backends = desired.ports().flat_map(|port| {
        port.backends.iter().map(|(addr, flags)| (who(&port.name), (*addr).into(), flags | LIVE))
    });
    let sources = desired.ports().flat_map(|port| {
        port.sources.iter().map(|range| (who(&port.name), source_key(0, range))).collect::<Vec<_>>()
    });
    Meaning {
        frontends: frontends.collect(),
        backends: backends.collect(),
        ports: desired.ports().map(|port| who(&port.name)).collect(),
        addresses: desired.addresses().map(|ip| (ip, desired.uses(ip))).collect(),
        sources: sources.collect(),
        space: *desired.space(),
    }
}

/// Lets a grace period pass, and all that was told is read.
pub(super) fn grace(table: &mut Table) {
    let (grace, reading) = (table.begin_grace(), table.begin_reading());
    table.grace_passed(grace);
    table.has_read(reading);
}

/// Diffs everything until nothing is refused for want of quarantined room, and asserts that the result is
/// right and stays.
pub(super) fn settle(desired: &Desired, table: &mut Table, maps: &mut Maps) {
    for _ in 0..6 {
        let plan = diff(desired, &Touched::everything(), table, Deletes::Allowed);
        maps.apply(&plan, |_| {});
        grace(table);
    }
    maps.assert_sound();
    assert_eq!(meaning(maps), intent(desired));
    assert_eq!(table.compare(&maps.image()), []);
    let plan = diff(desired, &Touched::everything(), table, Deletes::Allowed);
    assert_eq!(plan, crate::Plan::default());
}
