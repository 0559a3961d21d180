//! What can go wrong between us and the kernel.

use std::{io, net::SocketAddr, path::PathBuf};

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
    #[error("loading the bpf programs: {}; {}", root(.0), advice(.0))]
    Load(#[from] aya::EbpfError),
    /// The verifier or the kernel refused a program.
    #[error("loading program {program}: {source}; {}", advice(.source.as_ref()))]
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
    /// All entries that a frontend may be in are others'. By chance in one of 10^14 full tables ([`abi::lines`]).
    #[error(
        "no place for {0} among the frontends that hash alike: stop the agent, run `balancing clean`, and start it again, \
         which hashes otherwise"
    )]
    Crowded(SocketAddr),
    /// The directory for pins is on no bpffs.
    #[error(
        "{} is not on a bpf file system; mount one: mount -t bpf bpf /sys/fs/bpf, or name another directory with --bpffs",
        .0.display()
    )]
    NoBpffs(PathBuf),
}

impl Error {
    pub(crate) fn syscall(call: &'static str, object: impl Into<String>, source: io::Error) -> Self {
        Self::Syscall { call, object: object.into(), source }
    }
}

fn hint(source: &io::Error) -> String {
    match source.raw_os_error() {
        Some(libc::E2BIG) => " (the map is full)".into(),
        _ => known(source).map(|next| format!("; {next}")).unwrap_or_default(),
    }
}

/// What to do about errors that say nothing of the kernel's abilities.
fn known(source: &io::Error) -> Option<&'static str> {
    match source.raw_os_error()? {
        libc::EPERM | libc::EACCES => Some("it takes root, or CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON"),
        libc::EROFS => Some(
            "the bpf file system is read-only: make it writable, as with mount -o remount,rw /sys/fs/bpf",
        ),
        libc::ENOMEM => Some(
            "there is not enough memory for it (a limit of the container?): allow more, or let tables grow less far \
             by --max-services and --max-backends",
        ),
        libc::EMFILE | libc::ENFILE => {
            Some("no more files may be opened: raise the limit (ulimit -n, LimitNOFILE=)")
        }
        _ => None,
    }
}

/// The errno at the bottom of `error`, if there is one.
fn system_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a io::Error> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(system) = error.downcast_ref::<io::Error>() {
            return Some(system);
        }
        cause = error.source();
    }
    None
}

/// The errors above the errno in one line: each is told where it is wrapped, but not in its own text.
fn root(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}

fn advice(error: &(dyn std::error::Error + 'static)) -> &'static str {
    let known = system_error(error).and_then(known);
    known.unwrap_or("`balancing doctor` says what this kernel lacks")
}
