//! One pair: what the application asked for, and where it went. Other threads of it may write it at any time.

use abi::{
    Address, Endpoint, Pair, Word,
    slot::{Ids, Meta, pair_state},
};

/// A pair, read.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// What the application asked for.
    pub vip: Endpoint,
    /// Where it went.
    pub backend: Endpoint,
    /// Ports, flags, state.
    pub meta: Meta,
    /// Backend index and generation.
    pub ids: Ids,
    /// Service port id.
    pub service: u32,
    /// When it was used last, counted in sends of this socket.
    pub stamp: u32,
}

/// Words of a [`Pair`].
pub const PAIR_WORDS: usize = size_of::<Pair>() / size_of::<u64>();

impl Seen {
    /// Its words, as a [`Pair`] has them.
    #[inline(always)]
    pub(super) fn words(&self) -> [u64; PAIR_WORDS] {
        let [a, b] = self.vip.address.halves();
        let [c, d] = self.backend.address.halves();
        let service = u64::from(self.service) | u64::from(self.stamp) << 32;
        [a, b, c, d, self.meta.pack(), self.ids.pack(), service]
    }

    /// From the words of a [`Pair`], whatever its state.
    #[inline(always)]
    pub fn of(words: &[u64; PAIR_WORDS]) -> Self {
        let [a, b, c, d, meta, ids, service] = *words;
        let meta = Meta::unpack(meta);
        Self {
            vip: Endpoint { address: Address::from_halves([a, b]), port_be: meta.vip_port_be },
            backend: Endpoint { address: Address::from_halves([c, d]), port_be: meta.backend_port_be },
            meta,
            ids: Ids::unpack(ids),
            service: service as u32,
            stamp: (service >> 32) as u32,
        }
    }
}

#[inline(always)]
pub(super) fn address(words: &[Word; 2]) -> Address {
    let [high, low] = words;
    Address::from_halves([high.load(), low.load()])
}

#[inline(always)]
fn set_address(words: &[Word; 2], address: &Address) {
    let [high, low] = address.halves();
    words[0].store(high);
    words[1].store(low);
}

/// The pair's content if it is valid.
#[inline(always)]
pub(super) fn read(pair: &Pair) -> Option<Seen> {
    let word = pair.meta.load();
    let meta = Meta::unpack(word);
    if meta.state != pair_state::VALID {
        return None;
    }
    let service = pair.service.load();
    let seen = Seen {
        vip: Endpoint { address: address(&pair.vip), port_be: meta.vip_port_be },
        backend: Endpoint { address: address(&pair.backend), port_be: meta.backend_port_be },
        meta,
        ids: Ids::unpack(pair.ids.load()),
        service: service as u32,
        stamp: (service >> 32) as u32,
    };
    // Another thread of the application may have written it meanwhile. Loads are not ordered on every machine, so
    // where they are not this leaves a moment of nanoseconds.
    if pair.meta.load() == word { Some(seen) } else { None }
}

/// Can these words be of this address? One word says of most others that they are not.
#[inline(always)]
pub(crate) fn may_be(words: &[Word; 2], address: &Address) -> bool {
    let [_, low] = words;
    low.load() == address.halves()[1]
}

/// A pair that was valid when it was found, and its word then: what is read from it counts if
/// [`PairRef::is_unchanged`] holds afterwards.
pub struct PairRef<'a>(pub(super) &'a Pair, pub(super) u64);

impl PairRef<'_> {
    /// What the application asked for.
    #[inline(always)]
    pub fn vip(&self) -> Endpoint {
        let port_be = Meta::unpack(self.1).vip_port_be;
        Endpoint { address: address(&self.0.vip), port_be }
    }

    /// Where it went.
    #[inline(always)]
    pub fn backend(&self) -> Endpoint {
        let port_be = Meta::unpack(self.1).backend_port_be;
        Endpoint { address: address(&self.0.backend), port_be }
    }

    /// Backend index and generation.
    #[inline(always)]
    pub fn ids(&self) -> Ids {
        Ids::unpack(self.0.ids.load())
    }

    /// Does it still hold what it held when it was found? Being used does not count.
    #[inline(always)]
    pub fn is_unchanged(&self) -> bool {
        let now = Meta::unpack(self.0.meta.load());
        let then = Meta::unpack(self.1);
        now.version == then.version && now.state == pair_state::VALID
    }
}

/// Writes `new` if the pair still is as `meta` says.
#[inline(always)]
pub(super) fn write(pair: &Pair, meta: u64, new: &Seen) -> bool {
    let version = Meta::unpack(meta).version.wrapping_add(1);
    let busy = Meta { state: pair_state::BUSY, version, ..Meta::default() };
    if !pair.meta.replace(meta, busy.pack()) {
        return false;
    }
    set_address(&pair.vip, &new.vip.address);
    set_address(&pair.backend, &new.backend.address);
    pair.ids.store(new.ids.pack());
    pair.service.store(u64::from(new.service) | u64::from(new.stamp) << 32);
    pair.meta.swap(Meta { version, ..new.meta }.pack());
    true
}
