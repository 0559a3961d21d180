//! What a change touches.

use std::collections::BTreeSet;

use crate::object::{Kind, ObjectId, ObjectName};

/// What must be computed anew after a change. Empty after a change that changed nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dirty {
    /// These services, whether they still exist or not.
    pub services: BTreeSet<ObjectName>,
    /// These policies, whether they still exist or not.
    pub policies: BTreeSet<ObjectId>,
    /// All services and policies: this node's zone changed (R5).
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

    /// Adds a service or policy.
    pub(super) fn insert(&mut self, id: ObjectId) {
        if id.kind == Kind::Service {
            self.services.insert(id.name);
        } else {
            self.policies.insert(id);
        }
    }

    /// Adds what another change touched.
    pub fn merge(&mut self, other: Self) {
        self.services.extend(other.services);
        self.policies.extend(other.policies);
        self.all |= other.all;
        self.nodes |= other.nodes;
        self.cidrs |= other.cidrs;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{name, policy};

    fn services(names: &[&str]) -> Dirty {
        Dirty { services: names.iter().map(|it| name(it)).collect(), ..Dirty::default() }
    }

    #[test]
    fn a_service_is_touched_if_it_is_named_or_all_are() {
        let table = [
            (Dirty::default(), false),
            (services(&["web"]), true),
            (services(&["api"]), false),
            (Dirty { all: true, ..Dirty::default() }, true),
            (Dirty { nodes: true, cidrs: true, ..Dirty::default() }, false),
        ];
        for (dirty, touched) in table {
            assert_eq!(dirty.touches(&name("web")), touched, "{dirty:?}");
        }
    }

    #[test]
    fn what_two_changes_touch_is_what_either_touches() {
        let table = [
            Dirty::default(),
            services(&["web"]),
            services(&["api", "web"]),
            Dirty { all: true, ..Dirty::default() },
            Dirty { nodes: true, ..Dirty::default() },
            Dirty { cidrs: true, ..Dirty::default() },
            Dirty { policies: [policy("dns").id()].into(), ..Dirty::default() },
        ];
        for one in &table {
            assert_eq!(one.is_empty(), *one == table[0], "{one:?}");
            for other in &table {
                let mut both = one.clone();
                both.merge(other.clone());
                let expected = Dirty {
                    services: one.services.union(&other.services).cloned().collect(),
                    policies: one.policies.union(&other.policies).cloned().collect(),
                    all: one.all || other.all,
                    nodes: one.nodes || other.nodes,
                    cidrs: one.cidrs || other.cidrs,
                };
                assert_eq!(both, expected, "{one:?} and {other:?}");
            }
        }
    }
}
