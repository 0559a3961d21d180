//! The hash table of frontends.

extern crate std;

use super::world::{Front, delete, put, tables, tcp, udp};
use abi::{
    Key, Reason,
    frontend::mode,
    lines::{self, FURTHER, LAST_RECORD, Line, LineWords, ROOM, Shape, WINDOW, WORDS},
};
use core::cell::{Cell, RefCell};
use datapath::{
    Env, frontends,
    frontends::{Crowded, Table},
    look_up,
    memory::{Frontends, Tables},
};
use proptest::prelude::*;
use std::{collections::BTreeMap, format, vec::Vec};

/// Lines, and the keys that records have.
struct Written {
    seed: u64,
    lines: Vec<Line>,
    keys: RefCell<BTreeMap<u32, Key>>,
    /// How many lines were looked at.
    looks: Cell<usize>,
}

impl Table for Written {
    fn shape(&self) -> Shape {
        Shape { seed: self.seed, lines: self.lines.len() as u32 }
    }

    fn line(&self, number: u32) -> Option<&Line> {
        self.looks.set(self.looks.get() + 1);
        self.lines.get(number as usize)
    }

    fn key(&self, record: u32) -> Option<Key> {
        self.keys.borrow().get(&record).copied()
    }
}

impl Written {
    fn new(lines: usize, seed: u64) -> Self {
        let lines = (0..lines).map(|_| Line::default()).collect();
        Self { seed, lines, keys: RefCell::default(), looks: Cell::default() }
    }

    fn put(&self, key: &Key, record: u32) -> Result<(), Crowded> {
        self.keys.borrow_mut().insert(record, *key);
        frontends::put(self, key, record)
    }

    /// Everything that is there: the frontend, its record, and how many lines behind its own it is.
    fn all(&self) -> BTreeMap<Key, (u32, u32)> {
        let mut all = BTreeMap::new();
        for (number, line) in (0..).zip(&self.lines) {
            for word in &line.0 {
                let owner = frontends::owner(&self.shape(), number, word.load(), |record| self.key(record));
                assert_eq!(owner.is_some(), lines::unpack(word.load()).is_some(), "line {number}");
                let Some((key, record, steps)) = owner else { continue };
                assert_eq!(all.insert(key, (record, steps)), None, "twice: {key:?}");
            }
        }
        all
    }

    fn is_further(&self, line: u32) -> bool {
        self.lines[line as usize].0[0].load() & FURTHER != 0
    }

    /// Readers go on where, and only where, there is something further on.
    fn check_marks(&self) {
        let mut further: Vec<bool> = self.lines.iter().map(|_| false).collect();
        for (key, (_, steps)) in self.all() {
            further[self.shape().place(&key).line as usize] |= steps > 0;
        }
        for (number, expected) in (0..).zip(further) {
            assert_eq!(self.is_further(number), expected, "line {number}");
        }
    }
}

fn key(n: u32) -> Key {
    let port = n % 7 + 1;
    let text =
        if n.is_multiple_of(2) { format!("10.96.0.{}:{port}", n / 7) } else { format!("[fd00::{n}]:{port}") };
    if n.is_multiple_of(3) { tcp(&text) } else { udp(&text) }
}

