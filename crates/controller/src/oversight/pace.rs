//! How much is written at once: an API server is for others, too.

use std::time::{Duration, Instant};

/// So many at once, then one each period.
const BURST: u32 = 200;
const PERIOD: Duration = Duration::from_millis(5);

/// A bucket of tokens, as the one time at which it will be full.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    full_at: Instant,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self { full_at: now }
    }

    /// When the next may be written.
    pub(super) fn next(&self, now: Instant) -> Instant {
        self.full_at.checked_sub(PERIOD * (BURST - 1)).map_or(now, |at| at.max(now))
    }

    /// How many may be written now.
    pub(super) fn room(&self, now: Instant) -> usize {
        let missing = self.full_at.saturating_duration_since(now);
        let missing = missing.as_nanos().div_ceil(PERIOD.as_nanos());
        (BURST as usize).saturating_sub(usize::try_from(missing).unwrap_or(usize::MAX))
    }

    /// So many are.
    pub(super) fn take(&mut self, count: usize, now: Instant) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.full_at = self.full_at.max(now) + PERIOD.saturating_mul(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_hundred_at_once_then_two_hundred_a_second() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        assert_eq!((pace.room(start), pace.next(start)), (200, start));
        pace.take(200, start);
        assert_eq!((pace.room(start), pace.next(start)), (0, start + PERIOD));
        let (mut written, mut now) = (0, start);
        while now < start + Duration::from_secs(1) {
            now = pace.next(now);
            let room = pace.room(now);
            assert!(room > 0, "who is woken finds room");
            pace.take(room, now);
            written += room;
        }
        assert!((200..=201).contains(&written), "{written}");
        assert_eq!(pace.room(now + Duration::from_secs(60)), 200);
    }
}
