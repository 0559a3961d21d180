//! What can go wrong between us and the kernel.

use std::{io, path::PathBuf};

/// An error, naming the object and the system call.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call failed.
    #[error("{call} {object}: {source}{}", hint(.source))]
    Syscall {
        /// Which call, in the kernel's terms.
        call: &'static str,
        /// On which object.
        object: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The programs' object could not be loaded.
    #[error("loading the bpf programs: {0}; `balancing doctor` says what this kernel lacks")]
    Load(#[from] aya::EbpfError),
    /// The verifier or the kernel refused a program.
    #[error("loading program {program}: {source}; `balancing doctor` says what this kernel lacks")]
    Program {
        /// Its name.
        program: &'static str,
        /// What the kernel said.
        source: Box<aya::programs::ProgramError>,
    },
    /// A pinned map is not what its name says.
    #[error(
        "pinned map {}: {problem}; it was not made by this program: remove it, or run `balancing clean`",
        path.display()
    )]
    ForeignMap {
        /// Where.
        path: PathBuf,
        /// What differs.
        problem: String,
    },
    /// Nothing is pinned: the agent has never run here, or was cleaned.
    #[error("{} is not there: the agent has not run on this machine, or `balancing clean` was run", .0.display())]
    NotInstalled(PathBuf),
    /// The directory for pins is on no bpffs.
    #[error("{} is not on a bpf file system; mount one: mount -t bpf bpf /sys/fs/bpf", .0.display())]
    NoBpffs(PathBuf),
}

impl Error {
    pub(crate) fn syscall(call: &'static str, object: impl Into<String>, source: io::Error) -> Self {
        Self::Syscall { call, object: object.into(), source }
    }
}

fn hint(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => " (it takes root, or CAP_BPF and CAP_NET_ADMIN)",
        Some(libc::E2BIG) => " (the map is full)",
        _ => "",
    }
}
