//! Plans: writes in the order in which they have to reach the maps.

use std::fmt;

use abi::{Backend, Key, Name, Record};

use crate::{describe, refusal::Refusal};

/// Writes of one kind to one map. Those of one phase may be batched and may stop anywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Set `names`: id, name.
    Names(Vec<(u32, Name)>),
    /// Set `backends`: index, backend. New ones, and changed flags of living ones.
    Backends(Vec<(u32, Backend)>),
    /// Set `lists`: position, backend index.
    Lists(Vec<(u32, u32)>),
    /// Set `records`: index, record. Never one that a frontend points to.
    Records(Vec<(u32, Record)>),
    /// Set `frontends4` or `frontends6`: key, record index. The switch.
    Frontends(Vec<(Key, u32)>),
    /// Delete from `frontends4` or `frontends6`.
    DeleteFrontends(Vec<Key>),
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
            Self::Lists(_) => "lists",
            Self::Records(_) => "records",
            Self::Frontends(_) => "frontends",
            Self::DeleteFrontends(_) => "deleted frontends",
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
            Self::DeleteFrontends(keys) => keys.len(),
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
            Self::Lists(writes) => writes.iter().map(|(at, it)| format!("list {at}: backend {it}")).collect(),
            Self::Records(writes) => {
                writes.iter().map(|(at, it)| format!("record {at}: {}", describe::record(it))).collect()
            }
            Self::Frontends(writes) => writes
                .iter()
                .map(|(key, at)| format!("frontend {}: record {at}", describe::key(key)))
                .collect(),
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
