//! What only this module sees: the words themselves, and two threads on one socket.

extern crate std;

use super::*;
use crate::{Caller, source};
use abi::Address;
use core::sync::atomic::{
    AtomicBool, AtomicUsize,
    Ordering::{Relaxed, SeqCst},
};
use std::{collections::BTreeSet, vec::Vec};

fn content(n: u32) -> Seen {
    let endpoint = |n| Endpoint { address: Address([n, n, n, n]), port_be: 53 };
    Seen {
        vip: endpoint(n),
        backend: endpoint(n),
        meta: Meta { vip_port_be: 53, backend_port_be: 53, state: pair_state::VALID, ..Meta::default() },
        ids: Ids { backend: n, generation: n },
        service: n,
        stamp: 0,
    }
}

/// Two threads of an application may send on one socket while its backend changes (R8).
#[test]
fn r8_a_pair_is_read_whole_or_not_at_all_while_it_is_rewritten() {
    let (pair, done) = (Pair::default(), AtomicBool::new(false));
    let read_whole = std::thread::scope(|scope| {
        scope.spawn(|| {
            let written = (0..400_000).all(|n| write(&pair, pair.meta.load(), &content(n % 7)));
            // Also where it fails: the other thread waits for it.
            done.store(true, Relaxed);
            assert!(written);
        });
        let (mut count, mut busy) = (0, Vec::new());
        while !done.load(Relaxed) {
            // While it is written it is not free for others, and it remembers how often it was.
            let meta = Meta::unpack(pair.meta.load());
            assert!(meta.state != pair_state::EMPTY || meta == Meta::default(), "{meta:?}");
            if meta.state == pair_state::BUSY {
                busy.push(meta.version);
            }
            let Some(seen) = read(&pair) else { continue };
            let n = seen.service;
            assert_eq!((seen.vip, seen.backend, seen.ids), {
                let wanted = content(n);
                (wanted.vip, wanted.backend, wanted.ids)
            });
            let found = PairRef(&pair, seen.meta.pack());
            let (backend, ids) = (found.backend(), found.ids());
            if found.is_unchanged() {
                assert_eq!(backend.address.0, [ids.backend; 4]);
                count += 1;
            }
        }
        assert!(busy.len() < 1000 || busy.iter().any(|version| *version != 0));
        count
    });
    assert!(read_whole > 0);
}

#[test]
fn a_pair_is_what_its_words_say() {
    let endpoint = |first: u32, port_be| Endpoint {
        address: Address([first, first + 1, first + 2, first + 3]),
        port_be,
    };
    let (vip, backend) = (endpoint(0x8000_0001, 53), endpoint(0xffff_fff0, 54));
    let meta = Meta { vip_port_be: 53, backend_port_be: 54, protocol: 17, flags: 3, state: 2, version: 255 };
    let ids = Ids { backend: 0x8000_0000, generation: 0xffff_0001 };
    let seen = Seen { vip, backend, meta, ids, service: 0x8000_0002, stamp: 0xffff_0003 };
    let read = Seen::of(&seen.words());
    assert_eq!((read.vip, read.backend, read.meta, read.ids), (vip, backend, meta, ids));
    assert_eq!((read.service, read.stamp), (seen.service, seen.stamp));
}

#[test]
fn r8_the_later_stamp_is_later_also_when_they_wrap() {
    for stamp in [0, 1, 0x7fff_ffff, 0x8000_0000, u32::MAX] {
        for ahead in [1, 2, 0x7fff_ffff] {
            assert!(later(stamp.wrapping_add(ahead), stamp) && !later(stamp, stamp.wrapping_add(ahead)));
        }
        assert!(!later(stamp, stamp));
    }
}

#[test]
fn r8_endpoints_are_told_apart() {
    let mut all = BTreeSet::new();
    for n in 0..40_000 {
        let (low, high) = (n % 200, n / 200);
        // Addresses in a row, in each part of an IPv6 address, and ports in a row.
        all.insert(mix([low << 32 | 0xfd, high], 1));
        all.insert(mix([0xfd, low << 32 | high], 2));
        all.insert(mix([0xfd, low], 100 + high as u16));
    }
    assert_eq!(all.len(), 3 * 40_000);
}

