//! What the tables should say for one service: frontends and backends by name and address, without ids.

mod policy;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use abi::{
    Key,
    frontend::{backend_flag, mode, record_flag},
    space::address_use,
};
use ipnet::IpNet;
use model::{
    Candidate, Cluster, Family, Here, ObjectName, Protocol, Selection, Service, ServicePort, ServicePortName,
    ServiceType, TrafficPolicy, select,
};

pub use policy::compile_policy;

/// Everything that one service or policy contributes to the tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceTables {
    /// Its ports, one for each family.
    pub ports: BTreeMap<ServicePortName, PortTable>,
    /// Its frontends. Each names a port of `ports`, and lists only backends of that port.
    pub frontends: BTreeMap<Key, FrontendSpec>,
    /// What its addresses are, with [`address_use`]; also those of a service that is not ours (R12).
    pub addresses: BTreeMap<IpAddr, u32>,
}

impl ServiceTables {
    /// Whether the service has no place in the tables.
    pub fn is_empty(&self) -> bool {
        self.ports.is_empty() && self.frontends.is_empty() && self.addresses.is_empty()
    }
}

/// A service port and its backends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortTable {
    /// Who it is.
    pub name: ServicePortName,
    /// The Service's `metadata.uid`, empty in most manifests.
    pub uid: String,
    /// Port on the VIP.
    pub port: u16,
    /// Endpoints that are selected for some traffic or usable (R4: sockets may stay on them), each with its
    /// [`backend_flag`]s except LIVE.
    pub backends: BTreeMap<SocketAddr, u16>,
    /// R22: who may use its load balancer VIPs; empty = everybody.
    pub sources: BTreeSet<IpNet>,
}

/// What one frontend should do for one of those who claim it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrontendSpec {
    /// One of [`mode`].
    pub mode: u8,
    /// The service port that it belongs to.
    pub port: ServicePortName,
    /// Backends for connections that begin on this node. Of a service sorted, each once; of a policy as often as its weight
    /// says.
    pub list: Vec<SocketAddr>,
    /// Bits of [`record_flag`].
    pub flags: u32,
    /// R23: for how many seconds a client keeps its backend; 0 = no affinity.
    pub affinity: u32,
    /// P6: how many connections a second a policy takes; 0 = any number.
    pub limit: u32,
}

/// What the tables should say for `service`: nothing if it is gone or not ours (R1); outside of the cluster only its cluster
/// IPs, unless more is wanted there (P11).
pub fn compile(cluster: &Cluster, service: &ObjectName) -> ServiceTables {
    let mut tables = ServiceTables::default();
    let Some(service) = cluster.service(service) else { return tables };
    let is_ours = cluster.is_ours(service);
    let external = cluster.view().serves_external();
    tables.addresses = addresses(service, is_ours, external);
    if !is_ours {
        return tables;
    }
    let here = cluster.here();
    // Valid services have no two ports of one name, nor two of one number and protocol. Of invalid ones the
    // least counts, so that the order of the list does not.
    let mut ports: Vec<(&ServicePort, Family)> = service.ports_by_family().collect();
    ports.sort_by(|(a, _), (b, _)| (&a.name, a.protocol, a.port).cmp(&(&b.name, b.protocol, b.port)));
    for (port, family) in ports {
        let name = service.port_name(port, family);
        if !tables.ports.contains_key(&name) {
            let candidates = cluster.endpoints(&name);
            tables.add(service, port, name, &candidates, &here, external);
        }
    }
    tables
}

