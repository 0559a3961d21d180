//! The pinned maps, opened.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    time::Instant,
};

use abi::{
    Affinity, Backend, Client, Hook, Limit, Name, Pairs, Policy, Reason, Record, Settings, Space,
    cgroup::CgroupPath,
    client::{AffinityKey, SourceKey},
    lines::{self, LineWords},
    policy::{ExemptKey, LimitKey},
    reason, slot,
    space::{Use4, Use6},
    usage::BucketWords,
};

use crate::{
    Error, Pins,
    frontends::Writer,
    mapping::Mapping,
    pins::MapName,
    sys::{self, MapInfo},
};

/// What a map must look like, and its name.
struct Shape {
    name: &'static str,
    kind: u32,
    key: usize,
    value: usize,
    flags: u32,
}

// enum bpf_map_type (kernel 6.18 include/uapi/linux/bpf.h).
const HASH: u32 = 1;
const ARRAY: u32 = 2;
const PERCPU_ARRAY: u32 = 6;
const LRU_HASH: u32 = 9;
const LPM_TRIE: u32 = 11;
const SK_STORAGE: u32 = 24;
const RINGBUF: u32 = 27;

const NO_PREALLOC: u32 = 1;
const MMAPABLE: u32 = 1024;

const fn shape<K, V>(name: &'static str, kind: u32, flags: u32) -> Shape {
    Shape { name, kind, key: size_of::<K>(), value: size_of::<V>(), flags }
}

const SHAPES: [Shape; 23] = [
    shape::<u32, LineWords>("frontends4", ARRAY, MMAPABLE),
    shape::<u32, LineWords>("frontends6", ARRAY, MMAPABLE),
    shape::<u32, Record>("records", ARRAY, MMAPABLE),
    shape::<u32, Backend>("lists", ARRAY, MMAPABLE),
    shape::<u32, Backend>("backends", ARRAY, MMAPABLE),
    shape::<u32, Name>("names", HASH, NO_PREALLOC),
    shape::<SourceKey, u32>("sources", LPM_TRIE, NO_PREALLOC),
    shape::<u32, Use4>("addresses4", HASH, NO_PREALLOC),
    shape::<[u32; 4], Use6>("addresses6", HASH, NO_PREALLOC),
    shape::<u32, Space>("spaces", ARRAY, 0),
    shape::<u64, Client>("clients", HASH, 0),
    shape::<AffinityKey, Affinity>("affinity", HASH, NO_PREALLOC),
    shape::<u64, u32>("excluded", HASH, 0),
    shape::<LimitKey, Limit>("limits", HASH, NO_PREALLOC),
    shape::<[u32; 2], Policy>("policies", HASH, NO_PREALLOC),
    shape::<ExemptKey, u32>("exempt", HASH, NO_PREALLOC),
    shape::<u32, Settings>("settings", ARRAY, 0),
    shape::<u32, slot::Entry>("slots", ARRAY, MMAPABLE),
    shape::<i32, Pairs>("pairs", SK_STORAGE, NO_PREALLOC),
    shape::<u32, u64>("counters", PERCPU_ARRAY, 0),
    shape::<u32, BucketWords>("usage", PERCPU_ARRAY, 0),
    shape::<u64, CgroupPath>("cgroups", LRU_HASH, 0),
    shape::<(), ()>("events", RINGBUF, 0),
];

/// How many of [`Maps::all`] are tables.
const TABLES: usize = 10;

/// Is it the name of a table of frontends?
pub(crate) fn is_hashed(map: &str) -> bool {
    matches!(map, "frontends4" | "frontends6")
}

/// How a pin is opened.
type Get = fn(&Path) -> io::Result<OwnedFd>;

/// One pinned map.
#[derive(Debug)]
pub struct PinnedMap {
    name: &'static str,
    fd: OwnedFd,
    info: MapInfo,
}

impl PinnedMap {
    /// Opens a map if it is pinned, and checks that it is what its name says: aya 0.14 would take a map of
    /// another shape without a word.
    ///
    /// # Errors
    /// It is of another shape, or can't be opened.
    pub(crate) fn open(pins: &Pins, map: MapName) -> Result<Option<Self>, Error> {
        Self::open_by(sys::object_get, map, pins.map(map))
    }

    /// The same, of the larger one that is to be in its place.
    ///
    /// # Errors
    /// As [`PinnedMap::open`].
    pub(crate) fn open_next(pins: &Pins, map: MapName) -> Result<Option<Self>, Error> {
        Self::open_by(sys::object_get, map, pins.next_map(map))
    }

