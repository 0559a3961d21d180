//! How often an agent that has nothing to do looks whether it has.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// How often events are read while there are any: the ring buffer holds 8,192 and calls nobody, since a wake-up costs the
/// client as much as twenty connects.
pub(super) const EVENTS: Duration = Duration::from_millis(20);
/// The same while there are none, for a while: waking up is most of what an idle agent takes.
const NO_EVENTS: Duration = Duration::from_millis(160);

/// Everything is compared with what the maps really hold this often, unless somebody says how often.
const AUDIT: Duration = Duration::from_secs(30);
/// And no more often than this, whoever says so.
const AUDIT_LEAST: Duration = Duration::from_millis(100);
/// Then audits may take this part of a CPU.
const SHARE: u32 = 1000;

/// What there was to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// Nothing.
    Nothing,
    /// All that there was.
    All,
    /// More than could be read in one go.
    Part,
}

/// How long until events are read again, after a pause of `before` and what was read then.
pub(super) fn until_events(before: Duration, read: Read) -> Duration {
    match read {
        Read::Nothing => (before * 2).min(NO_EVENTS),
        Read::All => EVENTS,
        // Whatever else there is to do goes first.
        Read::Part => Duration::from_millis(1),
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
            pause = until_events(pause, Read::Nothing);
            assert_eq!(pause, Duration::from_millis(expected));
        }
        assert_eq!(until_events(pause, Read::All), EVENTS);
        assert!(until_events(pause, Read::Part) < EVENTS);
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
