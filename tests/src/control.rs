//! From objects to tables, as the agent does it.

use agent::Reconciler;
use anyhow::{Result, ensure};
use kernel::TableStore;
use std::net::IpAddr;

use model::{Change, NodePortAddresses, View};
use plan::Deletes;

use crate::machine::CAPACITY;

/// A reconciler, and whether its sources have synced.
pub struct Control<S> {
    /// The reconciler.
    pub reconciler: Reconciler<S>,
    deletes: Deletes,
}

impl<S: TableStore> Control<S> {
    /// Takes over what `store` holds; nothing is deleted before [`Self::sync`].
    ///
    /// # Errors
    /// The store can't be read, or what it holds contradicts itself.
    pub fn new(store: S, view: View) -> Result<Self> {
        let reconciler = Reconciler::new(store, CAPACITY, view)?;
        let found = reconciler.inconsistencies();
        ensure!(found.is_empty(), "the tables that were taken over contradict themselves: {found:?}");
        Ok(Self { reconciler, deletes: Deletes::Held })
    }

    /// Says which addresses of this node serve node ports, and which its interfaces have.
    ///
    /// # Errors
    /// As [`Self::change`].
    pub fn own_addresses(&mut self, node_ports: &[NodePortAddresses], interfaces: &[IpAddr]) -> Result<()> {
        self.reconciler.set_own_addresses(node_ports, interfaces.to_vec());
        self.change(Vec::new())
    }

    /// The sources have synced: from now on, what is not desired is deleted.
    ///
    /// # Errors
    /// As [`Self::change`].
    pub fn sync(&mut self) -> Result<()> {
        self.deletes = Deletes::Allowed;
        self.reconciler.complete();
        self.change(Vec::new())
    }

    /// Takes changes in and brings them into the store; then the store must hold what it should (R6).
    ///
    /// # Errors
    /// The store refuses, has no room, or differs from what was written.
    pub fn change(&mut self, changes: Vec<Change>) -> Result<()> {
        self.reconciler.apply(changes);
        let mut round = self.reconciler.round(self.deletes)?;
        if !round.refused.is_empty() {
            // There may be room behind a grace period.
            self.grace();
            round = self.reconciler.round(self.deletes)?;
        }
        ensure!(round.refused.is_empty(), "no room: {:?}", round.refused);
        let differences = self.reconciler.audit()?;
        ensure!(differences.is_empty(), "the store is not what was written: {differences:?}");
        Ok(())
    }

    /// Lets a grace period pass, so that what was freed is used again. Nobody reads what the programs tell.
    pub fn grace(&mut self) {
        let reading = self.reconciler.begin_reading();
        self.reconciler.has_read(reading);
        if let Some(grace) = self.reconciler.begin_grace() {
            self.reconciler.store().wait_for_readers();
            self.reconciler.grace_passed(grace);
        }
    }
}
