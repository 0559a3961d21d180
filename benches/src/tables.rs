//! Services and endpoints, as many as asked for, and their addresses.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use agent::Reconciler;
use anyhow::{Result, bail};
use kernel::{Loaded, Maps, Pins};
use model::{
    Change, Endpoint, EndpointSlice, Family, Object, ObjectName, Protocol, Service, ServicePort, ServiceType,
    SlicePort, TargetPort, TrafficPolicy, View,
};
use plan::{Capacity, Deletes};

/// Endpoints of each service.
pub(crate) const ENDPOINTS: u32 = 10;
/// The port of each VIP.
pub(crate) const PORT: u16 = 80;
/// Where endpoints listen.
pub(crate) const TARGET: u16 = 8080;

/// The address of service `index`.
pub(crate) fn vip4(index: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 96, 0, 1)).wrapping_add(index))
}

/// The address of service `index`.
pub(crate) fn vip6(index: u32) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0x96, 0, 0, 0, 0, (index >> 16) as u16, index as u16)
}

/// The address of endpoint `index`. Services share them, so that a few servers do; the tables hold an entry of
/// its own for each endpoint of each service all the same.
pub(crate) fn endpoint4(index: u32) -> Ipv4Addr {
    Ipv4Addr::new(10, 1, 0, 1 + index as u8)
}

/// The address of endpoint `index`.
pub(crate) fn endpoint6(index: u32) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 1 + index as u16)
}

/// Makes and fills tables as the agent does, as large as it would make them: the programs over them, not yet in force.
pub(crate) fn build(pins: &Pins, services: u32, protocols: &[Protocol]) -> Result<Loaded> {
    let mut loaded = Loaded::load(pins, &agent::sizes(&Capacity::FIRST))?;
    let maps = Maps::open(pins)?;
    let capacity = agent::capacity(&maps);
    let view = View { node: "bench".into(), ..View::default() };
    let mut reconciler = Reconciler::new(maps, capacity, view)?;
    reconciler.apply((0..services).flat_map(|index| objects(index, protocols)).map(Change::Upsert));
    if let Some(larger) = reconciler.larger(&[], &Capacity::new(|_| u32::MAX)) {
        let maps;
        (loaded, maps) = kernel::grow(pins, reconciler.store(), &agent::sizes(&larger))?;
        loaded.settle(pins)?;
        let capacity = agent::capacity(&maps);
        reconciler.move_to(maps, capacity);
    }
    let round = reconciler.round(Deletes::Allowed)?;
    if let Some(refused) = round.refused.first() {
        bail!("{refused}");
    }
    Ok(loaded)
}

fn objects(index: u32, protocols: &[Protocol]) -> [Object; 3] {
    let name = format!("service-{index}");
    let ports = protocols.iter().map(|&protocol| ServicePort {
        name: protocol.to_string().into(),
        protocol,
        port: PORT,
        node_port: 0,
        target: TargetPort::Number(TARGET),
    });
    let service = Service {
        name: ObjectName::new("bench", &name),
        uid: String::new(),
        created: None,
        kind: ServiceType::ClusterIp,
        proxy_name: None,
        cluster_ips: vec![vip4(index).into(), vip6(index).into()],
        external_ips: Vec::new(),
        load_balancer_ips: Vec::new(),
        source_ranges: Vec::new(),
        ports: ports.collect(),
        selector: BTreeMap::new(),
        internal_policy: TrafficPolicy::Cluster,
        external_policy: TrafficPolicy::Cluster,
        affinity_seconds: None,
        publish_not_ready: false,
        distribution: None,
        health_check_node_port: 0,
    };
    let slice = |family: Family, suffix: &str, address: fn(u32) -> IpAddr| {
        let ports = protocols.iter().map(|&protocol| SlicePort {
            name: protocol.to_string().into(),
            protocol,
            port: Some(TARGET),
        });
        Object::from(EndpointSlice {
            name: ObjectName::new("bench", format!("{name}-{suffix}")),
            service: Some(name.clone()),
            policy: None,
            headless: false,
            triggered: None,
            family,
            ports: ports.collect(),
            endpoints: (0..ENDPOINTS).map(|index| endpoint(address(index))).collect(),
        })
    };
    let v4 = slice(Family::V4, "v4", |index| endpoint4(index).into());
    let v6 = slice(Family::V6, "v6", |index| endpoint6(index).into());
    [Object::from(service), v4, v6]
}

fn endpoint(address: IpAddr) -> Endpoint {
    Endpoint {
        address,
        ready: true,
        serving: true,
        terminating: false,
        node: None,
        zone: None,
        zone_hints: Vec::new(),
        node_hints: Vec::new(),
        pod: None,
    }
}
