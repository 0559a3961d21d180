//! How often an agent that has nothing to do looks whether it has.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// How often events are read while there are any: the ring buffer holds 8,192 and calls nobody, since a wake-up costs the
/// client as much as twenty connects.
pub(super) const EVENTS: Duration = Duration::from_millis(20);
/// The same while there are none, for a while: waking up is most of what an idle agent takes.
const NO_EVENTS: Duration = Duration::from_millis(160);

/// The same when there was no time to read all that there was: others are let do their work first, no more.
const MORE_EVENTS: Duration = Duration::from_millis(1);

/// What was found when events were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// None.
    Nothing,
    /// All that there were.
    All,
    /// As many as there was time for.
    Part,
}

/// Everything is compared with what the maps really hold this often, unless somebody says how often.
const AUDIT: Duration = Duration::from_secs(30);
/// And no more often than this, whoever says so.
const AUDIT_LEAST: Duration = Duration::from_millis(100);
/// Then audits may take this part of a CPU.
const SHARE: u32 = 1000;

/// How long until events are read again, after a pause of `before` and what was found then.
pub(super) fn until_events(before: Duration, found: Found) -> Duration {
    match found {
        Found::Nothing => (before * 2).clamp(EVENTS * 2, NO_EVENTS),
        Found::All => EVENTS,
        Found::Part => MORE_EVENTS,
    }
}

/// How long until the next audit, after one that took so much CPU time. What somebody has asked for counts.
pub(super) fn until_audit(asked: Option<Duration>, took: Duration) -> Duration {
    asked.map_or_else(|| AUDIT.max(took * SHARE), |asked| asked.max(AUDIT_LEAST))
}

/// CPU time of this thread.
pub(super) fn cpu() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_often_only_while_there_are_any() {
        let mut pause = EVENTS;
        for expected in [40, 80, 160, 160] {
            pause = until_events(pause, Found::Nothing);
            assert_eq!(pause, Duration::from_millis(expected));
        }
        assert_eq!(until_events(pause, Found::All), EVENTS);
        assert_eq!(until_events(EVENTS, Found::Part), MORE_EVENTS);
        assert_eq!(until_events(MORE_EVENTS, Found::Nothing), EVENTS * 2);
    }

    #[test]
    fn audits_of_large_tables_are_rarer_unless_somebody_says_how_often() {
        let [little, much, asked] = [20, 60, 1].map(Duration::from_millis);
        assert_eq!(until_audit(None, little), AUDIT);
        assert_eq!(until_audit(None, much), Duration::from_secs(60));
        assert_eq!(until_audit(Some(asked), much), AUDIT_LEAST);
        assert_eq!(until_audit(Some(AUDIT), much * 10), AUDIT);
    }
}
