//! How much may be said: some at once, then one by one.

use std::time::{Duration, Instant};

/// What is said of one object, or of all.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    /// So much at once.
    pub(super) burst: u32,
    /// Then one each.
    pub(super) period: Duration,
}

/// A bucket of tokens, as the one time at which it will be full.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowance {
    full_at: Instant,
}

impl Allowance {
    pub(super) fn new(now: Instant) -> Self {
        Self { full_at: now }
    }

    /// When the next may be said.
    pub(super) fn next(&self, rate: Rate, now: Instant) -> Instant {
        // What is missing then is less than all of it.
        let most = rate.period * rate.burst.saturating_sub(1);
        self.full_at.checked_sub(most).map_or(now, |at| at.max(now))
    }

    /// One will be said.
    pub(super) fn take(&mut self, rate: Rate, now: Instant) {
        self.full_at = self.full_at.max(now) + rate.period;
    }

    /// Nothing is missing.
    pub(super) fn is_full(&self, now: Instant) -> bool {
        self.full_at <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_at_once_then_one_by_one() {
        let rate = Rate { burst: 3, period: Duration::from_secs(10) };
        let start = Instant::now();
        let mut allowance = Allowance::new(start);
        let mut waits = Vec::new();
        for _ in 0..5 {
            waits.push(allowance.next(rate, start).duration_since(start).as_secs());
            allowance.take(rate, start);
        }
        assert_eq!(waits, [0, 0, 0, 10, 20]);
        let later = start + Duration::from_secs(50);
        assert!(!allowance.is_full(start) && allowance.is_full(later));
        assert_eq!(allowance.next(rate, later), later);
    }
}
