//! The service port that a row is about.

use std::fmt;

use abi::{Name, name::owner_kind};
use agent::local::policy_name;
use serde::Serialize;

use super::filter::Facts;

/// As the kernel's tables name it; `?` where they have no name. Listings are sorted by it.
#[derive(Clone, Serialize, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ServicePort {
    pub(super) namespace: String,
    pub(super) service: String,
    pub(super) port: String,
}

impl ServicePort {
    /// From the table of names.
    pub(super) fn new(name: Option<&Name>) -> Self {
        let text = |field: fn(&Name) -> &[u8]| name.map_or("?", |name| Name::text(field(name))).to_owned();
        let service = text(|name| &name.service);
        Self {
            namespace: text(|name| &name.namespace),
            service: match name.map_or(owner_kind::SERVICE, |name| name.kind) {
                owner_kind::SERVICE => service,
                kind => policy_name(owner_kind::name(kind), &service),
            },
            port: text(|name| &name.port),
        }
    }

    /// What filters look at, as far as it is known here.
    pub(super) fn facts(&self) -> Facts<'_> {
        Facts { namespace: &self.namespace, name: self.service.as_str().into(), ..Facts::default() }
    }

    /// As [`Target`](crate::target::Target) writes it: a policy's ports are not told apart.
    pub(super) fn target(&self) -> String {
        match (self.namespace.as_str(), self.port.as_str()) {
            ("", _) => self.service.clone(),
            (namespace, "") => format!("{namespace}/{}", self.service),
            (namespace, port) => format!("{namespace}/{}:{port}", self.service),
        }
    }

    /// The first three columns of a listing.
    pub(super) fn cells(&self) -> [String; 3] {
        let namespace = if self.namespace.is_empty() { "-" } else { &self.namespace };
        let port = if self.port.is_empty() { "-" } else { &self.port };
        [namespace.into(), self.service.clone(), port.into()]
    }
}

impl fmt::Display for ServicePort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slash = if self.namespace.is_empty() { "" } else { "/" };
        write!(f, "{}{slash}{}:{}", self.namespace, self.service, self.port)
    }
}
