//! Sockets by the descriptors that processes have of them: the way to those whose network namespace nothing else
//! leads to, neither a thread nor a mount.

use std::{
    collections::HashSet,
    fs::{self, File},
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
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

/// Looks through the descriptors of all processes for the sockets with these cookies, and gives the namespace of each
/// that is found. That takes a look at every socket of the machine: not for every day.
///
/// Not found are sockets that are in no table of descriptors: those of the kernel, those in io_uring only, and those that
/// are on their way from one process to another.
pub fn find_sockets(cookies: &HashSet<u64>, mut found: impl FnMut(u64, OpenNamespace)) -> Result<()> {
    let mut left = cookies.clone();
    let mut seen = HashSet::new();
    let proc = Path::new("/proc");
    let processes = fs::read_dir(proc).map_err(|source| Error::Read { path: proc.into(), source })?;
    for process in processes.flatten() {
        if left.is_empty() {
            break;
        }
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // Processes end while we look, and some are nobody's business.
        let Ok(descriptors) = fs::read_dir(process.path().join("fd")) else { continue };
        let mut handle = None;
        for descriptor in descriptors.flatten() {
            let Some(number) = descriptor.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            // `socket:[INODE]`; each is looked at once, whoever has it.
            let Ok(target) = fs::read_link(descriptor.path()) else { continue };
            let is_socket = target.to_str().is_some_and(|target| target.starts_with("socket:["));
            if !is_socket || !seen.insert(target) {
                continue;
            }
            if handle.is_none() {
                handle = Pid::from_raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
            }
            if let Some(socket) = handle.as_ref().and_then(|process| copy(process, number))
                && let Ok(cookie) = sockopt::socket_cookie(&socket)
                && left.contains(&cookie)
                && let Ok(namespace) = namespace_of(&socket)
            {
                left.remove(&cookie);
                found(cookie, namespace);
            }
        }
    }
    Ok(())
}

fn copy(process: &OwnedFd, number: RawFd) -> Option<OwnedFd> {
    pidfd_getfd(process, number, PidfdGetfdFlags::empty()).ok()
}

fn namespace_of(socket: &OwnedFd) -> io::Result<OpenNamespace> {
    // SAFETY: this ioctl takes no argument and returns a descriptor.
    let descriptor = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCGSKNS) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was returned just now, and nobody else has it.
    OpenNamespace::new(File::from(unsafe { OwnedFd::from_raw_fd(descriptor) }))
}
