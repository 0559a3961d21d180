//! All network namespaces of the machine, one after the other, and work inside of them.

use std::{
    collections::HashSet,
    fs::{self, File},
    io,
    ops::ControlFlow,
    os::{fd::AsFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
    thread,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::{
    error::{Error, Result},
    mount,
};

/// Inode of the first PID namespace (linux/proc_ns.h `PROC_PID_INIT_INO`).
const FIRST_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// A network namespace, held open: it lives as long as this does.
#[derive(Debug)]
pub struct OpenNamespace {
    file: File,
    inode: u64,
}

impl OpenNamespace {
    /// From a file of nsfs.
    pub(crate) fn new(file: File) -> io::Result<Self> {
        let inode = file.metadata()?.ino();
        Ok(Self { file, inode })
    }

    /// The one that process `pid` is in.
    pub fn of_process(pid: u32) -> Result<Self> {
        let path = PathBuf::from(format!("/proc/{pid}/ns/net"));
        File::open(&path).and_then(Self::new).map_err(|source| Error::Read { path, source })
    }

    /// Inode number, as `ip netns` and `lsns` show it.
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// Runs `work` inside, on a thread of its own: the calling one stays where it is. Sockets that are opened there
    /// stay there.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let inside = || {
            let kind = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(self.file.as_fd(), kind).map_err(|error| Error::Call {
                call: "setns",
                object: format!("network namespace {}", self.inode),
                source: error.into(),
                next: "it takes root, or CAP_SYS_ADMIN",
            })?;
            Ok(work())
        };
        thread::scope(|scope| match scope.spawn(inside).join() {
            Ok(outcome) => outcome,
            Err(cause) => std::panic::resume_unwind(cause),
        })
    }
}

/// How a [`visit`] went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Visited {
    /// Namespaces seen.
    pub namespaces: usize,
    /// There may be others: what a thread is in could not be told, or only some processes can be seen from here.
    /// Those that nothing leads to but a descriptor somewhere are not counted: see [`crate::descriptor`].
    pub incomplete: bool,
}

/// Goes through the network namespaces of all threads and of all mounts of nsfs that this process sees, each once,
/// until `see` breaks off. None is held open for longer than that.
pub fn visit(see: impl FnMut(&OpenNamespace) -> ControlFlow<()>) -> Result<Visited> {
    let mut visit = Visit {
        see,
        seen: HashSet::new(),
        keys: HashSet::new(),
        unknown: HashSet::new(),
        visited: Visited::default(),
    };
    if visit.threads()?.is_continue() && visit.mounts()?.is_continue() {
        // Threads that we may not look at in a namespace that others are in too are no gap.
        visit.visited.incomplete |= !visit.unknown.is_subset(&visit.keys);
        visit.visited.incomplete |= !sees_all_processes();
    }
    Ok(visit.visited)
}

/// Does /proc show every process of the machine? Not in a container with a PID namespace of its own.
fn sees_all_processes() -> bool {
    fs::metadata("/proc/self/ns/pid").is_ok_and(|status| status.ino() == FIRST_PID_NAMESPACE)
}

struct Visit<See> {
    see: See,
    /// Inodes.
    seen: HashSet<u64>,
    /// Of those, what [`key`] gives.
    keys: HashSet<u64>,
    /// The same of threads whose namespace can't be opened.
    unknown: HashSet<u64>,
    visited: Visited,
}

impl<See: FnMut(&OpenNamespace) -> ControlFlow<()>> Visit<See> {
    fn threads(&mut self) -> Result<ControlFlow<()>> {
        let proc = Path::new("/proc");
        let processes = fs::read_dir(proc).map_err(|source| Error::Read { path: proc.into(), source })?;
        for process in processes.flatten().filter(is_number) {
            // It may have ended by now, and then its threads have.
            let Ok(threads) = fs::read_dir(process.path().join("task")) else { continue };
            for thread in threads.flatten() {
                if self.thread(&thread.path()).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn thread(&mut self, thread: &Path) -> ControlFlow<()> {
        let path = thread.join("ns/net");
        match fs::metadata(&path) {
            Ok(status) if self.seen.contains(&status.ino()) => ControlFlow::Continue(()),
            Ok(_) => self.open(&path, Some(thread)),
            Err(error) if is_gone(&error) => ControlFlow::Continue(()),
            // Not even root may look at every process where a security module says so.
            Err(_) => {
                match key(thread) {
                    Ok(key) => drop(self.unknown.insert(key)),
                    Err(error) if is_gone(&error) => {}
                    Err(_) => self.visited.incomplete = true,
                }
                ControlFlow::Continue(())
            }
        }
    }

    /// Mounts of namespaces, such as those of `ip netns`.
    fn mounts(&mut self) -> Result<ControlFlow<()>> {
        for mount in mount::mounts()?.into_iter().filter(|mount| mount.kind == "nsfs") {
            if mount.root.starts_with("net:[") && self.open(&mount.point, None).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Visits the namespace of a file, if it is a new one. One that goes away meanwhile is not missed.
    fn open(&mut self, path: &PathBuf, thread: Option<&Path>) -> ControlFlow<()> {
        let namespace = match File::open(path).and_then(OpenNamespace::new) {
            Ok(namespace) => namespace,
            Err(error) => {
                self.visited.incomplete |= !is_gone(&error);
                return ControlFlow::Continue(());
            }
        };
        if let Some(Ok(key)) = thread.map(key) {
            self.keys.insert(key);
        }
        if !self.seen.insert(namespace.inode) {
            return ControlFlow::Continue(());
        }
        self.visited.namespaces += 1;
        (self.see)(&namespace)
    }
}

/// A number that a thread's network namespace has to itself and that needs no right to look at the thread: the inode
/// of a file that procfs has once for each namespace.
fn key(thread: &Path) -> io::Result<u64> {
    fs::metadata(thread.join("net/dev")).map(|status| status.ino())
}

fn is_number(entry: &fs::DirEntry) -> bool {
    entry.file_name().to_str().is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The thread has ended, or the mount is gone. (EINVAL: procfs, of a thread that is just ending.)
fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH | libc::EINVAL))
}
