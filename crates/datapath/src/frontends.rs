//! The hash table of frontends ([`abi::lines`]): looking up, and writing while others look up.
//!
//! There is one writer. It changes one word at a time, so that a frontend is there whole or not at all, and stays where
//! it is as long as it is there.

use crate::Env;
use abi::{
    Key,
    lines::{self, FURTHER, Line, Place, Shape, WINDOW},
};

/// What [`look_further`] says if there is no such frontend.
pub const NONE: u32 = u32::MAX;
/// What [`look_further`] says if the frontend leads to no record.
pub const BROKEN: u32 = u32::MAX - 1;

/// The index of the record of `key`, read from one line: plus 1; 0 = it is not in that line. It may be the record of
/// another key that looks alike. And: may it be in lines further on?
#[inline(always)]
pub fn look<E: Env>(env: &E, key: &Key) -> (u32, bool) {
    let is_v4 = key.is_v4();
    let Place { line, tag } = env.shape(is_v4).place(key);
    match env.line(is_v4, line) {
        Some(line) => line.find(tag),
        None => (0, false),
    }
}

/// The index of the record of `key` wherever it may be: the rare part of looking up.
#[inline(always)]
pub fn look_further<E: Env>(env: &E, key: &Key) -> u32 {
    let is_v4 = key.is_v4();
    let shape = env.shape(is_v4);
    let place = shape.place(key);
    let mut found = NONE;
    for step in 0..WINDOW {
        if step >= shape.lines {
            break;
        }
        let Some(line) = env.line(is_v4, shape.behind(place.line, step)) else { break };
        for word in &line.0 {
            let Some((tag, record)) = lines::unpack(word.load()) else { continue };
            if tag != place.tag {
                continue;
            }
            match env.record(record) {
                Some(its) if its.key() == *key => return record,
                Some(_) => {}
                None => found = BROKEN,
            }
        }
    }
    found
}

/// A table that can be written.
pub trait Table {
    /// What it is like.
    fn shape(&self) -> Shape;
    /// One of its lines.
    fn line(&self, number: u32) -> Option<&Line>;
    /// The key that a record repeats.
    fn key(&self, record: u32) -> Option<Key>;
}

/// All words that a frontend may be in are others'.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crowded;

/// How many lines `line` is behind the one of `place`, if a frontend of that place may be there.
fn steps(shape: &Shape, place: &Place, line: u32) -> Option<u32> {
    let steps = line.wrapping_sub(place.line) & shape.lines.wrapping_sub(1);
    (steps < shape.window()).then_some(steps)
}

/// The key of a word of this line, with its distance from its own line; `None` if the word is free, or leads to a
/// record that is not its own.
pub fn owner(
    shape: &Shape,
    line: u32,
    word: u64,
    key: impl Fn(u32) -> Option<Key>,
) -> Option<(Key, u32, u32)> {
    let (tag, record) = lines::unpack(word)?;
    let key = key(record)?;
    let place = shape.place(&key);
    let steps = steps(shape, &place, line).filter(|_| place.tag == tag)?;
    Some((key, record, steps))
}

/// Points a frontend to a record.
///
/// # Errors
/// There is no room where it may be.
pub fn put(table: &impl Table, key: &Key, record: u32) -> Result<(), Crowded> {
    let shape = table.shape();
    let place = shape.place(key);
    let home = table.line(place.line).ok_or(Crowded)?;
    let mut free = None;
    for step in 0..shape.window() {
        let number = shape.behind(place.line, step);
        let line = table.line(number).ok_or(Crowded)?;
        for word in &line.0 {
            let now = word.load();
            let is_alike = lines::unpack(now).is_none_or(|(tag, _)| tag == place.tag);
            match owner(&shape, number, now, |record| table.key(record)) {
                Some((owner, ..)) if owner == *key => {
                    word.store(lines::pack(place.tag, record) | now & FURTHER);
                    return Ok(());
                }
                // Free, or garbage that readers take for this frontend's.
                None if is_alike && free.is_none() => free = Some((step, word)),
                _ => {}
            }
        }
        let is_further = home.0.first().is_some_and(|word| word.load() & FURTHER != 0);
        if free.is_some() && !is_further {
            break;
        }
    }
    let (step, word) = free.ok_or(Crowded)?;
    if step > 0
        && let Some(first) = home.0.first()
    {
        first.set(FURTHER);
    }
    word.store(lines::pack(place.tag, record) | word.load() & FURTHER);
    Ok(())
}

/// Removes a frontend; one that is not there is no error.
pub fn delete(table: &impl Table, key: &Key) {
    let shape = table.shape();
    let place = shape.place(key);
    let mut others_are_further = false;
    for step in 0..shape.window() {
        let number = shape.behind(place.line, step);
        let Some(line) = table.line(number) else { return };
        for word in &line.0 {
            let Some((owner, _, away)) = owner(&shape, number, word.load(), |record| table.key(record))
            else {
                continue;
            };
            if owner == *key {
                word.keep(FURTHER);
            } else if away > 0 && shape.place(&owner).line == place.line {
                others_are_further = true;
            }
        }
    }
    if !others_are_further && let Some(first) = table.line(place.line).and_then(|line| line.0.first()) {
        first.keep(!FURTHER);
    }
}

/// Frees words that lead to a record that is not theirs, and marks lines whose frontends would not be found; how many.
pub fn sweep(table: &impl Table) -> usize {
    let shape = table.shape();
    let mut swept = 0;
    for number in 0..shape.lines {
        let Some(line) = table.line(number) else { break };
        for word in &line.0 {
            let now = word.load();
            match owner(&shape, number, now, |record| table.key(record)) {
                None if lines::unpack(now).is_some() => {
                    word.keep(FURTHER);
                    swept += 1;
                }
                Some((key, _, 1..)) => {
                    let home = table.line(shape.place(&key).line).and_then(|line| line.0.first());
                    swept += usize::from(home.is_some_and(|first| first.set(FURTHER) & FURTHER == 0));
                }
                _ => {}
            }
        }
    }
    swept
}