proptest! {
    #[test]
    fn what_is_put_is_found_and_what_is_deleted_is_not(
        seed: u64,
        lines in 0u32..5,
        operations in proptest::collection::vec((0u32..200, any::<bool>()), 0..300),
    ) {
        let table = Written::new(1 << lines, seed);
        let mut model: BTreeMap<Key, u32> = BTreeMap::new();
        for (record, (n, is_put)) in (0..).zip(operations) {
            let key = key(n);
            if is_put {
                if table.put(&key, record).is_ok() {
                    model.insert(key, record);
                } else {
                    prop_assert!(!model.contains_key(&key), "{key:?} was there already");
                    prop_assert!(model.len() >= (table.shape().window() as usize * WORDS).min(64), "there is room");
                }
            } else {
                frontends::delete(&table, &key);
                model.remove(&key);
            }
            let all: BTreeMap<Key, u32> = table.all().into_iter().map(|(key, (record, _))| (key, record)).collect();
            prop_assert_eq!(&all, &model);
        }
        table.check_marks();
        prop_assert_eq!(frontends::sweep(&table), 0);
    }

    #[test]
    fn programs_find_what_is_there_in_full_tables_too(
        operations in proptest::collection::vec((0u32..90, any::<bool>()), 0..150),
    ) {
        let mut tables = Tables { frontends: Frontends::dense(), ..Tables::default() };
        let mut model: BTreeMap<u32, u32> = BTreeMap::new();
        for (n, is_put) in operations {
            if is_put {
                model.insert(n, put(&mut tables, Front::new(key(n), mode::CLUSTER_IP, n), &[]));
            } else {
                tables.frontends.remove(&key(n));
                model.remove(&n);
            }
            for n in 0..90 {
                let (record, found) = look_up(&tables, &key(n));
                let reason = if model.contains_key(&n) { Reason::Balanced } else { Reason::NotAService };
                prop_assert_eq!(found.reason, reason);
                prop_assert_eq!(record.map(|record| record.service), model.get(&n).map(|_| n));
                if let Some(record) = model.get(&n) {
                    prop_assert_eq!(found.record, *record);
                }
            }
        }
    }
}

#[test]
fn a_full_window_refuses_and_leaves_all_as_it_was() {
    let table = Written::new(1, 7);
    for n in 0..WORDS as u32 {
        table.put(&key(n), n).unwrap();
    }
    let before = table.all();
    assert_eq!(table.put(&key(99), 99), Err(Crowded));
    assert_eq!(table.all(), before);
    // One that is there can still be changed.
    table.put(&key(3), 50).unwrap();
    assert_eq!(table.all()[&key(3)], (50, 0));
    frontends::delete(&table, &key(5));
    table.put(&key(99), 99).unwrap();
    // Deleting what is not there changes nothing.
    let before = table.all();
    frontends::delete(&table, &key(5));
    assert_eq!(table.all(), before);
}

#[test]
fn a_window_is_as_long_as_it_may_be_and_goes_around_the_end() {
    let table = Written::new(16, 7);
    let last = (0..10_000).map(key).filter(|key| table.shape().place(key).line == 15);
    let keys: Vec<Key> = last.take(WORDS * WINDOW as usize + 1).collect();
    for (record, key) in (0..).zip(&keys) {
        let expected = if record < 64 { Ok(()) } else { Err(Crowded) };
        assert_eq!(table.put(key, record), expected, "{record}");
        assert_eq!(table.is_further(15), record >= WORDS as u32);
    }
    let all = table.all();
    for (record, key) in (0..64).zip(&keys) {
        assert_eq!(all[key], (record, record / WORDS as u32));
    }
    table.check_marks();
    // The mark goes with the last that needs it, and a frontend takes the first free place. The mark is in the first
    // word, also where that is free.
    for key in &keys[8..63] {
        frontends::delete(&table, key);
    }
    assert!(table.is_further(15));
    frontends::delete(&table, &keys[0]);
    table.put(&keys[63], 200).unwrap();
    assert_eq!(table.all()[&keys[63]], (200, 7), "it stays where it is");
    frontends::delete(&table, &keys[63]);
    assert!(!table.is_further(15));
    table.put(&keys[63], 201).unwrap();
    assert_eq!(table.all()[&keys[63]], (201, 0));
}

