//! P6: at most so many connections in any second, on all CPUs together.
//!
//! A ring of places in which connections are counted with the time of the last of them. The place at the head is being
//! filled; a full one makes its successor the head. There is room as long as the place at the head is not full, or what
//! is in it is older than a second: then all before it are too. With up to [`PLACES`] connections a second each has a
//! place of its own, and the limit is exact; beyond, some share one, and a place counts until the last of them is a second
//! old, which is less than 1 % of the second later than the first.

use abi::{
    Limit,
    policy::{COUNT_BITS, MOST_A_SECOND, PLACES},
};

const SECOND: u64 = 1_000_000_000;

/// Low bits of a place.
const COUNT: u64 = (1 << COUNT_BITS) - 1;

/// How long what is in a place counts: also what its times leave out.
const WINDOW: u64 = SECOND + COUNT + 1;

/// How often another CPU may be quicker. There is always one that gets on, so this many must have come between.
const TRIES: u32 = 16;

/// Takes one of `limit` connections a second, if there is one left, at this exact time.
#[inline(always)]
pub fn take(ring: &Limit, limit: u32, now: u64) -> bool {
    let limit = limit.min(MOST_A_SECOND);
    let each = limit.div_ceil(PLACES as u32);
    // For the verifier, and for whoever calls without a limit.
    if each == 0 {
        return true;
    }
    let places = u64::from(limit / each);
    for _ in 0..TRIES {
        let head = ring.head.load();
        let Some(place) = at(ring, head, places) else { return true };
        let word = place.load();
        let count = word & COUNT;
        let is_over = count == 0 || now.saturating_sub(word & !COUNT) >= WINDOW;
        if is_over || count < u64::from(each) {
            let count = if is_over { 1 } else { count + 1 };
            if place.replace(word, (now & !COUNT) | count) {
                if count == u64::from(each) {
                    ring.head.replace(head, head + 1);
                }
                return true;
            }
            continue;
        }
        // Full and young. Either all are, or this is the youngest, which somebody has just filled: then the next, the oldest,
        // is older.
        let Some(next) = at(ring, head + 1, places) else { return true };
        let next = next.load();
        if next & COUNT != 0 && next & !COUNT >= word & !COUNT {
            return false;
        }
        ring.head.replace(head, head + 1);
    }
    false
}

/// How many connections of the last second there are.
pub fn taken(ring: &Limit, limit: u32, now: u64) -> u64 {
    let limit = limit.min(MOST_A_SECOND);
    let each = limit.div_ceil(PLACES as u32).max(1);
    let words = ring.places.iter().take((limit / each) as usize).map(abi::Word::load);
    words.filter(|word| now.saturating_sub(word & !COUNT) < WINDOW).map(|word| word & COUNT).sum()
}

#[inline(always)]
fn at(ring: &Limit, number: u64, places: u64) -> Option<&abi::Word> {
    if places == 0 {
        return None;
    }
    ring.places.get((number % places) as usize)
}

#[cfg(test)]
mod tests;
