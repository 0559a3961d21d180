//! R26: what kube-proxy sets of connection tracking, and whoever replaces it has to.
//!
//! As kubernetes 1.36 pkg/proxy/conntrack/sysctls.go does with the defaults of pkg/proxy/apis/config/v1alpha1/defaults.go:
//! timeouts are set to what they should be; the size of the table is raised, and never lowered.

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
};

use crate::error::{Error, Result};

/// Connections that may be tracked for each CPU, at least, and at most.
const PER_CPU: u64 = 32_768;
const LEAST: u64 = 131_072;
const MOST: u64 = 1_048_576;
/// Connections for each bucket of the hash table.
const PER_BUCKET: u64 = 4;

/// Idle seconds after which connections are forgotten.
const TIMEOUTS: [(&str, u64); 2] =
    [("nf_conntrack_tcp_timeout_established", 86_400), ("nf_conntrack_tcp_timeout_close_wait", 3_600)];

/// Connection tracking of one network namespace; its size is the machine's.
#[derive(Clone, Debug)]
pub struct Conntrack {
    /// Directory of its sysctls.
    sysctls: PathBuf,
    /// Parameter of the kernel's module.
    buckets: PathBuf,
    cpus: u64,
}

/// A number that was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Its file.
    pub path: PathBuf,
    /// What it was.
    pub from: u64,
    /// What it is.
    pub to: u64,
}

/// What came of setting everything.
#[derive(Debug, Default)]
pub struct Adopted {
    /// What was not as it should be, and is now.
    pub changed: Vec<Changed>,
    /// What could not be set.
    pub failed: Vec<Error>,
}

impl Conntrack {
    /// Of the calling thread's namespace. Containers have `/proc/sys` and `/sys` for reading only; then what is mounted below
    /// `/host` is used.
    pub fn own() -> Self {
        let writable = |path: &str| {
            let mounted = Path::new("/host").join(path);
            if mounted.exists() { mounted } else { Path::new("/").join(path) }
        };
        Self {
            sysctls: writable("proc/sys/net").join("netfilter"),
            buckets: writable("sys/module").join("nf_conntrack/parameters/hashsize"),
            cpus: online_cpus(),
        }
    }

    /// Sets what is not as it should be. `None`: the kernel tracks no connections, so that there is nothing to set, yet.
    pub fn adopt(&self) -> Option<Adopted> {
        let size = self.sysctls.join("nf_conntrack_max");
        if !size.exists() {
            return None;
        }
        let (most, mut adopted) = (self.most(), Adopted::default());
        let mut set =
            |path: PathBuf, to: u64, is_right: fn(u64, u64) -> bool| match adopt(&path, to, is_right) {
                Ok(None) => {}
                Ok(Some(from)) => adopted.changed.push(Changed { path, from, to }),
                Err(error) => adopted.failed.push(error),
            };
        set(size, most, |is, least| is >= least);
        set(self.buckets.clone(), most / PER_BUCKET, |is, least| is >= least);
        for (name, seconds) in TIMEOUTS {
            set(self.sysctls.join(name), seconds, |is, wanted| is == wanted);
        }
        Some(adopted)
    }

    /// How many connections may be tracked at least.
    fn most(&self) -> u64 {
        (self.cpus * PER_CPU).clamp(LEAST, MOST)
    }
}

/// What it was, if that had to be changed.
fn adopt(path: &Path, to: u64, is_right: fn(u64, u64) -> bool) -> Result<Option<u64>> {
    let failed = |call, source| Error::Call {
        call,
        object: path.display().to_string(),
        source,
        next: "a container needs the host's /proc/sys/net and /sys/module writable for it; or set it by sysctl(8) on the host",
    };
    let text = fs::read_to_string(path).map_err(|source| failed("read", source))?;
    let number = text.trim().parse().map_err(|error| failed("read", io::Error::other(error)));
    let from: u64 = number?;
    if is_right(from, to) {
        return Ok(None);
    }
    fs::write(path, to.to_string()).map_err(|source| failed("write", source))?;
    Ok(Some(from))
}

/// CPUs of the machine, not those that this process may use: the table is the machine's too.
fn online_cpus() -> u64 {
    let text = fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    let usable = || thread::available_parallelism().map_or(1, |count| count.get() as u64);
    count_of_list(&text).unwrap_or_else(usable)
}

