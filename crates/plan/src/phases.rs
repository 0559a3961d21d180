//! Plans: writes in the order in which they have to reach the maps.

use std::{fmt, net::IpAddr};

use abi::{Backend, Key, Name, Record, Space, client::SourceKey};

use crate::{describe, refusal::Refusal};

/// Writes of one kind to one map. Those of one phase may be batched and may stop anywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Set `names`: id, name.
    Names(Vec<(u32, Name)>),
    /// Set `backends`: index, backend. New ones, and changed flags of living ones.
    Backends(Vec<(u32, Backend)>),
    /// Add to `sources`.
    Sources(Vec<SourceKey>),
    /// Set `lists`: position, element.
    Lists(Vec<(u32, Backend)>),
    /// Set `records`: index, record. Never one that a frontend points to.
    Records(Vec<(u32, Record)>),
    /// Set `frontends4` or `frontends6`: key, record index. The switch.
    Frontends(Vec<(Key, u32)>),
    /// Set `addresses4` or `addresses6`: address, [`abi::space::address_use`].
    Addresses(Vec<(IpAddr, u32)>),
    /// Set `spaces`.
    Space(Box<Space>),
    /// Delete from `frontends4` or `frontends6`.
    DeleteFrontends(Vec<Key>),
    /// Delete from `addresses4` or `addresses6`.
    DeleteAddresses(Vec<IpAddr>),
    /// Delete from `sources`.
    DeleteSources(Vec<SourceKey>),
    /// Set `backends` to flags 0; the generation stays, so that whoever remembers the index sees that it is
    /// gone.
    RetireBackends(Vec<(u32, Backend)>),
    /// Delete from `names`.
    DeleteNames(Vec<u32>),
}

impl Phase {
    /// As listings name it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Names(_) => "names",
            Self::Backends(_) => "backends",
            Self::Sources(_) => "sources",
            Self::Lists(_) => "lists",
            Self::Records(_) => "records",
            Self::Frontends(_) => "frontends",
            Self::Addresses(_) => "addresses",
            Self::Space(_) => "space",
            Self::DeleteFrontends(_) => "deleted frontends",
            Self::DeleteAddresses(_) => "deleted addresses",
            Self::DeleteSources(_) => "deleted sources",
            Self::RetireBackends(_) => "retired backends",
            Self::DeleteNames(_) => "deleted names",
        }
    }

    /// How many writes.
    pub fn len(&self) -> usize {
        match self {
            Self::Names(writes) => writes.len(),
            Self::Backends(writes) | Self::RetireBackends(writes) => writes.len(),
            Self::Lists(writes) => writes.len(),
            Self::Records(writes) => writes.len(),
            Self::Frontends(writes) => writes.len(),
            Self::Sources(keys) | Self::DeleteSources(keys) => keys.len(),
            Self::Addresses(writes) => writes.len(),
            Self::Space(_) => 1,
            Self::DeleteFrontends(keys) => keys.len(),
            Self::DeleteAddresses(ips) => ips.len(),
            Self::DeleteNames(ids) => ids.len(),
        }
    }

    /// Whether there is nothing to write. Plans have no such phases.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One line for each write.
    pub fn lines(&self) -> Vec<String> {
        match self {
            Self::Names(writes) => {
                writes.iter().map(|(id, name)| format!("name {id}: {}", describe::name(name))).collect()
            }
            Self::Backends(writes) => {
                writes.iter().map(|(at, it)| format!("backend {at}: {}", describe::backend(it))).collect()
            }
            Self::Lists(writes) => {
                writes.iter().map(|(at, it)| format!("list {at}: backend {}", it.index)).collect()
            }
            Self::Records(writes) => {
                writes.iter().map(|(at, it)| format!("record {at}: {}", describe::record(it))).collect()
            }
            Self::Frontends(writes) => writes
                .iter()
                .map(|(key, at)| format!("frontend {}: record {at}", describe::key(key)))
                .collect(),
            Self::Sources(keys) => {
                keys.iter().map(|key| format!("source {}", describe::source(key))).collect()
            }
            Self::DeleteSources(keys) => {
                keys.iter().map(|key| format!("delete source {}", describe::source(key))).collect()
            }
            Self::Addresses(writes) => {
                writes.iter().map(|(ip, uses)| format!("address {ip}: {}", describe::uses(*uses))).collect()
            }
            Self::DeleteAddresses(ips) => ips.iter().map(|ip| format!("delete address {ip}")).collect(),
            Self::Space(space) => vec![format!("space: {}", describe::space(space))],
            Self::DeleteFrontends(keys) => {
                keys.iter().map(|key| format!("delete frontend {}", describe::key(key))).collect()
            }
            Self::RetireBackends(writes) => writes
                .iter()
                .map(|(at, it)| format!("retire backend {at}: {}", describe::backend(it)))
                .collect(),
            Self::DeleteNames(ids) => ids.iter().map(|id| format!("delete name {id}")).collect(),
        }
    }
}

/// What to write, and what could not be planned.
///
/// Stopping after any single write leaves tables that the programs can use: whatever a frontend leads to is
/// complete and alive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Phases in the order of [`Phase`]'s variants; none is empty.
    pub phases: Vec<Phase>,
    /// What is desired and not planned.
    pub refused: Vec<Refusal>,
    /// Some service port has no affinity any more: what is remembered for it is to be forgotten (R23).
    pub ends_affinity: bool,
}

impl Plan {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.phases.is_empty()
    }

    /// How many single writes.
    pub fn len(&self) -> usize {
        self.phases.iter().map(Phase::len).sum()
    }
}

impl fmt::Display for Plan {
    /// How many writes of each kind, on one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            f.write_str("nothing to write")?;
        }
        for (i, phase) in self.phases.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{} {}", phase.len(), phase.name())?;
        }
        match self.refused.len() {
            0 => Ok(()),
            count => write!(f, "; {count} refused"),
        }
    }
}
