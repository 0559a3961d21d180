//! How long writers wait before the next attempt: nobody's connections depend on them.

use std::time::Duration;

use crate::kubernetes::{chance, scattered};

/// First and longest.
const BOUNDS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// A server may ask for longer, up to this.
const LONGEST: Duration = Duration::from_secs(300);

/// Pauses that double with each failure in a row.
#[derive(Debug)]
pub(super) struct BackOff {
    next: Duration,
}

impl BackOff {
    pub(super) fn new() -> Self {
        Self { next: BOUNDS.0 }
    }

    /// Something went well.
    pub(super) fn reset(&mut self) {
        self.next = BOUNDS.0;
    }

    /// How long to wait now; `asked`: what the server wants at least.
    pub(super) fn after_failure(&mut self, asked: Option<Duration>) -> Duration {
        let pause = scattered(self.next, chance());
        self.next = (self.next * 2).min(BOUNDS.1);
        pause + asked.unwrap_or_default().min(LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_are_scattered() {
        let mut back_off = BackOff::new();
        for most in [1, 2, 4, 8, 16, 32, 60, 60] {
            let most = Duration::from_secs(most);
            let now = back_off.after_failure(None);
            assert!(now >= most / 2 && now <= most, "{now:?} of {most:?}");
        }
        back_off.reset();
        let asked = back_off.after_failure(Some(Duration::from_secs(20)));
        assert!(asked >= Duration::from_secs(20) && asked <= Duration::from_secs(21), "{asked:?}");
        assert!(back_off.after_failure(Some(Duration::from_secs(3600))) <= LONGEST + BOUNDS.1);
    }
}
