//! All objects, the versions they had, and one counter for all, as in etcd.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    ops::Bound,
    sync::{Arc, OnceLock},
};

use serde_json::Value;
use tokio::sync::watch;

use crate::{
    kind::{Kind, builtin},
    object::{Fields, Object},
    selector::Selector,
};

/// Everything the server knows.
#[derive(Debug)]
pub(crate) struct Store {
    kinds: Vec<Arc<Kind>>,
    /// By plural and group.
    tables: HashMap<(String, String), Table>,
    /// Of the last write, whatever it wrote.
    revision: u64,
    /// How many changes each table remembers.
    pub(crate) keep: usize,
    /// Counts restores: what followed the store before has to begin anew.
    pub(crate) epoch: u64,
}

/// The objects of one kind.
#[derive(Debug)]
struct Table {
    objects: BTreeMap<String, Arc<Object>>,
    history: VecDeque<Arc<Change>>,
    /// Nobody can start from before this revision.
    floor: u64,
    /// Of the last change that is forgotten.
    lost: u64,
    changed: watch::Sender<()>,
}

/// One write.
#[derive(Debug)]
pub(crate) struct Change {
    key: String,
    pub(crate) revision: u64,
    pub(crate) before: Option<Arc<Object>>,
    /// `None`: deleted.
    pub(crate) after: Option<Arc<Object>>,
    gone: OnceLock<Arc<Object>>,
}

impl Change {
    /// The object as it was before, with the version of this change: for those who no longer see it.
    pub(crate) fn gone(&self) -> Option<&Arc<Object>> {
        let before = self.before.as_ref()?;
        Some(self.gone.get_or_init(|| before.at(self.revision)))
    }
}

/// A part of a list.
pub(crate) struct Page {
    pub(crate) items: Vec<Arc<Object>>,
    /// The key of the last item, if there are more, and how many.
    pub(crate) more: Option<(String, u64)>,
}

/// Everything as it was at one moment: [`crate::Cluster::restore`] goes back to it.
#[derive(Clone, Debug)]
pub struct Snapshot {
    revision: u64,
    kinds: Vec<Arc<Kind>>,
    tables: HashMap<(String, String), Saved>,
}

/// Objects, changes and floor of a table.
type Saved = (BTreeMap<String, Arc<Object>>, VecDeque<Arc<Change>>, u64);

impl Table {
    fn new(floor: u64) -> Self {
        let (objects, history) = (BTreeMap::new(), VecDeque::new());
        Self { objects, history, floor, lost: 0, changed: watch::Sender::new(()) }
    }

    /// Position of the first change after `revision`.
    fn after(&self, revision: u64) -> usize {
        self.history.partition_point(|change| change.revision <= revision)
    }
}

impl Store {
    pub(crate) fn new() -> Self {
        let mut store =
            Self { kinds: Vec::new(), tables: HashMap::new(), revision: 1, keep: 10_000, epoch: 0 };
        builtin().into_iter().for_each(|kind| store.register(kind));
        store
    }

    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// Adds a kind, or replaces it by a newer definition; objects stay.
    pub(crate) fn register(&mut self, kind: Kind) {
        self.kinds.retain(|known| known.plural != kind.plural || known.group != kind.group);
        let id = (kind.plural.clone(), kind.group.clone());
        self.tables.entry(id).or_insert_with(|| Table::new(self.revision));
        self.kinds.push(Arc::new(kind));
    }

    pub(crate) fn kinds(&self) -> &[Arc<Kind>] {
        &self.kinds
    }

