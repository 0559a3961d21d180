//! What keeps the agent from starting or going on.

use std::{io, path::PathBuf};

/// An error, with what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel's side.
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
    /// The machine.
    #[error(transparent)]
    Host(#[from] host::Error),
    /// The source.
    #[error(transparent)]
    Source(#[from] source::Error),
    /// Not allowed to do its work.
    #[error("the agent may not load programs: {0} lacking; run it as root, or give it that")]
    Rights(String),
    /// Another agent holds the lock.
    #[error("another agent is running here: it holds {}; stop it first", .0.display())]
    Running(PathBuf),
    /// Programs of another installation are where ours would go.
    #[error(
        "another balancing serves {} already (program {program}, with other pins): service addresses would be translated \
         twice. Stop its agent and run `balancing clean --bpffs` with its directory; `bpftool cgroup show` lists the programs",
        cgroup.display()
    )]
    Twice {
        /// Where.
        cgroup: PathBuf,
        /// The kernel's id of one of the programs.
        program: u32,
    },
    /// A file or socket of the agent's own.
    #[error("{call} {}: {source}{}", path.display(), hint(.source))]
    File {
        /// What was tried.
        call: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What answers health checks can't be started.
    #[error(
        "starting the thread that answers health checks: {0}; allow more threads or files (ulimit -u, ulimit -n)"
    )]
    Health(io::Error),
    /// What writes events can't be started.
    #[error(
        "starting the threads that write events: {0}; allow more threads or files (ulimit -u, ulimit -n)"
    )]
    Events(io::Error),
    /// Events can't be sent to a collector.
    #[error(
        "sending events to {url}: {source}; if certificates of authorities are missing, install them (ca-certificates), or give an \
         http URL"
    )]
    Collector {
        /// Where it is.
        url: String,
        /// What happened.
        source: io::Error,
    },
    /// A client that can't be explained.
    #[error("client {0:?}: give `host`, a process id or pod/NAMESPACE/NAME")]
    UnknownClient(String),
    /// A pod whose processes would be nowhere.
    #[error(
        "pod {name}: no cgroup below {} has its UID {uid}, so it does not run yet or any more, or its cgroup is hidden \
         from here; give the id of one of its processes", root.display()
    )]
    NoCgroup {
        /// Namespace and name.
        name: String,
        /// As the API server knows it.
        uid: String,
        /// Where it was looked for.
        root: PathBuf,
    },
    /// Somebody removed our pins.
    #[error(
        "the pinned maps below {} were removed or replaced (`balancing clean`, rm, umount?): what this agent writes is \
         no longer what programs read; start it again", .0.display()
    )]
    PinsGone(PathBuf),
    /// The source ended, which it never does by itself.
    #[error("the source of objects has ended unexpectedly; see the log above")]
    SourceEnded,
}

impl Error {
    pub(crate) fn file(call: &'static str, path: &std::path::Path, source: io::Error) -> Self {
        Self::File { call, path: path.to_owned(), source }
    }
}

fn hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::StorageFull => {
            "; make room there (blocks and inodes), or choose another place with --socket"
        }
        io::ErrorKind::ReadOnlyFilesystem => "; make that writable, or choose another place with --socket",
        io::ErrorKind::PermissionDenied => "; run it as root, or let its user write there",
        // Of the standard library: longer than `sockaddr_un` has room for.
        io::ErrorKind::InvalidInput => {
            "; a socket's path has 107 bytes at most: choose a shorter one with --socket"
        }
        _ => "",
    }
}
