//! Where and when it was measured: figures of one machine say nothing about another's.

use std::fs;

use anyhow::{Context, Result};

/// What a report begins with.
pub(crate) struct Machine {
    /// Today.
    pub(crate) date: String,
    /// The kernel's release.
    pub(crate) kernel: String,
    /// What the CPU calls itself.
    pub(crate) cpu: String,
}

impl Machine {
    /// This one.
    pub(crate) fn here() -> Result<Self> {
        let read = |file: &str| fs::read_to_string(file).with_context(|| format!("cannot read {file}"));
        let cpus = read("/proc/cpuinfo")?;
        let cpu = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        Ok(Self {
            date: jiff::Timestamp::now().strftime("%Y-%m-%d").to_string(),
            kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            cpu: cpu.map_or("unknown", |(_, name)| name).to_owned(),
        })
    }
}
