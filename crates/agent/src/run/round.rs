//! Rounds: what is desired is brought into the tables, and the programs are put in force over them.

use std::time::{Duration, Instant};

use host::limit;
use kernel::{Installed, Loaded};
use plan::{Deletes, Refusal};

use super::{AUDIT_OF_TABLES, Agent, RETRY, ROUND};
use crate::{Error, answer, growth::sizes};

/// From one round to the next, at least: a lone change waits for nothing, and thousands a second go together. A round costs as
/// much as a dozen changes.
const APART: Duration = Duration::from_millis(10);

/// What can fail.
const COUNTING: &str = "counting connections of policies (P6)";

/// What is missing where the kernel does not note cgroups as they are made.
pub(super) const UNWATCHED: &str = "clients whose cgroup is gone when their event is read are not known";

impl Agent {
    /// A round now, or as soon as the last one is long enough ago.
    pub(super) fn round_apart(&mut self) {
        match self.round_at.map(|at| at + APART).filter(|at| Instant::now() < *at) {
            Some(at) => self.retry_at = Some(self.retry_at.map_or(at, |retry_at| retry_at.min(at))),
            None => self.round(),
        }
    }

    /// One round; until everything has synced there is none (R6).
    pub(super) fn round(&mut self) {
        if !self.synced {
            return;
        }
        match self.try_round() {
            Ok(()) => {
                if self.failures.remove(ROUND).is_some() {
                    tracing::info!("the tables are right again");
                }
                self.retry_at = None;
                self.retry_pause = RETRY.0;
                self.contract_is_kept();
                self.probe();
            }
            Err(error) => {
                self.contract.metrics().round_failed();
                tracing::error!("{error}; trying again in {:?}", self.retry_pause);
                self.failures.insert(ROUND, error.to_string());
                // Some of it may have been written.
                self.sockets.backends_lost();
                self.retry_at = Some(Instant::now() + self.retry_pause);
                self.retry_pause = (self.retry_pause * 2).min(RETRY.1);
            }
        }
        self.round_at = Some(Instant::now());
        self.tell();
    }

    fn try_round(&mut self) -> Result<(), Error> {
        if !self.in_force {
            // Programs that look into these tables already are replaced before anything is written: tables that are becoming
            // larger are theirs in part. All others find everything that they look for there before they are in force.
            if !kernel::is_shared(&self.config.bpffs)? {
                self.make_room(&[]);
                self.write(Deletes::Held)?;
            }
            self.put_in_force()?;
            self.reconciler.look_at_everything();
        }
        self.write(self.deletes)
    }

    fn write(&mut self, deletes: Deletes) -> Result<(), Error> {
        let mut refused = self.write_once(deletes)?;
        while !refused.is_empty() && self.make_room(&refused) {
            refused = self.write_once(deletes)?;
        }
        if refused.is_empty() {
            self.growing = None;
        }
        for refusal in refused.iter().filter(|refusal| !self.refused.contains(refusal)) {
            tracing::error!("{}", answer::refused(refusal));
        }
        self.refused = refused;
        self.begin_grace();
        Ok(())
    }

    /// What was refused.
    fn write_once(&mut self, deletes: Deletes) -> Result<Vec<Refusal>, Error> {
        let begun = Instant::now();
        let policies = self.reconciler.take_touched_policies();
        self.exempt_touched(&policies);
        let round = self.reconciler.round(deletes)?;
        self.contract.metrics().round(begun.elapsed(), round.writes);
        if round.ends_affinity {
            self.sweep_affinity();
        }
        match self.reconciler.uncounted() {
            0 => drop(self.failures.remove(COUNTING)),
            count => drop(
                self.failures.insert(COUNTING, format!("no room for {count} of them, which have no limit")),
            ),
        }
        self.look_for_clients();
        if round.lost_backends {
            self.sockets.backends_lost();
        }
        if round.writes > 0 {
            self.rounds += 1;
            tracing::info!(took = ?begun.elapsed(), "tables: {}", round.summary);
        }
        Ok(round.refused)
    }

    pub(super) fn put_in_force(&mut self) -> Result<(), Error> {
        let loaded = match self.loaded.take() {
            Some(loaded) => loaded,
            None => Loaded::load(&self.config.bpffs, &sizes(&self.reconciler.table().capacity()))?,
        };
        let installed = self.install(loaded)?;
        self.in_force = true;
        // Also what happened while no agent ran (R27).
        self.sockets.backends_lost();
        let unwatched = installed.unwatched.map(|error| error.to_string());
        if let Some(problem) = unwatched.as_ref().filter(|_| self.unwatched.is_none()) {
            tracing::warn!("{UNWATCHED}: {problem}");
        }
        self.unwatched = unwatched;
        if let Some(carried) = installed.carried {
            tracing::info!(sockets = carried.sockets, lost = carried.lost, "sockets carried to a new layout");
        }
        if !installed.removed.is_empty() {
            tracing::info!("maps of other layouts removed: {}", installed.removed.join(", "));
        }
        tracing::info!("programs in force on {}", self.cgroup.display());
        // A start needs more than what comes after it.
        limit::trim_heap();
        Ok(())
    }

    pub(super) fn install(&self, loaded: Loaded) -> Result<Installed, kernel::Error> {
        let sizes = sizes(&self.reconciler.table().capacity());
        kernel::install(loaded, &self.config.bpffs, &sizes, &self.cgroup)
    }

    /// What was freed can be used again after a grace period, which is waited for elsewhere.
    fn begin_grace(&mut self) {
        self.hasten_reading();
        if self.grace.is_some() {
            return;
        }
        self.grace = self.reconciler.begin_grace();
        if self.grace.is_some() {
            let passed = self.graces.clone();
            tokio::task::spawn_blocking(move || {
                kernel::wait_for_readers();
                let _ = passed.blocking_send(());
            });
        }
    }

    pub(super) fn grace_passed(&mut self) {
        if let Some(grace) = self.grace.take() {
            self.reconciler.grace_passed(grace);
        }
        if self.refused.is_empty() {
            self.begin_grace();
        } else {
            // There may be room now.
            self.round();
        }
    }

    pub(super) fn audit(&mut self) {
        if !self.in_force {
            return;
        }
        self.sockets.audit();
        match self.reconciler.audit() {
            Ok(mut differences) => {
                differences.extend(self.audit_exempt());
                self.sweep_affinity();
                self.failures.remove(AUDIT_OF_TABLES);
                self.audit_differences += differences.len() as u64;
                self.contract.metrics().audited(differences.len());
                for difference in differences.iter().take(20) {
                    tracing::error!("audit, repairing: {difference}");
                }
                if !differences.is_empty() {
                    self.round();
                }
            }
            Err(error) => self.failed(AUDIT_OF_TABLES, &error),
        }
    }
}
