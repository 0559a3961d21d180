//! What the agent knows of endpoints, found by what the kernel knows of them.

use std::{collections::HashMap, net::SocketAddr};

use agent::local::{Endpoint, PortEndpoints};

/// Namespace, service, port, protocol, address.
type Key = (String, String, String, String, SocketAddr);

/// See the module. Empty if no agent runs.
pub(super) struct Known(HashMap<Key, Endpoint>);

impl Known {
    /// From the agent's answer.
    pub(super) fn new(ports: Vec<PortEndpoints>) -> Self {
        let mut known = HashMap::new();
        for port in ports {
            for endpoint in port.endpoints {
                let (namespace, service) = (port.namespace.clone(), port.service.clone());
                let key = (namespace, service, port.port.clone(), port.protocol.clone(), endpoint.address);
                known.insert(key, endpoint);
            }
        }
        Self(known)
    }

    /// One endpoint.
    pub(super) fn find(
        &self,
        namespace: &str,
        service: &str,
        port: &str,
        protocol: &str,
        address: SocketAddr,
    ) -> Option<&Endpoint> {
        self.0.get(&(namespace.into(), service.into(), port.into(), protocol.into(), address))
    }
}
