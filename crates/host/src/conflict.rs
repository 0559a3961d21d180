//! Programs on this machine that translate service addresses too.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use crate::error::{Error, Result};

/// The one that serves what comes from other machines, beside us or instead.
pub const KUBE_PROXY: &str = "kube-proxy";

/// `comm` of such programs, and what to do. The kernel cuts names off after 15 characters.
const KNOWN: &[(&str, &str)] = &[
    (KUBE_PROXY, "delete its DaemonSet, and run `kube-proxy --cleanup` once on each node"),
    ("cilium-agent", "set kubeProxyReplacement=false and socketLB.enabled=false in Cilium's configuration"),
    ("kube-router", "start it with --run-service-proxy=false"),
    ("antrea-agent", "set antreaProxy.enable=false in antrea-agent.conf"),
];

/// A running program that does our work too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// Its name.
    pub program: &'static str,
    /// Its process id.
    pub pid: u32,
    /// What the operator can do.
    pub advice: &'static str,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {}) also translates service addresses: {}", self.program, self.pid, self.advice)
    }
}

/// Those that are visible from here, by process id. In a pod without `hostPID` that is none.
pub fn conflicts() -> Result<Vec<Conflict>> {
    conflicts_in(Path::new("/proc"))
}

fn conflicts_in(proc: &Path) -> Result<Vec<Conflict>> {
    let entries = fs::read_dir(proc).map_err(|source| Error::Read { path: PathBuf::from(proc), source })?;
    let mut found: Vec<Conflict> = entries
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            // Processes end while we look.
            let comm = fs::read(entry.path().join("comm")).ok()?;
            let (program, advice) =
                KNOWN.iter().find(|(name, _)| comm.trim_ascii_end() == name.as_bytes())?;
            Some(Conflict { program, pid, advice })
        })
        .collect();
    found.sort_by_key(|conflict| conflict.pid);
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_programs_are_found_by_name() {
        let proc = tempfile::tempdir().unwrap();
        for (pid, comm) in
            [("1", "systemd\n"), ("812", "kube-proxy\n"), ("77", "cilium-agent\n"), ("self", "kube-proxy\n")]
        {
            fs::create_dir(proc.path().join(pid)).unwrap();
            fs::write(proc.path().join(pid).join("comm"), comm).unwrap();
        }
        fs::create_dir(proc.path().join("9")).unwrap();
        let found = conflicts_in(proc.path()).unwrap();
        let named: Vec<_> = found.iter().map(|conflict| (conflict.pid, conflict.program)).collect();
        assert_eq!(named, [(77, "cilium-agent"), (812, "kube-proxy")]);
        assert!(found[1].to_string().starts_with("kube-proxy (pid 812) also translates"));
    }

    #[test]
    fn names_fit_into_comm() {
        assert!(KNOWN.iter().all(|(name, _)| name.len() <= 15));
    }
}
