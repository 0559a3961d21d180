//! The periodic audit: do the maps hold what the table says?

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use abi::{Backend, Record};

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
            self.frontends.iter().map(|(key, index)| (*key, *index)).collect(),
            image.frontends.iter().copied().collect(),
            |key| format!("frontend {}", describe::key(key)),
            |have, want| vec![format!("points to record {have}, not {want}")],
        );
        let records = image.records.iter().filter(|(index, _)| self.records.contains_key(index));
        compare(
            &mut differences,
            self.records.iter().map(|(index, it)| (*index, it.record)).collect(),
            records.copied().collect(),
            |index| format!("record {index}"),
            record_fields,
        );
        let positions: BTreeSet<u32> =
            self.ranges.used.iter().flat_map(|(start, block)| *start..*start + block.len).collect();
        let list = |lists: &[u32]| {
            let at = |position: &u32| Some((*position, *lists.get(*position as usize)?));
            positions.iter().filter_map(at).collect::<BTreeMap<u32, u32>>()
        };
        compare(
            &mut differences,
            list(&self.lists),
            list(&image.lists),
            |position| format!("list position {position}"),
            |have, want| vec![format!("has backend {have}, not {want}")],
        );
        compare(
            &mut differences,
            (0..).zip(&self.backends).filter(|(_, it)| is_used(it)).map(|(index, it)| (index, *it)).collect(),
            image.backends.iter().filter(|(_, it)| is_used(it)).copied().collect(),
            |index| format!("backend {index}"),
            backend_fields,
        );
        compare(
            &mut differences,
            self.services().map(|(id, name)| (id, *name)).collect(),
            image.names.iter().copied().collect(),
            |id| format!("name {id}"),
            |have, want| vec![format!("is {}, not {}", describe::name(have), describe::name(want))],
        );
        compare(
            &mut differences,
            self.addresses.clone(),
            image.addresses.iter().copied().collect(),
            |ip| format!("address {ip}"),
            |have, want| vec![format!("is {}, not {}", describe::uses(*have), describe::uses(*want))],
        );
        compare(
            &mut differences,
            self.sources.iter().map(|(_, key)| (*key, ())).collect(),
            image.sources.iter().map(|key| (*key, ())).collect(),
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
}

fn is_used(backend: &Backend) -> bool {
    backend.generation != 0 || backend.flags != 0
}

/// Compares two maps; `fields` says what differs in two values that are not equal.
fn compare<K: Ord, V: PartialEq>(
    differences: &mut Vec<Difference>,
    want: BTreeMap<K, V>,
    mut have: BTreeMap<K, V>,
    object: impl Fn(&K) -> String,
    fields: impl Fn(&V, &V) -> Vec<String>,
) {
    for (key, want) in want {
        match have.remove(&key) {
            None => differences.push(Difference { object: object(&key), problem: "is missing".into() }),
            Some(have) if have != want => differences.extend(
                fields(&have, &want).into_iter().map(|problem| Difference { object: object(&key), problem }),
            ),
            Some(_) => {}
        }
    }
    for key in have.keys() {
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
