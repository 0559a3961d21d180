//! Who has which number: pools of ids and indexes, ranges of the flat array, and what waits to be reused.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Numbers below a capacity, the lowest free first.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    capacity: u32,
    /// Numbers from here on are free; those below it are if they are in `free`.
    next: u32,
    free: BTreeSet<u32>,
}

impl Pool {
    pub(super) fn new(capacity: u32, used: &BTreeSet<u32>) -> Self {
        let next = used.last().map_or(0, |last| last.saturating_add(1));
        Self { capacity, next, free: (0..next).filter(|n| !used.contains(n)).collect() }
    }

    pub(super) fn enlarge(&mut self, capacity: u32) {
        self.capacity = capacity;
    }

    /// A free number that is `allowed`.
    pub(super) fn take(&mut self, allowed: impl Fn(u32) -> bool) -> Option<u32> {
        if let Some(n) = self.free.iter().copied().find(|n| allowed(*n)) {
            self.free.remove(&n);
            return Some(n);
        }
        while self.next < self.capacity {
            let n = self.next;
            self.next += 1;
            if allowed(n) {
                return Some(n);
            }
            self.free.insert(n);
        }
        None
    }

    pub(super) fn give(&mut self, n: u32) {
        self.free.insert(n);
    }
}

/// Freed backend indexes that rest before those never used are left for later. Not all: what was ever used is in the
/// mirror, and is read by each audit.
const RESTING: usize = 1024;

/// Backend indexes: those freed longest ago once [`RESTING`] others rest, else those never used. Sockets may remember an
/// index for long; its generation tells them apart, but the later it comes back the better.
#[derive(Clone, Debug)]
pub(super) struct Indexes {
    capacity: u32,
    next: u32,
    free: VecDeque<u32>,
}

impl Indexes {
    /// `free` are those below `next`, oldest first.
    pub(super) fn new(capacity: u32, next: u32, free: VecDeque<u32>) -> Self {
        Self { capacity, next, free }
    }

    pub(super) fn enlarge(&mut self, capacity: u32) {
        self.capacity = capacity;
    }

    pub(super) fn take(&mut self, allowed: impl Fn(u32) -> bool) -> Option<u32> {
        if self.free.len() > RESTING
            && let Some(place) = self.free.iter().position(|n| allowed(*n))
        {
            return self.free.remove(place);
        }
        while self.next < self.capacity {
            let n = self.next;
            self.next += 1;
            if allowed(n) {
                return Some(n);
            }
            self.free.push_back(n);
        }
        let place = self.free.iter().position(|n| allowed(*n))?;
        self.free.remove(place)
    }

    pub(super) fn give(&mut self, n: u32) {
        self.free.push_back(n);
    }
}

/// How often each number is referred to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Uses(BTreeMap<u32, u32>);

impl Uses {
    pub(super) fn add(&mut self, n: u32) {
        *self.0.entry(n).or_default() += 1;
    }

    pub(super) fn drop(&mut self, n: u32) {
        if let Some(count) = self.0.get_mut(&n) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(&n);
            }
        }
    }

    pub(super) fn any(&self, n: u32) -> bool {
        self.0.contains_key(&n)
    }
}

/// A range of the flat array that records use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) len: u32,
    /// How many records.
    pub(super) refs: u32,
    /// The service port whose it is; `None` where a damaged image has ranges that overlap. Such a block lives
    /// as long as any of them and is nobody's to share.
    pub(super) owner: Option<u32>,
}

/// The flat array: used blocks and free room, first fit.
#[derive(Clone, Debug)]
pub(super) struct Ranges {
    pub(super) used: BTreeMap<u32, Block>,
    free: BTreeMap<u32, u32>,
}

impl Ranges {
    /// All that is not used is free. Blocks do not overlap and end within `capacity`.
    pub(super) fn new(capacity: u32, used: BTreeMap<u32, Block>) -> Self {
        let mut free = BTreeMap::new();
        let mut from = 0;
        for (start, block) in &used {
            if from < *start {
                free.insert(from, start - from);
            }
            from = start + block.len;
        }
        if from < capacity {
            free.insert(from, capacity - from);
        }
        Self { used, free }
    }

    /// The first free range of `len` positions.
    pub(super) fn take(&mut self, len: u32, owner: u32) -> Option<u32> {
        let (start, room) = self.free.iter().find(|(_, room)| **room >= len).map(|(s, r)| (*s, *r))?;
        self.free.remove(&start);
        if room > len {
            self.free.insert(start + len, room - len);
        }
        self.used.insert(start, Block { len, refs: 0, owner: Some(owner) });
        Some(start)
    }

    /// Frees a range that is no longer in `used`, and joins it with its neighbours.
    pub(super) fn give(&mut self, mut start: u32, mut len: u32) {
        if let Some((before, room)) = self.free.range(..start).next_back().map(|(s, r)| (*s, *r))
            && before + room == start
        {
            self.free.remove(&before);
            (start, len) = (before, len + room);
        }
        if let Some(room) = self.free.remove(&(start + len)) {
            len += room;
        }
        self.free.insert(start, len);
    }
}

/// Something that nothing in the table leads to any more, but that a program may still be reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Freed {
    Backend(u32),
    Record(u32),
    Range { start: u32, len: u32 },
}

/// What was freed, by the period in which it was.
#[derive(Clone, Debug)]
pub(super) struct Quarantine<T> {
    current: u64,
    freed: VecDeque<(u64, T)>,
}

impl<T> Default for Quarantine<T> {
    fn default() -> Self {
        Self { current: 0, freed: VecDeque::new() }
    }
}

impl<T> Quarantine<T> {
    pub(super) fn put(&mut self, freed: T) {
        self.freed.push_back((self.current, freed));
    }

    /// Ends the period; what is freed from now on belongs to the next.
    pub(super) fn end_period(&mut self) -> u64 {
        let ended = self.current;
        self.current += 1;
        ended
    }

    /// The oldest, if it was freed in `period` or earlier.
    pub(super) fn release(&mut self, period: u64) -> Option<T> {
        if self.freed.front()?.0 > period {
            return None;
        }
        self.freed.pop_front().map(|(_, freed)| freed)
    }

    /// Those that are not `kept` were not freed.
    pub(super) fn retain(&mut self, kept: impl Fn(&T) -> bool) {
        self.freed.retain(|(_, freed)| kept(freed));
    }

    /// The oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.freed.iter().map(|(_, freed)| freed)
    }

    pub(super) fn len(&self) -> usize {
        self.freed.len()
    }
}
