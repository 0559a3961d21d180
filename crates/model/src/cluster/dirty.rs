//! What a change touches.

use std::collections::BTreeSet;

use crate::object::ObjectName;

/// What must be computed anew after a change. Empty after a change that changed nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dirty {
    /// These services, whether they still exist or not.
    pub services: BTreeSet<ObjectName>,
    /// All services: this node's zone changed (R5).
    pub all: bool,
    /// What depends on nodes and their addresses (R14).
    pub nodes: bool,
    /// What depends on ServiceCIDRs (R12).
    pub cidrs: bool,
}

impl Dirty {
    /// Whether nothing was touched.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether `service` was touched.
    pub fn touches(&self, service: &ObjectName) -> bool {
        self.all || self.services.contains(service)
    }

    /// Adds what another change touched.
    pub fn merge(&mut self, other: Self) {
        self.services.extend(other.services);
        self.all |= other.all;
        self.nodes |= other.nodes;
        self.cidrs |= other.cidrs;
    }
}
