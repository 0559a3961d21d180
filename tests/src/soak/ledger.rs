//! What all threads share: who may answer now or might until a moment ago, what was counted, and what went wrong.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use super::services::{PLACES, SERVICES};

/// When a change must have reached sockets. (R6 says a second; this machine may have much else to do.)
const GRACE: Duration = Duration::from_secs(3);
/// How many failures are kept word for word.
const KEPT: usize = 20;
/// Not now.
const NEVER: u64 = u64::MAX;

#[derive(Debug, Default)]
struct Place {
    may: AtomicBool,
    /// Microseconds since the beginning; since when it may not.
    removed: AtomicU64,
}

/// See the module.
#[derive(Debug)]
pub struct Ledger {
    beginning: Instant,
    /// Set when traffic shall end.
    pub over: AtomicBool,
    /// Exchanges that were right.
    pub exchanges: AtomicU64,
    /// Exchanges with services that change which found none that answers, as may be.
    pub unserved: AtomicU64,
    /// Connected UDP sockets that were closed as their backend left (R8).
    pub closed: AtomicU64,
    /// Exchanges over multipath TCP.
    pub multipath: AtomicU64,
    /// Exchanges that were not right.
    pub failed: AtomicU64,
    kept: Mutex<Vec<String>>,
    places: Vec<[Place; PLACES]>,
    /// Since when the tables follow the files.
    following: AtomicU64,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            beginning: Instant::now(),
            over: AtomicBool::default(),
            exchanges: AtomicU64::default(),
            unserved: AtomicU64::default(),
            closed: AtomicU64::default(),
            multipath: AtomicU64::default(),
            failed: AtomicU64::default(),
            kept: Mutex::default(),
            places: (0..SERVICES).map(|_| Default::default()).collect(),
            following: AtomicU64::new(NEVER),
        }
    }
}

impl Ledger {
    /// Microseconds since the beginning.
    pub fn now(&self) -> u64 {
        u64::try_from(self.beginning.elapsed().as_micros()).unwrap_or(NEVER)
    }

    /// It shall end.
    pub fn is_over(&self) -> bool {
        self.over.load(SeqCst)
    }

    /// The files are about to say that this backend may answer.
    pub fn admit(&self, number: usize, place: usize) {
        self.places[number][place].may.store(true, SeqCst);
    }

    /// The files say that this backend may not answer.
    pub fn dismiss(&self, number: usize, place: usize) {
        let entry = &self.places[number][place];
        if entry.may.load(SeqCst) {
            entry.removed.store(self.now(), SeqCst);
            entry.may.store(false, SeqCst);
        }
    }

    /// The agent is down, or does not delete, from now on.
    pub fn stops_following(&self) {
        self.following.store(NEVER, SeqCst);
    }

    /// The tables follow the files from now on.
    pub fn follows(&self) {
        self.following.fetch_min(self.now(), SeqCst);
    }

    /// Do the tables follow the files?
    pub fn is_followed(&self) -> bool {
        self.following.load(SeqCst) != NEVER
    }

    /// May this backend have been chosen, or kept, by an exchange begun at `begun`?
    pub fn may_answer(&self, number: usize, place: usize, begun: u64) -> bool {
        let Some(entry) = self.places.get(number).and_then(|places| places.get(place)) else { return false };
        let following = self.following.load(SeqCst);
        let removed = entry.removed.load(SeqCst);
        let grace = GRACE.as_micros() as u64;
        entry.may.load(SeqCst) || following == NEVER || begun < removed.max(following) + grace
    }

    /// Was this backend there all the time since `opened`?
    pub fn stayed(&self, number: usize, place: usize, opened: u64) -> bool {
        let entry = &self.places[number][place];
        let grace = GRACE.as_micros() as u64;
        entry.may.load(SeqCst) && entry.removed.load(SeqCst) + grace < opened
    }

    /// Something went wrong.
    pub fn fail(&self, text: String) {
        self.failed.fetch_add(1, SeqCst);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT {
            kept.push(format!("{:.3} s: {text}", self.beginning.elapsed().as_secs_f64()));
        }
    }

    /// What went wrong.
    pub fn failures(&self) -> Vec<String> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE_MICROS: u64 = GRACE.as_micros() as u64;

    #[test]
    fn who_was_removed_may_answer_for_a_moment() {
        let ledger = Ledger::default();
        ledger.follows();
        assert!(!ledger.may_answer(3, 1, ledger.now() + GRACE_MICROS), "it never was a backend");
        ledger.admit(3, 1);
        assert!(ledger.may_answer(3, 1, ledger.now() + 9 * GRACE_MICROS));
        ledger.dismiss(3, 1);
        assert!(ledger.may_answer(3, 1, ledger.now()));
        assert!(!ledger.may_answer(3, 1, ledger.now() + GRACE_MICROS));
    }

    #[test]
    fn while_the_agent_is_down_nothing_is_removed() {
        let ledger = Ledger::default();
        ledger.admit(0, 0);
        ledger.dismiss(0, 0);
        let late = ledger.now() + 9 * GRACE_MICROS;
        assert!(ledger.may_answer(0, 0, late), "no agent has come up yet");
        ledger.follows();
        assert!(!ledger.may_answer(0, 0, late));
        ledger.stops_following();
        assert!(ledger.may_answer(0, 0, late));
    }

    #[test]
    fn failures_are_counted_and_the_first_are_kept() {
        let ledger = Ledger::default();
        (0..2 * KEPT).for_each(|number| ledger.fail(number.to_string()));
        assert_eq!((ledger.failed.load(SeqCst), ledger.failures().len()), (2 * KEPT as u64, KEPT));
    }
}
