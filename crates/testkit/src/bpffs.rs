//! A private bpffs: pins of one test, seen by no other.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::leftover::{orphans, unique_name};

/// A bpffs of its own in a directory of its own; dropping it removes every pin in it.
#[derive(Debug)]
pub struct Bpffs {
    directory: PathBuf,
}

impl Bpffs {
    /// Mounts a fresh bpffs below the directory for temporary files.
    pub fn mount() -> Result<Self> {
        for orphan in orphans(&env::temp_dir()) {
            remove(&orphan);
        }
        let directory = env::temp_dir().join(unique_name());
        fs::create_dir(&directory).with_context(|| format!("mkdir {}", directory.display()))?;
        let mounted = mount("bpf", &directory, "bpf", MountFlags::NOSUID | MountFlags::NODEV, None);
        // Made first, so that dropping it removes the directory even if the mount failed.
        let bpffs = Self { directory };
        mounted.with_context(|| format!("mount bpffs at {}: needs root", bpffs.directory.display()))?;
        Ok(bpffs)
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.directory
    }
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        remove(&self.directory);
    }
}

fn remove(directory: &Path) {
    // Detached, so that a process which still stands in it cannot keep it.
    let _ = unmount(directory, UnmountFlags::DETACH);
    let _ = fs::remove_dir(directory);
}
