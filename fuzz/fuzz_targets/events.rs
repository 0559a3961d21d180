//! Arbitrary records in the ring buffer: each becomes one line of JSON that says what the record says.
#![no_main]

use libfuzzer_sys::fuzz_target;

// The harness of the property tests of `observe`; it counts what happened for them.
#[allow(dead_code)]
#[path = "../../crates/observe/tests/events/lines.rs"]
mod lines;

fuzz_target!(|bytes: &[u8]| {
    lines::run(bytes);
});
