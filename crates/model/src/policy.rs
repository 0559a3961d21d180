//! LocalRedirectPolicy and BalancingPolicy, as decisions need them.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use crate::{
    annotation::NodeAnnotation,
    object::{Family, Kind, Node, ObjectId, ObjectName, Protocol, Service, ServicePortName, TargetPort},
    selector::Selector,
};

/// A LocalRedirectPolicy or a BalancingPolicy. Both are cluster-scoped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`, empty in most manifests.
    pub uid: String,
    /// `metadata.creationTimestamp`, seconds since 1970; manifests have none.
    pub created: Option<i64>,
    /// What is asked for.
    pub frontend: PolicyFrontend,
    /// Who answers. It also says of which kind the policy is.
    pub backends: PolicyBackends,
    /// `config.nodeLabelSelector`: where it applies; `None` = everywhere.
    pub nodes: Option<Selector>,
    /// `config.enableOutCluster`: whether it applies on hosts that are no nodes of the cluster (P11).
    pub outside: bool,
    /// `config.qosLimit`: connections per second and node (P6); 0 = any number, `None` = as the agent is told.
    pub limit: Option<u32>,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyFrontend {
    /// The cluster IPs of a service, which need not exist (P3).
    Service {
        /// The service.
        service: ObjectName,
        /// Those of its ports that are meant; empty = all.
        ports: Vec<FrontendPort>,
    },
    /// An address.
    Address {
        /// The address.
        ip: IpAddr,
        /// Its ports.
        ports: Vec<FrontendPort>,
    },
}

/// A port that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrontendPort {
    /// What ties it to that of the other side, `""` where unset.
    pub name: Arc<str>,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Its number, 1-65535.
    pub port: u16,
}

/// A port where backends listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendPort {
    /// What ties it to that of the other side, `""` where unset.
    pub name: Arc<str>,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Its number, or the name of a container port.
    pub target: TargetPort,
}

/// Who answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyBackends {
    /// Pods on the client's node (P4): this makes it a LocalRedirectPolicy.
    Local(PodBackends),
    /// Pods, or the nodes that they run on.
    Pods(PodBackends, RedirectMode),
    /// Addresses.
    Addresses(AddressBackends),
}

/// Pods by their labels, in all namespaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodBackends {
    /// Which pods.
    pub selector: Selector,
    /// Where they listen.
    pub ports: Vec<BackendPort>,
}

/// Which address of a pod is used (P8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedirectMode {
    /// Its own.
    PodEndpoint,
    /// The InternalIP of its node.
    HostPort,
    /// What its node's annotation says.
    NodeProxy,
}

impl RedirectMode {
    /// The address of a node in a family, where it is what this mode uses (P8).
    pub fn node_address(self, node: &Node, family: Family) -> Option<IpAddr> {
        let of_family = |ip: &IpAddr| Family::of(*ip) == family;
        match self {
            Self::PodEndpoint => None,
            Self::HostPort => node.internal_ips.iter().copied().find(of_family),
            Self::NodeProxy => {
                node.annotations.get(&self.annotation(family)?)?.value.parse().ok().filter(of_family)
            }
        }
    }

    /// The annotation of nodes that says so, where it is one.
    pub fn annotation(self, family: Family) -> Option<NodeAnnotation> {
        match (self, family) {
            (Self::PodEndpoint | Self::HostPort, _) => None,
            (Self::NodeProxy, Family::V4) => Some(NodeAnnotation::NodeProxyIpv4),
            (Self::NodeProxy, Family::V6) => Some(NodeAnnotation::NodeProxyIpv6),
        }
    }
}

/// Addresses, of one family or both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressBackends {
    /// Each with its weight, at least 1.
    pub addresses: BTreeMap<IpAddr, u32>,
    /// Where they listen: numbers only.
    pub ports: Vec<BackendPort>,
    /// Whether, and how, they are asked if they are well.
    pub probe: Option<Probe>,
}

/// How backends are asked if they are well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// What is asked.
    pub action: ProbeAction,
    /// The port that is asked, whichever connections go to: an address is well or not as a whole.
    pub port: u16,
    /// From one question to the next.
    pub interval: Duration,
    /// How long an answer may take, at most the interval.
    pub timeout: Duration,
    /// Good answers in a row that make it healthy, at least 1.
    pub healthy: u32,
    /// Failures in a row that make it unhealthy, at least 1.
    pub unhealthy: u32,
    /// With all of them unhealthy, all are used; else none.
    pub use_all: bool,
}

