//! What is known of a socket: its slot, and its storage where the slot is taken or one pair is not enough.
//!
//! See [`abi::slot`] for the words and the protocols. While a program replacement carries sockets over to a
//! new slot layout, a socket that owns a slot of the previous one is *frozen*: its words there are read but
//! no longer written (the agent is copying them), what it learns goes to its storage, and forgetting is
//! giving that slot up.

mod pair;

pub(crate) use self::pair::may_be;
pub use self::pair::{PAIR_WORDS, PairRef, Seen};

use self::pair::{address, read, write};
use crate::Socket;
use abi::{
    Endpoint, Key, Pair, Pairs, Slot,
    slot::{FORGETFUL, Ids, Meta, STORED_PAIRS, owner, pair_flag, pair_state},
};

/// Is `a` a later stamp than `b`? They wrap.
#[inline(always)]
const fn later(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) > 0
}

/// What is known of one socket.
pub struct Known<'a> {
    slot: Option<&'a Slot>,
    stored: Option<&'a Pairs>,
    frozen: bool,
    /// Nothing is known. Not computed from the two above: LLVM would `or` the pointers, which the verifier forbids.
    empty: bool,
}

impl<'a> Known<'a> {
    /// Finds it. A socket that is known nowhere costs one array look-up.
    #[inline(always)]
    pub fn of<S: Socket>(socket: &'a S) -> Self {
        let cookie = socket.cookie();
        let mut elsewhere = 0;
        // The previous layout's slot first: once it is given up, the new one is complete.
        if let Some(slot) = socket.previous_slot() {
            let held = slot.owner.load();
            if held & owner::COOKIE == cookie {
                let stored = if held & owner::MORE != 0 { socket.stored() } else { None };
                return Self { slot: Some(slot), stored, frozen: true, empty: false };
            }
            elsewhere = held & owner::OVERFLOW;
        }
        if let Some(slot) = socket.slot() {
            let held = slot.owner.load();
            if held & owner::COOKIE == cookie {
                let stored = if held & owner::MORE != 0 { socket.stored() } else { None };
                return Self { slot: Some(slot), stored, frozen: false, empty: false };
            }
            elsewhere |= held & owner::OVERFLOW;
        }
        let stored = if elsewhere != 0 { socket.stored() } else { None };
        Self { slot: None, stored, frozen: false, empty: elsewhere == 0 }
    }

