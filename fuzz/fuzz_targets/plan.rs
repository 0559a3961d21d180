//! Whatever an agent lives through: after every single write the maps are sound, and they become what is desired.
#![no_main]

use libfuzzer_sys::fuzz_target;
// The modules below are tests of `plan`, and look for it where they are at home: at the root.
#[allow(unused_imports)]
use plan::*;

#[allow(dead_code)]
#[path = "../../crates/plan/src/tests/history.rs"]
mod history;
#[allow(dead_code)]
#[path = "../../crates/plan/src/tests/maps.rs"]
mod maps;
#[allow(dead_code)]
#[path = "../../crates/plan/src/tests/world.rs"]
mod world;

fuzz_target!(|bytes: &[u8]| {
    history::run(bytes);
});
