//! Random operation sequences; what must hold is in `history`, which the fuzz target `decide` runs as well.

extern crate std;

use super::history;
use proptest::{prelude::*, strategy::ValueTree};

proptest! {
    #![proptest_config(ProptestConfig { cases: 250, ..ProptestConfig::default() })]

    #[test]
    fn r8_r9_a_socket_is_never_shown_what_it_did_not_ask_for(
        mut bytes in prop::collection::vec(any::<u8>(), 0..900),
        wild in prop::bool::weighted(0.3),
    ) {
        if let Some(first) = bytes.first_mut() {
            *first = u8::from(wild);
        }
        history::run(&bytes);
    }
}

/// The model itself: it would be no test if nothing were ever translated or shown.
#[test]
fn the_sequences_do_something() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let bytes = prop::collection::vec(any::<u8>(), 1000..1200);
    let mut total = history::Tally::default();
    for _ in 0..200 {
        let mut bytes = bytes.new_tree(&mut runner).unwrap().current();
        bytes[0] = 0;
        let tally = history::run(&bytes);
        total.balanced += tally.balanced;
        total.sticky += tally.sticky;
        total.shown += tally.shown;
        total.stored += tally.stored;
        total.failed += tally.failed;
        total.forgotten += tally.forgotten;
    }
    let Tally { balanced, sticky, shown, stored, failed, forgotten } = total;
    let least = [balanced, sticky, shown, stored, failed, forgotten].into_iter().min();
    assert!(least > Some(10), "{total:?}");
}

use history::Tally;
