//! How often one thing was used: ever, in the last minute, and between the last two readings.

use std::time::Duration;

use observe::usage::Count;

/// A minute is counted in parts, of which the oldest goes as a whole.
const PARTS: usize = 12;
const PART: Duration = Duration::from_secs(5);

/// One reading of the programs' counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reading {
    /// The how manyth. What the first finds was counted before the agent started, hours ago perhaps: nobody knows when.
    pub(super) number: u32,
    /// When, since the agent started.
    pub(super) now: Duration,
}

impl Reading {
    /// The number of the first.
    pub(super) const FIRST: u32 = 1;
}

/// See the module. Small: there are many.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    total: u64,
    /// Counted in the reading with this number.
    recent: (u32, u64),
    parts: [u32; PARTS],
    /// The part that the last count went to.
    part: u32,
    /// In milliseconds since the agent started; 0 = before that.
    last: u64,
}

impl Tally {
    pub(super) fn add(&mut self, count: u64, reading: Reading) {
        self.forget(reading.now);
        self.total += count;
        let before = if self.recent.0 == reading.number { self.recent.1 } else { 0 };
        self.recent = (reading.number, before + count);
        if reading.number == Reading::FIRST {
            return;
        }
        let now = &mut self.parts[part(reading.now) as usize % PARTS];
        *now = now.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
        self.last = u64::try_from(reading.now.as_millis()).unwrap_or(u64::MAX);
    }

    /// Empties the parts that are over a minute old.
    fn forget(&mut self, now: Duration) {
        let now = part(now);
        for old in self.part + 1..=now.min(self.part + PARTS as u32) {
            self.parts[old as usize % PARTS] = 0;
        }
        self.part = self.part.max(now);
    }

    /// When it was last counted, since the agent started; `None` = before that.
    pub(super) fn last(&self) -> Option<Duration> {
        (self.last != 0).then(|| Duration::from_millis(self.last))
    }

    /// For how long it was not, at the least.
    pub(super) fn idle(&self, now: Duration) -> Duration {
        now.saturating_sub(Duration::from_millis(self.last))
    }

    /// Was it counted in this reading?
    pub(super) fn is_of(&self, reading: Reading) -> bool {
        self.recent.0 == reading.number
    }

    /// As of a reading.
    pub(super) fn count(&self, reading: Reading) -> Count {
        let mut tally = self.clone();
        tally.forget(reading.now);
        let recent = if self.is_of(reading) { self.recent.1 } else { 0 };
        Count { total: self.total, recent, minute: tally.parts.iter().map(|count| u64::from(*count)).sum() }
    }
}

/// Good for 600 years.
fn part(at: Duration) -> u32 {
    u32::try_from(at.as_secs() / PART.as_secs()).unwrap_or(u32::MAX - PARTS as u32)
}
