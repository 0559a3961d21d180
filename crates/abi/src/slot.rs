//! What is remembered of a socket: an array of slots indexed by the socket cookie, and socket storage where
//! one slot is not enough.
//!
//! All of it is words that several CPUs may touch at once (two threads sending on one socket), so all of it
//! is atomics: safe code reads and writes it, and both sides agree by the protocols below.
//!
//! A [`Slot`] is taken by compare-and-swap of `owner` from 0 to the cookie, and freed by setting it to 0. A
//! [`Pair`] is filled by whoever moves its state from EMPTY or VALID to BUSY by compare-and-swap, and readers
//! look only at VALID ones.

use crate::Word;

/// Slots in the array, a power of two.
pub const SLOTS: u32 = 1 << 16;

/// Pairs that a socket's storage holds, besides the one in its slot.
pub const STORED_PAIRS: usize = 8;

/// Bits of [`Slot::owner`]; the rest is the cookie (61 bits: a socket a nanosecond for 73 years).
pub mod owner {
    /// Some socket of this slot had to use its storage because the slot was taken. Never cleared: it only
    /// means that whoever does not own the slot must look into its storage.
    pub const OVERFLOW: u64 = 1 << 63;
    /// The owner has pairs in its storage as well.
    pub const MORE: u64 = 1 << 62;
    /// The agent is copying the words from the previous layout's slot: they count once that is given up.
    pub const COPYING: u64 = 1 << 61;
    /// The cookie.
    pub const COOKIE: u64 = COPYING - 1;
}

/// One destination of a socket: the address that the application used and the backend that it got.
///
/// The words, each in the machine's byte order, addresses and ports within in network byte order:
/// `vip` and `backend` two words an address; `meta` and `ids` as in [`Meta`] and [`Ids`]; `service` the id of
/// the service port and, above it, when it was last used.
#[repr(C)]
#[derive(Default)]
pub struct Pair {
    /// What the application asked for.
    pub vip: [Word; 2],
    /// Where it went.
    pub backend: [Word; 2],
    /// Ports, protocol, flags, state.
    pub meta: Word,
    /// Backend index and generation.
    pub ids: Word,
    /// Service port id (low 32 bits), stamp of the last use (high 32 bits).
    pub service: Word,
}

/// The word [`Pair::meta`], taken apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// Port asked for, network byte order.
    pub vip_port_be: u16,
    /// Port it went to, network byte order.
    pub backend_port_be: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// Bits of [`pair_flag`].
    pub flags: u8,
    /// One of [`pair_state`].
    pub state: u8,
    /// Goes up with each content, and stays when the pair is emptied: a reader that finds the same word again has read
    /// one content, not half of two.
    pub version: u8,
}

impl Meta {
    /// Into the word.
    #[inline(always)]
    pub const fn pack(self) -> u64 {
        (self.vip_port_be as u64)
            | (self.backend_port_be as u64) << 16
            | (self.protocol as u64) << 32
            | (self.flags as u64) << 40
            | (self.state as u64) << 48
            | (self.version as u64) << 56
    }

    /// The word of a pair that was emptied.
    #[inline(always)]
    pub const fn emptied(word: u64) -> u64 {
        word & (0xff << 56)
    }

    /// From the word.
    #[inline(always)]
    pub const fn unpack(word: u64) -> Self {
        Self {
            vip_port_be: word as u16,
            backend_port_be: (word >> 16) as u16,
            protocol: (word >> 32) as u8,
            flags: (word >> 40) as u8,
            state: (word >> 48) as u8,
            version: (word >> 56) as u8,
        }
    }
}

/// The word [`Pair::ids`], taken apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ids {
    /// Index in `backends`.
    pub backend: u32,
    /// Generation of that index.
    pub generation: u32,
}

impl Ids {
    /// Into the word.
    #[inline(always)]
    pub const fn pack(self) -> u64 {
        self.backend as u64 | (self.generation as u64) << 32
    }

    /// From the word.
    #[inline(always)]
    pub const fn unpack(word: u64) -> Self {
        Self { backend: word as u32, generation: (word >> 32) as u32 }
    }
}

/// Values of [`Meta::state`].
pub mod pair_state {
    /// Nothing in it, as when all words are zero.
    pub const EMPTY: u8 = 0;
    /// Somebody writes it.
    pub const BUSY: u8 = 1;
    /// It can be read.
    pub const VALID: u8 = 2;
}

/// Bits of [`Meta::flags`].
pub mod pair_flag {
    /// Made by `connect()`: getpeername answers from it.
    pub const CONNECTED: u8 = 1;
    /// The application has since sent to the backend's address itself: replies show that.
    pub const DIRECT: u8 = 2;
    /// Made below a policy that did not take it (P5): it stays while its backend is usable, as if chosen by the policy.
    pub const FALLEN: u8 = 4;
}

/// What one socket's slot says. 64 bytes: one cache line.
#[repr(C)]
#[derive(Default)]
pub struct Slot {
    /// 0 = free; otherwise the socket's cookie and bits of [`owner`].
    pub owner: Word,
    /// Its first destination.
    pub pair: Pair,
}

/// One entry of the array `slots`. Layouts only ever append to it ([`crate::layout::SLOTS`]): an earlier
/// layout's entry begins with the same [`Slot`].
#[repr(C)]
#[derive(Default)]
pub struct Entry {
    /// The slot.
    pub slot: Slot,
    /// A layout that the test of program replacement moves to: a longer entry.
    #[cfg(feature = "next-layout")]
    pub reserved: [Word; 8],
}

/// Bit of [`Pairs::clock`]: a destination had to be forgotten for another, which was told of.
pub const FORGETFUL: u64 = 1 << 63;

/// Value of the socket storage map `pairs`.
#[repr(C)]
#[derive(Default)]
pub struct Pairs {
    /// Counts sends, for the pairs' stamps (32 bits); [`FORGETFUL`].
    pub clock: Word,
    /// Destinations.
    pub pairs: [Pair; STORED_PAIRS],
}

const _: () = assert!(size_of::<Pair>() == 56);
const _: () = assert!(size_of::<Slot>() == 64);
const _: () = assert!(size_of::<Pairs>() == 8 + 56 * STORED_PAIRS);
