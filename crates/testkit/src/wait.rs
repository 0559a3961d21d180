//! Waiting for what takes a moment, without sleeping for longer than that.

use std::{
    fmt::Debug,
    thread,
    time::{Duration, Instant},
};

/// Calls `attempt` until it succeeds; its last error when `deadline` has passed.
pub fn eventually<T, E>(deadline: Duration, mut attempt: impl FnMut() -> Result<T, E>) -> Result<T, E> {
    let end = Instant::now() + deadline;
    let mut pause = Duration::from_millis(1);
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() >= end => return Err(error),
            Err(_) => thread::sleep(pause),
        }
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// Waits until `condition` holds; panics with `what` was waited for when `deadline` has passed.
#[track_caller]
pub fn until(deadline: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    if eventually(deadline, || if condition() { Ok(()) } else { Err(()) }).is_err() {
        panic!("waited {deadline:?} in vain for: {what}");
    }
}

/// Waits until `observe` gives `expected`; panics with what it gave last.
#[track_caller]
pub fn until_equal<T: PartialEq + Debug>(deadline: Duration, expected: &T, mut observe: impl FnMut() -> T) {
    let outcome = eventually(deadline, || {
        let observed = observe();
        if observed == *expected { Ok(()) } else { Err(observed) }
    });
    if let Err(observed) = outcome {
        panic!("waited {deadline:?} in vain for {expected:?}, last seen: {observed:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn success_ends_the_wait() {
        let mut attempts = 0;
        let outcome = eventually(Duration::from_secs(10), || {
            attempts += 1;
            if attempts == 3 { Ok(attempts) } else { Err("not yet") }
        });
        assert_eq!(outcome, Ok(3));
    }

    #[test]
    fn the_last_error_remains() {
        assert_eq!(eventually(Duration::ZERO, || Err::<(), _>("never")), Err("never"));
    }

    #[test]
    #[should_panic(expected = "last seen: 1")]
    fn what_was_seen_is_told() {
        until_equal(Duration::ZERO, &2, || 1);
    }
}
