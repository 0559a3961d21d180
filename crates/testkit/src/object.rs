//! Kubernetes objects in few words, as the YAML text that an operator would write.
//!
//! Names are `namespace/name`, or only `name` for the namespace `default`. What is not said is left out, so
//! that defaulting is tested too. `Display` gives one document.

mod node;
mod slice;

use std::fmt::{self, Display, Write};

pub use self::{
    node::{Node, Pod, ServiceCidr, node, pod, service_cidr},
    slice::{Endpoint, Slice, endpoint, slice},
};

/// Joins objects to one multi-document text.
pub fn documents(objects: &[&dyn Display]) -> String {
    let texts: Vec<String> = objects.iter().map(ToString::to_string).collect();
    texts.join("---\n")
}

/// Metadata that every object has.
#[derive(Clone, Debug)]
struct Metadata {
    namespace: Option<String>,
    name: String,
    created: Option<String>,
    labels: Vec<(String, String)>,
    annotations: Vec<(String, String)>,
}

impl Metadata {
    fn namespaced(name: &str) -> Self {
        let (namespace, name) = name.split_once('/').unwrap_or(("default", name));
        Self { namespace: Some(namespace.to_owned()), ..Self::cluster(name) }
    }

    fn cluster(name: &str) -> Self {
        let (labels, annotations) = (Vec::new(), Vec::new());
        Self { namespace: None, name: name.to_owned(), created: None, labels, annotations }
    }

    fn write(&self, text: &mut String, api_version: &str, kind: &str) -> fmt::Result {
        writeln!(text, "apiVersion: {api_version}\nkind: {kind}\nmetadata:\n  name: {}", self.name)?;
        if let Some(namespace) = &self.namespace {
            writeln!(text, "  namespace: {namespace}")?;
        }
        if let Some(created) = &self.created {
            writeln!(text, "  creationTimestamp: {created:?}")?;
        }
        pairs(text, "  ", "labels", &self.labels)?;
        pairs(text, "  ", "annotations", &self.annotations)
    }
}

fn pairs(text: &mut String, indent: &str, key: &str, pairs: &[(String, String)]) -> fmt::Result {
    if pairs.is_empty() {
        return Ok(());
    }
    writeln!(text, "{indent}{key}:")?;
    // Quoted as JSON, so that "true" and "1" stay strings.
    pairs.iter().try_for_each(|(name, value)| writeln!(text, "{indent}  {name:?}: {value:?}"))
}

fn list(text: &mut String, indent: &str, key: &str, items: &[String]) -> fmt::Result {
    if items.is_empty() {
        return Ok(());
    }
    writeln!(text, "{indent}{key}:")?;
    items.iter().try_for_each(|item| writeln!(text, "{indent}- {item:?}"))
}

fn pair(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// `(name, port, protocol)` of `80`, `http:80`, `dns:53/UDP`.
fn port_words(words: &str) -> (Option<&str>, &str, Option<&str>) {
    let (rest, protocol) = match words.split_once('/') {
        Some((rest, protocol)) => (rest, Some(protocol)),
        None => (words, None),
    };
    match rest.split_once(':') {
        Some((name, port)) => (Some(name), port, protocol),
        None => (None, rest, protocol),
    }
}

/// Methods that every builder has, and its text.
macro_rules! object {
    ($builder:ident, $api_version:literal, $kind:literal) => {
        impl $builder {
            /// Adds a label.
            pub fn label(mut self, name: &str, value: &str) -> Self {
                self.metadata.labels.push(pair(name, value));
                self
            }

            /// Sets its `creationTimestamp`: `2026-01-01T00:00:00Z`.
            pub fn created(mut self, time: &str) -> Self {
                self.metadata.created = Some(time.to_owned());
                self
            }

            /// Adds an annotation.
            pub fn annotation(mut self, name: &str, value: &str) -> Self {
                self.metadata.annotations.push(pair(name, value));
                self
            }
        }

        impl Display for $builder {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut text = String::new();
                self.metadata.write(&mut text, $api_version, $kind)?;
                self.write_body(&mut text)?;
                f.write_str(&text)
            }
        }
    };
}

use object;

/// A Service.
#[derive(Clone, Debug)]
pub struct Service {
    metadata: Metadata,
    fields: Vec<(String, String)>,
    cluster_ips: Vec<String>,
    external_ips: Vec<String>,
    /// With the mode, where it is said.
    load_balancer_ips: Vec<(String, Option<&'static str>)>,
    source_ranges: Vec<String>,
    selector: Vec<(String, String)>,
    ports: Vec<String>,
    affinity_seconds: Option<u32>,
}

object!(Service, "v1", "Service");

/// A Service without cluster IP and ports yet.
pub fn service(name: &str) -> Service {
    Service {
        metadata: Metadata::namespaced(name),
        fields: Vec::new(),
        cluster_ips: Vec::new(),
        external_ips: Vec::new(),
        load_balancer_ips: Vec::new(),
        source_ranges: Vec::new(),
        selector: Vec::new(),
        ports: Vec::new(),
        affinity_seconds: None,
    }
}

impl Service {
    /// Adds a cluster IP; the first one is also `clusterIP`. `None` makes the service headless.
    pub fn cluster_ip(mut self, ip: impl Display) -> Self {
        self.cluster_ips.push(ip.to_string());
        self
    }

    /// Adds an external IP.
    pub fn external_ip(mut self, ip: impl Display) -> Self {
        self.external_ips.push(ip.to_string());
        self
    }

