//! The file system that keeps pinned programs and maps.

use std::path::Path;

use rustix::{
    fs::statfs,
    mount::{MountFlags, mount},
};

use crate::error::{Error, Result};

/// Where every distribution has it.
pub const DEFAULT: &str = "/sys/fs/bpf";

/// File system magic of bpffs, linux/magic.h.
const BPF_FS_MAGIC: i64 = 0xcafe_4a11;

/// What [`ensure`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mounted {
    /// There was one already.
    Before,
    /// It was mounted now; it goes away with the machine or with this mount namespace.
    Now,
}

/// Whether `path` is in a bpffs.
pub fn is_mounted(path: &Path) -> Result<bool> {
    let status = statfs(path).map_err(|source| Error::Call {
        call: "statfs",
        object: path.display().to_string(),
        source: source.into(),
        next: "the directory must exist; /sys/fs/bpf does on kernels with CONFIG_BPF_SYSCALL",
    })?;
    Ok(status.f_type == BPF_FS_MAGIC)
}

/// Mounts a bpffs at `path` unless there is one. Any other file system that somebody mounted there stays.
pub fn ensure(path: &Path) -> Result<Mounted> {
    if is_mounted(path)? {
        return Ok(Mounted::Before);
    }
    let point = path.canonicalize().map_err(|source| Error::Read { path: path.into(), source })?;
    if crate::mount::mounts()?.iter().any(|mount| mount.point == point) {
        return Err(Error::NotBpffs { path: point });
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::RELATIME;
    mount("bpf", &point, "bpf", flags, Some(c"mode=0700")).map_err(|source| Error::Call {
        call: "mount",
        object: format!("bpffs at {}", point.display()),
        source: source.into(),
        next: "run as root, or mount it beforehand: mount -t bpf bpf /sys/fs/bpf",
    })?;
    Ok(Mounted::Now)
}
