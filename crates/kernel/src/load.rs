//! Loading the programs over maps that may already be pinned.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{BuildHasher, RandomState},
    os::fd::AsFd,
    path::PathBuf,
};

use abi::{lines::Shape, slot};
use aya::{
    Ebpf, EbpfLoader,
    programs::{Program, ProgramError},
};

use crate::{
    Error, Pins, btf, cgroups, frontends,
    maps::{PinnedMap, is_hashed},
    object::{HOOKS, HookPoint, OBJECT},
    pins::{MAPS, MapName},
    probe, recover, sys,
};

/// How many entries tables are made with, by the name of the map: frontends, for those that are hashed. Pinned ones keep
/// their size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sizes(BTreeMap<&'static str, u32>);

impl Sizes {
    /// Entries of each map.
    pub fn new(entries: impl IntoIterator<Item = (&'static str, u32)>) -> Self {
        Self(entries.into_iter().collect())
    }

    /// As the kernel counts entries.
    fn entries(&self, name: &str) -> Option<u32> {
        let count = *self.0.get(name)?;
        // And one for the seed.
        Some(if is_hashed(name) { Shape::lines_for(count).saturating_add(1) } else { count })
    }
}

/// Loaded programs, not yet attached, and their maps.
pub struct Loaded {
    ebpf: Ebpf,
    carrying: Option<u32>,
    put_back: Vec<&'static str>,
    /// Why cgroups can't be noted as they are made, if they can't.
    unwatched: Option<Error>,
    /// Maps that are larger than those in whose place they are to be.
    next: Vec<MapName>,
}

impl Loaded {
    /// Loads the programs. Maps that are pinned in the layout of this version are adopted, the others made and
    /// pinned. Where another layout of `slots` is there, the programs also look there
    /// ([`Loaded::carries_from`]).
    ///
    /// # Errors
    /// No bpffs, a pinned map of another shape, or the kernel refuses.
    pub fn load(pins: &Pins, sizes: &Sizes) -> Result<Self, Error> {
        Self::load_with(pins, sizes, probe::optional_features())
    }

    /// Like [`Loaded::load`], for a kernel that has no more of [`abi::feature`] than `features`.
    ///
    /// # Errors
    /// As [`Loaded::load`].
    pub fn load_with(pins: &Pins, sizes: &Sizes, features: u32) -> Result<Self, Error> {
        pins.create()?;
        let put_back = recover::put_back_from_programs(pins)?;
        Self::load_over(pins, sizes, features, Growth::None).map(|loaded| Self { put_back, ..loaded })
    }

    /// Loads the programs over what is pinned; where that is smaller than `sizes`, over larger maps, still empty, which
    /// wait beside it.
    pub(crate) fn load_larger(pins: &Pins, sizes: &Sizes) -> Result<Self, Error> {
        Self::load_over(pins, sizes, probe::optional_features(), Growth::Beside)
    }

    fn load_over(pins: &Pins, sizes: &Sizes, features: u32, growth: Growth) -> Result<Self, Error> {
        let mut entries = HashMap::new();
        let mut next = Vec::new();
        let mut seed = 0;
        for map in MAPS {
            let pinned = PinnedMap::open(pins, map)?;
            if let Some(pinned) = pinned.as_ref().filter(|map| map.is_hashed()) {
                seed = adopt_seed(seed, frontends::seed(pinned)?, || pins.map(map))?;
            }
            let pinned = pinned.map(|map| map.entries());
            let mut count = pinned.or_else(|| sizes.entries(map.name));
            if growth == Growth::Beside && sizes.entries(map.name) > pinned {
                next.push(map);
                count = sizes.entries(map.name);
            }
            if let Some(count) = count
                && map.name != "pairs"
            {
                entries.insert(map.name, count);
            }
        }
        let path = |map: MapName| if next.contains(&map) { pins.next_map(map) } else { pins.map(map) };
        while seed == 0 {
            // std's own hash maps are seeded by the kernel's random numbers.
            seed = RandomState::new().hash_one(0);
        }
        let lines = ["frontends4", "frontends6"].map(|name| entries.get(name).map_or(0, |count| count - 1));
        let earlier = pins.layouts("slots")?.into_iter().rfind(|&layout| layout != abi::layout::SLOTS);
        if let Some(layout) = earlier {
            let path = pins.map(MapName { name: "slots", layout });
            let map = sys::object_get(&path)
                .map_err(|source| Error::syscall("BPF_OBJ_GET", path.display().to_string(), source))?;
            if !PinnedMap::is_like_slots(map.as_fd()) {
                return Err(Error::ForeignMap { path, problem: "no map of slots in any layout".into() });
            }
        }
        // Before the loader, which keeps a BTF of its own: not both at once.
        let offsets = btf::offsets();
        let mut loader = EbpfLoader::new();
        for (name, count) in entries {
            loader.map_max_entries(name, count);
        }
        for map in MAPS {
            loader.map_pin_path(map.name, path(map));
        }
        let carrying = u32::from(earlier.is_some());
        loader.override_global("CARRYING", &carrying, true);
        loader.override_global("FEATURES", &features, true);
        loader.override_global("SEED", &seed, true);
        loader.override_global("LINES", &lines, true);
        let known: [u32; 4] = bytemuck::cast(offsets.as_ref().copied().unwrap_or_default());
        loader.override_global("OFFSETS", &known, true);
        if let Some(layout) = earlier {
            loader.map_pin_path("slots_previous", pins.map(MapName { name: "slots", layout }));
            loader.map_max_entries("slots_previous", slot::SLOTS);
        }
        let mut ebpf = loader.load(OBJECT)?;
        for map in MAPS.into_iter().filter(|map| is_hashed(map.name)) {
            // Before anything is written to it.
            if let Some(map) = PinnedMap::open_by(sys::object_get, map, path(map))?
                && frontends::seed(&map)? != seed
            {
                frontends::set_seed(&map, seed)?;
            }
        }
        load_programs(&mut ebpf)?;
        let unwatched = match offsets {
            Ok(_) => load_watch(&mut ebpf).err(),
            Err(source) => Some(Error::syscall("read", btf::VMLINUX, source)),
        };
        Ok(Self { ebpf, carrying: earlier, put_back: Vec::new(), unwatched, next })
    }

