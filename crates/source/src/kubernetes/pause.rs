//! How long until the next attempt.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

/// First and longest. What was missed is to be right within 2 s of a server's return, so no longer; thousands of agents that
/// lose a server at once come back over the whole of it.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(1500));
/// A server may ask for longer, up to this.
const LONGEST: Duration = Duration::from_secs(30);

/// Pauses that become longer with each failure in a row.
#[derive(Debug)]
pub(crate) struct Pause {
    bounds: (Duration, Duration),
    next: Duration,
}

impl Pause {
    /// For those that read.
    pub(super) fn new() -> Self {
        Self::within(PAUSE)
    }

    /// First and longest.
    pub(crate) fn within(bounds: (Duration, Duration)) -> Self {
        Self { bounds, next: bounds.0 }
    }

    /// Something went well.
    pub(crate) fn reset(&mut self) {
        self.next = self.bounds.0;
    }

    /// How long to wait now; `asked`: what the server wants at least.
    pub(crate) fn after_failure(&mut self, asked: Option<Duration>) -> Duration {
        let pause = scattered(self.next, chance());
        self.next = (self.next * 2).min(self.bounds.1);
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
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_are_scattered() {
        let mut pause = Pause::new();
        for most in [100, 200, 400, 800, 1500, 1500] {
            let most = Duration::from_millis(most);
            let now = pause.after_failure(None);
            assert!(now >= most / 2 && now <= most, "{now:?} of {most:?}");
        }
        pause.reset();
        assert!(pause.after_failure(None) <= Duration::from_millis(100));
        let asked = pause.after_failure(Some(Duration::from_secs(2)));
        assert!(asked >= Duration::from_secs(2) && asked <= Duration::from_millis(2200), "{asked:?}");
        assert!(pause.after_failure(Some(Duration::from_secs(3600))) <= LONGEST + PAUSE.1);
        let all: Vec<f64> = (0..100).map(|_| chance()).collect();
        assert!(all.iter().any(|it| *it < 0.3) && all.iter().any(|it| *it > 0.7), "{all:?}");
    }
}