/// A socket that threads can share; its slot is another's.
#[derive(Default)]
struct Shared {
    is_connected: bool,
    stored: Pairs,
    slot: Slot,
}

impl Caller for Shared {
    fn netns(&self) -> u64 {
        1
    }

    fn is_excluded(&self) -> bool {
        false
    }

    fn is_backend_of(&self, _policy: [u32; 2]) -> bool {
        false
    }
}

impl Socket for Shared {
    fn cookie(&self) -> u64 {
        1
    }

    fn slot(&self) -> Option<&Slot> {
        Some(&self.slot)
    }

    fn previous_slot(&self) -> Option<&Slot> {
        None
    }

    fn stored(&self) -> Option<&Pairs> {
        Some(&self.stored)
    }

    fn store(&self) -> Option<&Pairs> {
        Some(&self.stored)
    }

    fn is_connected(&self) -> bool {
        self.is_connected
    }

    fn is_connected_to(&self, _: &Endpoint) -> bool {
        false
    }
}

/// R8: at least 8 destinations a socket; more are counted.
#[test]
fn r8_destinations_that_two_threads_add_are_kept_or_counted() {
    const SOCKETS: usize = 20_000;
    const EACH: u32 = STORED_PAIRS as u32 / 2;
    let sockets: Vec<Shared> = (0..SOCKETS).map(|_| Shared::default()).collect();
    let arrived: Vec<AtomicUsize> = (0..SOCKETS).map(|_| AtomicUsize::new(0)).collect();
    let evicted: Vec<AtomicBool> = (0..SOCKETS).map(|_| AtomicBool::new(false)).collect();
    let refused = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for first in [1, 1 + EACH] {
            let (sockets, arrived, evicted, refused) = (&sockets, &arrived, &evicted, &refused);
            scope.spawn(move || {
                for ((socket, arrived), evicted) in sockets.iter().zip(arrived).zip(evicted) {
                    socket.slot.owner.set(2);
                    arrived.fetch_add(1, SeqCst);
                    while arrived.load(SeqCst) < 2 {
                        std::thread::yield_now();
                    }
                    for n in first..first + EACH {
                        match remember_stored(socket, &content(n).words()) {
                            Kept::Yes => {}
                            Kept::Evicting => evicted.store(true, Relaxed),
                            // Not here: the other thread would wait for this one for ever.
                            Kept::No => refused.store(true, Relaxed),
                        }
                    }
                }
            });
        }
    });
    assert!(!refused.load(Relaxed));
    for (socket, evicted) in sockets.iter().zip(&evicted) {
        for n in 1..=2 * EACH {
            let Seen { vip, backend, .. } = content(n);
            let shown = source(socket, &backend);
            assert!(shown == Some(vip) || shown.is_none() && evicted.load(Relaxed), "{n}: {shown:?}");
        }
    }
}

#[test]
fn r8_a_pair_that_another_thread_is_writing_is_left_to_it() {
    let socket = Shared { is_connected: true, ..Shared::default() };
    socket.slot.owner.set(2);
    for n in 0..STORED_PAIRS as u32 {
        assert_eq!(remember_stored(&socket, &content(n).words()), Kept::Yes);
    }
    // A thread is stopped in the middle of writing, for as long as another goes around all; and beside that is the
    // one pair that may not go either.
    let [_, _, connection, busy, ..] = &socket.stored.pairs;
    let connected = Meta { flags: pair_flag::CONNECTED, ..content(2).meta }.pack();
    connection.meta.store(connected);
    let stopped = Meta { state: pair_state::BUSY, version: 9, ..Meta::default() }.pack();
    busy.meta.store(stopped);
    for n in 100..120 {
        let expected = if n == 100 { Kept::Evicting } else { Kept::Yes };
        assert_eq!(remember_stored(&socket, &content(n).words()), expected, "told of once");
        assert_eq!((connection.meta.load(), busy.meta.load()), (connected, stopped));
    }
}
