//! What connections were for, and whose they were, in words.

use std::fmt;

use agent::local::policy_name;
use observe::{
    event::{Policy, Service, Who},
    usage::{BackendUse, ClientUse},
};
use serde::Serialize;

/// What a connection was for. Listings are sorted by it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Target {
    /// A service port.
    Service {
        /// Namespace of the service.
        namespace: String,
        /// Its name.
        name: String,
        /// Name of the port, empty where unset.
        port: String,
    },
    /// A policy, which took it.
    Policy {
        /// `LocalRedirectPolicy` or `BalancingPolicy`.
        kind: String,
        /// Its name.
        name: String,
    },
    /// Nothing that has a name.
    Nothing,
}

impl Target {
    /// Of a service port, or the policy that decided.
    pub(crate) fn new(service: Option<&Service>, policy: Option<&Policy>) -> Self {
        match (service, policy) {
            (_, Some(Policy { kind, name })) => Self::Policy { kind: kind.clone(), name: name.clone() },
            (Some(Service { namespace, name, port }), None) => {
                Self::Service { namespace: namespace.clone(), name: name.clone(), port: port.clone() }
            }
            (None, None) => Self::Nothing,
        }
    }

    /// Namespace and name of the service.
    pub(crate) fn service(&self) -> Option<(&str, &str)> {
        match self {
            Self::Service { namespace, name, .. } => Some((namespace, name)),
            Self::Policy { .. } | Self::Nothing => None,
        }
    }

    /// Name of the policy.
    pub(crate) fn policy(&self) -> Option<&str> {
        match self {
            Self::Policy { name, .. } => Some(name),
            Self::Service { .. } | Self::Nothing => None,
        }
    }
}

impl From<&ClientUse> for Target {
    fn from(it: &ClientUse) -> Self {
        Self::new(it.service.as_ref(), it.policy.as_ref())
    }
}

impl From<&BackendUse> for Target {
    fn from(it: &BackendUse) -> Self {
        Self::new(it.service.as_ref(), it.policy.as_ref())
    }
}

/// `shop/cart:http`; a policy, which has no namespace, as kubectl would take it: `lr/dns`.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service { namespace, name, port } if port.is_empty() => write!(f, "{namespace}/{name}"),
            Self::Service { namespace, name, port } => write!(f, "{namespace}/{name}:{port}"),
            Self::Policy { kind, name } => f.write_str(&policy_name(kind, name)),
            Self::Nothing => f.write_str("(no service)"),
        }
    }
}

/// Is it a verdict with which the application's call fails?
pub(crate) fn is_failure(verdict: &str) -> bool {
    use abi::Verdict::{Denied, Refused, Unreachable};
    [Denied, Refused, Unreachable].iter().any(|it| it.name() == verdict)
}

/// `shop/web-1/app`: namespace, pod, container; `host sshd.service` of what is in no container; `?` of what is not known.
pub(crate) fn who(it: &Who) -> String {
    let short = |id: &str| id.chars().take(12).collect::<String>();
    match (&it.namespace, &it.pod, &it.container, &it.container_id, &it.host) {
        (Some(namespace), Some(pod), Some(container), ..) => format!("{namespace}/{pod}/{container}"),
        (Some(namespace), Some(pod), None, ..) => format!("{namespace}/{pod}"),
        (_, _, _, Some(id), _) => format!("container {}", short(id)),
        (_, _, _, _, Some(host)) => format!("host {host}"),
        _ => UNKNOWN.into(),
    }
}

/// Who is not known.
pub(crate) const UNKNOWN: &str = "?";

/// `NAMESPACE/NAME`, as commands take it.
pub(crate) fn namespaced(text: &str) -> Result<(String, String), String> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
            Ok((namespace.into(), name.into()))
        }
        _ => Err("give NAMESPACE/NAME".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_called_by_the_best_name_there_is() {
        let text = |it: &str| it.to_owned();
        let pod = Who {
            namespace: Some(text("shop")),
            pod: Some(text("web-1")),
            container: Some(text("app")),
            container_id: Some(text("0123456789abcdef")),
            host: None,
        };
        let table = [
            (pod.clone(), "shop/web-1/app"),
            (Who { container: None, ..pod.clone() }, "shop/web-1"),
            (Who { pod: None, ..pod }, "container 0123456789ab"),
            (Who { host: Some(text("sshd.service")), ..Who::default() }, "host sshd.service"),
            (Who::default(), "?"),
        ];
        for (it, expected) in table {
            assert_eq!(who(&it), expected);
        }
    }

    #[test]
    fn targets_are_written_as_commands_take_them() {
        let service =
            |port: &str| Service { namespace: "shop".into(), name: "cart".into(), port: port.into() };
        let policy = |kind: &str| Policy { kind: kind.into(), name: "dns".into() };
        let table = [
            (Some(service("http")), None, "shop/cart:http"),
            (Some(service("")), None, "shop/cart"),
            (None, Some(policy("LocalRedirectPolicy")), "lr/dns"),
            (Some(service("http")), Some(policy("BalancingPolicy")), "bl/dns"),
            (None, None, "(no service)"),
        ];
        for (service, policy, expected) in table {
            assert_eq!(Target::new(service.as_ref(), policy.as_ref()).to_string(), expected);
        }
    }
}
