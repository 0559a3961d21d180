//! What the tables should say for one service: frontends and backends by name and address, without ids.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use abi::{
    Key,
    frontend::{backend_flag, mode},
};
use model::{
    Candidate, Cluster, Family, Here, ObjectName, Protocol, Selection, Service, ServicePort, ServicePortName,
    select,
};

/// Everything that one service contributes to the tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceTables {
    /// Its ports, one for each family.
    pub ports: BTreeMap<ServicePortName, PortTable>,
    /// Its frontends. Each names a port of `ports`, and lists only backends of that port.
    pub frontends: BTreeMap<Key, FrontendSpec>,
}

impl ServiceTables {
    /// Whether the service has no place in the tables.
    pub fn is_empty(&self) -> bool {
        self.ports.is_empty() && self.frontends.is_empty()
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
    /// Some endpoint anywhere could take traffic (R5).
    pub has_any: bool,
    /// Endpoints that are selected for some traffic or usable (R4: sockets may stay on them), each with its
    /// [`backend_flag`]s except LIVE.
    pub backends: BTreeMap<SocketAddr, u16>,
}

/// What one frontend should do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrontendSpec {
    /// One of [`mode`].
    pub mode: u8,
    /// The service port that it belongs to.
    pub port: ServicePortName,
    /// Backends for connections that begin on this node, sorted, each once.
    pub list: Vec<SocketAddr>,
    /// Some endpoint anywhere could take traffic: an empty `list` then means "none here".
    pub has_any: bool,
}

/// What the tables should say for `service`: nothing if it is gone or not ours (R1).
pub fn compile(cluster: &Cluster, service: &ObjectName) -> ServiceTables {
    let mut tables = ServiceTables::default();
    let Some(service) = cluster.service(service).filter(|it| cluster.is_ours(it)) else { return tables };
    let here = cluster.here();
    // Valid services have no two ports of one name, nor two of one number and protocol. Of invalid ones the
    // least counts, so that the order of the list does not.
    let mut ports: Vec<(&ServicePort, Family)> = service.ports_by_family().collect();
    ports.sort_by(|(a, _), (b, _)| (&a.name, a.protocol, a.port).cmp(&(&b.name, b.protocol, b.port)));
    for (port, family) in ports {
        let name = service.port_name(port, family);
        if !tables.ports.contains_key(&name) {
            let candidates = cluster.endpoints(&name);
            tables.add(service, port, name, &candidates, &here);
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
    ) {
        let selection = select(service, port, name.family, candidates, here);
        let addresses = |chosen: &[usize]| -> Vec<SocketAddr> {
            let set: BTreeSet<SocketAddr> =
                chosen.iter().filter_map(|i| candidates.get(*i)).map(|it| it.address).collect();
            set.into_iter().collect()
        };
        for (vip, mode, list) in frontends(service, name.family, &selection) {
            self.frontends.entry(key(vip, port)).or_insert_with(|| FrontendSpec {
                mode,
                port: name.clone(),
                list: addresses(list),
                has_any: selection.has_any,
            });
        }
        let table = PortTable {
            uid: service.uid.clone(),
            port: port.port,
            has_any: selection.has_any,
            backends: backends(candidates, &selection),
            name: name.clone(),
        };
        self.ports.insert(name, table);
    }
}

/// The addresses that a service port answers on in a family, each with its mode and the list it uses.
fn frontends<'a>(
    service: &Service,
    family: Family,
    selection: &'a Selection,
) -> impl Iterator<Item = (IpAddr, u8, &'a [usize])> {
    service.cluster_ip(family).map(|ip| (ip, mode::CLUSTER_IP, selection.internal.as_slice())).into_iter()
}

fn backends(candidates: &[Candidate<'_>], selection: &Selection) -> BTreeMap<SocketAddr, u16> {
    let selected: BTreeSet<usize> = [&selection.internal, &selection.external, &selection.cluster]
        .into_iter()
        .flatten()
        .copied()
        .collect();
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
        if is_selected || candidate.is_usable() {
            backends.insert(candidate.address, flags);
        }
    }
    backends
}

fn key(vip: IpAddr, port: &ServicePort) -> Key {
    Key { endpoint: SocketAddr::new(vip, port.port).into(), protocol: protocol_number(port.protocol) }
}

/// The IP protocol number.
pub(crate) fn protocol_number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => abi::TCP,
        Protocol::Udp => abi::UDP,
    }
}
