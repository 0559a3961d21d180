//! The whole desired state, kept up to date service by service.

use std::collections::{BTreeMap, BTreeSet};

use abi::Key;
use model::{ObjectName, ServicePortName};

use crate::compile::{FrontendSpec, PortTable, ServiceTables};

/// What every frontend and service port should be.
#[derive(Clone, Debug, Default)]
pub struct Desired {
    services: BTreeMap<ObjectName, Entry>,
    /// Who wants each frontend, the holder first. Never empty.
    claims: BTreeMap<Key, Vec<Claim>>,
    /// Frontends that more than one service wants.
    contested: BTreeSet<Key>,
}

#[derive(Clone, Debug)]
struct Entry {
    age: Age,
    tables: ServiceTables,
}

/// Older is less. A service without a timestamp comes from a manifest and has no known age: it is younger
/// than any that has one, so that a local file never takes an address from a service of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Age {
    Created(i64),
    Unknown,
}

/// Ordered: the least is the oldest, then the first by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Claim {
    age: Age,
    service: ObjectName,
}

/// A frontend that several services want (R2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The frontend.
    pub key: Key,
    /// The service that has it: the oldest.
    pub holder: ObjectName,
    /// The others, in the order in which they would get it.
    pub waiting: Vec<ObjectName>,
}

/// Frontends and service ports to compare with the table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Everything, whatever else is said here.
    pub everything: bool,
    /// Frontends.
    pub keys: BTreeSet<Key>,
    /// Service ports.
    pub ports: BTreeSet<ServicePortName>,
}

impl Touched {
    /// All frontends and service ports, desired or in the table.
    pub fn everything() -> Self {
        Self { everything: true, ..Self::default() }
    }

    /// Adds what `other` touched.
    pub fn merge(&mut self, other: Self) {
        self.everything |= other.everything;
        self.keys.extend(other.keys);
        self.ports.extend(other.ports);
    }

    /// Whether nothing was touched.
    pub fn is_empty(&self) -> bool {
        !self.everything && self.keys.is_empty() && self.ports.is_empty()
    }

    fn add(&mut self, tables: &ServiceTables) {
        self.keys.extend(tables.frontends.keys());
        self.ports.extend(tables.ports.keys().cloned());
    }
}

impl Desired {
    /// Nothing desired.
    pub fn new() -> Self {
        Self::default()
    }

    /// Says what a service should be; `created` is its creationTimestamp, which settles conflicts. Touches
    /// nothing if that is what it was.
    pub fn set(&mut self, service: &ObjectName, tables: ServiceTables, created: Option<i64>) -> Touched {
        if tables.is_empty() {
            return self.remove(service);
        }
        let entry = Entry { age: created.map_or(Age::Unknown, Age::Created), tables };
        if let Some(old) = self.services.get(service)
            && old.age == entry.age
            && old.tables == entry.tables
        {
            return Touched::default();
        }
        let mut touched = self.remove(service);
        touched.add(&entry.tables);
        for key in entry.tables.frontends.keys() {
            let claim = Claim { age: entry.age, service: service.clone() };
            let claims = self.claims.entry(*key).or_default();
            if let Err(place) = claims.binary_search(&claim) {
                claims.insert(place, claim);
            }
            if claims.len() > 1 {
                self.contested.insert(*key);
            }
        }
        self.services.insert(service.clone(), entry);
        touched
    }

    /// Nothing is desired of this service any more; those that wait for its frontends get them.
    pub fn remove(&mut self, service: &ObjectName) -> Touched {
        let mut touched = Touched::default();
        let Some(entry) = self.services.remove(service) else { return touched };
        touched.add(&entry.tables);
        for key in entry.tables.frontends.keys() {
            let Some(claims) = self.claims.get_mut(key) else { continue };
            claims.retain(|claim| claim.service != *service);
            if claims.len() < 2 {
                self.contested.remove(key);
            }
            if claims.is_empty() {
                self.claims.remove(key);
            }
        }
        touched
    }

    /// What a frontend should do: what the oldest of those that claim it says.
    pub fn frontend(&self, key: &Key) -> Option<&FrontendSpec> {
        let holder = self.claims.get(key)?.first()?;
        self.services.get(&holder.service)?.tables.frontends.get(key)
    }

    /// What a service port should be.
    pub fn port(&self, port: &ServicePortName) -> Option<&PortTable> {
        self.services.get(&port.service)?.tables.ports.get(port)
    }

    /// All frontends, by key.
    pub fn frontends(&self) -> impl Iterator<Item = (&Key, &FrontendSpec)> {
        self.claims.keys().filter_map(|key| Some((key, self.frontend(key)?)))
    }

    /// All service ports, by name.
    pub fn ports(&self) -> impl Iterator<Item = &PortTable> {
        self.services.values().flat_map(|entry| entry.tables.ports.values())
    }

    /// Frontends that several services want, by key.
    pub fn conflicts(&self) -> impl Iterator<Item = Conflict> {
        self.contested.iter().filter_map(|key| {
            let (holder, waiting) = self.claims.get(key)?.split_first()?;
            Some(Conflict {
                key: *key,
                holder: holder.service.clone(),
                waiting: waiting.iter().map(|claim| claim.service.clone()).collect(),
            })
        })
    }
}
