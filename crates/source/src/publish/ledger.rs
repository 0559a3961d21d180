//! What is to be told when, what has been told, and how often: without a clock, and without telling anything.
//!
//! A notice that comes again does not become another Event. What all agents see alike was told by one of them; what is so on
//! this node is counted in the Event that is there, and the count is written now and then. What is told of one object, and of
//! all, is limited; what would have to wait too long is not told.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use model::ObjectId;

use super::{
    allowance::{Allowance, Rate},
    event::EventName,
    notice::{Notice, Scope},
};

/// Events of one object: as many as Kubernetes' own recorders let pass of one source (client-go 1.36
/// tools/record/events_cache.go).
const OF_OBJECT: Rate = Rate { burst: 25, period: Duration::from_secs(300) };
/// Events of this agent.
const OF_ALL: Rate = Rate { burst: 25, period: Duration::from_secs(5) };
/// What would be told later than this is not news.
const LATEST: Duration = Duration::from_secs(600);
/// How often the count of an Event is written.
pub(super) const COUNTED: Duration = Duration::from_secs(60);
/// API servers forget Events after an hour (kube-apiserver's `--event-ttl`).
const FORGOTTEN: Duration = Duration::from_secs(3600);
/// Events that are remembered, and objects.
const MOST: usize = 1000;

/// Now, for two purposes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) now: Instant,
    /// For people.
    pub(super) time: Timestamp,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Ledger {
    node: String,
    entries: BTreeMap<EventName, Entry>,
    objects: HashMap<ObjectId, Allowance>,
    all: Allowance,
    /// See [`COUNTED`].
    counted: Duration,
}

#[derive(Debug)]
struct Entry {
    notice: Notice,
    /// When it was told last by who gave it.
    time: Timestamp,
    /// When something is to be written.
    due: Option<Instant>,
    written: Option<Written>,
    /// How often it has come and is not counted there.
    uncounted: u64,
}

#[derive(Clone, Copy, Debug)]
struct Written {
    at: Instant,
    count: u64,
}

/// Something to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Task {
    /// An Event, unless somebody has written it.
    Tell(Notice, Timestamp),
    /// How often it was told, and when last.
    Count(u64, Timestamp),
}

impl Ledger {
    pub(super) fn new(node: &str, counted: Duration, now: Instant) -> Self {
        Self {
            node: node.to_owned(),
            entries: BTreeMap::new(),
            objects: HashMap::new(),
            all: Allowance::new(now),
            counted,
        }
    }

    /// Takes a notice, to be written after `delay` at the earliest. Is there room, and time?
    pub(super) fn take(&mut self, notice: Notice, at: Moment, delay: Duration) -> bool {
        let name = EventName::of(&notice, &self.node);
        let first = at.now + delay;
        if let Some(entry) = self.entries.get_mut(&name) {
            entry.repeat(at, first, self.counted);
            return true;
        }
        if !self.make_room(at.now) {
            return false;
        }
        let object = self.objects.entry(notice.regarding.object.clone()).or_insert(Allowance::new(at.now));
        let due = first.max(object.next(OF_OBJECT, at.now)).max(self.all.next(OF_ALL, at.now));
        if due > first + LATEST {
            return false;
        }
        object.take(OF_OBJECT, at.now);
        self.all.take(OF_ALL, at.now);
        let entry = Entry { notice, time: at.time, due: Some(due), written: None, uncounted: 0 };
        self.entries.insert(name, entry);
        true
    }

    /// For one more Event, and one more object.
    fn make_room(&mut self, now: Instant) -> bool {
        if self.objects.len() >= MOST {
            self.objects.retain(|_, allowance| !allowance.is_full(now));
        }
        if self.entries.len() >= MOST {
            let done = self.entries.iter().filter(|(_, entry)| entry.due.is_none());
            let oldest = done.min_by_key(|(_, entry)| entry.written.map(|written| written.at));
            if let Some(name) = oldest.map(|(name, _)| name.clone()) {
                self.entries.remove(&name);
            }
        }
        self.objects.len() < MOST && self.entries.len() < MOST
    }

    /// When something is to be written next.
    pub(super) fn next(&self) -> Option<Instant> {
        self.entries.values().filter_map(|entry| entry.due).min()
    }

    /// What is to be written now: what has waited longest.
    pub(super) fn due(&self, now: Instant) -> Option<(EventName, Task)> {
        let due = self.entries.iter().filter(|(_, entry)| entry.due.is_some_and(|due| due <= now));
        let (name, entry) = due.min_by_key(|(_, entry)| entry.due)?;
        let task = match entry.written {
            None => Task::Tell(entry.notice.clone(), entry.time),
            Some(written) => Task::Count(written.count + entry.uncounted, entry.time),
        };
        Some((name.clone(), task))
    }

    /// It is there, and says that it was told `count` times.
    pub(super) fn is_written(&mut self, name: &EventName, count: u64, now: Instant) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        // What was counted when it was written before is in there.
        if let Some(written) = entry.written {
            entry.uncounted = (written.count + entry.uncounted).saturating_sub(count);
        }
        entry.written = Some(Written { at: now, count });
        entry.due = (entry.uncounted > 0).then_some(now + self.counted);
    }

    /// It is no longer there: it is told anew.
    pub(super) fn is_gone(&mut self, name: &EventName, now: Instant) {
        if let Some(entry) = self.entries.get_mut(name) {
            (entry.written, entry.uncounted, entry.due) = (None, 0, Some(now));
        }
    }

    /// It could not be written.
    pub(super) fn put_off(&mut self, name: &EventName, until: Instant) {
        if let Some(entry) = self.entries.get_mut(name) {
            entry.due = Some(until);
        }
    }

    /// It can't be written at all.
    pub(super) fn forget(&mut self, name: &EventName) {
        self.entries.remove(name);
    }
}

impl Entry {
    fn repeat(&mut self, at: Moment, first: Instant, counted: Duration) {
        self.time = at.time;
        match (self.written, self.notice.scope) {
            (None, _) => self.uncounted += u64::from(self.notice.scope == Scope::Node),
            (Some(written), Scope::Cluster) => {
                if at.now >= written.at + FORGOTTEN {
                    (self.written, self.due) = (None, Some(first));
                }
            }
            (Some(written), Scope::Node) => {
                self.uncounted += 1;
                self.due.get_or_insert(first.max(written.at + counted));
            }
        }
    }
}

#[cfg(test)]
mod tests;
