//! What is known of one resource: from what is sent to changes.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use api::{Invalid, Notice};
use model::{Change, Kind, ObjectId, ObjectName, Texts};

use super::{
    line::{Metadata, Sent},
    sent::AsSent,
};
use crate::{
    Place, Problem, Severity,
    publish::{self, Regarding},
};

/// Problems with objects of one resource that are told of.
const MOST_PROBLEMS: usize = 100;

/// See the module.
#[derive(Debug)]
pub(super) struct Mirror {
    kind: Kind,
    known: HashMap<ObjectName, Known>,
    problems: BTreeMap<ObjectName, Vec<Problem>>,
    has_news_of_problems: bool,
    /// What is to be told of objects.
    notices: Vec<publish::Notice>,
    /// What a list that has begun has had so far.
    listing: Option<HashSet<ObjectName>>,
    /// Where a watch can go on; none = everything has to be listed.
    version: Option<String>,
    texts: Texts,
    /// What is passed on as it was sent; none: it is understood here.
    as_sent: Option<Vec<AsSent>>,
}

#[derive(Debug)]
struct Known {
    version: Box<str>,
    /// It is in force; else it was never understood, or has no effect.
    is_in_force: bool,
}

impl Mirror {
    pub(super) fn new(kind: Kind) -> Self {
        Self {
            kind,
            known: HashMap::new(),
            problems: BTreeMap::new(),
            has_news_of_problems: false,
            notices: Vec::new(),
            listing: None,
            version: None,
            texts: Texts::default(),
            as_sent: None,
        }
    }

    /// Passes on what is sent, instead of what it means.
    pub(super) fn passing_on(self) -> Self {
        Self { as_sent: Some(Vec::new()), ..self }
    }

