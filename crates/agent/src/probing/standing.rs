//! What is known of one address, and when it is asked again.

use std::time::Duration;

use model::Probe;

/// The part of an answer's time that the promise has room for: an address that is unhealthy leaves within
/// interval × threshold + 1 s.
const ROOM: Duration = Duration::from_secs(1);

/// What is known of one address of one policy.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    /// How it is asked.
    pub(super) probe: Probe,
    pub(super) is_healthy: bool,
    /// Answers in a row that say otherwise.
    against: u32,
    /// Questions with a lower number say nothing of it any more.
    from: u64,
}

impl Standing {
    /// It counts as healthy until it is known to be not. The next question has the number `next`, or a higher one.
    pub(super) fn new(probe: Probe, next: u64) -> Self {
        Self { probe, is_healthy: true, against: 0, from: next }
    }

    /// It is asked in this way from now on; what is known of it stays.
    pub(super) fn edit(&mut self, probe: Probe, next: u64) {
        if (&probe.action, probe.port) != (&self.probe.action, self.probe.port) {
            // Answers to the question before say nothing of this one.
            (self.against, self.from) = (0, next);
        }
        self.probe = probe;
    }

    /// Takes an answer to a question; does it change what it is?
    pub(super) fn answered(&mut self, number: u64, is_good: bool) -> bool {
        // The answers to two may be under way: one that is overtaken by that of a later question is of the past.
        if number < self.from {
            return false;
        }
        self.from = number;
        if is_good == self.is_healthy {
            self.against = 0;
            return false;
        }
        self.against += 1;
        let threshold = if self.is_healthy { self.probe.unhealthy } else { self.probe.healthy };
        let turns = self.against >= threshold;
        if turns {
            (self.is_healthy, self.against) = (is_good, 0);
        }
        turns
    }
}

/// From one question to the next, at most. What an address that hangs takes longer than [`ROOM`] to fail is made up for by
/// asking sooner, also while a question is under way, but never more than twice as often as is said.
pub(super) fn longest(probe: &Probe) -> Duration {
    let late = probe.timeout.saturating_sub(ROOM) / probe.unhealthy.max(1);
    probe.interval.saturating_sub(late).max(probe.interval / 2).mul_f64(0.9)
}

/// From one question to the next, `chance` being from 0 to 1: agents that begin together do not ask together for ever.
pub(super) fn spaced(probe: &Probe, chance: f64) -> Duration {
    longest(probe).mul_f64(1.0 - chance / 9.0)
}
