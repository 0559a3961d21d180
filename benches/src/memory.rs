//! What the maps take, E10: what the kernel itself says of each, which is all of its memory, used or not.

use std::{
    fmt, fs,
    os::fd::{AsFd, AsRawFd},
};

use anyhow::{Context, Result};
use aya::maps::MapInfo;
use kernel::{Pins, pins::MAPS};
use model::Protocol;
use serde::Serialize;
use testkit::Bpffs;

use crate::tables;

use crate::figures::{Figure, Unit};

const MIB: u64 = 1 << 20;

/// The memory of all pinned maps.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MapMemory {
    figure: &'static str,
    /// Bytes.
    total: u64,
    /// At most this many bytes; null with another number of services than it is for.
    target: Option<u64>,
    /// What the best peer takes, in bytes.
    peer: Option<u64>,
    /// The largest first.
    maps: Vec<MapSize>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct MapSize {
    map: &'static str,
    /// How many it has room for (bytes, for the ring buffer).
    entries: u64,
    bytes: u64,
}

/// Reads it, with one TCP port of each service in both families in the tables. The aim is for 10,000 services.
pub(crate) fn measure(services: u32) -> Result<MapMemory> {
    let bpffs = Bpffs::mount()?;
    let pins = Pins::new(bpffs.path().join("pins"));
    let _loaded = tables::build(&pins, services, &[Protocol::Tcp])?;
    let mut maps = Vec::new();
    for map in MAPS {
        let path = pins.map(map);
        let facts =
            facts(&path).with_context(|| format!("cannot ask for the memory of {}", path.display()))?;
        let fact = |name: &str| fact(&facts, name).with_context(|| format!("no {name} of {}", map.name));
        maps.push(MapSize { map: map.name, entries: fact("max_entries")?, bytes: fact("memlock")? });
    }
    maps.sort_by_key(|map| std::cmp::Reverse(map.bytes));
    let (target, peer) = (services == 10_000).then_some((40 * MIB, 100 * MIB)).unzip();
    Ok(MapMemory { figure: "E10", total: maps.iter().map(|map| map.bytes).sum(), target, peer, maps })
}

impl MapMemory {
    /// The sum.
    pub(crate) fn figure(&self) -> Figure {
        Figure::new(format!("{} pinned maps", self.figure), Unit::KiB, self.total.div_ceil(1024) as f64)
    }
}

/// What the kernel says of an open map (kernel 6.18 kernel/bpf/syscall.c `bpf_map_show_fdinfo`).
fn facts(pin: &std::path::Path) -> Result<String> {
    let map = MapInfo::from_pin(pin)?.fd()?;
    Ok(fs::read_to_string(format!("/proc/self/fdinfo/{}", map.as_fd().as_raw_fd()))?)
}

fn fact(facts: &str, name: &str) -> Option<u64> {
    let value = facts.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    value.trim().parse().ok()
}

impl fmt::Display for MapMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kib = |bytes: u64| bytes.div_ceil(1024);
        let or_dash = |bytes: Option<u64>| bytes.map_or("-".to_owned(), |bytes| kib(bytes).to_string());
        writeln!(f, "Memory of the pinned maps, KiB:")?;
        writeln!(f, "{:<3} {:<14}{:>10}{:>10}{:>10}{:>10}", "", "map", "entries", "KiB", "target", "peer")?;
        for MapSize { map, entries, bytes } in &self.maps {
            writeln!(f, "{:<3} {map:<14}{entries:>10}{:>10}", "", kib(*bytes))?;
        }
        let (total, target, peer) = (kib(self.total), or_dash(self.target), or_dash(self.peer));
        writeln!(f, "{} {:<14}{:>10}{total:>10}{target:>10}{peer:>10}", self.figure, "total", "")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_found_by_their_whole_name() {
        let facts = "max_entries:\t64\nmemlock_other:\t1\nmemlock:\t5056\n";
        assert_eq!(fact(facts, "memlock"), Some(5056));
        assert_eq!(fact(facts, "mem"), None);
    }
}
