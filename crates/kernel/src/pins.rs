//! The bpffs directory: where what outlives the agent is found.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use abi::layout;

use crate::Error;

/// Where it is unless configured otherwise.
pub const DEFAULT: &str = "/sys/fs/bpf/balancing";

/// `statfs` magic of bpffs (include/uapi/linux/magic.h).
const BPF_FS_MAGIC: u32 = 0xcafe_4a11;

/// `ST_RDONLY`: a flag of a mounted file system (kernel 6.18 include/linux/statfs.h).
const READ_ONLY: u64 = 1;

/// A map of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapName {
    /// Name in the object and in the kernel.
    pub name: &'static str,
    /// Layout version.
    pub layout: u32,
}

/// All pinned maps.
pub const MAPS: [MapName; 23] = [
    MapName { name: "frontends4", layout: layout::TABLES },
    MapName { name: "frontends6", layout: layout::TABLES },
    MapName { name: "records", layout: layout::TABLES },
    MapName { name: "lists", layout: layout::TABLES },
    MapName { name: "backends", layout: layout::TABLES },
    MapName { name: "names", layout: layout::TABLES },
    MapName { name: "sources", layout: layout::TABLES },
    MapName { name: "addresses4", layout: layout::TABLES },
    MapName { name: "addresses6", layout: layout::TABLES },
    MapName { name: "spaces", layout: layout::TABLES },
    MapName { name: "clients", layout: layout::CLIENTS },
    MapName { name: "affinity", layout: layout::AFFINITY },
    MapName { name: "excluded", layout: layout::EXCLUDED },
    MapName { name: "limits", layout: layout::LIMITS },
    MapName { name: "policies", layout: layout::POLICIES },
    MapName { name: "exempt", layout: layout::EXEMPT },
    MapName { name: "settings", layout: layout::SETTINGS },
    MapName { name: "slots", layout: layout::SLOTS },
    MapName { name: "pairs", layout: layout::PAIRS },
    MapName { name: "counters", layout: layout::COUNTERS },
    MapName { name: "usage", layout: layout::USAGE },
    MapName { name: "cgroups", layout: layout::CGROUPS },
    MapName { name: "events", layout: layout::EVENTS },
];

/// Paths below one bpffs directory.
#[derive(Clone, Debug)]
pub struct Pins(PathBuf);

