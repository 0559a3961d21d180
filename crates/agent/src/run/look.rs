//! The small things that are looked at every second: is it paused, are pins and programs still there, and is there
//! anybody else.

use std::time::Instant;

use jiff::Timestamp;
use kernel::{Attached, Stranger};
use observe::{Pause, event::SCHEMA};

use super::{Agent, LOOKING};
use crate::{Error, config::EventLevel, status::Hook};

impl Agent {
    pub(super) fn look(&mut self) {
        match self.are_pinned() {
            Ok(true) => {}
            Ok(false) => {
                self.pins_gone = true;
                return;
            }
            // They may be there all the same: nothing to end for.
            Err(error) => return self.failed(LOOKING, &error),
        }
        self.look_at_excluded();
        self.look_for_clients();
        self.look_for_pods_cgroups();
        let attached = kernel::attached(&self.config.bpffs);
        self.look_at_contract(attached.as_deref().unwrap_or_default());
        self.measure();
        // Also what an agent that was killed had no time to tell.
        self.report_lost();
        match attached.map_err(Error::from).and_then(|attached| self.try_look(&attached)) {
            Ok(()) => {
                if self.failures.remove(LOOKING).is_some() {
                    tracing::info!("{LOOKING} works again");
                }
            }
            Err(error) => self.failed(LOOKING, &error),
        }
    }

    /// Are the maps pinned? Those that were are again.
    fn are_pinned(&self) -> Result<bool, kernel::Error> {
        let (store, pins) = (self.reconciler.store(), &self.config.bpffs);
        if store.are_pinned(pins)? {
            return Ok(true);
        }
        match kernel::recover::put_back(store, pins) {
            Ok(back) if back.is_empty() => {}
            Ok(back) => {
                tracing::error!("somebody has removed the pins of maps; put back: {}", back.join(", "));
            }
            // Another one is in its place.
            Err(kernel::Error::ForeignMap { .. }) => {}
            Err(error) => return Err(error),
        }
        store.are_pinned(pins)
    }

    /// Remembers what fails, and logs it once.
    pub(super) fn failed(&mut self, activity: &'static str, error: &dyn std::error::Error) {
        self.failed_with(activity, error.to_string());
    }

    pub(super) fn failed_with(&mut self, activity: &'static str, text: String) {
        if self.failures.get(activity) != Some(&text) {
            tracing::error!("{activity}: {text}");
            self.failures.insert(activity, text);
        }
    }

    fn try_look(&mut self, attached: &[Attached]) -> Result<(), Error> {
        let settings = self.reconciler.store().settings()?;
        let paused = settings.paused != 0;
        let (time, is_told) = (Timestamp::now(), EventLevel::from_settings(&settings) != EventLevel::Off);
        if let Some(since) = self.pause_told.now(paused, time, Instant::now()).filter(|_| is_told) {
            let node = self.config.node_name.clone();
            self.log.add_pause(Pause { schema: SCHEMA, time, node, paused, since });
        }
        if paused != self.paused {
            self.paused = paused;
            if paused {
                tracing::warn!("paused: connections pass untranslated until `balancing resume`");
            } else {
                tracing::warn!("resumed");
            }
        }
        let is_whole = attached.iter().all(|hook| hook.program_id.is_some())
            && (self.unwatched.is_some() || kernel::watches_cgroups(&self.config.bpffs));
        if self.in_force && !is_whole {
            tracing::error!("somebody has detached our programs; attaching them again");
            self.in_force = false;
            // Who else is there is seen at the next look.
            self.round();
            return Ok(());
        }
        let strangers = kernel::strangers(attached, &self.cgroup)?;
        if strangers != self.strangers {
            for stranger in strangers.iter().filter(|it| !self.strangers.contains(it)) {
                tracing::warn!("{}", self.about(stranger));
            }
            self.strangers = strangers;
        }
        Ok(())
    }

    /// What is to be said of a stranger's program.
    pub(super) fn about(&self, stranger: &Stranger) -> String {
        let Stranger { hook, program_id, name } = stranger;
        let cgroup = self.cgroup.display();
        match name {
            Some(_) if stranger.is_ours() => format!(
                "hook {hook}: program {program_id} of another balancing is attached to {cgroup} too, so that service \
                 addresses are translated twice; stop that agent, and run `balancing clean --bpffs` with its directory"
            ),
            Some(name) => format!(
                "hook {hook}: program {program_id} ({name}) is attached to {cgroup} too; if it translates service \
                 addresses, one of the two must go"
            ),
            None => format!(
                "hook {hook}: program {program_id} is attached to {cgroup} too; whose it is may be seen with \
                 CAP_SYS_ADMIN only: `bpftool prog show id {program_id}`"
            ),
        }
    }

    pub(super) fn hooks(&self) -> Result<Vec<Hook>, Error> {
        let attached = kernel::attached(&self.config.bpffs)?;
        Ok(attached.into_iter().map(|it| Hook { name: it.hook.into(), program: it.program_id }).collect())
    }
}
