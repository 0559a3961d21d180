//! The periodic audit: do the maps hold what the table says?

use std::fmt;

use abi::{Backend, Record, client::SourceKey, policy};

use super::{Image, Table};
use crate::describe;

/// Something that is not in the maps as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Which entry.
    pub object: String,
    /// What should be there and what is.
    pub problem: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.object, self.problem)
    }
}

impl Table {
    /// What `image` has that this table has not, or otherwise, or not at all. Records and positions that no
    /// frontend leads to do not matter.
    pub fn compare(&self, image: &Image) -> Vec<Difference> {
        let mut differences = Vec::new();
        compare(
            &mut differences,
            self.frontends.iter(),
            image.frontends.iter().map(|(key, index)| (key, index)),
            |key| format!("frontend {}", describe::key(key)),
            |have, want| vec![format!("points to record {have}, not {want}")],
        );
        compare(
            &mut differences,
            self.records.iter().map(|(index, it)| (index, &it.record)),
            image
                .records
                .iter()
                .map(|(index, it)| (index, it))
                .filter(|(index, _)| self.records.contains_key(index)),
            |index| format!("record {index}"),
            record_fields,
        );
        self.compare_lists(&mut differences, &image.lists);
        let backends: Vec<(u32, &Backend)> =
            (0..).zip(&self.backends).filter(|(_, it)| is_used(it)).collect();
        compare(
            &mut differences,
            backends.iter().map(|(index, it)| (index, *it)),
            image.backends.iter().map(|(index, it)| (index, it)).filter(|(_, it)| is_used(it)),
            |index| format!("backend {index}"),
            backend_fields,
        );
        compare(
            &mut differences,
            self.services.iter().map(|(id, it)| (id, &*it.name)),
            image.names.iter().map(|(id, name)| (id, name)),
            |id| format!("name {id}"),
            |have, want| vec![format!("is {}, not {}", describe::name(have), describe::name(want))],
        );
        compare(
            &mut differences,
            self.addresses.iter(),
            image.addresses.iter().map(|(ip, uses)| (ip, uses)),
            |ip| format!("address {ip}"),
            |have, want| vec![format!("is {}, not {}", describe::uses(*have), describe::uses(*want))],
        );
        let mut sources: Vec<&SourceKey> = self.sources.iter().map(|(_, key)| key).collect();
        sources.sort_unstable();
        compare(
            &mut differences,
            sources.into_iter().map(|key| (key, &())),
            image.sources.iter().map(|key| (key, &())),
            |key| format!("source {}", describe::source(key)),
            |(), ()| Vec::new(),
        );
        if self.space != image.space {
            let (have, want) = (describe::space(&image.space), describe::space(&self.space));
            differences
                .push(Difference { object: "space".into(), problem: format!("is {have}, not {want}") });
        }
        differences
    }

    /// Positions within the ranges in use.
    fn compare_lists(&self, differences: &mut Vec<Difference>, lists: &[u32]) {
        for position in self.ranges.used.iter().flat_map(|(start, block)| *start..*start + block.len) {
            let at = |lists: &[u32]| lists.get(position as usize).copied();
            let problem = match (at(lists), at(&self.lists)) {
                (have, want) if have == want => continue,
                (None, _) => "is missing".into(),
                (_, None) => "should not be there".into(),
                (Some(have), Some(want)) => format!("has backend {have}, not {want}"),
            };
            differences.push(Difference { object: format!("list position {position}"), problem });
        }
    }
}

fn is_used(backend: &Backend) -> bool {
    backend.generation != 0 || backend.flags != 0
}

/// Compares entries; `want` come in order of their keys, each once. `fields` says what differs in two values that are not
/// equal. Nothing is copied: audits run for ever, and what they take stays with the process.
fn compare<'a, K: Ord + 'a, V: PartialEq + 'a>(
    differences: &mut Vec<Difference>,
    want: impl Iterator<Item = (&'a K, &'a V)>,
    have: impl Iterator<Item = (&'a K, &'a V)>,
    object: impl Fn(&K) -> String,
    fields: impl Fn(&V, &V) -> Vec<String>,
) {
    let mut have: Vec<(&K, &V)> = have.collect();
    have.sort_by_key(|(key, _)| *key);
    let mut have = have.into_iter().peekable();
    let mut strays = Vec::new();
    for (key, want) in want {
        strays.extend(std::iter::from_fn(|| have.next_if(|(it, _)| *it < key)));
        let mut same = None;
        // Of one that is there twice the last counts.
        while let Some((_, it)) = have.next_if(|(it, _)| *it == key) {
            same = Some(it);
        }
        match same {
            None => differences.push(Difference { object: object(key), problem: "is missing".into() }),
            Some(have) if have != want => differences.extend(
                fields(have, want).into_iter().map(|problem| Difference { object: object(key), problem }),
            ),
            Some(_) => {}
        }
    }
    strays.extend(have);
    strays.dedup_by_key(|(key, _)| *key);
    for (key, _) in strays {
        differences.push(Difference { object: object(key), problem: "should not be there".into() });
    }
}

fn record_fields(have: &Record, want: &Record) -> Vec<String> {
    let mut fields = Vec::new();
    field(&mut fields, "key", describe::key(&have.key()), describe::key(&want.key()));
    field(&mut fields, "mode", have.mode, want.mode);
    field(&mut fields, "flags", have.flags, want.flags);
    field(&mut fields, "service", have.service, want.service);
    field(&mut fields, "affinity", have.affinity, want.affinity);
    field(&mut fields, "limit", have.limit, want.limit);
    field(&mut fields, "policy", policy::whole(have.policy), policy::whole(want.policy));
    field(&mut fields, "list", describe::range(have.local), describe::range(want.local));
    if have.pad != want.pad {
        fields.push("padding is not 0".into());
    }
    fields
}

fn backend_fields(have: &Backend, want: &Backend) -> Vec<String> {
    let mut fields = Vec::new();
    field(&mut fields, "endpoint", have.endpoint().socket_addr(), want.endpoint().socket_addr());
    field(&mut fields, "flags", have.flags, want.flags);
    field(&mut fields, "service", have.service, want.service);
    field(&mut fields, "generation", have.generation, want.generation);
    if have.index != want.index {
        fields.push("padding is not 0".into());
    }
    fields
}

fn field<T: PartialEq + fmt::Display>(fields: &mut Vec<String>, name: &str, have: T, want: T) {
    if have != want {
        fields.push(format!("{name} is {have}, not {want}"));
    }
}
