//! What the kernel says of a process.

use std::{fs, time::Duration};

use anyhow::{Context, Result};

/// USER_HZ, what the kernel tells times in: 100 wherever we run.
const TICKS_PER_SECOND: f64 = 100.0;

/// A running process.
#[derive(Clone, Copy)]
pub(super) struct Process(pub(super) u32);

/// Bytes.
#[derive(Clone, Copy)]
pub(super) struct Memory {
    /// The most that was resident so far.
    pub(super) peak: u64,
    /// What is resident now: its own, and what it shares.
    pub(super) resident: u64,
    /// Of that its own: the heap, stacks.
    pub(super) own: u64,
    /// Of that the programs' maps, as far as it has them mapped: E10 counts these.
    pub(super) maps: u64,
}

impl Process {
    /// CPU time so far, of all threads, those that have ended too. The kernel counts in ticks of 10 ms.
    pub(super) fn cpu(self) -> Result<Duration> {
        let file = format!("/proc/{}/stat", self.0);
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {file}"))?;
        // utime and stime are the 14th and 15th field; the second, in brackets, may hold anything.
        let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace();
        let ticks: Option<Vec<u64>> = fields.skip(11).take(2).map(|field| field.parse().ok()).collect();
        let ticks = ticks.filter(|it| it.len() == 2).with_context(|| format!("{file} is not as known"))?;
        Ok(Duration::from_secs_f64(ticks.iter().sum::<u64>() as f64 / TICKS_PER_SECOND))
    }

    /// How often its first thread has begun to wait, which is the one that owns the tables.
    pub(super) fn waits(self) -> Result<u64> {
        self.status("voluntary_ctxt_switches")?.parse().context("no number of waits")
    }

    /// A line of what the kernel tells people.
    fn status(self, field: &str) -> Result<String> {
        let file = format!("/proc/{}/status", self.0);
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {file}"))?;
        let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        line.map(|line| line.trim().to_owned()).with_context(|| format!("{file} has no {field}"))
    }

    /// Memory now, and at its peak.
    pub(super) fn memory(self) -> Result<Memory> {
        let of = |field: &str| {
            let line = self.status(field)?;
            let kib = line.strip_suffix(" kB").and_then(|kib| kib.parse::<u64>().ok());
            kib.map(|kib| kib << 10).with_context(|| format!("{field} is not as known: {line}"))
        };
        Ok(Memory { peak: of("VmHWM")?, resident: of("VmRSS")?, own: of("RssAnon")?, maps: self.maps()? })
    }

    fn maps(self) -> Result<u64> {
        let file = format!("/proc/{}/smaps", self.0);
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {file}"))?;
        let (mut is_map, mut kib) = (false, 0);
        for line in text.lines() {
            match line.split_once(':') {
                // A line of the mapping before.
                Some((field, value)) if !field.contains(' ') => {
                    if let Some(value) = value.trim().strip_suffix(" kB").filter(|_| is_map && field == "Rss")
                    {
                        kib += value.parse::<u64>().with_context(|| format!("{file} is not as known"))?;
                    }
                }
                _ => is_map = line.ends_with("anon_inode:bpf-map"),
            }
        }
        Ok(kib << 10)
    }
}
