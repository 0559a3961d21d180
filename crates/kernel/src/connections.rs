//! What living sockets hold: read from the slots, and from socket storage by a descriptor; and freeing the
//! slots of sockets that are gone without having said so.
//!
//! The words and the protocols are those of `abi::slot` and `datapath::sockets`. Reading changes nothing and holds up
//! nobody. Freeing is done in two steps with an RCU grace period between them, see [`Slots::free`].

use std::os::fd::{AsRawFd, BorrowedFd};

use abi::{
    Backend, Endpoint, Pair, Slot,
    slot::{Entry, Ids, Meta, owner, pair_flag, pair_state},
};

use datapath::sockets::{PAIR_WORDS, Seen};

use crate::{Error, Maps, mapping::Mapping, sys};

/// Words of a socket's storage.
const STORED_WORDS: usize = size_of::<abi::Pairs>() / size_of::<u64>();

/// One destination of one socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The socket's cookie.
    pub cookie: u64,
    /// What the application asked for.
    pub vip: Endpoint,
    /// Where it went.
    pub backend: Endpoint,
    /// IP protocol number.
    pub protocol: u8,
    /// Made by `connect()`; else by sending.
    pub connected: bool,
    /// Backend index and generation.
    pub ids: Ids,
    /// Service port id.
    pub service: u32,
    /// Tells contents of one pair apart: another one has another number, until it wraps at 256.
    pub version: u8,
}

impl Connection {
    /// From the words of a pair; `None` if it is empty or being written.
    fn read(cookie: u64, words: [u64; PAIR_WORDS]) -> Option<Self> {
        let Seen { vip, backend, meta, ids, service, .. } = Seen::of(&words);
        (meta.state == pair_state::VALID).then_some(Self {
            cookie,
            vip,
            backend,
            protocol: meta.protocol,
            connected: meta.flags & pair_flag::CONNECTED != 0,
            ids,
            service,
            version: meta.version,
        })
    }

    /// May it stay on its backend, which its index in `backends` has become `backend` (R4)?
    pub fn may_stay(&self, backend: Option<&Backend>) -> bool {
        use abi::frontend::backend_flag::{LIVE, USABLE};
        backend.is_some_and(|backend| {
            backend.generation == self.ids.generation
                && backend.service == self.service
                && backend.flags & (LIVE | USABLE) == LIVE | USABLE
        })
    }
}

/// The connections in the words of a socket's value of the map `pairs`.
fn stored(cookie: u64, words: &[u64; STORED_WORDS]) -> Vec<Connection> {
    // The clock, then the pairs.
    let [_, pairs @ ..] = words;
    let (pairs, _) = pairs.as_chunks::<PAIR_WORDS>();
    pairs.iter().filter_map(|words| Connection::read(cookie, *words)).collect()
}

/// Who has a slot, and what is in it: what must not have changed when it is freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owned {
    index: usize,
    /// The socket's cookie.
    pub cookie: u64,
    held: u64,
    meta: u64,
}

impl Owned {
    /// What it remembers was made by sending, not by `connect()`: it serves as long as the socket is bound or anything
    /// that has arrived is unread.
    pub fn is_unconnected(&self) -> bool {
        let meta = Meta::unpack(self.meta);
        meta.state != pair_state::EMPTY && meta.flags & pair_flag::CONNECTED == 0
    }
}

/// The slots, mapped.
pub struct Slots {
    mapping: Mapping,
    count: usize,
}

