//! What can be wrong with a machine.

use std::{io, path::PathBuf};

/// Something the machine does not have or does not allow; the text ends with the next step.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read.
    #[error("cannot read {}: {source}; is /proc mounted, and is this running as root?", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file of /proc has not the form that proc(5) describes.
    #[error("{file} has no {what}; is /proc mounted from the kernel?")]
    Malformed {
        /// The file.
        file: &'static str,
        /// What was looked for.
        what: &'static str,
    },
    /// No cgroup2 hierarchy in the mount table.
    #[error(
        "no cgroup2 is mounted{}; run `mkdir -p /run/cgroup2 && mount -t cgroup2 none /run/cgroup2`, \
         or boot with systemd.unified_cgroup_hierarchy=1",
        if *.only_v1 { " (only cgroup v1)" } else { "" }
    )]
    NoCgroup2 {
        /// There are cgroup v1 hierarchies.
        only_v1: bool,
    },
    /// The directory given as cgroup root, or found in the mount table, is something else.
    #[error("{} is not in a cgroup2 file system; `findmnt -t cgroup2` lists those, --cgroup-root takes one", path.display())]
    NotCgroup2 {
        /// The directory.
        path: PathBuf,
    },
    /// Too few files may be opened.
    #[error(
        "only {limit} files may be opened at once, and it takes {least}; raise the limit: `ulimit -n 1024` in a shell, \
         LimitNOFILE=1024 for systemd"
    )]
    OpenFiles {
        /// What is allowed.
        limit: u64,
        /// What it takes.
        least: u64,
    },
    /// A system call failed.
    #[error("{call} on {object}: {source}; {next}")]
    Call {
        /// Name of the system call.
        call: &'static str,
        /// What it was applied to.
        object: String,
        /// Why it failed.
        source: io::Error,
        /// What the operator can do.
        next: &'static str,
    },
    /// There is a bpffs mount point, but with another file system on it.
    #[error("{} holds another file system than bpf; unmount that, or give another directory for pins", path.display())]
    NotBpffs {
        /// The directory.
        path: PathBuf,
    },
}

/// Result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// The text of `path`.
pub(crate) fn read(path: impl Into<PathBuf>) -> Result<String> {
    let path = path.into();
    match std::fs::read(&path) {
        // Names in /proc may be anything but NUL; what is not UTF-8 must not make us fail.
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(source) => Err(Error::Read { path, source }),
    }
}