    /// Nothing is known; `false` also where that is only likely.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.empty
    }

    /// The first valid pair for which `test` holds; only those that `may` are read whole.
    #[inline(always)]
    pub fn find(&self, may: impl Fn(&Pair) -> bool, test: impl Fn(&Seen) -> bool) -> Option<PairRef<'a>> {
        if let Some(slot) = self.slot
            && may(&slot.pair)
            && let Some(seen) = read(&slot.pair)
            && test(&seen)
        {
            return Some(PairRef(&slot.pair, seen.meta.pack()));
        }
        for pair in &self.stored?.pairs {
            if may(pair)
                && let Some(seen) = read(pair)
                && test(&seen)
            {
                return Some(PairRef(pair, seen.meta.pack()));
            }
        }
        None
    }

    /// Like [`Known::find`], and the pair counts as used.
    #[inline(always)]
    pub fn find_and_use(
        &self,
        may: impl Fn(&Pair) -> bool,
        test: impl Fn(&Seen) -> bool,
    ) -> Option<PairRef<'a>> {
        let found = self.find(may, test)?;
        if let Some(seen) = read(found.0) {
            self.mark_used(found.0, &seen);
        }
        Some(found)
    }

    /// Backends that this socket's destinations have, or had: see [`Taken`].
    #[inline(always)]
    pub fn backends(&self) -> Taken {
        let mut taken = Taken([0; STORED_PAIRS + 1]);
        let [first, stored @ ..] = &mut taken.0;
        if let Some(slot) = self.slot {
            *first = fingerprint(&slot.pair);
        }
        if let Some(pairs) = self.stored {
            for (taken, pair) in stored.iter_mut().zip(&pairs.pairs) {
                *taken = fingerprint(pair);
            }
        }
        taken
    }

    /// The VIP of the pair used last, of those for which `test` holds; only those that `may` are read whole.
    #[inline(always)]
    pub fn latest(&self, may: impl Fn(&Pair) -> bool, test: impl Fn(&Seen) -> bool) -> Option<Endpoint> {
        // No Option here: LLVM would spill its undefined payload, which the verifier takes for a read of an
        // uninitialized register.
        let (mut found, mut stamp, mut vip) = (false, 0, Endpoint::default());
        if let Some(slot) = self.slot
            && may(&slot.pair)
            && let Some(seen) = read(&slot.pair)
            && test(&seen)
        {
            (found, stamp, vip) = (true, seen.stamp, seen.vip);
        }
        if let Some(stored) = self.stored {
            for pair in &stored.pairs {
                if may(pair)
                    && let Some(seen) = read(pair)
                    && test(&seen)
                    && (!found || later(seen.stamp, stamp))
                {
                    (found, stamp, vip) = (true, seen.stamp, seen.vip);
                }
            }
        }
        found.then_some(vip)
    }

    /// The application sent to `to` without a VIP: replies from there are shown as they are, until it uses
    /// the VIP again.
    #[inline(always)]
    pub fn mark_direct(&self, to: &Endpoint) {
        if let Some(slot) = self.slot {
            self.mark_pair_direct(&slot.pair, to);
        }
        if let Some(stored) = self.stored {
            for pair in &stored.pairs {
                self.mark_pair_direct(pair, to);
            }
        }
    }

    #[inline(always)]
    fn mark_pair_direct(&self, pair: &Pair, to: &Endpoint) {
        if may_be(&pair.backend, &to.address)
            && let Some(seen) = read(pair)
            && seen.backend == *to
        {
            self.set_flags(pair, &seen, seen.meta.flags | pair_flag::DIRECT);
        }
    }

    #[inline(always)]
    fn mark_used(&self, pair: &Pair, seen: &Seen) {
        if seen.meta.flags & pair_flag::DIRECT != 0 {
            self.set_flags(pair, seen, seen.meta.flags & !pair_flag::DIRECT);
        }
        // Only where there are several does it matter which was last.
        if let Some(stored) = self.stored
            && !self.frozen
        {
            let stamp = tick(stored);
            pair.service.store(u64::from(seen.service) | u64::from(stamp) << 32);
        }
    }

    #[inline(always)]
    fn set_flags(&self, pair: &Pair, seen: &Seen, flags: u8) {
        if !self.frozen && seen.meta.flags != flags {
            let new = Meta { flags, ..seen.meta };
            // Lost against another thread of the application that uses the same socket: then that one was last.
            let _ = pair.meta.replace(seen.meta.pack(), new.pack());
        }
    }
}

/// Backend addresses of a socket's pairs, as fingerprints: comparing whole addresses, ten candidates against nine
/// pairs, would cost the verifier seconds. For its sake too, pairs are taken as they are, also those that are no
/// longer valid: to avoid what a socket once had does no harm.
pub struct Taken([u64; STORED_PAIRS + 1]);

impl Taken {
    /// Is `endpoint` among them?
    #[inline(always)]
    pub fn has(&self, endpoint: &Endpoint) -> bool {
        let wanted = mix(endpoint.address.halves(), endpoint.port_be);
        let mut found = false;
        for taken in self.0 {
            found |= taken == wanted;
        }
        found
    }
}

/// Fingerprint of a pair's backend.
#[inline(always)]
fn fingerprint(pair: &Pair) -> u64 {
    let [high, low] = &pair.backend;
    mix([high.load(), low.load()], Meta::unpack(pair.meta.load()).backend_port_be)
}