/// What a probe asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeAction {
    /// Whether it accepts connections.
    Tcp,
    /// Whether it answers a GET of this path with 200 to 399.
    Http(String),
}

impl Policy {
    /// Which kind of policy it is.
    pub fn kind(&self) -> Kind {
        match self.backends {
            PolicyBackends::Local(_) => Kind::LocalRedirectPolicy,
            PolicyBackends::Pods(..) | PolicyBackends::Addresses(_) => Kind::BalancingPolicy,
        }
    }

    /// Kind and name.
    pub fn id(&self) -> ObjectId {
        ObjectId { kind: self.kind(), name: ObjectName::new("", &self.name) }
    }

    /// The pods that it selects, and where they listen.
    pub fn pods(&self) -> Option<&PodBackends> {
        match &self.backends {
            PolicyBackends::Local(pods) | PolicyBackends::Pods(pods, _) => Some(pods),
            PolicyBackends::Addresses(_) => None,
        }
    }

    /// Where its backends listen.
    pub fn backend_ports(&self) -> &[BackendPort] {
        match &self.backends {
            PolicyBackends::Local(pods) | PolicyBackends::Pods(pods, _) => &pods.ports,
            PolicyBackends::Addresses(addresses) => &addresses.ports,
        }
    }

    /// The service whose cluster IPs it is about.
    pub fn service(&self) -> Option<&ObjectName> {
        match &self.frontend {
            PolicyFrontend::Service { service, .. } => Some(service),
            PolicyFrontend::Address { .. } => None,
        }
    }

    /// What it redirects, each with the backend port that it leads to (P2): addresses and ports that were asked for.
    /// `service` is that of [`Policy::service`], if it is there.
    pub fn redirects<'a>(&'a self, service: Option<&Service>) -> Vec<Redirect<'a>> {
        let mut redirects = Vec::new();
        match &self.frontend {
            PolicyFrontend::Address { ip, ports } => {
                for port in ports {
                    let backend = self.backend_port(&port.name, port.protocol, ports.len());
                    redirects.extend(backend.map(|backend| Redirect { ip: *ip, port: port.port, backend }));
                }
            }
            PolicyFrontend::Service { ports, .. } => {
                for (offered, ip) in service.into_iter().flat_map(|service| {
                    service
                        .ports
                        .iter()
                        .flat_map(|port| service.cluster_ips.iter().map(move |ip| (port, *ip)))
                }) {
                    let backend = if ports.is_empty() {
                        // Names are the service's own; one backend port is for all of them.
                        self.backend_port(&offered.name, offered.protocol, 1)
                    } else {
                        let meant = ports
                            .iter()
                            .find(|it| (it.port, it.protocol) == (offered.port, offered.protocol));
                        meant.and_then(|it| self.backend_port(&it.name, it.protocol, ports.len()))
                    };
                    redirects.extend(backend.map(|backend| Redirect { ip, port: offered.port, backend }));
                }
            }
        }
        redirects
    }

    /// The backend port for one of `count` frontend ports.
    fn backend_port(&self, name: &str, protocol: Protocol, count: usize) -> Option<&BackendPort> {
        match self.backend_ports() {
            [only] if count == 1 => (only.protocol == protocol).then_some(only),
            all => all.iter().find(|it| *it.name == *name && it.protocol == protocol),
        }
    }

    /// The identity of a backend port in a family: what has an id in the kernel's maps.
    pub fn port_name(&self, port: &BackendPort, family: Family) -> ServicePortName {
        ServicePortName {
            kind: self.kind(),
            service: ObjectName::new("", &self.name),
            port: port.name.clone(),
            protocol: port.protocol,
            family,
        }
    }
}

/// One address and port that a policy redirects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Redirect<'a> {
    /// The address that is asked for.
    pub ip: IpAddr,
    /// The port that is asked for.
    pub port: u16,
    /// Where it leads to; its protocol is that of both sides.
    pub backend: &'a BackendPort,
}

#[cfg(test)]
mod tests;
