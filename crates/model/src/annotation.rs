//! Annotations that are about Balancing.

use std::fmt;

/// The annotation of a Pod, or of a Namespace for those of its pods that have none: with `"false"` their connections pass
/// untranslated, with `"true"` service addresses are resolved for them, as for all that have neither.
pub const SOCKET_LB: &str = "balancing.elf.io/socket-lb";

/// An annotation of a Node that is about Balancing: its agent writes it where it is absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NodeAnnotation {
    /// A number that no other node of the cluster has, not 0.
    NodeId,
    /// The IPv4 address at which the node answers for services.
    NodeProxyIpv4,
    /// The IPv6 address at which it does.
    NodeProxyIpv6,
}

impl NodeAnnotation {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::NodeId, Self::NodeProxyIpv4, Self::NodeProxyIpv6];

    /// Its key.
    pub fn name(self) -> &'static str {
        match self {
            Self::NodeId => "balancing.elf.io/nodeId",
            Self::NodeProxyIpv4 => "balancing.elf.io/nodeProxyIpv4",
            Self::NodeProxyIpv6 => "balancing.elf.io/nodeProxyIpv6",
        }
    }
}

impl fmt::Display for NodeAnnotation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What an annotation says, and whose it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Annotation {
    /// Its text.
    pub value: String,
    /// An agent has written it, and nobody else says so too; else it is an administrator's.
    pub is_ours: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Others read and write them, and so do agents of other versions.
    #[test]
    fn annotations_are_called_what_they_always_were() {
        let names =
            ["nodeId", "nodeProxyIpv4", "nodeProxyIpv6"].map(|name| format!("balancing.elf.io/{name}"));
        assert_eq!(NodeAnnotation::ALL.map(|it| it.to_string()), names);
        assert_eq!(SOCKET_LB, "balancing.elf.io/socket-lb");
    }
}