/// How many numbers are in a list like `0-3,8`.
fn count_of_list(text: &str) -> Option<u64> {
    text.trim().split(',').try_fold(0, |count, range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
        Some(count + last.checked_sub(first)? + 1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine's files; a missing number is a missing file.
    fn machine(max: u64, buckets: u64, timeouts: [u64; 2], cpus: u64) -> (tempfile::TempDir, Conntrack) {
        let directory = tempfile::tempdir().unwrap();
        let write =
            |name: &str, number: u64| fs::write(directory.path().join(name), format!("{number}\n")).unwrap();
        write("nf_conntrack_max", max);
        write("hashsize", buckets);
        for ((name, _), seconds) in TIMEOUTS.into_iter().zip(timeouts) {
            write(name, seconds);
        }
        let conntrack =
            Conntrack { sysctls: directory.path().into(), buckets: directory.path().join("hashsize"), cpus };
        (directory, conntrack)
    }

    fn changes(conntrack: &Conntrack) -> Vec<(String, u64, u64)> {
        let adopted = conntrack.adopt().unwrap();
        assert!(adopted.failed.is_empty(), "{:?}", adopted.failed);
        let name = |it: &Changed| it.path.file_name().unwrap().to_str().unwrap().to_owned();
        adopted.changed.iter().map(|it| (name(it), it.from, it.to)).collect()
    }

    #[test]
    fn r26_timeouts_are_set_and_the_size_is_raised() {
        let (_directory, conntrack) = machine(65_536, 16_384, [432_000, 60], 2);
        let expected = [
            ("nf_conntrack_max", 65_536, 131_072),
            ("hashsize", 16_384, 32_768),
            ("nf_conntrack_tcp_timeout_established", 432_000, 86_400),
            ("nf_conntrack_tcp_timeout_close_wait", 60, 3_600),
        ];
        assert_eq!(changes(&conntrack), expected.map(|(name, from, to)| (name.to_owned(), from, to)));
        assert_eq!(changes(&conntrack), [], "the second time nothing is left to do");
    }

    #[test]
    fn r26_the_size_is_never_lowered() {
        let (_directory, conntrack) = machine(4_194_304, 1_048_576, [86_400, 3_600], 2);
        assert_eq!(changes(&conntrack), []);
    }

    #[test]
    fn r26_the_size_goes_with_the_machine_between_two_limits() {
        for (cpus, most) in [(1, 131_072), (4, 131_072), (5, 163_840), (32, 1_048_576), (256, 1_048_576)] {
            assert_eq!(machine(0, 0, [0; 2], cpus).1.most(), most, "{cpus} CPUs");
        }
        for (list, count) in
            [("0\n", Some(1)), ("0-1", Some(2)), ("0-3,8,10-11\n", Some(7)), ("", None), ("3-1", None)]
        {
            assert_eq!(count_of_list(list), count, "{list:?}");
        }
        assert!(online_cpus() >= 1);
    }

    #[test]
    fn r26_without_connection_tracking_there_is_nothing_to_set() {
        let (directory, conntrack) = machine(0, 0, [0; 2], 1);
        fs::remove_file(directory.path().join("nf_conntrack_max")).unwrap();
        assert!(conntrack.adopt().is_none());
    }

    #[test]
    fn r26_what_fails_is_named_and_keeps_nothing_else_from_being_set() {
        let (directory, conntrack) = machine(1, 1, [1, 1], 1);
        fs::remove_file(directory.path().join("hashsize")).unwrap();
        fs::write(directory.path().join("nf_conntrack_tcp_timeout_established"), "soon").unwrap();
        let adopted = conntrack.adopt().unwrap();
        let failed: Vec<String> = adopted.failed.iter().map(ToString::to_string).collect();
        assert_eq!(failed.len(), 2, "{failed:?}");
        assert!(failed[0].contains("hashsize") && failed[0].contains("No such file"), "{failed:?}");
        assert!(failed[1].contains("timeout_established") && failed[1].contains("writable"), "{failed:?}");
        assert_eq!(adopted.changed.len(), 2, "{:?}", adopted.changed);
    }
}
