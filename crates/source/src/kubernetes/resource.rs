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
    pub(super) need: Need,
}

/// What becomes of the others where a resource can't be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Nothing is in force without it.
    Vital,
    /// They go on, without what is said here.
    Useful(&'static str),
    /// They go on. A cluster without its definition has none of it, which is nothing to tell anybody of.
    Defined {
        /// Of `apiVersion`.
        group: &'static str,
        /// Of `apiVersion`.
        version: &'static str,
    },
}

impl Resource {
    /// Everything that is followed, on `node`, or on a machine that is none.
    pub(super) fn all(node: Option<&str>) -> Vec<Self> {
        let resource =
            |kind, path, plural| Self { kind, path, plural, labels: None, fields: None, need: Need::Vital };
        let policies = |kind, path, plural| Self {
            need: Need::Defined { group: "balancing.elf.io", version: "v1beta1" },
            ..resource(kind, path, plural)
        };
        let everywhere = [
            resource(Kind::Service, "/api/v1/services", "services"),
            Self {
                // Slices of headless services lead nowhere (kubernetes 1.36 cmd/kube-proxy/app/server.go). Those that the
                // controller makes for policies come with all others (P10).
                labels: Some("!service.kubernetes.io/headless"),
                ..resource(
                    Kind::EndpointSlice,
                    "/apis/discovery.k8s.io/v1/endpointslices",
                    "endpointslices.discovery.k8s.io",
                )
            },
            resource(Kind::Node, "/api/v1/nodes", "nodes"),
            Self {
                // Since 1.33.
                need: Need::Useful("addresses that no service has are not refused"),
                ..resource(
                    Kind::ServiceCidr,
                    "/apis/networking.k8s.io/v1/servicecidrs",
                    "servicecidrs.networking.k8s.io",
                )
            },
            policies(
                Kind::BalancingPolicy,
                "/apis/balancing.elf.io/v1beta1/balancingpolicies",
                "balancingpolicies.balancing.elf.io",
            ),
        ];
        // P11: nothing is local to a machine that is no node.
        let on_nodes = node.into_iter().flat_map(|node| {
            [
                Self {
                    fields: Some(format!("spec.nodeName={}", escaped(node))),
                    need: Need::Useful(
                        "LocalRedirectPolicies have no backends, and clients of loadBalancerSourceRanges are known by \
                         their interfaces alone",
                    ),
                    ..resource(Kind::Pod, "/api/v1/pods", "pods")
                },
                Self {
                    need: Need::Useful(
                        "their annotations balancing.elf.io/socket-lb have no effect, those of pods do",
                    ),
                    ..resource(Kind::Namespace, "/api/v1/namespaces", "namespaces")
                },
                policies(
                    Kind::LocalRedirectPolicy,
                    "/apis/balancing.elf.io/v1beta1/localredirectpolicies",
                    "localredirectpolicies.balancing.elf.io",
                ),
            ]
        });
        everywhere.into_iter().chain(on_nodes).collect()
    }

    /// Everything that a controller follows: all pods, and of slices its own. Policies that it may not see are no policies that
    /// are gone: it does without nothing.
    pub(super) fn of_controller() -> Vec<Self> {
        let pods = Self {
            kind: Kind::Pod,
            path: "/api/v1/pods",
            plural: "pods",
            labels: None,
            fields: None,
            need: Need::Vital,
        };
        let policies = Self {
            kind: Kind::LocalRedirectPolicy,
            path: "/apis/balancing.elf.io/v1beta1/localredirectpolicies",
            plural: "localredirectpolicies.balancing.elf.io",
            ..pods.clone()
        };
        let others = Self::all(None).into_iter().filter(|it| it.kind != Kind::ServiceCidr);
        let others = others.map(|it| Self { labels: it.labels.map(|_| OWN_SLICES), need: Need::Vital, ..it });
        others.chain([pods, policies]).collect()
    }
}

/// Those of [`api::SLICE_MANAGER`].
const OWN_SLICES: &str = "endpointslice.kubernetes.io/managed-by=balancing-controller";

/// A value of a field selector (kubernetes 1.36 staging/src/k8s.io/apimachinery/pkg/fields/selector.go `EscapeValue`).
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_controller_follows_the_slices_that_it_makes() {
        let all = Resource::of_controller();
        let labelled: Vec<_> = all.iter().filter_map(|it| Some((it.kind, it.labels?))).collect();
        assert_eq!((all.len(), labelled), (6, vec![(Kind::EndpointSlice, OWN_SLICES)]));
        assert!(all.iter().all(|it| it.need == Need::Vital && it.fields.is_none()));
        assert_eq!(OWN_SLICES, format!("endpointslice.kubernetes.io/managed-by={}", api::SLICE_MANAGER));
    }

    /// Not by the controller either: what becomes of connections is no affair of its.
    #[test]
    fn namespaces_are_followed_on_nodes_alone_and_done_without_if_need_be() {
        let of = |resources: Vec<Resource>| resources.into_iter().find(|it| it.kind == Kind::Namespace);
        let followed = of(Resource::all(Some("n1"))).unwrap();
        assert_eq!((followed.path, followed.fields), ("/api/v1/namespaces", None));
        assert!(matches!(followed.need, Need::Useful(_)));
        assert_eq!((of(Resource::all(None)), of(Resource::of_controller())), (None, None));
    }

    #[test]
    fn the_name_of_a_node_selects_its_pods_whatever_it_is() {
        assert_eq!(escaped("n-1.example"), "n-1.example");
        assert_eq!(escaped(r"a,b=c\d"), r"a\,b\=c\\d");
    }
}
