//! Random records; what must hold is in `lines`, which the fuzz target `events` runs as well.

mod lines;

use abi::{Event, Name, Reason};
use proptest::prelude::*;

const CONTEXT: usize = 32;

proptest! {
    #[test]
    fn any_record_becomes_one_line_of_json(bytes in prop::collection::vec(any::<u8>(), 0..900)) {
        lines::run(&bytes);
    }

    /// Records that are nearly right.
    #[test]
    fn any_event_becomes_the_line_that_says_it(
        context in prop::collection::vec(any::<u8>(), CONTEXT + size_of::<Name>()),
        numbers in prop::collection::vec((0..3u8, 0..16u8, 0..3u8, any::<bool>()), 1..5),
        comm in prop::collection::vec(prop_oneof![Just(b'a'), Just(0), Just(0xc3), Just(b'\n'), Just(0x1b)], 16),
    ) {
        let mut bytes = context;
        for (hook, reason, mode, tcp) in numbers {
            let mut event = Event {
                hook, reason, mode, protocol: if tcp { abi::TCP } else { abi::UDP }, known: u32::MAX,
                ..Event::default()
            };
            event.comm.copy_from_slice(&comm);
            bytes.extend(bytemuck::bytes_of(&event));
        }
        lines::run(&bytes);
    }
}

/// The harness itself: it would be no test if no record ever became a line.
#[test]
fn the_records_are_read() {
    let mut bytes = vec![255; CONTEXT + size_of::<Name>()];
    for reason in 0..=Reason::ALL.len() as u8 {
        let comm = *b"\xff\n\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
        let event = Event { reason, comm, known: u32::MAX, protocol: abi::TCP, ..Event::default() };
        bytes.extend(bytemuck::bytes_of(&event));
    }
    bytes.push(0);
    let tally = lines::run(&bytes);
    let reasons = Reason::ALL.len() as u32;
    assert_eq!((tally.lines, tally.known), (reasons + 1, reasons));
    assert_eq!((tally.not_utf8, tally.refused), (reasons + 1, 1));
}
