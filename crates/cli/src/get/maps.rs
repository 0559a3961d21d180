//! `balancing get maps`: what there is room for, and how much of it is taken.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use abi::frontend::backend_flag;
use kernel::{Maps, TableStore};
use serde::Serialize;

use super::filter::{Facts, Subject};
use crate::output::{Row, or_dash};

/// A map.
#[derive(Serialize)]
pub(super) struct Map {
    name: &'static str,
    capacity: u32,
    used: Option<usize>,
    id: u32,
}

impl Subject for Map {
    const NOUN: (&'static str, &'static str) = ("map", "maps");
    const LISTING: &'static str = "maps";
    const FILTERS: &'static [&'static str] = &[];

    fn facts(&self) -> Facts<'_> {
        Facts { name: self.name.into(), ..Facts::default() }
    }
}

impl Row for Map {
    const HEADS: &'static [&'static str] = &["MAP", "USED", "CAPACITY", "USE", "ID"];
    const NARROW: usize = 4;

    fn cells(&self) -> Vec<String> {
        let percent =
            self.used.map(|used| (used * 100).checked_div(self.capacity as usize).unwrap_or_default());
        vec![
            self.name.into(),
            or_dash(self.used),
            if self.capacity == 0 { "-".into() } else { self.capacity.to_string() },
            or_dash(percent.map(|percent| format!("{percent} %"))),
            self.id.to_string(),
        ]
    }
}

/// All maps.
pub(super) fn rows(maps: &Maps) -> anyhow::Result<Vec<Map>> {
    let contents = maps.read()?;
    let v4 = contents.frontends.iter().filter(|(key, _)| key.is_v4()).count();
    let reached: BTreeSet<u32> = contents.frontends.iter().map(|(_, index)| *index).collect();
    let ranges: BTreeMap<u32, u32> = contents
        .records
        .iter()
        .filter(|(index, _)| reached.contains(index))
        .map(|(_, record)| (record.local.start, record.local.len))
        .collect();
    let live = contents.backends.iter().filter(|(_, backend)| backend.flags & backend_flag::LIVE != 0);
    let addresses4 = contents.addresses.iter().filter(|(ip, _)| ip.is_ipv4()).count();
    let mut used: HashMap<&str, usize> = HashMap::from([
        ("frontends4", v4),
        ("frontends6", contents.frontends.len() - v4),
        ("records", reached.len()),
        ("lists", ranges.values().map(|len| *len as usize).sum()),
        ("backends", live.count()),
        ("names", contents.names.len()),
        ("slots", maps.slots_used()?),
        ("addresses4", addresses4),
        ("addresses6", contents.addresses.len() - addresses4),
        ("sources", contents.sources.len()),
    ]);
    used.extend(maps.client_uses()?);
    Ok(maps
        .all()
        .iter()
        .map(|map| Map {
            name: map.name(),
            capacity: map.capacity(),
            used: used.get(map.name()).copied(),
            id: map.id(),
        })
        .collect())
}
