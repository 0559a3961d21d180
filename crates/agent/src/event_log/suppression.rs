//! Which decisions are too many to be told of one by one: a token bucket for each reason, and exact counts of what it
//! keeps back. No clock: it is told.

use std::time::{Duration, Instant};

/// A token in the units that buckets are filled by: a nanosecond brings as many as there are tokens a second.
const TOKEN: u64 = 1_000_000_000;

/// How often it is told how many of one reason were kept back.
pub(crate) const TELL: Duration = Duration::from_secs(1);

/// Buckets of all reasons.
#[derive(Debug)]
pub(crate) struct Suppression {
    /// Tokens a second; 0 = nothing is kept back.
    rate: u64,
    /// Most that a bucket holds.
    most: u64,
    /// By number of the reason.
    buckets: Vec<Bucket>,
    total: u64,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// When it was filled last; `None` = never used, that is full.
    filled: Option<Instant>,
    level: u64,
    /// Kept back and not told of.
    count: u64,
    /// When the first of those was made.
    since: Option<Instant>,
    told: Option<Instant>,
}

/// What is to be told of one reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    /// Number of the reason.
    pub(crate) reason: u8,
    /// How many were kept back.
    pub(crate) count: u64,
    /// Since when.
    pub(crate) since: Instant,
}

impl Suppression {
    /// Full buckets: `rate` a second of each reason pass, and `burst` at once.
    pub(crate) fn new(rate: u32, burst: u32) -> Self {
        let most = u64::from(burst) * TOKEN;
        let full = Bucket { filled: None, level: most, count: 0, since: None, told: None };
        Self { rate: rate.into(), most, buckets: vec![full; usize::from(u8::MAX) + 1], total: 0 }
    }

