//! How long until the next attempt.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

/// Thousands of agents lose a server at the same moment, and are at the next one after this, spread over the whole of it.
const FIRST: Duration = Duration::from_millis(1000);
/// Those that find no server come back over the whole of it. What was missed is to be right within 2 s of a server's
/// return, so no longer.
const FURTHER: Duration = Duration::from_millis(1500);
/// A server may ask for longer, up to this.
const LONGEST: Duration = Duration::from_secs(30);

/// Pauses after failures in a row.
#[derive(Debug, Default)]
pub(super) struct Pause {
    has_failed: bool,
}

impl Pause {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Something went well.
    pub(super) fn reset(&mut self) {
        self.has_failed = false;
    }

    /// How long to wait now; `asked`: what the server wants at least.
    pub(super) fn after_failure(&mut self, asked: Option<Duration>) -> Duration {
        let is_first = !std::mem::replace(&mut self.has_failed, true);
        let pause = if is_first { FIRST.mul_f64(chance()) } else { scattered(FURTHER, chance()) };
        match asked {
            Some(asked) => pause + asked.min(LONGEST),
            None => pause,
        }
    }
}

/// Between half of it and all of it.
pub(crate) fn scattered(pause: Duration, chance: f64) -> Duration {
    pause.mul_f64(0.5 + chance / 2.0)
}

/// 0 to 1, at random. std's own hash maps are seeded by the kernel's random numbers.
pub(crate) fn chance() -> f64 {
    RandomState::new().hash_one(0) as f64 / u64::MAX as f64
}

#[cfg(test)]
mod herd;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_scattered_and_have_a_limit() {
        let mut pause = Pause::new();
        assert!(pause.after_failure(None) <= FIRST);
        for _ in 0..10 {
            let now = pause.after_failure(None);
            assert!(now >= FURTHER / 2 && now <= FURTHER, "{now:?}");
        }
        pause.reset();
        let asked = pause.after_failure(Some(Duration::from_secs(2)));
        assert!(asked >= Duration::from_secs(2) && asked <= Duration::from_secs(2) + FIRST, "{asked:?}");
        assert!(pause.after_failure(Some(Duration::from_secs(3600))) <= LONGEST + FURTHER);
        let all: Vec<f64> = (0..100).map(|_| chance()).collect();
        assert!(all.iter().any(|it| *it < 0.3) && all.iter().any(|it| *it > 0.7), "{all:?}");
    }
}
