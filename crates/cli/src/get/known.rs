//! What the agent knows of endpoints, found by what the kernel knows of them.

use std::{collections::HashMap, net::SocketAddr};

use agent::local::{Endpoint, PortEndpoints};

use super::service_port::ServicePort;

/// Service port, protocol, address.
pub(super) type Key = (ServicePort, String, SocketAddr);

/// See the module. Empty if no agent runs.
pub(super) struct Known(HashMap<Key, Endpoint>);

impl Known {
    /// From the agent's answer.
    pub(super) fn new(ports: Vec<PortEndpoints>) -> Self {
        let mut known = HashMap::new();
        for port in ports {
            let service_port =
                ServicePort { namespace: port.namespace, service: port.service, port: port.port };
            for endpoint in port.endpoints {
                known.insert((service_port.clone(), port.protocol.clone(), endpoint.address), endpoint);
            }
        }
        Self(known)
    }

    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = (&Key, &Endpoint)> {
        self.0.iter()
    }

    /// One endpoint.
    pub(super) fn find(&self, port: &ServicePort, protocol: &str, address: SocketAddr) -> Option<&Endpoint> {
        self.0.get(&(port.clone(), protocol.into(), address))
    }
}