    /// What is served at a path.
    pub(crate) fn served(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Kind>> {
        let matches = |kind: &&Arc<Kind>| {
            kind.group == group && kind.plural == plural && kind.versions.iter().any(|one| one == version)
        };
        self.kinds.iter().find(matches).cloned()
    }

    fn table(&self, kind: &Kind) -> Option<&Table> {
        self.tables.get(&(kind.plural.clone(), kind.group.clone()))
    }

    pub(crate) fn get(&self, kind: &Kind, key: &str) -> Option<Arc<Object>> {
        self.table(kind)?.objects.get(key).cloned()
    }

    /// Writes `fields`, or deletes the object if there are none; gives the new state, or the last.
    pub(crate) fn commit(&mut self, kind: &Kind, key: &str, fields: Option<Fields>) -> Option<Arc<Object>> {
        let keep = self.keep;
        let table = self.tables.get_mut(&(kind.plural.clone(), kind.group.clone()))?;
        if fields.is_none() && !table.objects.contains_key(key) {
            return None;
        }
        self.revision += 1;
        let revision = self.revision;
        let after = fields.map(|fields| Object::new(fields, revision));
        let before = match &after {
            Some(after) => table.objects.insert(key.to_owned(), after.clone()),
            None => table.objects.remove(key),
        };
        let change = Arc::new(Change { key: key.to_owned(), revision, before, after, gone: OnceLock::new() });
        table.history.push_back(change.clone());
        while table.history.len() > keep {
            table.lost = table.history.pop_front().map_or(table.lost, |change| change.revision);
            table.floor = table.lost;
        }
        table.changed.send_replace(());
        let written = change.after.clone().or_else(|| change.gone().cloned());
        if change.after.is_none() && kind.plural == "customresourcedefinitions" {
            let fields = change.before.as_ref().map(|object| object.fields.clone());
            self.undefine(&Value::Object(fields.unwrap_or_default()));
        }
        written
    }

    /// A definition is gone: so are its objects, and then the resource.
    fn undefine(&mut self, definition: &Value) {
        let Some(kind) = Kind::of_definition(definition) else { return };
        let keys: Vec<String> =
            self.table(&kind).into_iter().flat_map(|table| table.objects.keys().cloned()).collect();
        for key in keys {
            self.commit(&kind, &key, None);
        }
        self.kinds.retain(|known| known.plural != kind.plural || known.group != kind.group);
        if let Some(table) = self.table(&kind) {
            table.changed.send_replace(());
        }
    }

    /// Is it still defined?
    pub(crate) fn serves(&self, kind: &Kind) -> bool {
        self.kinds.iter().any(|known| known.plural == kind.plural && known.group == kind.group)
    }

    /// The oldest revision that a watch of this kind can start from.
    pub(crate) fn floor(&self, kind: &Kind) -> u64 {
        self.table(kind).map_or(0, |table| table.floor)
    }

    /// The last change of this kind that nobody can be told of any more.
    pub(crate) fn lost(&self, kind: &Kind) -> u64 {
        self.table(kind).map_or(0, |table| table.lost)
    }

    /// Forgets all changes so far.
    pub(crate) fn compact(&mut self) {
        for table in self.tables.values_mut() {
            table.lost = table.history.back().map_or(table.lost, |change| change.revision);
            table.history.clear();
            table.floor = self.revision;
        }
    }

    /// The changes of a kind after `revision`.
    pub(crate) fn changes(&self, kind: &Kind, revision: u64) -> impl Iterator<Item = &Arc<Change>> {
        let table = self.table(kind);
        table.into_iter().flat_map(move |table| table.history.range(table.after(revision)..))
    }

    /// Tells of every change of a kind.
    pub(crate) fn follow(&self, kind: &Kind) -> Option<watch::Receiver<()>> {
        Some(self.table(kind)?.changed.subscribe())
    }

    /// The objects that `selector` means, as they were at `revision`, from the one after the key `after` on, at
    /// most `limit` of them. The caller has checked that `revision` is not below the floor.
    pub(crate) fn page(
        &self,
        kind: &Kind,
        revision: u64,
        selector: &Selector,
        after: Option<&str>,
        limit: usize,
    ) -> Page {
        let Some(table) = self.table(kind) else { return Page { items: Vec::new(), more: None } };
        let prefix = selector.namespace.as_ref().map(|namespace| format!("{namespace}/")).unwrap_or_default();
        let start = match after {
            Some(key) => Bound::Excluded(key),
            None => Bound::Included(prefix.as_str()),
        };
        let current = table
            .objects
            .range::<str, _>((start, Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(&prefix))
            .map(|(key, object)| (key.as_str(), object));
        let mut undone: HashMap<&str, Option<&Arc<Object>>> = HashMap::new();
        for change in self.changes(kind, revision) {
            let inside =
                change.key.starts_with(&prefix) && after.is_none_or(|after| change.key.as_str() > after);
            if inside {
                undone.entry(&change.key).or_insert(change.before.as_ref());
            }
        }
        if undone.is_empty() {
            return cut(current, selector, limit);
        }
        let mut then: BTreeMap<&str, &Arc<Object>> = current.collect();
        for (key, before) in undone {
            match before {
                Some(object) => then.insert(key, object),
                None => then.remove(key),
            };
        }
        cut(then.into_iter(), selector, limit)
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let save = |table: &Table| (table.objects.clone(), table.history.clone(), table.floor);
        let tables = self.tables.iter().map(|(id, table)| (id.clone(), save(table))).collect();
        Snapshot { revision: self.revision, kinds: self.kinds.clone(), tables }
    }

    pub(crate) fn restore(&mut self, snapshot: &Snapshot) {
        self.revision = snapshot.revision;
        self.kinds.clone_from(&snapshot.kinds);
        self.epoch += 1;
        for (id, table) in &mut self.tables {
            let (objects, history, floor) = snapshot.tables.get(id).cloned().unwrap_or_default();
            (table.objects, table.history, table.floor, table.lost) = (objects, history, floor, floor);
            table.changed.send_replace(());
        }
    }
}

fn cut<'a>(
    objects: impl Iterator<Item = (&'a str, &'a Arc<Object>)>,
    selector: &Selector,
    limit: usize,
) -> Page {
    let mut objects = objects.filter(|(_, object)| selector.matches(&object.fields));
    let mut items = Vec::new();
    let mut last = "";
    for (key, object) in objects.by_ref().take(limit) {
        items.push(object.clone());
        last = key;
    }
    let remaining = objects.count() as u64;
    Page { items, more: (remaining > 0).then(|| (last.to_owned(), remaining)) }
}

#[cfg(test)]
mod tests;
