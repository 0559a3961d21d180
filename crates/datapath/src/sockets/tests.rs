//! Two threads on one socket.

extern crate std;

use super::*;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

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
            for n in 0..400_000 {
                assert!(write(&pair, pair.meta.load(), &content(n % 7)));
            }
            done.store(true, Relaxed);
        });
        let mut count = 0;
        while !done.load(Relaxed) {
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
        count
    });
    assert!(read_whole > 0);
}
