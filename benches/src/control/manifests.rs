//! Services and their endpoints as manifests.

use std::{fmt::Write, net::Ipv4Addr};

use crate::tables::{ENDPOINTS, TARGET};

/// Services in one file.
pub(super) const IN_ONE_FILE: u32 = 1000;

/// What is said of an endpoint.
#[derive(Clone, Copy)]
pub(super) struct Style {
    /// Conditions, node, zone and pod too.
    pub(super) full: bool,
}

impl Style {
    /// A service that answers on `ports`, each with its protocol and name.
    pub(super) fn service(self, name: &str, vip: Ipv4Addr, protocols: &[&str]) -> String {
        let ports: Vec<String> = protocols
            .iter()
            .map(|it| {
                format!("{{name: {}, protocol: {it}, port: 80, targetPort: {TARGET}}}", it.to_lowercase())
            })
            .collect();
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  clusterIP: {vip}\n  ports: [{}]\n",
            ports.join(", ")
        )
    }

    /// Its endpoints: ten addresses from `first` on.
    pub(super) fn slice(self, service: &str, first: Ipv4Addr, protocols: &[&str]) -> String {
        let ports: Vec<String> = protocols
            .iter()
            .map(|it| format!("{{name: {}, protocol: {it}, port: {TARGET}}}", it.to_lowercase()))
            .collect();
        let mut text = format!(
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {service}-1, labels: \
             {{kubernetes.io/service-name: {service}}}}}\naddressType: IPv4\nports: [{}]\nendpoints:\n",
            ports.join(", ")
        );
        for ip in addresses(first) {
            // Writing to a String does not fail.
            let _ = writeln!(text, "- addresses: [{ip}]");
            if self.full {
                let number = u32::from(ip);
                let _ = writeln!(
                    text,
                    "  conditions: {{ready: true, serving: true, terminating: false}}\n  nodeName: node-{}\n  zone: zone-{}\n  \
                     targetRef: {{kind: Pod, namespace: default, name: {service}-6d4cf56db6-{number:08x}}}",
                    number % 1000,
                    number % 3
                );
            }
        }
        text
    }
}

/// The addresses of a slice.
pub(super) fn addresses(first: Ipv4Addr) -> impl Iterator<Item = Ipv4Addr> {
    (0..ENDPOINTS).map(move |index| Ipv4Addr::from(u32::from(first) + index))
}
