//! Policies: what the programs count of them, how often they may redirect, and who is not redirected.
//!
//! ```text
//! limits     (policy, connections a second) -> Limit     P6
//! policies   policy -> Policy                            what is counted
//! exempt     (policy, client) -> 1                       P7: a policy's own backends
//! ```
//!
//! A policy is known by a number of 64 bits made of its kind and name: no table has to say who has which.

use crate::Word;
use bytemuck::{Pod, Zeroable};

/// Places of a [`Limit`]: what a page of 8 KiB has room for, and round.
pub const PLACES: usize = 1000;

/// Connections that one place of a [`Limit`] can count.
pub const MOST_A_PLACE: u32 = (1 << COUNT_BITS) - 1;

/// Most connections a second that can be counted; more is no limit that a machine would ever meet.
pub const MOST_A_SECOND: u32 = PLACES as u32 * 1000;

/// Low bits of a place: how many connections. The others: when the last of them was, in nanoseconds of CLOCK_MONOTONIC, of
/// which these bits are left out.
pub const COUNT_BITS: u32 = 11;

/// Key of `limits`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
pub struct LimitKey {
    /// The policy, in halves.
    pub policy: [u32; 2],
    /// Connections a second: another number begins to count anew.
    pub limit: u32,
}

/// Value of `limits`: when the connections of the last second were, the oldest of them next to be written over.
#[repr(C)]
#[cfg_attr(not(target_arch = "bpf"), derive(Debug))]
pub struct Limit {
    /// How many places have been filled so far: the one that is being filled.
    pub head: Word,
    /// A ring of places.
    pub places: [Word; PLACES],
}

impl Default for Limit {
    fn default() -> Self {
        Self { head: Word::new(0), places: [const { Word::new(0) }; PLACES] }
    }
}

/// The words of a [`Limit`], copied.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct LimitWords {
    /// As in [`Limit`].
    pub head: u64,
    /// As in [`Limit`].
    pub places: [u64; PLACES],
}

impl From<LimitWords> for Limit {
    fn from(words: LimitWords) -> Self {
        Self { head: Word::new(words.head), places: words.places.map(Word::new) }
    }
}

/// Value of `policies`, counted since the entry was made.
#[repr(C)]
#[derive(Default)]
#[cfg_attr(not(target_arch = "bpf"), derive(Debug))]
pub struct Policy {
    /// Connections that found it without a backend.
    pub fallbacks: Word,
    /// Connections beyond its limit.
    pub spills: Word,
    /// Connections of its own backends.
    pub own: Word,
}

/// The words of a [`Policy`], copied.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct PolicyWords {
    /// As in [`Policy`].
    pub fallbacks: u64,
    /// As in [`Policy`].
    pub spills: u64,
    /// As in [`Policy`].
    pub own: u64,
}

/// Key of `exempt`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
pub struct ExemptKey {
    /// The policy, in halves.
    pub policy: [u32; 2],
    /// Cookie of a network namespace, or with [`ExemptKey::CGROUP`] the id of a cgroup; in halves.
    pub client: [u32; 2],
}

impl ExemptKey {
    /// Set in a client that is a cgroup: of pods on the host's network, whose namespace is everybody's.
    pub const CGROUP: u64 = 1 << 63;

    /// Of a policy and a client.
    #[inline(always)]
    pub const fn new(policy: [u32; 2], client: u64) -> Self {
        Self { policy, client: halves(client) }
    }
}

/// A number as two words, the low one first.
#[inline(always)]
pub const fn halves(number: u64) -> [u32; 2] {
    [number as u32, (number >> 32) as u32]
}

/// The number of two words.
#[inline(always)]
pub const fn whole(halves: [u32; 2]) -> u64 {
    halves[0] as u64 | (halves[1] as u64) << 32
}

/// The number of a policy: FNV-1a, 64 bits, of its kind ([`crate::name::owner_kind`]) and name. Never 0, which is no policy.
pub const fn number(kind: u8, name: &[u8]) -> u64 {
    const PRIME: u64 = 0x0100_0000_01b3;
    let mut hash = (0xcbf2_9ce4_8422_2325 ^ kind as u64).wrapping_mul(PRIME);
    let mut at = 0;
    while at < name.len() {
        hash = (hash ^ name[at] as u64).wrapping_mul(PRIME);
        at += 1;
    }
    if hash == 0 { 1 } else { hash }
}

const _: () = assert!(size_of::<Limit>() == 8 * (PLACES + 1));
const _: () = assert!(size_of::<Limit>() == size_of::<LimitWords>());
const _: () = assert!(size_of::<Policy>() == size_of::<PolicyWords>());
const _: () = assert!(MOST_A_SECOND / PLACES as u32 <= MOST_A_PLACE);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_have_numbers_of_their_own() {
        // The test vector of the algorithm's authors for "a", whose first step here is the kind.
        assert_eq!(number(b'a', b""), 0xaf63_dc4c_8601_ec8c);
        assert_ne!(number(1, b"dns"), number(2, b"dns"));
        assert_ne!(number(1, b"dns"), number(1, b"dnt"));
        let some = number(1, b"dns");
        assert_eq!(whole(halves(some)), some);
    }
}
