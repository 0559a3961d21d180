//! EndpointSlices.

use std::{
    fmt::{self, Display, Write},
    net::IpAddr,
};

use super::{Metadata, object, pair, port_words};

/// An EndpointSlice.
#[derive(Clone, Debug)]
pub struct Slice {
    metadata: Metadata,
    family: &'static str,
    ports: Vec<String>,
    endpoints: Vec<Endpoint>,
}

object!(Slice, "discovery.k8s.io/v1", "EndpointSlice");

/// An EndpointSlice of `service`, which is in the same namespace. Its family is that of its first endpoint.
pub fn slice(name: &str, service: &str) -> Slice {
    let metadata = Metadata::namespaced(name);
    Slice { metadata, family: "IPv4", ports: Vec::new(), endpoints: Vec::new() }
        .label("kubernetes.io/service-name", service)
}

impl Slice {
    /// Says `addressType: IPv6` even where there is no endpoint to tell.
    pub fn ipv6(mut self) -> Self {
        self.family = "IPv6";
        self
    }

    /// Adds a port: `8080`, `http:8080`, `dns:5353/UDP`.
    pub fn port(mut self, words: &str) -> Self {
        let (name, port, protocol) = port_words(words);
        let name = name.map(|name| format!("name: {name}, ")).unwrap_or_default();
        let protocol = protocol.map(|protocol| format!(", protocol: {protocol}")).unwrap_or_default();
        self.ports.push(format!("{{{name}port: {port}{protocol}}}"));
        self
    }

    /// Adds an endpoint with this address, or one with conditions: see [`endpoint`].
    pub fn endpoint(mut self, endpoint: impl Into<Endpoint>) -> Self {
        let endpoint = endpoint.into();
        if self.endpoints.is_empty() && endpoint.address.contains(':') {
            self.family = "IPv6";
        }
        self.endpoints.push(endpoint);
        self
    }

    fn write_body(&self, text: &mut String) -> fmt::Result {
        writeln!(text, "addressType: {}", self.family)?;
        if !self.ports.is_empty() {
            writeln!(text, "ports:")?;
            self.ports.iter().try_for_each(|port| writeln!(text, "- {port}"))?;
        }
        writeln!(text, "endpoints:{}", if self.endpoints.is_empty() { " []" } else { "" })?;
        self.endpoints.iter().try_for_each(|endpoint| endpoint.write(text))
    }
}

/// One endpoint of a slice.
#[derive(Clone, Debug)]
pub struct Endpoint {
    address: String,
    conditions: Vec<(&'static str, bool)>,
    fields: Vec<(&'static str, String)>,
    zones: Vec<String>,
    nodes: Vec<String>,
}

/// An endpoint that says nothing about its conditions, which means ready.
pub fn endpoint(address: impl Display) -> Endpoint {
    Endpoint {
        address: address.to_string(),
        conditions: Vec::new(),
        fields: Vec::new(),
        zones: Vec::new(),
        nodes: Vec::new(),
    }
}

impl From<&str> for Endpoint {
    fn from(address: &str) -> Self {
        endpoint(address)
    }
}

impl From<IpAddr> for Endpoint {
    fn from(address: IpAddr) -> Self {
        endpoint(address)
    }
}

impl Endpoint {
    /// Condition `ready`.
    pub fn ready(mut self, value: bool) -> Self {
        self.conditions.push(("ready", value));
        self
    }

    /// Condition `serving`.
    pub fn serving(mut self, value: bool) -> Self {
        self.conditions.push(("serving", value));
        self
    }

    /// Condition `terminating`.
    pub fn terminating(mut self, value: bool) -> Self {
        self.conditions.push(("terminating", value));
        self
    }

    /// The node it runs on.
    pub fn node(mut self, name: &str) -> Self {
        self.fields.push(("nodeName", name.to_owned()));
        self
    }

    /// The zone it is in.
    pub fn zone(mut self, name: &str) -> Self {
        self.fields.push(("zone", name.to_owned()));
        self
    }

    /// A hint that it is for clients in this zone.
    pub fn for_zone(mut self, zone: &str) -> Self {
        self.zones.push(zone.to_owned());
        self
    }

    /// A hint that it is for clients on this node.
    pub fn for_node(mut self, node: &str) -> Self {
        self.nodes.push(node.to_owned());
        self
    }

    /// The pod behind it: `namespace/name`.
    pub fn pod(mut self, name: &str) -> Self {
        let (namespace, name) = name.split_once('/').unwrap_or(("default", name));
        self.fields.push(("targetRef", format!("{{kind: Pod, namespace: {namespace}, name: {name}}}")));
        self
    }

    fn write(&self, text: &mut String) -> fmt::Result {
        writeln!(text, "- addresses: [{:?}]", self.address)?;
        for (name, value) in &self.fields {
            writeln!(text, "  {name}: {value}")?;
        }
        if !self.conditions.is_empty() {
            writeln!(text, "  conditions:")?;
            self.conditions.iter().try_for_each(|(name, value)| writeln!(text, "    {name}: {value}"))?;
        }
        if self.zones.is_empty() && self.nodes.is_empty() {
            return Ok(());
        }
        writeln!(text, "  hints:")?;
        for (key, names) in [("forZones", &self.zones), ("forNodes", &self.nodes)] {
            if !names.is_empty() {
                writeln!(text, "    {key}:")?;
                names.iter().try_for_each(|name| writeln!(text, "    - name: {name:?}"))?;
            }
        }
        Ok(())
    }
}