impl Slots {
    /// Maps those of `maps`.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn open(maps: &Maps) -> Result<Self, Error> {
        let count = maps.slots.capacity() as usize;
        let mapping =
            Mapping::new(maps.slots.fd(), count * size_of::<Entry>()).map_err(maps.slots.error("mmap"))?;
        Ok(Self { mapping, count })
    }

    fn slot(&self, index: usize) -> Option<&Slot> {
        self.mapping.slot(index, size_of::<Entry>())
    }

    fn slots(&self) -> impl Iterator<Item = (usize, &Slot)> {
        (0..self.count).filter_map(|index| Some((index, self.slot(index)?)))
    }

    /// The first destination of each socket that has a slot. What a socket has besides is in its storage:
    /// [`Maps::stored`].
    pub fn connections(&self) -> impl Iterator<Item = Connection> {
        self.slots().filter_map(|(_, slot)| read(slot))
    }

    fn of(&self, cookie: u64) -> Option<&Slot> {
        self.slot(usize::try_from(cookie % self.count.max(1) as u64).ok()?)
    }

    /// What this socket's slot says now, if it has one.
    pub fn connection(&self, cookie: u64) -> Option<Connection> {
        self.of(cookie).and_then(read).filter(|connection| connection.cookie == cookie)
    }

    /// May this socket have storage?
    pub fn uses_storage(&self, cookie: u64) -> bool {
        self.of(cookie).is_some_and(|slot| {
            let held = slot.owner.load();
            held & if held & owner::COOKIE == cookie { owner::MORE } else { owner::OVERFLOW } != 0
        })
    }

    /// May some sockets have storage?
    pub fn use_storage(&self) -> bool {
        self.slots().any(|(_, slot)| slot.owner.load() & (owner::OVERFLOW | owner::MORE) != 0)
    }

    /// All slots that somebody owns.
    pub fn owned(&self) -> impl Iterator<Item = Owned> {
        self.slots().filter_map(|(index, slot)| {
            let held = slot.owner.load();
            let cookie = held & owner::COOKIE;
            (cookie != 0).then(|| Owned { index, cookie, held, meta: slot.pair.meta.load() })
        })
    }

    /// Frees slots whose owner is gone, as long as nothing has changed in them; how many.
    ///
    /// Also right if the owner lives and is in the middle of a hook. The slot is first marked COPYING: from then on its
    /// owner still reads it, gives it up whole (which unmarks nothing), or uses its storage, and nobody else takes it.
    /// Hooks that began before that have ended after a grace period. Then, if no word has changed, nobody is about to
    /// change one, and the slot is emptied and given away. Of an owner with storage it leaves OVERFLOW, so that, if that
    /// socket lives after all, it goes on finding what is there.
    pub fn free(&self, gone: &[Owned]) -> usize {
        let marked: Vec<(&Slot, &Owned)> = gone
            .iter()
            .filter_map(|owned| Some((self.slot(owned.index)?, owned)))
            .filter(|(slot, owned)| mark(slot, owned))
            .collect();
        if marked.is_empty() {
            return 0;
        }
        crate::wait_for_readers();
        marked.into_iter().filter(|(slot, owned)| release(slot, owned)).count()
    }

    /// Takes back what an agent that was killed in [`Slots::free`] has left marked. Only while no slots are being carried
    /// over from another layout.
    pub fn unmark(&self) {
        for (_, slot) in self.slots() {
            if slot.owner.load() & owner::COPYING != 0 {
                slot.owner.keep(!owner::COPYING);
            }
        }
    }
}

/// The first step: nobody but the owner may change it from here on.
fn mark(slot: &Slot, owned: &Owned) -> bool {
    let is_quiet = owned.held & owner::COPYING == 0 && Meta::unpack(owned.meta).state != pair_state::BUSY;
    is_quiet && slot.owner.replace(owned.held, owned.held | owner::COPYING)
}

/// The second step; was it freed?
fn release(slot: &Slot, owned: &Owned) -> bool {
    let freed = try_release(slot, owned);
    if !freed {
        slot.owner.keep(!owner::COPYING);
    }
    freed
}

fn try_release(slot: &Slot, owned: &Owned) -> bool {
    let marked = owned.held | owner::COPYING;
    let mut held = slot.owner.load();
    // Others may have found it taken meanwhile, and used their storage.
    let unchanged = |held: u64| (held ^ marked) & !owner::OVERFLOW == 0;
    if !unchanged(held) || !slot.pair.meta.replace(owned.meta, Meta::emptied(owned.meta)) {
        return false;
    }
    while unchanged(held) {
        let left = if held & (owner::OVERFLOW | owner::MORE) == 0 { 0 } else { owner::OVERFLOW };
        if slot.owner.replace(held, left) {
            return true;
        }
        held = slot.owner.load();
    }
    false
}

/// What a slot says; `None` if it is nobody's, empty, or being written just now.
fn read(slot: &Slot) -> Option<Connection> {
    let cookie = slot.owner.load() & owner::COOKIE;
    let meta = slot.pair.meta.load();
    if cookie == 0 || Meta::unpack(meta).state != pair_state::VALID {
        return None;
    }
    let Pair { vip: [a, b], backend: [c, d], ids, service, .. } = &slot.pair;
    let words = [a.load(), b.load(), c.load(), d.load(), meta, ids.load(), service.load()];
    let connection = Connection::read(cookie, words);
    // One content of one owner, not halves of two.
    let unchanged = slot.owner.load() & owner::COOKIE == cookie && slot.pair.meta.load() == meta;
    connection.filter(|_| unchanged)
}

impl Maps {
    /// What the storage of a socket holds, by any descriptor of it that is ours.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn stored(&self, cookie: u64, socket: BorrowedFd<'_>) -> Result<Vec<Connection>, Error> {
        let words: Option<[u64; STORED_WORDS]> = sys::lookup(self.pairs.fd(), &socket.as_raw_fd())
            .map_err(self.pairs.error("BPF_MAP_LOOKUP_ELEM"))?;
        Ok(words.map_or_else(Vec::new, |words| stored(cookie, &words)))
    }

    /// One entry of `backends`; `None` past its end.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn backend(&self, index: u32) -> Result<Option<Backend>, Error> {
        sys::lookup(self.backends.fd(), &index).map_err(self.backends.error("BPF_MAP_LOOKUP_ELEM"))
    }
}

#[cfg(test)]
mod tests;