    /// Are there larger maps that wait to be in the place of smaller ones?
    pub(crate) fn has_larger_maps(&self) -> bool {
        !self.next.is_empty()
    }

    /// Puts larger maps in the place of those that they were made for ([`crate::grow()`]).
    ///
    /// # Errors
    /// One can't be renamed.
    pub fn settle(&mut self, pins: &Pins) -> Result<(), Error> {
        self.next.drain(..).try_for_each(|map| pins.replace_map(map))
    }

    /// The earlier layout of `slots` whose sockets must be carried over once the programs are attached.
    pub fn carries_from(&self) -> Option<u32> {
        self.carrying
    }

    /// Maps whose pins had been removed, and that the attached programs still had.
    pub fn put_back(&self) -> &[&'static str] {
        &self.put_back
    }

    /// Has the program note cgroups from now on, in the place of that of an earlier agent, without a moment without.
    ///
    /// # Errors
    /// The kernel refuses, or refused to load it: it takes CAP_PERFMON, and a kernel with BTF.
    pub(crate) fn watch_cgroups(&mut self, pins: &Pins) -> Result<(), Error> {
        if let Some(error) = self.unwatched.take() {
            return Err(error);
        }
        let program = match self.ebpf.program(cgroups::WATCH) {
            Some(Program::RawTracePoint(program)) => program.fd(),
            _ => Err(ProgramError::NotLoaded),
        };
        let program =
            program.map_err(|source| Error::Program { program: cgroups::WATCH, source: Box::new(source) })?;
        cgroups::watch(program.as_fd(), pins)
    }

    /// Hands `hook`'s program to `run`, which attaches it or puts it in another's place.
    pub(crate) fn with_program<T>(
        &self,
        hook: HookPoint,
        run: impl FnOnce(std::os::fd::BorrowedFd<'_>) -> std::io::Result<T>,
    ) -> Result<T, Error> {
        let fd = match self.ebpf.program(hook.name) {
            Some(Program::CgroupSockAddr(program)) => program.fd(),
            Some(Program::CgroupSock(program)) => program.fd(),
            _ => Err(ProgramError::NotLoaded),
        }
        .map_err(|source| Error::Program { program: hook.name, source: Box::new(source) })?;
        run(fd.as_fd()).map_err(|source| Error::syscall("BPF_LINK_CREATE/UPDATE", hook.name, source))
    }
}

/// What becomes of pinned maps that are smaller than wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Growth {
    None,
    /// A larger one is made beside each.
    Beside,
}

/// The seed of the tables of frontends that are pinned; both have the same, unless they have none yet (0).
fn adopt_seed(seed: u64, another: u64, path: impl FnOnce() -> PathBuf) -> Result<u64, Error> {
    match (seed, another) {
        (0, _) => Ok(another),
        (_, 0) => Ok(seed),
        _ if seed == another => Ok(seed),
        _ => Err(Error::ForeignMap { path: path(), problem: "its seed is not that of frontends4".into() }),
    }
}

/// Loads all programs, each in a thread of its own: the verifier takes up to 0.2 s for one.
fn load_programs(ebpf: &mut Ebpf) -> Result<(), Error> {
    let mut programs: HashMap<&str, &mut Program> = ebpf.programs_mut().collect();
    let programs = HOOKS.map(|hook| (hook.name, programs.remove(hook.name)));
    std::thread::scope(|scope| {
        let loading = programs.map(|(name, program)| {
            let load = scope.spawn(move || match program {
                Some(Program::CgroupSockAddr(program)) => program.load(),
                Some(Program::CgroupSock(program)) => program.load(),
                _ => Err(ProgramError::UnexpectedProgramType),
            });
            (name, load)
        });
        for (program, load) in loading {
            let outcome = load.join().unwrap_or(Err(ProgramError::NotLoaded));
            outcome.map_err(|source| Error::Program { program, source: Box::new(source) })?;
        }
        Ok(())
    })
}

/// Loads the program that notes cgroups.
fn load_watch(ebpf: &mut Ebpf) -> Result<(), Error> {
    let loaded = match ebpf.program_mut(cgroups::WATCH) {
        Some(Program::RawTracePoint(program)) => program.load(),
        _ => Err(ProgramError::UnexpectedProgramType),
    };
    loaded.map_err(|source| Error::Program { program: cgroups::WATCH, source: Box::new(source) })
}

/// Is the pinned link at this hook attached, and to what?
pub(crate) fn link_of(
    pins: &Pins,
    hook: HookPoint,
) -> Result<Option<(std::os::fd::OwnedFd, sys::LinkInfo)>, Error> {
    let path = pins.link(hook.name);
    let link = match sys::object_get(&path) {
        Ok(link) => link,
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(None),
        Err(source) => return Err(Error::syscall("BPF_OBJ_GET", path.display().to_string(), source)),
    };
    let info = sys::link_info(link.as_fd())
        .map_err(|source| Error::syscall("BPF_OBJ_GET_INFO_BY_FD", path.display().to_string(), source))?;
    Ok(Some((link, info)))
}
