//! Sockets by the descriptors that processes have of them: the way to what is stored with a socket, and to those
//! whose network namespace nothing else leads to, neither a thread nor a mount.

use std::{
    collections::HashSet,
    fs::{self, File},
    io,
    ops::ControlFlow,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    path::Path,
};

use rustix::{
    net::sockopt,
    process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open},
};

use crate::{
    error::{Error, Result},
    namespace::OpenNamespace,
};

/// ioctl of a socket: a descriptor of its network namespace (linux/sockios.h).
const SIOCGSKNS: libc::Ioctl = 0x894C;

/// A socket that some process has, by a descriptor of our own.
#[derive(Debug)]
pub struct OpenSocket {
    descriptor: OwnedFd,
    inode: u64,
}

impl OpenSocket {
    /// Its inode, as lists of sockets show it.
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// The kernel's cookie of it.
    pub fn cookie(&self) -> io::Result<u64> {
        Ok(sockopt::socket_cookie(&self.descriptor)?)
    }

    /// Its network namespace.
    pub fn namespace(&self) -> io::Result<OpenNamespace> {
        // SAFETY: this ioctl takes no argument and returns a descriptor.
        let descriptor = unsafe { libc::ioctl(self.descriptor.as_raw_fd(), SIOCGSKNS) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was returned just now, and nobody else has it.
        OpenNamespace::new(File::from(unsafe { OwnedFd::from_raw_fd(descriptor) }))
    }
}

impl AsFd for OpenSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Goes through the sockets in all processes' tables of descriptors, each once, whoever has it: those whose inode is
/// `wanted`. Each is open for as long as `see` takes, which breaks off.
///
/// Not found are sockets that are in no such table: those of the kernel, those in io_uring only, and those that are on
/// their way from one process to another.
pub fn visit_sockets(
    mut wanted: impl FnMut(u64) -> bool,
    mut see: impl FnMut(&OpenSocket) -> ControlFlow<()>,
) -> Result<()> {
    let mut seen = HashSet::new();
    let proc = Path::new("/proc");
    let processes = fs::read_dir(proc).map_err(|source| Error::Read { path: proc.into(), source })?;
    for process in processes.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // Processes end while we look, and some are nobody's business.
        let Ok(descriptors) = fs::read_dir(process.path().join("fd")) else { continue };
        let mut handle = None;
        for descriptor in descriptors.flatten() {
            let Some(number) = descriptor.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let Some(inode) = fs::read_link(descriptor.path()).ok().as_deref().and_then(inode) else {
                continue;
            };
            if !wanted(inode) || !seen.insert(inode) {
                continue;
            }
            if handle.is_none() {
                handle = Pid::from_raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
            }
            let copy = handle.as_ref().and_then(|process| copy(process, number));
            match copy.map(|descriptor| OpenSocket { descriptor, inode }) {
                Some(socket) if see(&socket).is_break() => return Ok(()),
                Some(_) => {}
                // Another process may have it too, and let us.
                None => {
                    seen.remove(&inode);
                }
            }
        }
    }
    Ok(())
}

/// Looks among all sockets for those with these cookies: that takes a look at each, so it is not for every day.
pub fn find_sockets(cookies: &HashSet<u64>, mut found: impl FnMut(u64, &OpenSocket)) -> Result<()> {
    let mut left = cookies.clone();
    visit_sockets(
        |_| true,
        |socket| {
            if let Ok(cookie) = socket.cookie()
                && left.remove(&cookie)
            {
                found(cookie, socket);
            }
            if left.is_empty() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        },
    )
}

/// The inode in `socket:[INODE]`.
fn inode(target: &Path) -> Option<u64> {
    target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

fn copy(process: &OwnedFd, number: RawFd) -> Option<OwnedFd> {
    pidfd_getfd(process, number, PidfdGetfdFlags::empty()).ok()
}
