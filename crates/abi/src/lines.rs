//! The hash table of frontends: arrays of lines, each a cache line of words, one word a frontend.
//!
//! ```text
//! frontends4/6   line = hash & (lines - 1)    eight words: upper half of the hash, index of the record
//! ```
//!
//! A bpf hash costs a call, a hash of whole keys, and two cache lines before its value; this costs one. A word is read
//! and written at once, so that readers see a frontend's old record or its new one. It holds no key: the record repeats
//! it, and is looked at anyway.
//!
//! A frontend is in its own line, or, if that is full, in one of the [`WINDOW`] behind it (around the end); then
//! [`FURTHER`] is set in the first word of its own. It never moves. Tables have room for [`ROOM`] frontends a line only,
//! so that one line is enough but for fewer than one frontend in a thousand, and the window all but always: that more than
//! 64 of 16 expected hash to the same eight lines is to be expected in one of 10^14 full tables (Poisson). The seed is
//! random, so that nobody can choose addresses and ports that do.
//!
//! One array more than there are lines: the first word of the last is the seed, for who adopts the table.

use crate::{Key, Word};
use bytemuck::{Pod, Zeroable};

/// Words of a line.
pub const WORDS: usize = 8;
/// Lines that a frontend may be in: its own, and those behind it.
pub const WINDOW: u32 = 8;
/// Frontends that a table has room for, for each of its lines.
pub const ROOM: u32 = 2;

/// Bit of a line's first word: frontends that belong into it are in lines behind it.
pub const FURTHER: u64 = 1 << 31;
/// Bits of a word that hold the index of the record, plus 1; 0 = the word is free.
const RECORD: u64 = FURTHER - 1;
/// Highest index of a record that a word can hold.
pub const LAST_RECORD: u32 = RECORD as u32 - 1;

/// Eight words of the table.
#[repr(C, align(64))]
#[derive(Default)]
pub struct Line(pub [Word; WORDS]);

/// [`Line`], as it is copied.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct LineWords(pub [u64; WORDS]);

impl From<LineWords> for Line {
    fn from(words: LineWords) -> Self {
        Self(words.0.map(Word::new))
    }
}

/// The word of a frontend.
#[inline(always)]
pub const fn pack(tag: u32, record: u32) -> u64 {
    (tag as u64) << 32 | (record as u64 + 1) & RECORD
}

/// Tag and index of the record, if the word is not free.
#[inline(always)]
pub const fn unpack(word: u64) -> Option<(u32, u32)> {
    let record = word & RECORD;
    if record == 0 { None } else { Some(((word >> 32) as u32, record as u32 - 1)) }
}

impl Line {
    /// The index of the record of whoever has this tag, plus 1; 0 = nobody. If several have, it is nobody's. And:
    /// [`FURTHER`].
    #[inline(always)]
    pub fn find(&self, tag: u32) -> (u32, bool) {
        // Without branches: the processor would mispredict them, and the verifier follow each.
        let (mut found, mut first) = (0, 0);
        for (at, word) in self.0.iter().enumerate() {
            let word = word.load();
            if at == 0 {
                first = word;
            }
            let other = (word >> 32) ^ tag as u64;
            // All ones where `other` is 0: it has 32 bits.
            found |= word & (other.wrapping_sub(1) as i64 >> 63) as u64;
        }
        ((found & RECORD) as u32, first & FURTHER != 0)
    }
}

/// What a table is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// What its hash begins with.
    pub seed: u64,
    /// Lines: a power of two.
    pub lines: u32,
}

impl Shape {
    /// Lines for so many frontends; a power of two.
    pub const fn lines_for(frontends: u32) -> u32 {
        frontends.div_ceil(ROOM).next_power_of_two()
    }

    /// Where a frontend is.
    #[inline(always)]
    pub const fn place(&self, key: &Key) -> Place {
        let port = key.endpoint.port_be as u64 | (key.protocol as u64) << 16;
        let hash = match key.endpoint.address.as_v4() {
            Some(address) => mix(self.seed, address as u64 | port << 32),
            None => {
                let [high, low] = key.endpoint.address.halves();
                mix(mix(mix(self.seed, high), low), port)
            }
        };
        Place { line: hash as u32 & (self.lines.wrapping_sub(1)), tag: (hash >> 32) as u32 }
    }

    /// The line so far behind another.
    #[inline(always)]
    pub const fn behind(&self, line: u32, steps: u32) -> u32 {
        line.wrapping_add(steps) & self.lines.wrapping_sub(1)
    }

    /// Lines that a frontend may be in.
    #[inline(always)]
    pub const fn window(&self) -> u32 {
        if self.lines < WINDOW { self.lines } else { WINDOW }
    }
}

/// Where a frontend is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its own line.
    pub line: u32,
    /// What tells it from others there.
    pub tag: u32,
}

/// A round of splitmix64, twice.
#[inline(always)]
const fn mix(hash: u64, word: u64) -> u64 {
    let mut hash = (hash ^ word).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash ^= hash >> 29;
    hash = hash.wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ hash >> 32
}

const _: () = assert!(size_of::<Line>() == 64);
const _: () = assert!(size_of::<LineWords>() == 64);