impl Pins {
    /// The directory `path`, which need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.0
    }

    /// Where a map is pinned (bpffs takes no dots in names).
    pub fn map(&self, map: MapName) -> PathBuf {
        self.0.join("maps").join(format!("{}_v{}", map.name, map.layout))
    }

    /// Where the larger map waits that is to be in its place (see [`crate::grow`]).
    pub(crate) fn next_map(&self, map: MapName) -> PathBuf {
        self.0.join("maps").join(format!("{}_v{}_next", map.name, map.layout))
    }

    /// Puts the larger map in its place, in one step.
    ///
    /// # Errors
    /// It can't be renamed.
    pub(crate) fn replace_map(&self, map: MapName) -> Result<(), Error> {
        let from = self.next_map(map);
        // kernel 6.18 kernel/bpf/inode.c `bpf_dir_iops`: simple_rename, which replaces.
        fs::rename(&from, self.map(map))
            .map_err(|source| Error::syscall("rename", from.display().to_string(), source))
    }

    /// Removes the pins of larger maps that were never put in their places.
    ///
    /// # Errors
    /// The directory can't be changed.
    pub(crate) fn remove_next_maps(&self) -> Result<(), Error> {
        MAPS.iter().try_for_each(|map| remove(&self.next_map(*map)))
    }

    /// Where a map is pinned, by name.
    pub fn map_named(&self, name: &str) -> Option<PathBuf> {
        MAPS.iter().find(|map| map.name == name).map(|map| self.map(*map))
    }

    /// Where a link is pinned.
    pub fn link(&self, hook: &str) -> PathBuf {
        self.0.join("links").join(hook)
    }

    /// Makes the directories.
    ///
    /// # Errors
    /// No bpffs there, or no right to.
    pub fn create(&self) -> Result<(), Error> {
        for directory in [self.0.join("maps"), self.0.join("links")] {
            fs::create_dir_all(&directory)
                .map_err(|source| Error::syscall("mkdir", directory.display().to_string(), source))?;
        }
        let facts = rustix::fs::statfs(&self.0)
            .map_err(|source| Error::syscall("statfs", self.0.display().to_string(), source.into()))?;
        if facts.f_type as u32 != BPF_FS_MAGIC {
            // Leave nothing behind where we don't belong.
            let _ = fs::remove_dir(self.0.join("maps"));
            let _ = fs::remove_dir(self.0.join("links"));
            let _ = fs::remove_dir(&self.0);
            return Err(Error::NoBpffs(self.0.clone()));
        }
        // Said before half of the maps are made.
        if facts.f_flags as u64 & READ_ONLY != 0 {
            let error = io::Error::from_raw_os_error(libc::EROFS);
            return Err(Error::syscall("pinning below", self.0.display().to_string(), error));
        }
        Ok(())
    }

    /// Is anything pinned there?
    ///
    /// # Errors
    /// The directory can't be looked into.
    pub fn exist(&self) -> Result<bool, Error> {
        let directory = self.0.join("maps");
        directory
            .try_exists()
            .map_err(|source| Error::syscall("stat", directory.display().to_string(), source))
    }

    /// Pinned layouts of a map, oldest first.
    ///
    /// # Errors
    /// The directory can't be read.
    pub fn layouts(&self, name: &str) -> Result<Vec<u32>, Error> {
        let mut found: Vec<u32> = self
            .entries("maps")?
            .iter()
            .filter_map(|file| file.strip_prefix(name)?.strip_prefix("_v")?.parse().ok())
            .collect();
        found.sort_unstable();
        Ok(found)
    }

    /// Removes the pins of maps that this version does not use.
    ///
    /// # Errors
    /// The directory can't be changed.
    pub fn remove_outdated_maps(&self) -> Result<Vec<String>, Error> {
        let current: Vec<String> = MAPS.iter().map(|map| format!("{}_v{}", map.name, map.layout)).collect();
        let mut removed = Vec::new();
        for file in self.entries("maps")? {
            if !current.contains(&file) {
                remove(&self.0.join("maps").join(&file))?;
                removed.push(file);
            }
        }
        Ok(removed)
    }

    /// Names of the pinned links.
    ///
    /// # Errors
    /// The directory can't be read.
    pub fn links(&self) -> Result<Vec<String>, Error> {
        self.entries("links")
    }

    /// Removes one link's pin.
    ///
    /// # Errors
    /// It can't be removed.
    pub fn remove_link(&self, hook: &str) -> Result<(), Error> {
        remove(&self.link(hook))
    }

    /// Removes every pin and the directories.
    ///
    /// # Errors
    /// Something can't be removed.
    pub fn remove_all(&self) -> Result<(), Error> {
        for kind in ["links", "maps"] {
            for file in self.entries(kind)? {
                remove(&self.0.join(kind).join(file))?;
            }
            remove_directory(&self.0.join(kind))?;
        }
        remove_directory(&self.0)
    }

    fn entries(&self, kind: &str) -> Result<Vec<String>, Error> {
        let directory = self.0.join(kind);
        let read = match fs::read_dir(&directory) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(Error::syscall("open", directory.display().to_string(), source)),
        };
        let mut names = Vec::new();
        for entry in read {
            let entry = entry
                .map_err(|source| Error::syscall("getdents", directory.display().to_string(), source))?;
            names.extend(entry.file_name().into_string());
        }
        names.sort_unstable();
        Ok(names)
    }
}

fn remove(path: &Path) -> Result<(), Error> {
    gone(fs::remove_file(path)).map_err(|source| Error::syscall("unlink", path.display().to_string(), source))
}

fn remove_directory(path: &Path) -> Result<(), Error> {
    gone(fs::remove_dir(path)).map_err(|source| Error::syscall("rmdir", path.display().to_string(), source))
}

fn gone(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}
