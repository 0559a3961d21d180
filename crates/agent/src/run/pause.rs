//! What the event log is told of `balancing pause`: that it is in force, again each minute, and that it has ended.

use std::time::{Duration, Instant};

use jiff::Timestamp;

/// How often it is said again.
const AGAIN: Duration = Duration::from_secs(60);

/// What has been told of it.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Since when it is in force, and when that was told last.
    last: Option<(Timestamp, Instant)>,
}

impl Told {
    /// It is in force now, or is not: since when it is or was, if that is to be told.
    pub(super) fn now(&mut self, paused: bool, time: Timestamp, now: Instant) -> Option<Timestamp> {
        let Some((since, told)) = &mut self.last else {
            self.last = paused.then_some((time, now));
            return paused.then_some(time);
        };
        let since = *since;
        if !paused {
            self.last = None;
        } else if now.saturating_duration_since(*told) < AGAIN {
            return None;
        } else {
            *told = now;
        }
        Some(since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_told_of_each_minute_and_its_end_once() {
        let start = Instant::now();
        let second = |second: i64| Timestamp::from_second(second).unwrap();
        let mut told = Told::default();
        for (at, paused, expected) in [
            (0, false, None),
            (5, true, Some(5)),
            (6, true, None),
            (64, true, None),
            (65, true, Some(5)),
            (124, true, None),
            (126, true, Some(5)),
            (127, false, Some(5)),
            (128, false, None),
            (129, true, Some(129)),
        ] {
            let now = start + Duration::from_secs(at);
            let at = i64::try_from(at).unwrap();
            assert_eq!(told.now(paused, second(at), now), expected.map(second), "{at}");
        }
    }
}