    /// What was passed on since this was asked last.
    pub(super) fn take_as_sent(&mut self) -> Vec<AsSent> {
        self.as_sent.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Where a watch can go on.
    pub(super) fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// It can't go on from there.
    pub(super) fn forget_version(&mut self) {
        self.version = None;
    }

    /// Nothing has happened up to a version.
    pub(super) fn reach(&mut self, version: &str) {
        // While a list is incomplete nothing can go on.
        if self.listing.is_none() {
            self.version = Some(version.to_owned());
        }
    }

    /// All that there is comes from now on.
    pub(super) fn begin_list(&mut self) {
        self.listing = Some(HashSet::new());
        self.version = None;
    }

    /// Something that is there. `server` is who says so.
    pub(super) fn put(&mut self, sent: &Sent<'_>, server: &Arc<str>) -> Option<Change> {
        let name = name(&sent.head);
        if let Some(listing) = &mut self.listing {
            listing.insert(name.clone());
        }
        self.reach(&sent.head.resource_version);
        let known = self.known.get(&name);
        if known.is_some_and(|known| *known.version == *sent.head.resource_version) {
            return None;
        }
        let was_in_force = known.is_some_and(|known| known.is_in_force);
        if let Some(as_sent) = &mut self.as_sent {
            let version: Box<str> = (&*sent.head.resource_version).into();
            let object = ObjectId { kind: self.kind, name: name.clone() };
            as_sent.push(AsSent { object, version: version.clone(), text: Some(sent.text.into()) });
            self.known.insert(name, Known { version, is_in_force: false });
            return None;
        }
        let mut notices = Vec::new();
        let read = api::from_json(self.kind, sent.text, &mut notices);
        let mut problems: Vec<Problem> = notices.iter().filter_map(|it| notice(it, server)).collect();
        let (change, is_in_force) = match read {
            Ok(Some(mut object)) => {
                object.share_texts(&mut self.texts);
                (Some(Change::Upsert(object)), true)
            }
            Ok(None) => (was_in_force.then(|| self.delete_change(&name)), false),
            Err(invalid) => {
                self.notices.push(self.not_understood(&sent.head, &invalid));
                let before = if was_in_force { "; what it said before stays in force" } else { "" };
                problems.push(Problem {
                    severity: Severity::Error,
                    place: Place::Server(server.clone()),
                    line: None,
                    object: Some(invalid.object),
                    reason: format!("{}: {}{before}", invalid.field, invalid.problem),
                });
                (None, was_in_force)
            }
        };
        self.has_news_of_problems |= match problems.is_empty() {
            true => self.problems.remove(&name).is_some(),
            false => self.problems.insert(name.clone(), problems.clone()) != Some(problems),
        };
        self.known.insert(name, Known { version: (&*sent.head.resource_version).into(), is_in_force });
        change
    }

    /// Something that is gone.
    pub(super) fn delete(&mut self, sent: &Sent<'_>) -> Option<Change> {
        let name = name(&sent.head);
        if let Some(listing) = &mut self.listing {
            listing.remove(&name);
        }
        self.reach(&sent.head.resource_version);
        self.drop_object(&name, &sent.head.resource_version)
    }

    /// Everything has come, as of `version`: what has not is gone.
    pub(super) fn end_list(&mut self, version: &str) -> Vec<Change> {
        let Some(listed) = self.listing.take() else { return Vec::new() };
        self.reach(version);
        let gone: Vec<ObjectName> =
            self.known.keys().filter(|name| !listed.contains(*name)).cloned().collect();
        gone.iter().filter_map(|name| self.drop_object(name, version)).collect()
    }

    /// The list broke off: what has not come may still be there.
    pub(super) fn break_list(&mut self) {
        self.listing = None;
    }

    fn drop_object(&mut self, name: &ObjectName, version: &str) -> Option<Change> {
        self.has_news_of_problems |= self.problems.remove(name).is_some();
        let known = self.known.remove(name)?;
        if let Some(as_sent) = &mut self.as_sent {
            let object = ObjectId { kind: self.kind, name: name.clone() };
            as_sent.push(AsSent { object, version: version.into(), text: None });
        }
        known.is_in_force.then(|| self.delete_change(name))
    }

    fn delete_change(&self, name: &ObjectName) -> Change {
        Change::Delete(ObjectId { kind: self.kind, name: name.clone() })
    }

    /// Is nothing known?
    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Is a list under way?
    pub(super) fn is_listing(&self) -> bool {
        self.listing.is_some()
    }

    /// What is known may be something else under the same version: all of it is read again.
    pub(super) fn doubt_everything(&mut self) {
        self.known.values_mut().for_each(|known| known.version = "".into());
    }

    /// Has something changed in [`Mirror::problems`] since this was asked last?
    pub(super) fn take_news_of_problems(&mut self) -> bool {
        std::mem::take(&mut self.has_news_of_problems)
    }

    /// What is to be told of objects, each time that one comes.
    pub(super) fn take_notices(&mut self) -> Vec<publish::Notice> {
        std::mem::take(&mut self.notices)
    }

    /// The same text on all nodes: what each knew of the object before is not in it.
    fn not_understood(&self, head: &Metadata<'_>, invalid: &Invalid) -> publish::Notice {
        publish::Notice {
            regarding: Regarding {
                object: ObjectId { kind: self.kind, name: name(head) },
                uid: head.uid.to_string(),
            },
            reason: "NotUnderstood",
            note: format!(
                "{}: {}; nodes keep what they had of this object before, if anything, until it is corrected",
                invalid.field, invalid.problem
            ),
            severity: publish::Severity::Warning,
            scope: publish::Scope::Cluster,
        }
    }

    /// What is wrong with objects, by name. Of thousands the first are told of, and how many there are.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut told: Vec<Problem> = self.problems.values().flatten().take(MOST_PROBLEMS).cloned().collect();
        let count: usize = self.problems.values().map(Vec::len).sum();
        if let Some(last) = told.last().filter(|_| count > MOST_PROBLEMS) {
            told.push(Problem {
                object: None,
                reason: format!("{} more problems with objects of kind {}", count - MOST_PROBLEMS, self.kind),
                ..last.clone()
            });
        }
        told
    }
}

fn name(head: &Metadata<'_>) -> ObjectName {
    ObjectName::new(&*head.namespace, &*head.name)
}

fn notice(notice: &Notice, server: &Arc<str>) -> Option<Problem> {
    let Notice::Skipped { object, field, reason } = notice else { return None };
    Some(Problem {
        severity: Severity::Notice,
        place: Place::Server(server.clone()),
        line: None,
        object: Some(object.clone()),
        reason: format!("{field}: {reason}"),
    })
}

#[cfg(test)]
mod tests;
