//! What the task that owns the tables knows of itself, and what that means for those who ask.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use model::{HealthCheck, ObjectName};

use crate::{event_log::Standing, status::MapUse};

/// How long the task may be busy with one thing, and how long a change may wait to be written: as long as kube-proxy's may
/// (kubernetes 1.36 cmd/kube-proxy/app/server.go: twice its sync period of 30 s).
pub(super) const LATE: Duration = Duration::from_secs(60);

/// How things are, as the task said last.
#[derive(Clone, Debug, Default)]
pub(crate) struct Condition {
    /// The source has given everything once.
    pub(crate) synced: bool,
    /// The programs of this agent are attached.
    pub(crate) in_force: bool,
    /// Hooks without a program, of this agent or the one before.
    pub(crate) hooks_off: usize,
    /// `balancing pause` is in force.
    pub(crate) paused: bool,
    /// What the source is: `kubernetes` or `manifests`.
    pub(crate) source: Option<&'static str>,
    /// Since when it has not been read well, or not completely.
    pub(crate) stale: Option<Instant>,
    /// How full the tables are.
    pub(crate) tables: Arc<[MapUse]>,
    /// Since when something waits to be written.
    pub(crate) waiting: Option<Instant>,
    /// Why that fails.
    pub(crate) failure: Option<String>,
    /// When everything was as it should be last.
    pub(crate) updated: Option<Timestamp>,
    /// This node is being deleted, or will be soon (R25).
    pub(crate) leaving: bool,
    /// What is wrong with sources. It keeps nothing from being served (R27), and no restart would help.
    pub(crate) sources: Vec<String>,
    /// What load balancers are to hear (R24).
    pub(crate) checks: Arc<BTreeMap<ObjectName, HealthCheck>>,
    /// Where the event log is written.
    pub(crate) sinks: Vec<Standing>,
}

impl Condition {
    /// Is it alive? What is said here a restart of the agent may help against. `silent`: how long ago the task turned.
    pub(super) fn dead(&self, silent: Duration) -> Vec<String> {
        let mut problems = Vec::new();
        if silent >= LATE {
            problems.push(format!("the task that owns the tables has not turned for {} s", silent.as_secs()));
        }
        problems
    }

    /// Are services served on this node, as they are now? By programs of an earlier agent too: those go on while this one
    /// waits for its sources (R27).
    pub(super) fn unserved(&self, silent: Duration) -> Vec<String> {
        let mut problems = self.dead(silent);
        if self.hooks_off > 0 {
            problems.push(format!("{} hooks have no program", self.hooks_off));
        }
        if self.paused {
            problems.push("paused: connections pass untranslated".into());
        }
        if let Some(waited) = self.waiting.map(|since| since.elapsed()).filter(|waited| *waited >= LATE) {
            let why = self.failure.as_ref().map_or(String::new(), |error| format!(": {error}"));
            problems.push(format!("changes have not been written for {} s{why}", waited.as_secs()));
        }
        problems
    }

    /// Has this agent taken over, and does everything work?
    pub(super) fn unready(&self, silent: Duration) -> Vec<String> {
        let mut problems = self.unserved(silent);
        if !self.synced {
            problems.push("the source has not been read completely yet".into());
        }
        if !self.in_force {
            problems.push("the programs of this agent are not in force".into());
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Condition {
        Condition { synced: true, in_force: true, ..Condition::default() }
    }

    fn ago(seconds: u64) -> Option<Instant> {
        Some(Instant::now().checked_sub(Duration::from_secs(seconds)).unwrap())
    }

    /// Is it alive, does it serve, is it ready?
    fn is(condition: &Condition, silent: u64) -> [bool; 3] {
        let silent = Duration::from_secs(silent);
        [condition.dead(silent), condition.unserved(silent), condition.unready(silent)]
            .map(|problems| problems.is_empty())
    }

    #[test]
    fn only_a_task_that_is_stuck_is_dead() {
        for (condition, silent, expected) in [
            (good(), 0, [true, true, true]),
            (good(), 59, [true, true, true]),
            (good(), 60, [false, false, false]),
            (Condition { hooks_off: 1, ..good() }, 0, [true, false, false]),
            (Condition { paused: true, ..good() }, 0, [true, false, false]),
            (Condition { waiting: ago(1), ..good() }, 0, [true, true, true]),
            (Condition { waiting: ago(61), ..good() }, 0, [true, false, false]),
            // The programs of the agent before go on.
            (Condition::default(), 0, [true, true, false]),
            (Condition { synced: true, ..Condition::default() }, 0, [true, true, false]),
            // A source that is gone, a node that goes.
            (Condition { sources: vec!["gone".into()], ..good() }, 0, [true, true, true]),
            (Condition { leaving: true, ..good() }, 0, [true, true, true]),
        ] {
            assert_eq!(is(&condition, silent), expected, "{silent} s: {condition:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let failure = Some("map full".into());
        let all = Condition { hooks_off: 2, paused: true, waiting: ago(90), failure, ..Condition::default() };
        let problems = all.unready(Duration::from_secs(75)).join("\n");
        for words in
            ["not turned for 75 s", "2 hooks", "paused", "for 90 s: map full", "completely", "in force"]
        {
            assert!(problems.contains(words), "{words}: {problems}");
        }
    }
}
