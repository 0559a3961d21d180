//! Services and policies as people ask for them: in any way that some listing shows them.

use std::str::FromStr;

use agent::local::policy_name;

/// A service, or one of its ports: `NAMESPACE/NAME` or `NAMESPACE/NAME:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WantedService {
    namespace: String,
    name: String,
    /// Only this port.
    port: Option<String>,
}

impl WantedService {
    /// Is it this service port?
    pub(crate) fn is(&self, namespace: &str, name: &str, port: &str) -> bool {
        self.namespace == namespace
            && self.name == name
            && self.port.as_ref().is_none_or(|wanted| wanted == port)
    }
}

impl FromStr for WantedService {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (service, port) = match text.split_once(':') {
            Some((service, port)) => (service, Some(port.to_owned())),
            None => (text, None),
        };
        match service.split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
                Ok(Self { namespace: namespace.into(), name: name.into(), port })
            }
            _ => Err("give NAMESPACE/NAME or NAMESPACE/NAME:PORT".into()),
        }
    }
}

/// A policy: `NAME`, of whatever kind, or `KIND/NAME`, the kind as kubectl takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WantedPolicy {
    /// As [`policy_name`] shortens it.
    kind: Option<&'static str>,
    name: String,
}

const LOCAL_REDIRECT: &str = "lr";
const BALANCING: &str = "bl";

impl WantedPolicy {
    /// Is it the policy that listings call so ([`policy_name`])?
    pub(crate) fn is_called(&self, name: &str) -> bool {
        name.split_once('/')
            .is_some_and(|(kind, name)| self.kind.is_none_or(|wanted| wanted == kind) && self.name == name)
    }

    /// Is it this one?
    pub(crate) fn is(&self, kind: &str, name: &str) -> bool {
        self.is_called(&policy_name(kind, name))
    }
}

impl FromStr for WantedPolicy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, name) = match text.split_once('/') {
            Some((kind, name)) => (Some(kind.to_ascii_lowercase()), name),
            None => (None, text),
        };
        let kind = kind.map(|kind| match kind.trim_end_matches(".balancing.elf.io") {
            LOCAL_REDIRECT | "localredirectpolicy" | "localredirectpolicies" => Ok(LOCAL_REDIRECT),
            BALANCING | "balancingpolicy" | "balancingpolicies" => Ok(BALANCING),
            _ => Err(()),
        });
        match kind.transpose() {
            Ok(kind) if !name.is_empty() && !name.contains('/') => Ok(Self { kind, name: name.into() }),
            _ => Err("give NAME, lr/NAME (LocalRedirectPolicy) or bl/NAME (BalancingPolicy)".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_asked_for_in_every_usual_way() {
        for (text, local, balancing) in [
            ("db", true, true),
            ("lr/db", true, false),
            ("bl/db", false, true),
            ("LocalRedirectPolicy/db", true, false),
            ("balancingpolicies/db", false, true),
            ("balancingpolicies.balancing.elf.io/db", false, true),
            ("bl/web", false, false),
        ] {
            let wanted: WantedPolicy = text.parse().unwrap();
            assert_eq!(wanted.is_called("lr/db"), local, "{text}");
            assert_eq!(wanted.is("BalancingPolicy", "db"), balancing, "{text}");
            assert!(!wanted.is_called("db"), "{text}: a service");
        }
        for text in ["", "lr/", "shop/db", "lr/db/x"] {
            assert!(text.parse::<WantedPolicy>().unwrap_err().contains("lr/NAME"), "{text}");
        }
    }

    #[test]
    fn a_service_may_be_asked_for_with_its_port() {
        let is = |text: &str, port: &str| text.parse::<WantedService>().unwrap().is("shop", "cart", port);
        assert!(is("shop/cart", "http") && is("shop/cart", "") && is("shop/cart:http", "http"));
        assert!(!is("shop/cart:http", "grpc") && !is("data/cart", "http") && !is("shop/web", "http"));
        for text in ["cart", "/cart", "shop/", "a/b/c", "cart:http"] {
            assert!(text.parse::<WantedService>().unwrap_err().contains("NAMESPACE/NAME"), "{text}");
        }
    }
}
