//! What was said of each policy, and what is to be said when: without a clock, and without saying anything.
//!
//! A status is written when something of it has changed, at most once a second for each policy: a pod that flaps is not worth
//! more.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use api::policy::PolicyStatus;
use model::ObjectId;
use source::publish::Failure;

use super::slice::Version;

/// How long changes are collected.
const DELAY: Duration = Duration::from_millis(100);
/// From one status of a policy to the next.
const PERIOD: Duration = Duration::from_secs(1);
/// How soon it is tried again, and how soon if it was refused.
const AGAIN: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(30));
/// A server may ask for longer, up to this.
const LONGEST: Duration = Duration::from_secs(60);

/// A policy that is there.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Known {
    pub(super) version: Version,
    pub(super) uid: String,
    pub(super) generation: Option<i64>,
    /// What is said of it.
    pub(super) status: PolicyStatus,
    /// Why nobody understands it, if nobody does.
    pub(super) problem: Option<String>,
}

#[derive(Debug)]
struct Entry {
    known: Known,
    due: Option<Instant>,
    not_before: Instant,
    is_in_flight: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Statuses {
    all: BTreeMap<ObjectId, Entry>,
}

impl Statuses {
    /// A policy is there, and looks like this now. Was that news?
    pub(super) fn saw(&mut self, id: &ObjectId, known: Known, now: Instant) -> bool {
        if self.all.get(id).is_some_and(|entry| known.version.is_up_to(&entry.known.version)) {
            return false;
        }
        match self.all.get_mut(id) {
            Some(entry) => entry.known = known,
            None => {
                let entry = Entry { known, due: None, not_before: now, is_in_flight: false };
                self.all.insert(id.clone(), entry);
            }
        }
        self.touch(id, now);
        true
    }

    /// A policy is gone. Was that news?
    pub(super) fn gone(&mut self, id: &ObjectId, version: &Version) -> bool {
        let is_old =
            |entry: &Entry| version.is_up_to(&entry.known.version) && *version != entry.known.version;
        if self.all.get(id).is_none_or(is_old) {
            return false;
        }
        self.all.remove(id);
        true
    }

    pub(super) fn known(&self, id: &ObjectId) -> Option<&Known> {
        self.all.get(id).map(|entry| &entry.known)
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = &ObjectId> {
        self.all.keys()
    }

    /// What is said of it may have changed.
    pub(super) fn touch(&mut self, id: &ObjectId, now: Instant) {
        if let Some(entry) = self.all.get_mut(id) {
            entry.due.get_or_insert((now + DELAY).max(entry.not_before));
        }
    }

    /// When one is to be looked at.
    pub(super) fn next(&self) -> Option<Instant> {
        self.all.values().filter(|entry| !entry.is_in_flight).filter_map(|entry| entry.due).min()
    }

    /// Those that are to be looked at now, the first first, no more than `most`.
    pub(super) fn take(&mut self, most: usize, now: Instant) -> Vec<ObjectId> {
        let open = self.all.iter().filter(|(_, entry)| !entry.is_in_flight);
        let due = open.filter_map(|(id, entry)| Some((entry.due.filter(|due| *due <= now)?, id)));
        let mut due: Vec<(Instant, ObjectId)> = due.map(|(at, id)| (at, id.clone())).collect();
        due.sort();
        due.truncate(most);
        for (_, id) in &due {
            if let Some(entry) = self.all.get_mut(id) {
                entry.due = None;
            }
        }
        due.into_iter().map(|(_, id)| id).collect()
    }

    /// A status is being written.
    pub(super) fn begin(&mut self, id: &ObjectId, now: Instant) {
        if let Some(entry) = self.all.get_mut(id) {
            (entry.is_in_flight, entry.not_before) = (true, now + PERIOD);
        }
    }

    /// Nothing is being written any more.
    pub(super) fn stop(&mut self) {
        self.all.values_mut().for_each(|entry| entry.is_in_flight = false);
    }

    /// It is written: what the policy is now, if a server has said so; or it is not.
    pub(super) fn done(&mut self, id: &ObjectId, outcome: Result<Option<Known>, Failure>, now: Instant) {
        let Some(entry) = self.all.get_mut(id) else { return };
        entry.is_in_flight = false;
        let pause = match outcome {
            Ok(Some(known)) => {
                // Another one of the name is told of by those who follow.
                if known.uid == entry.known.uid && !known.version.is_up_to(&entry.known.version) {
                    let is_edited = known.generation != entry.known.generation;
                    entry.known.status = known.status;
                    // What is edited has to come as such.
                    if !is_edited {
                        entry.known.version = known.version;
                    }
                }
                return;
            }
            // It is gone, or another one.
            Ok(None) | Err(Failure::Missing) => return,
            Err(Failure::Later(asked, _)) => AGAIN.0 + asked.unwrap_or_default().min(LONGEST),
            Err(Failure::Exists | Failure::Taken) => AGAIN.0,
            Err(Failure::Forbidden(_) | Failure::Refused(_)) => AGAIN.1,
        };
        entry.not_before = now + pause;
        entry.due = Some(entry.not_before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oversight::sample::policy;

    fn known(version: &str, backends: u32) -> Known {
        Known {
            version: version.into(),
            uid: "u".into(),
            generation: Some(1),
            status: PolicyStatus { backends: Some(backends), ..PolicyStatus::default() },
            problem: None,
        }
    }

    #[test]
    fn a_policy_is_written_once_a_second_at_most() {
        let (mut statuses, id, start) = (Statuses::default(), policy("p").id(), Instant::now());
        let at = |ms: u64| start + Duration::from_millis(ms);
        assert!(statuses.saw(&id, known("1", 0), start));
        let mut written = Vec::new();
        for ms in (0..3000).step_by(10) {
            // A pod flaps a hundred times a second.
            statuses.touch(&id, at(ms));
            for id in statuses.take(9, at(ms)) {
                statuses.begin(&id, at(ms));
                written.push(ms);
                let version = (written.len() + 1).to_string();
                statuses.done(&id, Ok(Some(known(&version, 1))), at(ms));
            }
        }
        assert_eq!(written, [100, 1100, 2100]);
    }

    #[test]
    fn what_comes_back_is_no_news_and_what_fails_is_tried_again() {
        let (mut statuses, id, now) = (Statuses::default(), policy("p").id(), Instant::now());
        statuses.saw(&id, known("1", 0), now);
        assert_eq!(statuses.take(1, now + DELAY), std::slice::from_ref(&id));
        statuses.begin(&id, now);
        assert_eq!(statuses.next(), None);
        statuses.done(&id, Err(Failure::Later(Some(Duration::from_secs(5)), String::new())), now);
        assert_eq!(statuses.next(), Some(now + Duration::from_secs(7)));
        statuses.done(&id, Ok(Some(known("5", 1))), now);
        assert!(!statuses.saw(&id, known("4", 9), now) && !statuses.saw(&id, known("5", 9), now));
        assert_eq!(statuses.known(&id).unwrap().status.backends, Some(1));
        assert!(!statuses.gone(&id, &"3".into()), "that was before");
        assert!(statuses.gone(&id, &"6".into()) && statuses.known(&id).is_none());
    }
}