    /// May this one be told of, which was `made` some time ago and is read now? Else it is counted.
    pub(crate) fn passes(&mut self, reason: u8, made: Instant, now: Instant) -> bool {
        let Some(bucket) = self.buckets.get_mut(usize::from(reason)).filter(|_| self.rate > 0) else {
            return true;
        };
        let since = bucket.filled.map_or(Duration::ZERO, |filled| now.saturating_duration_since(filled));
        let more = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX).saturating_mul(self.rate);
        bucket.level = bucket.level.saturating_add(more).min(self.most);
        bucket.filled = Some(bucket.filled.map_or(now, |filled| filled.max(now)));
        if let Some(rest) = bucket.level.checked_sub(TOKEN) {
            bucket.level = rest;
            return true;
        }
        bucket.count += 1;
        bucket.since = Some(bucket.since.map_or(made, |since| since.min(made)));
        self.total += 1;
        false
    }

    /// What is to be told now: at most once in [`TELL`] of each reason.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<Told> {
        self.take(|bucket| bucket.told.is_none_or(|told| now.saturating_duration_since(told) >= TELL), now)
    }

    /// All that has not been told of, at the end.
    pub(crate) fn rest(&mut self, now: Instant) -> Vec<Told> {
        self.take(|_| true, now)
    }

    fn take(&mut self, is_due: impl Fn(&Bucket) -> bool, now: Instant) -> Vec<Told> {
        let mut told = Vec::new();
        for (reason, bucket) in (0..=u8::MAX).zip(&mut self.buckets) {
            if let Some(since) = bucket.since.filter(|_| is_due(bucket)) {
                told.push(Told { reason, count: bucket.count, since });
                (bucket.count, bucket.since, bucket.told) = (0, None, Some(now));
            }
        }
        told
    }

    /// Is there anything that has not been told of?
    pub(crate) fn is_waiting(&self) -> bool {
        self.buckets.iter().any(|bucket| bucket.since.is_some())
    }

    /// How many were kept back, of all reasons.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_burst_passes_then_the_rate() {
        let mut suppression = Suppression::new(10, 3);
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut passes = |millis| suppression.passes(5, at(millis), at(millis));
        assert_eq!([0, 0, 0, 0, 99].map(&mut passes), [true, true, true, false, false]);
        assert_eq!([100, 100, 200].map(&mut passes), [true, false, true]);
        // Full again after any time, and no more than full.
        assert_eq!([99_000; 4].map(&mut passes), [true, true, true, false]);
        assert!(suppression.passes(6, at(0), at(0)), "each reason has its own");
        assert_eq!(suppression.total(), 4);
    }

    #[test]
    fn counts_are_told_of_at_once_then_once_a_second_and_to_the_last() {
        let mut suppression = Suppression::new(1, 1);
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        assert_eq!(suppression.due(at(0)), []);
        assert!(suppression.passes(1, at(0), at(0)) && !suppression.passes(1, at(10), at(10)));
        assert_eq!(suppression.due(at(20)), [Told { reason: 1, count: 1, since: at(10) }]);
        assert!(!suppression.passes(1, at(30), at(30)) && !suppression.passes(1, at(40), at(40)));
        assert_eq!(suppression.due(at(1019)), []);
        assert!(suppression.is_waiting());
        assert_eq!(suppression.due(at(1020)), [Told { reason: 1, count: 2, since: at(30) }]);
        assert!(!suppression.is_waiting());
        // A token has come in the meantime.
        assert!(suppression.passes(1, at(1030), at(1030)) && !suppression.passes(1, at(1040), at(1040)));
        assert_eq!(suppression.rest(at(1050)), [Told { reason: 1, count: 1, since: at(1040) }]);
    }

    #[test]
    fn the_span_is_that_of_the_decisions_not_of_their_reading() {
        let mut suppression = Suppression::new(1, 1);
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        // All read in one go, at 500; those of several CPUs are not in their order.
        for made in [100, 140, 120, 480] {
            suppression.passes(1, at(made), at(500));
        }
        assert_eq!(suppression.due(at(500)), [Told { reason: 1, count: 3, since: at(120) }]);
    }

    #[test]
    fn without_a_rate_all_pass() {
        let mut suppression = Suppression::new(0, 1);
        let now = Instant::now();
        assert!((0..1000).all(|_| suppression.passes(5, now, now)));
    }

    proptest! {
        /// Nothing is kept back silently, whatever the clock does; and what is told of one reason is a second apart.
        #[test]
        fn passed_and_told_is_what_was_offered(
            rate in 1..50_000u32,
            burst in 1..200u32,
            offers in prop::collection::vec((0..4u8, 1..200u32, 0..400u64, any::<bool>()), 1..40),
        ) {
            let mut suppression = Suppression::new(rate, burst);
            let start = Instant::now();
            let mut now = start;
            let (mut offered, mut passed, mut told) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
            let mut last: BTreeMap<u8, Instant> = BTreeMap::new();
            for (reason, count, millis, tell) in offers {
                now += Duration::from_millis(millis);
                for _ in 0..count {
                    *offered.entry(reason).or_insert(0) += u64::from(true);
                    *passed.entry(reason).or_insert(0) += u64::from(suppression.passes(reason, now, now));
                }
                let most = u128::from(burst) + (now - start).as_nanos() * u128::from(rate) / u128::from(TOKEN);
                prop_assert!(u128::from(passed[&reason]) <= most);
                for line in if tell { suppression.due(now) } else { Vec::new() } {
                    *told.entry(line.reason).or_insert(0) += line.count;
                    prop_assert!(last.get(&line.reason).is_none_or(|last| now - *last >= TELL));
                    last.insert(line.reason, now);
                }
                // A second after the last one nothing waits any more.
                if tell {
                    let later = suppression.due(now);
                    prop_assert!(later.is_empty());
                }
            }
            for line in suppression.due(now + TELL) {
                *told.entry(line.reason).or_insert(0) += line.count;
            }
            prop_assert!(!suppression.is_waiting());
            for (reason, offered) in offered {
                prop_assert_eq!(passed[&reason] + told.get(&reason).copied().unwrap_or(0), offered);
            }
            prop_assert_eq!(suppression.total(), told.values().sum::<u64>());
        }

        /// What keeps to the rate is never kept back, however unevenly it is read: here in steps of up to a burst.
        #[test]
        fn nothing_is_kept_back_that_keeps_to_the_rate(pauses in prop::collection::vec(1..500u64, 1..20)) {
            let mut suppression = Suppression::new(10_000, 20_000);
            let mut now = Instant::now();
            for millis in pauses {
                now += Duration::from_millis(millis);
                prop_assert!((0..millis * 10).all(|_| suppression.passes(5, now, now)));
            }
        }
    }
}
