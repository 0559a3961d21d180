//! What `cargo xtask soak` does for an hour, for a few seconds.

#![allow(clippy::unwrap_used)]

use std::{sync::Arc, time::Duration};

use balancing_tests::soak::{Options, run};

#[test]
fn r27_r30_nothing_fails_and_nothing_is_left_of_a_short_soak() {
    let given = std::env::var("BALANCING_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| u64::from(std::process::id()));
    println!("BALANCING_SEED={seed}");
    let report = run(&Options {
        duration: Duration::from_secs(12),
        seed,
        audit: Duration::from_millis(500),
        progress: Duration::from_secs(3),
        compare_memory: false,
        interrupted: Arc::default(),
    })
    .unwrap();
    println!("{}", report.summary);
    assert!(report.complaints.is_empty(), "{:#?}\n{}", report.complaints, report.log);
}
