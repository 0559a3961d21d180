use abi::Address;

use super::*;

const COOKIE: u64 = 7;

/// A slot that socket 7 has, with a connected pair.
fn slot(bits: u64) -> Slot {
    let slot = Slot::default();
    fill(&slot.pair, pair_flag::CONNECTED, 3);
    slot.owner.store(COOKIE | bits);
    slot
}

fn fill(pair: &Pair, flags: u8, version: u8) {
    let meta = Meta {
        vip_port_be: 80u16.to_be(),
        backend_port_be: 8080u16.to_be(),
        protocol: abi::UDP,
        flags,
        state: pair_state::VALID,
        version,
    };
    pair.meta.store(meta.pack());
    pair.ids.store(Ids { backend: 5, generation: 2 }.pack());
    pair.service.store(9 | 77 << 32);
    let mapped = |last: u8| Address::v4(u32::from_ne_bytes([10, 0, 0, last])).halves();
    for (word, value) in pair.vip.iter().zip(mapped(1)).chain(pair.backend.iter().zip(mapped(2))) {
        word.store(value);
    }
}

fn owned(slot: &Slot) -> Owned {
    Owned { index: 0, cookie: COOKIE, held: slot.owner.load(), meta: slot.pair.meta.load() }
}

fn expected(connected: bool) -> Connection {
    let endpoint = |text: &str| Endpoint::from(text.parse::<std::net::SocketAddr>().unwrap());
    Connection {
        cookie: COOKIE,
        vip: endpoint("10.0.0.1:80"),
        backend: endpoint("10.0.0.2:8080"),
        protocol: abi::UDP,
        connected,
        ids: Ids { backend: 5, generation: 2 },
        service: 9,
        version: 3,
    }
}

#[test]
fn a_slot_is_read_if_it_is_owned_and_whole() {
    let slot = slot(owner::MORE);
    assert_eq!(read(&slot), Some(expected(true)));
    slot.owner.store(owner::OVERFLOW);
    assert_eq!(read(&slot), None);
    slot.owner.store(COOKIE);
    for state in [pair_state::EMPTY, pair_state::BUSY] {
        slot.pair.meta.store(Meta { state, ..Meta::default() }.pack());
        assert_eq!(read(&slot), None);
    }
}

#[test]
fn storage_is_read_as_the_kernel_gives_it() {
    let pairs = abi::Pairs::default();
    fill(&pairs.pairs[1], 0, 3);
    fill(&pairs.pairs[7], pair_flag::CONNECTED, 3);
    let words = |pair: &Pair| {
        let Pair { vip: [a, b], backend: [c, d], meta, ids, service } = pair;
        [a, b, c, d, meta, ids, service].map(|word| word.load())
    };
    let mut value = [42; STORED_WORDS];
    for (place, word) in value.iter_mut().skip(1).zip(pairs.pairs.iter().flat_map(words)) {
        *place = word;
    }
    assert_eq!(stored(COOKIE, &value), [expected(false), expected(true)]);
    assert_eq!(stored(COOKIE, &[0; STORED_WORDS]), []);
}

#[test]
fn r4_it_may_stay_where_it_is_as_long_as_that_is_the_same_and_usable() {
    use abi::frontend::backend_flag::{LIVE, TERMINATING, USABLE};
    let connection = expected(true);
    let backend = Backend { flags: LIVE | USABLE, service: 9, generation: 2, ..Backend::default() };
    assert!(connection.may_stay(Some(&backend)));
    assert!(connection.may_stay(Some(&Backend { flags: LIVE | USABLE | TERMINATING, ..backend })));
    for other in [
        Backend { flags: LIVE, ..backend },
        Backend { flags: USABLE, ..backend },
        Backend { service: 8, ..backend },
        Backend { generation: 3, ..backend },
        Backend::default(),
    ] {
        assert!(!connection.may_stay(Some(&other)), "{other:?}");
    }
    assert!(!connection.may_stay(None));
}

#[test]
fn a_slot_is_freed_if_nothing_happens_meanwhile() {
    for (bits, left) in [(0, 0), (owner::OVERFLOW, owner::OVERFLOW), (owner::MORE, owner::OVERFLOW)] {
        let slot = slot(bits);
        let owned = owned(&slot);
        assert!(mark(&slot, &owned) && release(&slot, &owned));
        assert_eq!(slot.owner.load(), left);
        assert_eq!(Meta::unpack(slot.pair.meta.load()), Meta { version: 3, ..Meta::default() });
    }
    // That another socket finds it taken is nothing.
    let slot = slot(0);
    let owned = owned(&slot);
    assert!(mark(&slot, &owned));
    slot.owner.set(owner::OVERFLOW);
    assert!(release(&slot, &owned));
    assert_eq!(slot.owner.load(), owner::OVERFLOW);
}

#[test]
fn r9_a_slot_whose_owner_stirs_is_its_own() {
    type Stir = fn(&Slot);
    // What hooks do: use the pair, use the storage, give up, and give up and connect again before all this.
    let stirs: [(&str, Stir, u64); 4] = [
        (
            "uses",
            |slot| slot.pair.meta.store(slot.pair.meta.load() | u64::from(pair_flag::DIRECT) << 40),
            COOKIE,
        ),
        (
            "stores",
            |slot| {
                slot.owner.set(owner::MORE | owner::OVERFLOW);
            },
            COOKIE | owner::MORE | owner::OVERFLOW,
        ),
        (
            "gives up",
            |slot| {
                slot.pair.meta.store(Meta::emptied(slot.pair.meta.load()));
                slot.owner.keep(owner::OVERFLOW | owner::COPYING);
            },
            0,
        ),
        ("connects again", |slot| fill(&slot.pair, pair_flag::CONNECTED, 4), COOKIE),
    ];
    for (what, stir, left) in stirs {
        let slot = slot(0);
        let owned = owned(&slot);
        assert!(mark(&slot, &owned));
        stir(&slot);
        let meta = slot.pair.meta.load();
        assert!(!release(&slot, &owned), "{what}");
        assert_eq!((slot.owner.load(), slot.pair.meta.load()), (left, meta), "{what}");
    }
    // Before it is marked.
    let slot = slot(0);
    let owned = owned(&slot);
    slot.owner.store(8);
    assert!(!mark(&slot, &owned));
    assert_eq!(slot.owner.load(), 8);
}

#[test]
fn what_was_made_by_sending_is_told_apart() {
    let slot = slot(0);
    assert!(!owned(&slot).is_unconnected());
    fill(&slot.pair, pair_flag::DIRECT, 3);
    assert!(owned(&slot).is_unconnected());
    slot.pair.meta.store(Meta::emptied(slot.pair.meta.load()));
    assert!(!owned(&slot).is_unconnected());
}

#[test]
fn what_is_being_written_or_copied_is_not_marked() {
    let slot = slot(owner::COPYING);
    assert!(!mark(&slot, &owned(&slot)));
    slot.owner.store(COOKIE);
    slot.pair.meta.store(Meta { state: pair_state::BUSY, ..Meta::default() }.pack());
    assert!(!mark(&slot, &owned(&slot)));
}