impl ServiceTables {
    fn add(
        &mut self,
        service: &Service,
        port: &ServicePort,
        name: ServicePortName,
        candidates: &[Candidate<'_>],
        here: &Here,
        external: bool,
    ) {
        let selection = select(service, port, name.family, candidates, here);
        let addresses = |chosen: &[usize]| -> Vec<SocketAddr> {
            let set: BTreeSet<SocketAddr> =
                chosen.iter().filter_map(|i| candidates.get(*i)).map(|it| it.address).collect();
            set.into_iter().collect()
        };
        let ranges = service.source_ranges_in(name.family).filter(|_| external);
        let sources: BTreeSet<IpNet> = ranges.map(|net| net.trunc()).collect();
        let has_any = if selection.has_any { record_flag::HAS_ANY } else { 0 };
        for (key, mode, list) in frontends(service, port, name.family, &selection) {
            if !external && mode != mode::CLUSTER_IP {
                continue;
            }
            let flags = match mode {
                mode::NODE_PORT if service.external_policy == TrafficPolicy::Local => {
                    record_flag::EXTERNAL_LOCAL
                }
                mode::LOAD_BALANCER if !sources.is_empty() => record_flag::RESTRICTED,
                _ => 0,
            };
            self.frontends.entry(key).or_insert_with(|| FrontendSpec {
                mode,
                port: name.clone(),
                list: addresses(list),
                flags: flags | has_any,
                affinity: service.affinity_seconds.unwrap_or_default(),
                limit: 0,
            });
        }
        let table = PortTable {
            uid: service.uid.clone(),
            port: port.port,
            backends: backends(candidates, &selection),
            sources,
            name: name.clone(),
        };
        self.ports.insert(name, table);
    }
}

/// What a service port answers on in a family, each with its mode and the list it uses. Where one address is of two
/// kinds, the first counts: a VIP that only some may use stays so though it is an external IP as well.
fn frontends<'a>(
    service: &Service,
    port: &ServicePort,
    family: Family,
    selection: &'a Selection,
) -> Vec<(Key, u8, &'a [usize])> {
    // R14, R15: traffic that begins inside, to what is meant for the outside.
    let cluster = selection.cluster.as_slice();
    let mut all = Vec::new();
    all.extend(
        service
            .cluster_ip(family)
            .map(|ip| (key(ip, port.port, port.protocol), mode::CLUSTER_IP, selection.internal.as_slice())),
    );
    if port.node_port != 0 {
        let any: IpAddr = match family {
            Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
            Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
        };
        all.push((key(any, port.node_port, port.protocol), mode::NODE_PORT, cluster));
    }
    let vips = service.load_balancer_ips_in(family);
    all.extend(vips.map(|ip| (key(ip, port.port, port.protocol), mode::LOAD_BALANCER, cluster)));
    let external = service.external_ips_in(family);
    all.extend(external.map(|ip| (key(ip, port.port, port.protocol), mode::EXTERNAL_IP, cluster)));
    all
}

/// R12: what the addresses of a service are, on ports that no frontend has.
fn addresses(service: &Service, is_ours: bool, external: bool) -> BTreeMap<IpAddr, u32> {
    if service.kind == ServiceType::ExternalName || service.cluster_ips.is_empty() {
        return BTreeMap::new();
    }
    let cluster_ip = if is_ours { address_use::CLUSTER_IP } else { address_use::FOREIGN };
    let outside = service.external_ips.iter().chain(&service.load_balancer_ips).filter(|_| external);
    let mut addresses: BTreeMap<IpAddr, u32> = outside.map(|ip| (*ip, address_use::VIP)).collect();
    for ip in &service.cluster_ips {
        *addresses.entry(*ip).or_default() |= cluster_ip;
    }
    addresses
}

fn backends(candidates: &[Candidate<'_>], selection: &Selection) -> BTreeMap<SocketAddr, u16> {
    let selected: BTreeSet<usize> = [&selection.internal, &selection.external, &selection.cluster]
        .into_iter()
        .flatten()
        .copied()
        .collect();
    let internal: BTreeSet<usize> = selection.internal.iter().copied().collect();
    let cluster: BTreeSet<usize> = selection.cluster.iter().copied().collect();
    let mut backends = BTreeMap::new();
    for (i, candidate) in candidates.iter().enumerate() {
        let is_selected = selected.contains(&i);
        let mut flags = 0;
        if candidate.is_usable() {
            flags |= backend_flag::USABLE;
        }
        if is_selected && candidate.is_last_resort() {
            flags |= backend_flag::TERMINATING;
        }
        if internal.contains(&i) {
            flags |= backend_flag::INTERNAL;
        }
        if cluster.contains(&i) {
            flags |= backend_flag::CLUSTER;
        }
        if is_selected || candidate.is_usable() {
            backends.insert(candidate.address, flags);
        }
    }
    backends
}

fn key(vip: IpAddr, number: u16, protocol: Protocol) -> Key {
    Key { endpoint: SocketAddr::new(vip, number).into(), protocol: protocol_number(protocol) }
}

/// The IP protocol number.
pub(crate) fn protocol_number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => abi::TCP,
        Protocol::Udp => abi::UDP,
    }
}