    pub(crate) fn open_by(get: Get, map: MapName, path: PathBuf) -> Result<Option<Self>, Error> {
        let fd = match get(&path) {
            Ok(fd) => fd,
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(None),
            Err(source) => return Err(Error::syscall("BPF_OBJ_GET", path.display().to_string(), source)),
        };
        let info = sys::map_info(fd.as_fd())
            .map_err(|source| Error::syscall("BPF_OBJ_GET_INFO_BY_FD", path.display().to_string(), source))?;
        let Some(shape) = SHAPES.iter().find(|shape| shape.name == map.name) else {
            return Err(Error::ForeignMap { path, problem: "unknown name".into() });
        };
        let wanted = (shape.kind, shape.key as u32, shape.value as u32, shape.flags);
        let found = (info.kind, info.key_size, info.value_size, info.flags);
        if wanted != found {
            let problem = format!("(type, key size, value size, flags) are {found:?}, not {wanted:?}");
            return Err(Error::ForeignMap { path, problem });
        }
        // Several are of one shape.
        let name = info.name();
        if name != shape.name {
            return Err(Error::ForeignMap { path, problem: format!("it is the map {name:?}") });
        }
        let map = Self { name: shape.name, fd, info };
        if map.is_hashed() && !map.lines().is_power_of_two() {
            let problem = format!("{} entries are not a power of two and one more", info.max_entries);
            return Err(Error::ForeignMap { path, problem });
        }
        Ok(Some(map))
    }

    /// Is an open map of this shape?
    pub(crate) fn is_like(map: MapName, fd: BorrowedFd<'_>) -> bool {
        let shape = SHAPES.iter().find(|shape| shape.name == map.name);
        shape.zip(sys::map_info(fd).ok()).is_some_and(|(shape, info)| {
            (shape.kind, shape.key as u32, shape.value as u32, shape.flags)
                == (info.kind, info.key_size, info.value_size, info.flags)
        })
    }