#[test]
fn one_that_looks_alike_in_the_same_line_hides_nobody() {
    let mut tables = tables(&[("10.96.0.10:80", &["10.1.0.1:80"]), ("10.96.0.11:80", &["10.1.0.1:80"])]);
    tables.frontends = Frontends::dense();
    let (own, other) = (udp("10.96.0.10:80"), udp("10.96.0.11:80"));
    let record =
        |tables: &Tables, key: Key| *tables.records.iter().find(|(_, record)| record.key() == key).unwrap().0;
    let (mine, others) = (record(&tables, own), record(&tables, other));
    tables.frontends.insert(own, mine);
    let tag = tables.shape(true).place(&own).tag;
    // As if the other had the same tag.
    let alike = lines::pack(tag, others);
    let line = Table::line(tables.frontends.family(true), 0).unwrap();
    line.0[5].store(alike);
    let (record, found) = look_up(&tables, &own);
    assert_eq!((record.unwrap().service, found.record), (1, mine));
    // A record that is not there is a broken table.
    line.0[0].store(lines::pack(tag, 4000));
    line.0[5].store(0);
    assert_eq!(look_up(&tables, &own).1.reason, Reason::BrokenTable);
    line.0[0].store(alike);
    assert_eq!(look_up(&tables, &own).1.reason, Reason::NotAService);
}

#[test]
fn garbage_is_swept_and_overwritten() {
    let table = Written::new(4, 7);
    for n in 0..20 {
        table.put(&key(n), n).unwrap();
    }
    let all = table.all();
    let place = table.shape().place(&key(77));
    let free = table.lines[place.line as usize].0.iter().find(|word| lines::unpack(word.load()).is_none());
    // The frontend's tag, and a record that is another's: it takes its place.
    let word = free.unwrap();
    word.store(lines::pack(place.tag, 3));
    table.put(&key(77), 77).unwrap();
    assert_eq!(table.all()[&key(77)], (77, 0));
    frontends::delete(&table, &key(77));
    assert_eq!(table.all(), all);

    word.store(lines::pack(place.tag, 3));
    assert_eq!(frontends::sweep(&table), 1);
    word.store(lines::pack(4, 4000) | word.load());
    assert_eq!(frontends::sweep(&table), 1, "no such record");
    assert_eq!(table.all(), all);
    assert_eq!(frontends::sweep(&table), 0);
    // Marks that are missing.
    let table = Written::new(2, 7);
    for n in 0..16 {
        table.put(&key(n), n).unwrap();
    }
    let marks = [0, 1].map(|line| table.is_further(line));
    assert!(marks.contains(&true));
    for line in &table.lines {
        line.0[0].keep(!FURTHER);
    }
    assert!(frontends::sweep(&table) > 0);
    assert_eq!([0, 1].map(|line| table.is_further(line)), marks);
}

#[test]
fn words_hold_what_was_put_in() {
    for tag in [0, 1, 0x8000_0000, u32::MAX] {
        for record in [0, 1, 77, LAST_RECORD] {
            let word = lines::pack(tag, record);
            assert_eq!(lines::unpack(word), Some((tag, record)));
            assert_eq!(lines::unpack(word | FURTHER), Some((tag, record)));
            let line = Line::default();
            line.0[3].store(word);
            assert_eq!(line.find(tag), (record + 1, false));
            assert_eq!(line.find(tag ^ 1), (0, false));
            line.0[0].set(FURTHER);
            assert_eq!(line.find(tag), (record + 1, true));
        }
    }
    // Copied, it says the same.
    let line = Line::from(LineWords([1, 2, 3, 4, 5, 6, 7, lines::pack(99, 8)]));
    assert_eq!(line.find(99), (9, false));
    assert_eq!(line.0.map(|word| word.load()), [1, 2, 3, 4, 5, 6, 7, lines::pack(99, 8)]);
    assert_eq!(lines::unpack(0), None);
    assert_eq!(lines::unpack(FURTHER), None);
}

