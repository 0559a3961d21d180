//! What is followed, and which part of it.

use model::Kind;

/// A resource of the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Resource {
    pub(super) kind: Kind,
    /// Of all namespaces.
    pub(super) path: &'static str,
    /// What an error calls it.
    pub(super) plural: &'static str,
    pub(super) labels: Option<&'static str>,
    pub(super) fields: Option<String>,
    /// Nothing is in force without it. Others may be missing or forbidden, which is said.
    pub(super) is_vital: bool,
}

impl Resource {
    /// Everything that is followed, on `node`, or on a machine that is none.
    pub(super) fn all(node: Option<&str>) -> Vec<Self> {
        let resource =
            |kind, path, plural| Self { kind, path, plural, labels: None, fields: None, is_vital: true };
        let pods = node.map(|node| Self {
            // Only says which addresses its clients have.
            fields: Some(format!("spec.nodeName={}", escaped(node))),
            is_vital: false,
            ..resource(Kind::Pod, "/api/v1/pods", "pods")
        });
        let everywhere = [
            resource(Kind::Service, "/api/v1/services", "services"),
            Self {
                // Slices of headless services lead nowhere (kubernetes 1.36 cmd/kube-proxy/app/server.go).
                labels: Some("!service.kubernetes.io/headless"),
                ..resource(
                    Kind::EndpointSlice,
                    "/apis/discovery.k8s.io/v1/endpointslices",
                    "endpointslices.discovery.k8s.io",
                )
            },
            resource(Kind::Node, "/api/v1/nodes", "nodes"),
            Self {
                // Since 1.33; only says which addresses are nobody's.
                is_vital: false,
                ..resource(
                    Kind::ServiceCidr,
                    "/apis/networking.k8s.io/v1/servicecidrs",
                    "servicecidrs.networking.k8s.io",
                )
            },
        ];
        everywhere.into_iter().chain(pods).collect()
    }
}

/// A value of a field selector (kubernetes 1.36 staging/src/k8s.io/apimachinery/pkg/fields/selector.go `EscapeValue`).
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_node_selects_its_pods_whatever_it_is() {
        assert_eq!(escaped("n-1.example"), "n-1.example");
        assert_eq!(escaped(r"a,b=c\d"), r"a\,b\=c\\d");
    }
}
