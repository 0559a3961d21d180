//! How often an agent that has nothing to do looks whether it has.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// How often events are read while there are any: the ring buffer holds 8,192 and calls nobody, since a wake-up costs the
/// client as much as twenty connects.
pub(super) const EVENTS: Duration = Duration::from_millis(20);
/// The same while there are none, for a while: waking up is most of what an idle agent takes.
const NO_EVENTS: Duration = Duration::from_millis(160);

/// An audit that takes longer, in CPU time, is one of large tables.
const LONG: Duration = Duration::from_millis(20);
/// Audits of large tables may take this part of a CPU.
const SHARE: u32 = 1000;

/// How long until events are read again, after a pause of `before` in which there were `any`, or none.
pub(super) fn until_events(before: Duration, any: bool) -> Duration {
    if any { EVENTS } else { (before * 2).min(NO_EVENTS) }
}

/// How long until the next audit, after one that took so much CPU time, where `interval` is asked for.
pub(super) fn until_audit(interval: Duration, took: Duration) -> Duration {
    if took > LONG { interval.max(took * SHARE) } else { interval }
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
            pause = until_events(pause, false);
            assert_eq!(pause, Duration::from_millis(expected));
        }
        assert_eq!(until_events(pause, true), EVENTS);
    }

    #[test]
    fn audits_of_large_tables_are_rarer() {
        let [interval, little, much] = [100, 20, 60].map(Duration::from_millis);
        assert_eq!(until_audit(interval, little), interval);
        assert_eq!(until_audit(interval, much), Duration::from_secs(60));
        assert_eq!(until_audit(Duration::from_secs(90), much), Duration::from_secs(90));
    }
}
