//! Arbitrary tables and operations: what a socket is shown is what it asked for, whatever the tables say.
#![no_main]

use libfuzzer_sys::fuzz_target;

// The model that the property tests of `datapath` use; it counts what happened for them.
#[allow(dead_code)]
#[path = "../../crates/datapath/src/tests/history.rs"]
mod history;

fuzz_target!(|bytes: &[u8]| {
    history::run(bytes);
});