    /// Is an open map one of slots in whatever layout: an array as long as ours, whose entries begin with ours?
    pub(crate) fn is_like_slots(fd: BorrowedFd<'_>) -> bool {
        sys::map_info(fd).is_ok_and(|info| {
            (info.kind, info.key_size, info.max_entries, info.flags) == (ARRAY, 4, slot::SLOTS, MMAPABLE)
                && info.value_size as usize >= size_of::<abi::Slot>()
                && info.value_size.is_multiple_of(8)
        })
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// How much it has room for: entries, or frontends (bytes, for the ring buffer).
    pub fn capacity(&self) -> u32 {
        if self.is_hashed() { self.lines().saturating_mul(lines::ROOM) } else { self.entries() }
    }

    /// Is it a table of frontends?
    pub(crate) fn is_hashed(&self) -> bool {
        is_hashed(self.name)
    }

    /// How many entries the kernel says it has.
    pub(crate) fn entries(&self) -> u32 {
        self.info.max_entries
    }

    /// Of a table of frontends, how many of the entries are lines.
    pub(crate) fn lines(&self) -> u32 {
        self.entries().saturating_sub(1)
    }

    /// The kernel's id of it.
    pub fn id(&self) -> u32 {
        self.info.id
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub(crate) fn error(&self, call: &'static str) -> impl FnOnce(io::Error) -> Error + use<> {
        let name = self.name;
        move |source| Error::syscall(call, name, source)
    }
}

/// All maps.
#[derive(Debug)]
pub struct Maps {
    pub(crate) frontends4: PinnedMap,
    pub(crate) frontends6: PinnedMap,
    pub(crate) records: PinnedMap,
    pub(crate) lists: PinnedMap,
    pub(crate) backends: PinnedMap,
    pub(crate) names: PinnedMap,
    pub(crate) sources: PinnedMap,
    pub(crate) addresses4: PinnedMap,
    pub(crate) addresses6: PinnedMap,
    pub(crate) spaces: PinnedMap,
    pub(crate) clients: PinnedMap,
    pub(crate) affinity: PinnedMap,
    pub(crate) excluded: PinnedMap,
    pub(crate) limits: PinnedMap,
    pub(crate) policies: PinnedMap,
    pub(crate) exempt: PinnedMap,
    pub(crate) settings: PinnedMap,
    pub(crate) slots: PinnedMap,
    pub(crate) pairs: PinnedMap,
    pub(crate) counters: PinnedMap,
    pub(crate) usage: PinnedMap,
    pub(crate) cgroups: PinnedMap,
    pub(crate) events: PinnedMap,
    /// The directory that they are pinned in: who changes the settings locks it.
    directory: PathBuf,
    /// When this process last put another space in force.
    pub(crate) space_changed: Option<Instant>,
    /// From the first write of a frontend on.
    pub(crate) writer: Option<Writer>,
}

impl Maps {
    /// Opens what is pinned.
    ///
    /// # Errors
    /// Something is missing or of another shape.
    pub fn open(pins: &Pins) -> Result<Self, Error> {
        Self::open_by(pins, |map| PinnedMap::open(pins, map))
    }

    /// The larger ones that are to be in the place of others, and the others that stay.
    ///
    /// # Errors
    /// As [`Maps::open`].
    pub(crate) fn open_next(pins: &Pins) -> Result<Self, Error> {
        Self::open_by(pins, |map| match PinnedMap::open_next(pins, map)? {
            Some(next) => Ok(Some(next)),
            None => PinnedMap::open(pins, map),
        })
    }

    /// As [`Maps::open`], for reading only: nothing can be written through these, not even by mistake.
    ///
    /// # Errors
    /// As [`Maps::open`].
    pub fn open_read_only(pins: &Pins) -> Result<Self, Error> {
        Self::open_by(pins, |map| PinnedMap::open_by(sys::object_get_read_only, map, pins.map(map)))
    }

    fn open_by(
        pins: &Pins,
        one: impl Fn(MapName) -> Result<Option<PinnedMap>, Error>,
    ) -> Result<Self, Error> {
        if !pins.exist()? {
            return Err(Error::NotInstalled(pins.directory().to_owned()));
        }
        let open = |name: &str| {
            let missing = || Error::NotInstalled(pins.directory().join("maps").join(name));
            let map = crate::pins::MAPS.into_iter().find(|map| map.name == name).ok_or_else(missing)?;
            one(map)?.ok_or_else(missing)
        };
        Ok(Self {
            frontends4: open("frontends4")?,
            frontends6: open("frontends6")?,
            records: open("records")?,
            lists: open("lists")?,
            backends: open("backends")?,
            names: open("names")?,
            sources: open("sources")?,
            addresses4: open("addresses4")?,
            addresses6: open("addresses6")?,
            spaces: open("spaces")?,
            clients: open("clients")?,
            affinity: open("affinity")?,
            excluded: open("excluded")?,
            limits: open("limits")?,
            policies: open("policies")?,
            exempt: open("exempt")?,
            settings: open("settings")?,
            slots: open("slots")?,
            pairs: open("pairs")?,
            counters: open("counters")?,
            usage: open("usage")?,
            cgroups: open("cgroups")?,
            events: open("events")?,
            directory: pins.directory().join("maps"),
            space_changed: None,
            writer: None,
        })
    }

    /// All of them: first the tables, which refer to one another ([`abi::layout::TABLES`]).
    pub fn all(&self) -> [&PinnedMap; 23] {
        [
            &self.frontends4,
            &self.frontends6,
            &self.records,
            &self.lists,
            &self.backends,
            &self.names,
            &self.sources,
            &self.addresses4,
            &self.addresses6,
            &self.spaces,
            &self.clients,
            &self.affinity,
            &self.excluded,
            &self.limits,
            &self.policies,
            &self.exempt,
            &self.settings,
            &self.slots,
            &self.pairs,
            &self.counters,
            &self.usage,
            &self.cgroups,
            &self.events,
        ]
    }

    /// The highest id of a table.
    pub(crate) fn newest_table(&self) -> u32 {
        self.all()[..TABLES].iter().map(|map| map.id()).max().unwrap_or_default()
    }

    /// The programs' settings.
    ///
    /// # Errors
    /// The map can't be read.
    pub fn settings(&self) -> Result<Settings, Error> {
        let read = sys::lookup(self.settings.fd(), &0u32);
        Ok(read.map_err(self.settings.error("BPF_MAP_LOOKUP_ELEM"))?.unwrap_or_default())
    }

    /// Changes the programs' settings: they follow at once. Agent and commands may be at it together: one waits for the
    /// other, so that no change undoes another.
    ///
    /// # Errors
    /// The map can't be read or written.
    pub fn change_settings(&self, change: impl FnOnce(&mut Settings)) -> Result<(), Error> {
        let directory = &self.directory;
        let error = |call| {
            let object = directory.display().to_string();
            move |source| Error::syscall(call, object, source)
        };
        let lock = std::fs::File::open(directory).map_err(error("open"))?;
        lock.lock().map_err(error("flock"))?;
        let mut settings = self.settings()?;
        change(&mut settings);
        sys::update(self.settings.fd(), &0u32, &settings).map_err(self.settings.error("BPF_MAP_UPDATE_ELEM"))
    }

    /// Are these still the maps that are pinned? If not, somebody has removed or replaced the pins, and programs that
    /// are loaded from now on would not see what is written here.
    ///
    /// # Errors
    /// It can't be seen: no more open files, or a bpffs that was made read-only.
    pub fn are_pinned(&self, pins: &Pins) -> Result<bool, Error> {
        let ids = |maps: &Self| maps.all().map(|map| map.id());
        match Self::open(pins) {
            Ok(pinned) => Ok(ids(&pinned) == ids(self)),
            Err(Error::NotInstalled(_) | Error::ForeignMap { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The space that counts.
    ///
    /// # Errors
    /// A map can't be read.
    pub fn space(&self) -> Result<Space, Error> {
        let read = sys::lookup(self.spaces.fd(), &self.settings()?.space);
        Ok(read.map_err(self.spaces.error("BPF_MAP_LOOKUP_ELEM"))?.unwrap_or_default())
    }

    /// Decisions so far, by hook, IPv6, and reason; what was never decided is left out.
    ///
    /// # Errors
    /// The map can't be read.
    pub fn decisions(&self) -> Result<Vec<(Hook, bool, Reason, u64)>, Error> {
        Ok(self.counted()?.decisions.into_iter().filter(|(.., count)| *count > 0).collect())
    }

    /// All that the programs count, read in one call.
    ///
    /// # Errors
    /// The map can't be read.
    pub fn counted(&self) -> Result<Counted, Error> {
        let counts = sys::sum_per_cpu(self.counters.fd(), reason::COUNTERS as usize, possible_cpus()?)
            .map_err(self.counters.error("BPF_MAP_LOOKUP_BATCH"))?;
        let count = |index: u32| counts.get(index as usize).copied().unwrap_or_default();
        let rows = Hook::ALL.into_iter().flat_map(|hook| [false, true].map(|v6| (hook, v6)));
        let all = rows.flat_map(|(hook, v6)| {
            Reason::ALL.map(|reason| (hook, v6, reason, count(reason::counter(hook, v6, reason))))
        });
        Ok(Counted {
            decisions: all.collect(),
            events_lost: count(reason::COUNTER_LOST),
            unattributed: count(reason::COUNTER_UNATTRIBUTED),
        })
    }

    /// Events that the ring buffer had no room for, so far.
    ///
    /// # Errors
    /// The map can't be read.
    pub fn events_lost(&self) -> Result<u64, Error> {
        self.counter(reason::COUNTER_LOST)
    }

    pub(crate) fn counter(&self, index: u32) -> Result<u64, Error> {
        let values = sys::lookup_per_cpu(self.counters.fd(), index, possible_cpus()?)
            .map_err(self.counters.error("BPF_MAP_LOOKUP_ELEM"))?;
        Ok(values.iter().sum())
    }

    /// Slots that a living socket owns.
    ///
    /// # Errors
    /// The map can't be read.
    pub fn slots_used(&self) -> Result<usize, Error> {
        let size = size_of::<slot::Entry>();
        let mapping = Mapping::new(self.slots.fd(), self.slots.capacity() as usize * size)
            .map_err(self.slots.error("mmap"))?;
        Ok((0..self.slots.capacity() as usize)
            .filter_map(|index| mapping.slot(index, size))
            .filter(|slot| slot.owner.load() & slot::owner::COOKIE != 0)
            .count())
    }
}

/// What the programs have counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Decisions by hook, IPv6, and reason, also where there were none.
    pub decisions: Vec<(Hook, bool, Reason, u64)>,
    /// Events that the ring buffer had no room for.
    pub events_lost: u64,
    /// Decisions that there was no room to count by client or backend.
    pub unattributed: u64,
}

/// Values that a per-CPU map has: one for each possible CPU.
pub(crate) fn possible_cpus() -> Result<usize, Error> {
    aya::util::nr_cpus().map_err(|(path, source)| Error::syscall("read", path, source))
}
