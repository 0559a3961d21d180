//! The clock of the machine's kernel.

use std::{fs, sync::OnceLock};

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds on the clock that bpf programs see (`bpf_ktime_get_ns`). That is CLOCK_MONOTONIC of the first time
/// namespace; a process in another one sees it moved.
pub fn monotonic() -> u64 {
    static OFFSET: OnceLock<i128> = OnceLock::new();
    let now = clock_gettime(ClockId::Monotonic);
    let now = i128::from(now.tv_sec) * 1_000_000_000 + i128::from(now.tv_nsec);
    // A namespace's offsets are fixed from when there is a process in it. Before Linux 5.6 there is no such file.
    let offset = *OFFSET.get_or_init(|| {
        fs::read_to_string("/proc/self/timens_offsets").ok().as_deref().and_then(parse).unwrap_or_default()
    });
    u64::try_from(now - offset).unwrap_or_default()
}

/// The offset of `monotonic` in nanoseconds: lines `monotonic SECONDS NANOSECONDS`.
fn parse(offsets: &str) -> Option<i128> {
    let line = offsets.lines().find_map(|line| line.strip_prefix("monotonic"))?;
    let mut numbers = line.split_whitespace().map(|word| word.parse::<i64>().ok());
    let (seconds, nanoseconds) = (numbers.next()??, numbers.next()??);
    Some(i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_read() {
        assert_eq!(parse("monotonic           0         0\nboottime            0         0\n"), Some(0));
        assert_eq!(parse("monotonic  -2   500000000\nboottime  7  0\n"), Some(-1_500_000_000));
        assert_eq!(parse("boottime 1 1\n"), None);
    }

    #[test]
    fn it_goes_on() {
        let first = monotonic();
        assert!(first > 0 && monotonic() >= first);
    }
}
