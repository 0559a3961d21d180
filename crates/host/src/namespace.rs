//! Network namespaces.

use std::{
    fs, io,
    mem::size_of,
    os::{fd::AsRawFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
};

use rustix::net::{AddressFamily, SocketType, socket};

use crate::error::{Error, Result};

mod visit;
pub use visit::{OpenNamespace, Visited, visit};

/// Identity of a network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NetworkNamespace {
    /// Inode number of its file in /proc, as `ip netns` and `lsns` show it. Reused after the namespace is gone.
    pub inode: u64,
    /// Its cookie, as `bpf_get_netns_cookie` gives it, never reused; `None` before Linux 5.14.
    pub cookie: Option<u64>,
}

impl NetworkNamespace {
    /// The namespace of the calling thread.
    pub fn own() -> Result<Self> {
        Ok(Self { inode: inode(Path::new("/proc/thread-self/ns/net"))?, cookie: own_cookie()? })
    }

    /// Whether process 1 is in this namespace too: true on the host and in pods with `hostNetwork` and
    /// `hostPID`. `None` where process 1 may not be looked at.
    pub fn is_shared_with_init(&self) -> Option<bool> {
        inode(Path::new("/proc/1/ns/net")).ok().map(|inode| inode == self.inode)
    }
}

/// Inode number of the network namespace that process `pid` is in.
pub fn inode_of_process(pid: u32) -> Result<u64> {
    inode(&PathBuf::from(format!("/proc/{pid}/ns/net")))
}

fn inode(path: &Path) -> Result<u64> {
    fs::metadata(path).map(|status| status.ino()).map_err(|source| Error::Read { path: path.into(), source })
}

fn own_cookie() -> Result<Option<u64>> {
    let failed = |call, source| Error::Call {
        call,
        object: "a socket for the cookie of this network namespace".to_owned(),
        source,
        next: "check the limit of open files",
    };
    let socket = socket(AddressFamily::UNIX, SocketType::DGRAM, None)
        .map_err(|error| failed("socket", error.into()))?;
    let mut cookie = 0_u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `cookie`, which is that long.
    let outcome = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if outcome == 0 {
        return Ok(Some(cookie));
    }
    match io::Error::last_os_error() {
        error if error.raw_os_error() == Some(libc::ENOPROTOOPT) => Ok(None),
        error => Err(failed("getsockopt(SO_NETNS_COOKIE)", error)),
    }
}
