//! Nodes, the pods on them, and the range that service addresses come from.

use std::fmt::{self, Display, Write};

use super::{Metadata, list, object, pair, port_words};

/// A Node.
#[derive(Clone, Debug)]
pub struct Node {
    metadata: Metadata,
    addresses: Vec<(&'static str, String)>,
}

object!(Node, "v1", "Node");

/// A Node without addresses yet.
pub fn node(name: &str) -> Node {
    Node { metadata: Metadata::cluster(name), addresses: Vec::new() }
}

impl Node {
    /// Puts it into a zone.
    pub fn zone(self, name: &str) -> Self {
        self.label("topology.kubernetes.io/zone", name)
    }

    /// Adds an address of type InternalIP.
    pub fn internal_ip(mut self, ip: impl Display) -> Self {
        self.addresses.push(("InternalIP", ip.to_string()));
        self
    }

    /// Adds an address of type ExternalIP.
    pub fn external_ip(mut self, ip: impl Display) -> Self {
        self.addresses.push(("ExternalIP", ip.to_string()));
        self
    }

    fn write_body(&self, text: &mut String) -> fmt::Result {
        if self.addresses.is_empty() {
            return Ok(());
        }
        writeln!(text, "status:\n  addresses:")?;
        self.addresses
            .iter()
            .try_for_each(|(kind, address)| writeln!(text, "  - {{type: {kind}, address: {address:?}}}"))
    }
}

/// A Pod.
#[derive(Clone, Debug)]
pub struct Pod {
    metadata: Metadata,
    node: Option<String>,
    ips: Vec<String>,
    ports: Vec<String>,
    ready: bool,
    phase: String,
    terminating: bool,
}

object!(Pod, "v1", "Pod");

/// A running, ready Pod without addresses yet.
pub fn pod(name: &str) -> Pod {
    Pod {
        metadata: Metadata::namespaced(name),
        node: None,
        ips: Vec::new(),
        ports: Vec::new(),
        ready: true,
        phase: "Running".to_owned(),
        terminating: false,
    }
}

impl Pod {
    /// The node it runs on.
    pub fn node(mut self, name: &str) -> Self {
        self.node = Some(name.to_owned());
        self
    }

    /// Adds an address; the first one is also `podIP`.
    pub fn ip(mut self, ip: impl Display) -> Self {
        self.ips.push(ip.to_string());
        self
    }

    /// Adds a container port: `8080`, `http:8080`, `dns:5353/UDP`.
    pub fn port(mut self, words: &str) -> Self {
        let (name, port, protocol) = port_words(words);
        let name = name.map(|name| format!("name: {name}, ")).unwrap_or_default();
        let protocol = protocol.map(|protocol| format!(", protocol: {protocol}")).unwrap_or_default();
        self.ports.push(format!("{{{name}containerPort: {port}{protocol}}}"));
        self
    }

    /// Its condition Ready is False.
    pub fn not_ready(mut self) -> Self {
        self.ready = false;
        self
    }

    /// It is being deleted.
    pub fn terminating(mut self) -> Self {
        self.terminating = true;
        self
    }

    /// `status.phase`.
    pub fn phase(mut self, phase: &str) -> Self {
        self.phase = phase.to_owned();
        self
    }

    fn write_body(&self, text: &mut String) -> fmt::Result {
        if self.terminating {
            // Metadata is what was written last.
            writeln!(text, "  deletionTimestamp: \"2026-01-01T00:00:00Z\"")?;
        }
        writeln!(text, "spec:")?;
        if let Some(node) = &self.node {
            writeln!(text, "  nodeName: {node:?}")?;
        }
        writeln!(text, "  containers:\n  - name: main\n    image: none")?;
        if !self.ports.is_empty() {
            writeln!(text, "    ports:")?;
            self.ports.iter().try_for_each(|port| writeln!(text, "    - {port}"))?;
        }
        let ready = if self.ready { "True" } else { "False" };
        writeln!(text, "status:\n  phase: {}", self.phase)?;
        writeln!(text, "  conditions:\n  - {{type: Ready, status: {ready:?}}}")?;
        if let Some(first) = self.ips.first() {
            writeln!(text, "  podIP: {first:?}\n  podIPs:")?;
            self.ips.iter().try_for_each(|ip| writeln!(text, "  - ip: {ip:?}"))?;
        }
        Ok(())
    }
}

/// A ServiceCIDR.
#[derive(Clone, Debug)]
pub struct ServiceCidr {
    metadata: Metadata,
    cidrs: Vec<String>,
}

object!(ServiceCidr, "networking.k8s.io/v1", "ServiceCIDR");

/// A ServiceCIDR of these ranges.
pub fn service_cidr(name: &str, cidrs: &[&str]) -> ServiceCidr {
    ServiceCidr { metadata: Metadata::cluster(name), cidrs: cidrs.iter().map(ToString::to_string).collect() }
}

impl ServiceCidr {
    fn write_body(&self, text: &mut String) -> fmt::Result {
        writeln!(text, "spec:")?;
        list(text, "  ", "cidrs", &self.cidrs)
    }
}