/// 64 bits that tell endpoints apart well enough: two that look alike, or like none, only mean that one more is avoided.
#[inline(always)]
fn mix(words: [u64; 2], port_be: u16) -> u64 {
    let [high, low] = words;
    low ^ (high ^ u64::from(port_be)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[inline(always)]
fn tick(stored: &Pairs) -> u32 {
    (stored.clock.add(1) as u32).wrapping_add(1)
}

/// Forgets all that is known of the socket (R9): what it asks for next has nothing to do with it.
#[inline(always)]
pub fn forget<S: Socket>(socket: &S) {
    let cookie = socket.cookie();
    let mut stored = 0;
    if let Some(slot) = socket.previous_slot() {
        let held = slot.owner.load();
        if held & owner::COOKIE == cookie {
            stored |= held & owner::MORE;
            // Its words stay: the agent may be reading them, and sees that they are given up.
            slot.owner.keep(owner::OVERFLOW);
        }
        stored |= held & owner::OVERFLOW;
    }
    if let Some(slot) = socket.slot() {
        let held = slot.owner.load();
        if held & owner::COOKIE == cookie {
            stored |= held & owner::MORE;
            give_up(slot);
        }
        stored |= held & owner::OVERFLOW;
    }
    if stored != 0
        && let Some(stored) = socket.stored()
    {
        for pair in &stored.pairs {
            pair.meta.store(Meta::emptied(pair.meta.load()));
        }
        stored.clock.keep(!FORGETFUL);
    }
}

/// Frees a slot. The agent may be copying into it: then it stays COPYING, and nobody's, until the agent is done.
#[inline(always)]
pub(crate) fn give_up(slot: &Slot) {
    slot.pair.meta.store(Meta::emptied(slot.pair.meta.load()));
    slot.owner.keep(owner::OVERFLOW | owner::COPYING);
}

/// Was a choice remembered?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Yes.
    Yes,
    /// Yes, and another destination had to be forgotten, for the first time: a socket that does so does it with each
    /// datagram, and an event for each would cost more than the rest.
    Evicting,
    /// There is no memory for it.
    No,
}

/// Remembers that `key` went to `backend`, which is `ids`.
#[inline(always)]
pub fn remember<S: Socket>(
    socket: &S,
    key: &Key,
    service: u32,
    backend: &Endpoint,
    ids: Ids,
    flags: u8,
) -> Kept {
    let mut new = Seen {
        vip: key.endpoint,
        backend: *backend,
        meta: Meta {
            vip_port_be: key.endpoint.port_be,
            backend_port_be: backend.port_be,
            protocol: key.protocol,
            flags,
            state: pair_state::VALID,
            version: 0,
        },
        ids,
        service,
        stamp: 0,
    };
    if let Some(slot) = take(socket) {
        let meta = slot.pair.meta.load();
        if is_free_for(socket, &slot.pair, meta, &new.vip) {
            // Only where there are several does it matter which was last.
            if slot.owner.load() & owner::MORE != 0
                && let Some(stored) = socket.stored()
            {
                new.stamp = tick(stored);
            }
            if write(&slot.pair, meta, &new) {
                return Kept::Yes;
            }
        }
    }
    socket.remember_stored(&new.words())
}

/// May `vip` have this pair? It may have an empty one and its own old one; not the one that a connection
/// still stands on.
#[inline(always)]
fn is_free_for<S: Socket>(socket: &S, pair: &Pair, meta: u64, vip: &Endpoint) -> bool {
    let meta = Meta::unpack(meta);
    match meta.state {
        pair_state::EMPTY => true,
        pair_state::VALID => {
            if meta.flags & pair_flag::CONNECTED != 0 {
                !socket.is_connected()
            } else {
                meta.vip_port_be == vip.port_be && address(&pair.vip) == vip.address
            }
        }
        _ => false,
    }
}

/// The socket's own slot, taken if it is free; `None` while the socket is frozen or the slot is another's.
#[inline(always)]
fn take<S: Socket>(socket: &S) -> Option<&Slot> {
    let cookie = socket.cookie();
    // Whoever has the slot in the previous layout will be carried over to this one.
    if let Some(slot) = socket.previous_slot()
        && slot.owner.load() & owner::COOKIE != 0
    {
        return None;
    }
    let slot = socket.slot()?;
    let held = slot.owner.load();
    if held & (owner::COOKIE | owner::COPYING) == cookie {
        return Some(slot);
    }
    if held & (owner::COOKIE | owner::COPYING) != 0 {
        return None;
    }
    let mut new = held | cookie;
    if held & owner::OVERFLOW != 0 && socket.stored().is_some() {
        // It was here while the slot was another's: what it knows from then still counts.
        new |= owner::MORE;
    }
    slot.owner.replace(held, new).then_some(slot)
}

/// The rare part of [`remember`]: `words` are those of a pair.
#[inline(always)]
pub fn remember_stored<S: Socket>(socket: &S, words: &[u64; PAIR_WORDS]) -> Kept {
    let mut new = Seen::of(words);
    let Some(stored) = socket.store() else { return Kept::No };
    announce_storage(socket);
    new.stamp = tick(stored);
    // Two threads may be at it on one socket; who loses looks again.
    for _ in 0..2 {
        let (place, word) = place_for(socket, stored, &new.vip);
        if let Some(pair) = place
            && write(pair, word, &new)
        {
            return Kept::Yes;
        }
    }
    // All are in use: one goes, not always the same, not the one that a connection stands on, and not one that
    // another thread is writing.
    for step in 0..3 {
        let index = (new.stamp.wrapping_add(step)) as usize % STORED_PAIRS;
        if let Some(pair) = stored.pairs.get(index) {
            let word = pair.meta.load();
            let meta = Meta::unpack(word);
            let connected = meta.flags & pair_flag::CONNECTED != 0;
            if !connected && meta.state != pair_state::BUSY && write(pair, word, &new) {
                // Read first: that costs a tenth.
                let is_known = stored.clock.load() & FORGETFUL != 0;
                return if is_known || stored.clock.set(FORGETFUL) & FORGETFUL != 0 {
                    Kept::Yes
                } else {
                    Kept::Evicting
                };
            }
        }
    }
    Kept::No
}

/// The pair that `vip` has already, or else one that is empty or stands for a connection that is over; and its word,
/// of which that is true: whoever writes it must replace this one, since another thread may have found it as well.
#[inline(always)]
fn place_for<'a, S: Socket>(socket: &S, stored: &'a Pairs, vip: &Endpoint) -> (Option<&'a Pair>, u64) {
    let connected = socket.is_connected();
    // The word beside the Option, not in it: see `Known::latest`.
    let (mut empty, mut empty_word) = (None, 0);
    for pair in &stored.pairs {
        let word = pair.meta.load();
        let meta = Meta::unpack(word);
        let by_connect = meta.flags & pair_flag::CONNECTED != 0;
        let over = meta.state == pair_state::VALID && by_connect && !connected;
        if (meta.state == pair_state::EMPTY || over) && empty.is_none() {
            (empty, empty_word) = (Some(pair), word);
        }
        let free = meta.state == pair_state::VALID && !by_connect;
        if free
            && meta.vip_port_be == vip.port_be
            && may_be(&pair.vip, &vip.address)
            && address(&pair.vip) == vip.address
        {
            return (Some(pair), word);
        }
    }
    (empty, empty_word)
}

/// Tells later look-ups that the socket has storage.
#[inline(always)]
fn announce_storage<S: Socket>(socket: &S) {
    let cookie = socket.cookie();
    if let Some(slot) = socket.previous_slot()
        && slot.owner.load() & owner::COOKIE == cookie
    {
        slot.owner.set(owner::MORE);
        return;
    }
    let Some(slot) = socket.slot() else { return };
    let held = slot.owner.load();
    // Of a slot that the agent is copying into, only OVERFLOW is sure to stay.
    let sure = if held & owner::COPYING == 0 { 0 } else { owner::OVERFLOW };
    let wanted = if held & owner::COOKIE == cookie { owner::MORE | sure } else { owner::OVERFLOW };
    if held & wanted != wanted {
        slot.owner.set(wanted);
    }
}

#[cfg(test)]
mod tests;