#[test]
fn tables_are_as_large_as_needed_and_spread_evenly() {
    for (frontends, lines) in [(0, 1), (1, 1), (2, 1), (3, 2), (5, 4), (65_536, 32_768), (65_537, 65_536)] {
        assert_eq!(Shape::lines_for(frontends), lines, "{frontends}");
    }
    assert_eq!(Shape::lines_for(u32::MAX), 1 << 31);
    // Addresses in a row on one port, as clusters have them; each seed is another order.
    let mut spreads = Vec::new();
    for seed in 0..20 {
        let table = Written::new(1024, seed);
        for n in 0..1024 * ROOM {
            let (high, low) = (n / 256, n % 256);
            table.put(&tcp(&format!("10.96.{high}.{low}:443")), n).unwrap();
        }
        let displaced = table.all().values().filter(|(_, steps)| *steps > 0).count();
        assert!(displaced < 20, "{displaced} of 2048");
        spreads.push(table.shape().place(&tcp("10.96.0.1:443")).line);
    }
    spreads.sort_unstable();
    spreads.dedup();
    assert!(spreads.len() > 15, "{spreads:?}");
}

#[test]
fn a_vip_that_is_deleted_is_gone() {
    let mut tables = tables(&[("10.96.0.10:80", &["10.1.0.1:80"])]);
    delete(&mut tables, "10.96.0.10:80");
    assert_eq!(look_up(&tables, &udp("10.96.0.10:80")).1.reason, Reason::NotAService);
}

#[test]
fn every_part_of_a_frontend_counts_in_where_it_is() {
    let shape = Shape { seed: 7, lines: 1 };
    let tags = |all: &[Key]| {
        let mut tags: Vec<u32> = all.iter().map(|key| shape.place(key).tag).collect();
        tags.sort_unstable();
        tags.dedup();
        tags.len()
    };
    let four = ["10.96.0.1:53", "10.96.0.2:53", "10.96.0.1:54", "11.96.0.1:53"];
    let six = [
        "[fd00:1:2:3:4:5:6:7]:53",
        "[fd01:1:2:3:4:5:6:7]:53",
        "[fd00:1:2:4:4:5:6:7]:53",
        "[fd00:1:2:3:5:5:6:7]:53",
        "[fd00:1:2:3:4:5:6:8]:53",
        "[fd00:1:2:3:4:5:6:7]:54",
    ];
    let both: Vec<Key> = four.iter().chain(&six).flat_map(|text| [udp(text), tcp(text)]).collect();
    assert_eq!(tags(&both), both.len());
    // The line and the tag are two numbers: frontends of one line have many tags.
    let many: Vec<Key> = (0..2000).map(|n| tcp(&format!("10.96.{}.{}:443", n / 256, n % 256))).collect();
    let shape = Shape { seed: 7, lines: 4 };
    let line: Vec<Key> = many.into_iter().filter(|key| shape.place(key).line == 0).collect();
    assert!(line.len() > 400);
    assert_eq!(tags(&line), line.len());
}

#[test]
fn a_frontend_in_its_own_line_is_found_by_one_look() {
    let tables = tables(&[("10.96.0.10:80", &[]), ("[fd00::a]:80", &[])]);
    for key in [tcp("10.96.0.10:80"), udp("[fd00::a]:80")] {
        assert_eq!(frontends::look(&tables, &key), (tables.frontends[&key] + 1, false));
    }
}

#[test]
fn what_is_too_far_from_its_own_line_is_garbage() {
    let table = Written::new(16, 7);
    let key = key(5);
    let place = table.shape().place(&key);
    table.keys.borrow_mut().insert(5, key);
    for (steps, is_there) in [(WINDOW - 1, true), (WINDOW, false), (15, false)] {
        let line = &table.lines[table.shape().behind(place.line, steps) as usize];
        line.0[2].store(lines::pack(place.tag, 5));
        frontends::sweep(&table);
        assert_eq!(lines::unpack(line.0[2].load()).is_some(), is_there, "{steps}");
        line.0[2].store(0);
    }
}

#[test]
fn to_put_a_frontend_into_a_line_with_room_takes_a_look_at_no_other() {
    let table = Written::new(16, 7);
    table.put(&key(5), 5).unwrap();
    // Once as its own, and once as the first of those where it may be.
    assert_eq!(table.looks.get(), 2);
}