    /// Adds an address to the status, as a cloud's controller does.
    pub fn load_balancer_ip(mut self, ip: impl Display) -> Self {
        self.load_balancer_ips.push((ip.to_string(), None));
        self
    }

    /// The same for an address whose traffic the cloud's proxy delivers.
    pub fn proxied_ip(mut self, ip: impl Display) -> Self {
        self.load_balancer_ips.push((ip.to_string(), Some("Proxy")));
        self
    }

    /// Adds a range to `loadBalancerSourceRanges`.
    pub fn source_range(mut self, range: impl Display) -> Self {
        self.source_ranges.push(range.to_string());
        self
    }

    /// Selects pods by a label.
    pub fn select(mut self, label: &str, value: &str) -> Self {
        self.selector.push(pair(label, value));
        self
    }

    /// Adds a port: `80`, `http:80`, `dns:53/UDP`.
    pub fn port(self, words: &str) -> Self {
        self.port_with(words, &[])
    }

    /// Adds a port with further fields: `port_with("http:80", &[("targetPort", "8080"), ("nodePort", "30080")])`.
    pub fn port_with(mut self, words: &str, fields: &[(&str, &str)]) -> Self {
        let (name, port, protocol) = port_words(words);
        let named = name.map(|name| ("name", name)).into_iter();
        let all = named.chain([("port", port)]).chain(protocol.map(|protocol| ("protocol", protocol)));
        let flow: Vec<String> =
            all.chain(fields.iter().copied()).map(|(key, value)| format!("{key}: {value}")).collect();
        self.ports.push(format!("{{{}}}", flow.join(", ")));
        self
    }

    /// Session affinity by client address.
    pub fn affinity(mut self, seconds: u32) -> Self {
        self.affinity_seconds = Some(seconds);
        self
    }

    /// Sets any other field of the spec: `field("externalTrafficPolicy", "Local")`.
    pub fn field(mut self, name: &str, value: &str) -> Self {
        self.fields.push(pair(name, value));
        self
    }

    fn write_body(&self, text: &mut String) -> fmt::Result {
        writeln!(text, "spec:")?;
        for (name, value) in &self.fields {
            writeln!(text, "  {name}: {value}")?;
        }
        if let Some(first) = self.cluster_ips.first() {
            writeln!(text, "  clusterIP: {first:?}")?;
            list(text, "  ", "clusterIPs", &self.cluster_ips)?;
        }
        list(text, "  ", "externalIPs", &self.external_ips)?;
        list(text, "  ", "loadBalancerSourceRanges", &self.source_ranges)?;
        pairs(text, "  ", "selector", &self.selector)?;
        if let Some(seconds) = self.affinity_seconds {
            writeln!(text, "  sessionAffinity: ClientIP\n  sessionAffinityConfig:")?;
            writeln!(text, "    clientIP: {{timeoutSeconds: {seconds}}}")?;
        }
        if !self.ports.is_empty() {
            writeln!(text, "  ports:")?;
            self.ports.iter().try_for_each(|port| writeln!(text, "  - {port}"))?;
        }
        if !self.load_balancer_ips.is_empty() {
            writeln!(text, "status:\n  loadBalancer:\n    ingress:")?;
            for (ip, mode) in &self.load_balancer_ips {
                writeln!(text, "    - ip: {ip:?}")?;
                mode.map_or(Ok(()), |mode| writeln!(text, "      ipMode: {mode}"))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_as_text() {
        let text =
            service("shop/web").cluster_ip("10.96.0.10").select("app", "web").port("http:80").affinity(60);
        assert_eq!(
            text.port_with("dns:53/UDP", &[("targetPort", "5353")]).to_string(),
            "apiVersion: v1\nkind: Service\nmetadata:\n  name: web\n  namespace: shop\nspec:\n  \
             clusterIP: \"10.96.0.10\"\n  clusterIPs:\n  - \"10.96.0.10\"\n  selector:\n    \"app\": \"web\"\n  \
             sessionAffinity: ClientIP\n  sessionAffinityConfig:\n    clientIP: {timeoutSeconds: 60}\n  ports:\n  \
             - {name: http, port: 80}\n  - {name: dns, port: 53, protocol: UDP, targetPort: 5353}\n"
        );
    }

    #[test]
    fn a_slice_as_text() {
        let text = slice("shop/web-1", "web").port("http:8080").endpoint("fd00::1");
        let gone = endpoint("fd00::2").ready(false).zone("a").for_zone("a").pod("shop/web-x");
        assert_eq!(
            text.endpoint(gone).to_string(),
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: web-1\n  namespace: shop\n  \
             labels:\n    \"kubernetes.io/service-name\": \"web\"\naddressType: IPv6\nports:\n\
             - {name: http, port: 8080}\nendpoints:\n- addresses: [\"fd00::1\"]\n- addresses: [\"fd00::2\"]\n  \
             zone: a\n  targetRef: {kind: Pod, namespace: shop, name: web-x}\n  conditions:\n    ready: false\n  \
             hints:\n    forZones:\n    - name: \"a\"\n"
        );
    }

    #[test]
    fn documents_are_separated() {
        let text = documents(&[
            &node("a").zone("z").internal_ip("10.0.0.1"),
            &pod("p").terminating().ip("10.1.0.1"),
        ]);
        assert!(text.contains("address: \"10.0.0.1\"}\n---\napiVersion: v1\nkind: Pod\n"), "{text}");
        assert!(text.contains("  namespace: default\n  deletionTimestamp: "), "{text}");
    }
}
