//! `frontends4` and `frontends6`: the hash tables of [`abi::lines`], over the maps.

use std::{
    cell::RefCell,
    collections::HashMap,
    fmt, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use abi::{
    Key, Record,
    lines::{Line, LineWords, Shape},
};
use datapath::frontends::{self, Table};

use crate::{Error, Maps, mapping::Mapping, maps::PinnedMap, sys};

/// What a table is like.
///
/// # Errors
/// It can't be read.
pub(crate) fn shape(map: &PinnedMap) -> Result<Shape, Error> {
    Ok(Shape { seed: seed(map)?, lines: map.lines() })
}

/// The seed of a table; 0 = it was never given one.
pub(crate) fn seed(map: &PinnedMap) -> Result<u64, Error> {
    let last: Option<LineWords> =
        sys::lookup(map.fd(), &map.lines()).map_err(map.error("BPF_MAP_LOOKUP_ELEM"))?;
    Ok(last.map_or(0, |line| line.0[0]))
}

/// Gives an empty table its seed.
pub(crate) fn set_seed(map: &PinnedMap, seed: u64) -> Result<(), Error> {
    let mut last = LineWords::default();
    last.0[0] = seed;
    sys::update(map.fd(), &map.lines(), &last).map_err(map.error("BPF_MAP_UPDATE_ELEM"))
}

/// All words of both tables that are not free, with what their tables are like.
pub(crate) struct Words {
    shape: Shape,
    /// Number of the line, and the word.
    words: Vec<(u32, u64)>,
}

impl Words {
    pub(crate) fn read(map: &PinnedMap) -> Result<Self, Error> {
        let shape = shape(map)?;
        let mut words = Vec::new();
        sys::for_each(map.fd(), 4096, shape.lines as usize, |number: u32, line: LineWords| {
            let used = line.0.into_iter().filter(|word| abi::lines::unpack(*word).is_some());
            words.extend(used.map(|word| (number, word)));
        })
        .map_err(map.error("BPF_MAP_LOOKUP_BATCH"))?;
        Ok(Self { shape, words })
    }

    /// The highest index of a record that some word leads to, and one more.
    pub(crate) fn records(&self) -> u32 {
        let indexes = self.words.iter().filter_map(|(_, word)| abi::lines::unpack(*word));
        indexes.map(|(_, record)| record.saturating_add(1)).max().unwrap_or_default()
    }

    /// Frontends and the indexes of their records. A word that leads to a record that is not its own is none.
    pub(crate) fn frontends<'a>(
        &'a self,
        records: &'a HashMap<u32, Key>,
    ) -> impl Iterator<Item = (Key, u32)> + 'a {
        let key = |record: u32| records.get(&record).copied();
        self.words.iter().filter_map(move |(line, word)| {
            let (key, record, _) = frontends::owner(&self.shape, *line, *word, key)?;
            Some((key, record))
        })
    }
}

/// Both tables, mapped to be written. Only these: what is mapped counts as this process's memory.
pub(crate) struct Writer {
    v4: (Shape, Mapping),
    v6: (Shape, Mapping),
    records: OwnedFd,
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

/// One of them.
struct Family<'a> {
    shape: Shape,
    lines: &'a Mapping,
    records: BorrowedFd<'a>,
    /// The keys of all records that words lead to, where they are known.
    known: Option<&'a HashMap<u32, Key>>,
    /// Why the last record could not be read.
    error: RefCell<Option<io::Error>>,
}

impl Table for Family<'_> {
    fn shape(&self) -> Shape {
        self.shape
    }

    fn line(&self, number: u32) -> Option<&Line> {
        self.lines.line(number as usize)
    }

    fn key(&self, record: u32) -> Option<Key> {
        if let Some(known) = self.known {
            return known.get(&record).copied();
        }
        match sys::lookup(self.records, &record) {
            Ok(found) => found.map(|record: Record| record.key()),
            Err(error) => {
                self.error.replace(Some(error));
                None
            }
        }
    }
}

impl Family<'_> {
    /// Fails if a record could not be read.
    fn check(self) -> Result<(), Error> {
        let error = |source| Error::syscall("BPF_MAP_LOOKUP_ELEM", "records", source);
        self.error.into_inner().map_or(Ok(()), |source| Err(error(source)))
    }
}

impl Writer {
    pub(crate) fn new(maps: &Maps) -> Result<Self, Error> {
        let mapped = |map: &PinnedMap| {
            Mapping::new(map.fd(), map.entries() as usize * size_of::<Line>()).map_err(map.error("mmap"))
        };
        Ok(Self {
            v4: (shape(&maps.frontends4)?, mapped(&maps.frontends4)?),
            v6: (shape(&maps.frontends6)?, mapped(&maps.frontends6)?),
            records: maps.records.fd().try_clone_to_owned().map_err(maps.records.error("dup"))?,
        })
    }

    fn family<'a>(&'a self, v4: bool, known: Option<&'a HashMap<u32, Key>>) -> Family<'a> {
        let (shape, lines) = if v4 { &self.v4 } else { &self.v6 };
        Family { shape: *shape, lines, records: self.records.as_fd(), known, error: RefCell::new(None) }
    }

    pub(crate) fn put(&self, frontends: &[(Key, u32)]) -> Result<(), Error> {
        for (key, record) in frontends {
            let family = self.family(key.is_v4(), None);
            frontends::put(&family, key, *record).map_err(|_| Error::Crowded(key.endpoint.socket_addr()))?;
            family.check()?;
        }
        Ok(())
    }

    pub(crate) fn delete(&self, keys: &[Key]) -> Result<(), Error> {
        for key in keys {
            let family = self.family(key.is_v4(), None);
            frontends::delete(&family, key);
            family.check()?;
        }
        Ok(())
    }

    /// `known`: the keys of all records that words lead to.
    pub(crate) fn sweep(&self, known: &HashMap<u32, Key>) -> usize {
        [true, false].map(|v4| frontends::sweep(&self.family(v4, Some(known)))).into_iter().sum()
    }
}
