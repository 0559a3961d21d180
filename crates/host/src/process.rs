//! What this process takes of the machine.

use std::time::Duration;

use rustix::process::{Resource, getrlimit};

use crate::error::{Error, Result, read};

/// Units of time and memory in /proc.
#[derive(Clone, Copy, Debug)]
struct Units {
    ticks_per_second: u64,
    page: u64,
}

impl Units {
    fn here() -> Self {
        // SAFETY: numbers only.
        let of = |name| u64::try_from(unsafe { libc::sysconf(name) }).unwrap_or(1);
        Self { ticks_per_second: of(libc::_SC_CLK_TCK), page: of(libc::_SC_PAGESIZE) }
    }
}

/// This process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    /// CPU time so far, of all threads, in user mode and in the kernel.
    pub cpu: Duration,
    /// Bytes of memory that it has.
    pub resident: u64,
    /// Bytes of address space.
    pub address_space: u64,
    /// Files that are open.
    pub open_files: u64,
    /// Files that may be.
    pub most_files: u64,
    /// When it started, in seconds since 1970, as far as the clock was right when the machine started.
    pub started: f64,
}

impl Process {
    /// Looks at it.
    ///
    /// # Errors
    /// /proc is not there, or not the kernel's.
    pub fn own() -> Result<Self> {
        let mut process = parse(&read("/proc/self/stat")?, &read("/proc/stat")?, Units::here())
            .ok_or(Error::Malformed { file: "/proc/self/stat", what: "times and sizes" })?;
        let files = "/proc/self/fd";
        let files = std::fs::read_dir(files).map_err(|source| Error::Read { path: files.into(), source })?;
        // One of them is the directory itself.
        process.open_files = (files.count() as u64).saturating_sub(1);
        process.most_files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        Ok(process)
    }
}

/// From proc_pid_stat(5) and the line `btime` of proc_stat(5).
fn parse(own: &str, machine: &str, units: Units) -> Option<Process> {
    // The name may have spaces and parentheses: what is behind the last one is field 3 and so on.
    let (_, fields) = own.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let boot: u64 = machine.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    let seconds = |ticks: u64| ticks as f64 / units.ticks_per_second as f64;
    Some(Process {
        cpu: Duration::from_secs_f64(seconds(field(14)? + field(15)?)),
        resident: field(24)? * units.page,
        address_space: field(23)?,
        started: boot as f64 + seconds(field(22)?),
        ..Process::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_whatever_its_name() {
        let own = "7 (a) b (c)) S 1 7 7 0 -1 4194560 900 0 0 0 150 50 0 0 20 0 4 0 1234 8192000 500 1844 0\n";
        let units = Units { ticks_per_second: 100, page: 4096 };
        let process = parse(own, "cpu 1 2 3\nbtime 1700000000\n", units).unwrap();
        assert_eq!(process.cpu, Duration::from_secs(2));
        assert_eq!((process.resident, process.address_space), (500 * 4096, 8_192_000));
        assert!((process.started - 1_700_000_012.34).abs() < 1e-6, "{process:?}");
        assert_eq!(parse("7 (a) S 1", "btime 1\n", units), None);
        assert_eq!(parse(own, "cpu 1 2 3\n", units), None);
    }

    #[test]
    fn this_process_has_files_and_memory() {
        let before = Process::own().unwrap();
        let files: Vec<_> = (0..20).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
        let process = Process::own().unwrap();
        // Other tests open and close theirs meanwhile.
        assert!(process.open_files >= files.len() as u64 && process.open_files <= process.most_files);
        assert!(process.resident > 1 << 20 && process.resident < process.address_space, "{process:?}");
        assert!(process.cpu >= before.cpu && process.started > 1.6e9, "{process:?}");
    }
}
