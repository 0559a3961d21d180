//! What slices there are, what there should be, and what is to be written: without a clock, and without writing anything.
//!
//! A slice is written some time after the first change that it has to tell of, so that many are told of at once; while it is
//! being written, what comes waits. A slice is deleted only when all that was to be written of its policy until then is:
//! endpoints that move are in two slices for a moment, and never in none. A write says which version it replaces: whoever was
//! faster, or was the leader before, is noticed.

mod todo;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Instant,
};

use jiff::Timestamp;
use k8s_openapi::api::discovery::v1;
use model::{EndpointSlice, ObjectName};
use serde_json::Value;
use source::publish::Failure;
use todo::{Todo, Todos};

use super::{
    packing::{Draft, Pack},
    slice::{Owner, Seen, Version, write},
};

/// Bytes of a policy's name in that of a slice, which is 253 with the rest.
const LONGEST_NAME: usize = 200;

/// Now, for two purposes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) now: Instant,
    /// For those who measure latencies.
    pub(super) time: Timestamp,
}

/// Something to write.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Task {
    /// Which slice.
    pub(super) name: Arc<str>,
    pub(super) action: Action,
}

/// What to do with a slice.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Action {
    Create(Value),
    Update(Value),
    /// This version of it.
    Delete(Version),
    /// To see what it is.
    Look,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Slices {
    /// Where they are.
    namespace: Arc<str>,
    seen: BTreeMap<Arc<str>, Seen>,
    /// Something is to be written.
    is_started: bool,
    /// By policy. Empty where nobody is to write.
    packs: BTreeMap<String, (Owner, Pack)>,
    /// Which policy's pack holds a slice.
    placed: HashMap<Arc<str>, String>,
    /// Policies that nobody understands: their slices stay as they are.
    spared: HashMap<String, Owner>,
    todos: Todos,
    /// Policies whose packs have changed.
    touched: BTreeSet<String>,
    /// Slices that are to be compared.
    unsettled: BTreeSet<Arc<str>>,
    /// Parts of names.
    random: fn() -> u64,
}

impl Slices {
    pub(super) fn new(namespace: &str, random: fn() -> u64) -> Self {
        Self {
            namespace: namespace.into(),
            seen: BTreeMap::new(),
            is_started: false,
            packs: BTreeMap::new(),
            placed: HashMap::new(),
            spared: HashMap::new(),
            todos: Todos::default(),
            touched: BTreeSet::new(),
            unsettled: BTreeSet::new(),
            random,
        }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.seen.len()
    }

    /// A server says what a slice of ours is, or that it is gone.
    pub(super) fn saw(&mut self, name: &ObjectName, version: &str, text: Option<&str>, at: Moment) {
        if name.namespace != self.namespace {
            return;
        }
        let version = Version::from(version);
        let key: Arc<str> = name.name.as_str().into();
        // What we have written comes back, perhaps after the next write.
        if self.seen.get(&key).is_some_and(|known| version.is_up_to(&known.version)) {
            return;
        }
        match text.map(serde_json::from_str::<v1::EndpointSlice>) {
            Some(Ok(object)) => drop(self.seen.insert(key.clone(), Seen::read(&object).1)),
            // It is there, and nobody knows what it says: it is looked at, and written anew.
            Some(Err(error)) => {
                tracing::warn!("EndpointSlice {name}: {error}");
                return;
            }
            None => drop(self.seen.remove(&key)),
        }
        if self.is_started {
            self.check(&key, at);
        }
    }

    /// From now on something is to be written.
    pub(super) fn start(&mut self) {
        self.is_started = true;
    }

    /// Nothing is to be written any more.
    pub(super) fn stop(&mut self) {
        self.is_started = false;
        self.packs.clear();
        self.placed.clear();
        self.spared.clear();
        self.todos = Todos::default();
        self.touched.clear();
        self.unsettled.clear();
    }

    /// A policy, and the endpoints of all pods that it selects.
    pub(super) fn set_policy(&mut self, owner: Owner, endpoints: Vec<EndpointSlice>) {
        let policy = owner.name.clone();
        self.spared.remove(&policy);
        if self.packs.get(&policy).is_some_and(|(known, _)| *known != owner) {
            self.remove_policy(&policy);
        }
        let (_, pack) = self.packs.entry(policy.clone()).or_insert_with(|| {
            let mut pack = Pack::default();
            for (name, seen) in self.seen.iter().filter(|(_, seen)| seen.owner.as_ref() == Some(&owner)) {
                if let Some(slice) = &seen.slice {
                    pack.adopt(name, slice);
                    self.placed.insert(name.clone(), policy.clone());
                }
                self.unsettled.insert(name.clone());
            }
            (owner, pack)
        });
        pack.set_all(endpoints, &mut namer(&policy, self.random));
        self.touched.insert(policy);
    }

    /// What a pod gives to a policy.
    pub(super) fn set_pod(&mut self, policy: &str, pod: &ObjectName, endpoints: Vec<EndpointSlice>) {
        if let Some((_, pack)) = self.packs.get_mut(policy) {
            pack.set_pod(pod, endpoints, &mut namer(policy, self.random));
            self.touched.insert(policy.to_owned());
        }
    }

    /// A policy is gone, or has no pods to be in slices.
    pub(super) fn remove_policy(&mut self, policy: &str) {
        self.spared.remove(policy);
        self.touched.remove(policy);
        let Some((_, pack)) = self.packs.remove(policy) else { return };
        for name in pack.names() {
            self.placed.remove(name);
            self.unsettled.insert(name.clone());
        }
    }

    /// A policy that is there, and that nobody understands: its slices stay as they are.
    pub(super) fn spare(&mut self, owner: Owner) {
        self.spared.insert(owner.name.clone(), owner);
    }

    /// All policies are known, and their pods: slices of others go.
    pub(super) fn sweep(&mut self) {
        self.unsettled.extend(self.seen.keys().cloned());
    }

    /// Once all changes are in: what they mean for slices.
    pub(super) fn settle(&mut self, at: Moment) {
        self.todos.turn();
        for policy in std::mem::take(&mut self.touched) {
            let Some((_, pack)) = self.packs.get_mut(&policy) else { continue };
            for name in pack.settle() {
                match pack.draft(&name) {
                    Some(_) => drop(self.placed.insert(name.clone(), policy.clone())),
                    None => drop(self.placed.remove(&name)),
                }
                self.unsettled.insert(name);
            }
        }
        for name in std::mem::take(&mut self.unsettled) {
            self.check(&name, at);
        }
    }

    /// Whether a slice is what it should be; else something is to be done.
    fn check(&mut self, name: &Arc<str>, at: Moment) {
        let seen = self.seen.get(name);
        let wanted = self.wanted(name);
        let (policy, is_right) = match (wanted, seen) {
            (Some((owner, draft)), seen) => (Some(&owner.name), seen.is_some_and(|it| it.is(draft, owner))),
            (None, Some(seen)) => {
                let owner = seen.owner.as_ref();
                let is_spared = owner.is_some_and(|owner| self.spared.get(&owner.name) == Some(owner));
                (owner.map(|owner| &owner.name), is_spared)
            }
            (None, None) => (None, true),
        };
        if is_right {
            self.todos.drop_unless_in_flight(name);
        } else {
            let policy = policy.map(String::as_str).unwrap_or_default().into();
            self.todos.add(name, policy, wanted.is_some(), at);
        }
    }

    fn wanted(&self, name: &str) -> Option<(&Owner, &Draft)> {
        let (owner, pack) = self.packs.get(self.placed.get(name)?)?;
        Some((owner, pack.draft(name)?))
    }

    /// When something is to be written.
    pub(super) fn next(&self) -> Option<Instant> {
        self.todos.next()
    }

    /// How many slices wait to be written.
    pub(super) fn waiting(&self) -> usize {
        self.todos.len()
    }

    /// What is to be written now, no more than `room`: it is in flight from now on.
    pub(super) fn take(&mut self, room: usize, now: Instant) -> Vec<Task> {
        let due = self.todos.take(room, now);
        due.into_iter().map(|(name, todo)| self.task(name, &todo)).collect()
    }

    fn task(&self, name: Arc<str>, todo: &Todo) -> Task {
        let seen = self.seen.get(&name);
        let action = match (self.wanted(&name), seen) {
            _ if todo.look => Action::Look,
            (None, None) => Action::Look,
            (None, Some(seen)) => Action::Delete(seen.version.clone()),
            (Some((owner, draft)), seen) => {
                let object = ObjectName::new(self.namespace.clone(), &*name);
                let triggered = todo.first.time.to_string();
                let body = write(&object, draft, owner, seen.map(|seen| &seen.version), &triggered);
                // The family of a slice can't be changed.
                let is_other = |seen: &&Seen| seen.slice.as_ref().is_some_and(|it| it.family != draft.family);
                match seen {
                    None => Action::Create(body),
                    Some(seen) if is_other(&seen) => Action::Delete(seen.version.clone()),
                    Some(_) => Action::Update(body),
                }
            }
        };
        Task { name, action }
    }

    /// What has come of a task. When the first change was that is told of now, if it is.
    pub(super) fn done(
        &mut self,
        task: &Task,
        outcome: Result<Value, Failure>,
        at: Moment,
    ) -> Option<Instant> {
        let name = &task.name;
        match outcome {
            Ok(object) if matches!(task.action, Action::Delete(_)) => {
                drop(object);
                self.seen.remove(name);
                let first = self.todos.done(name, at);
                self.check(name, at);
                first
            }
            Ok(object) => {
                match serde_json::from_value::<v1::EndpointSlice>(object) {
                    Ok(object) => drop(self.seen.insert(name.clone(), Seen::read(&object).1)),
                    Err(error) => {
                        tracing::warn!("EndpointSlice {}/{name}: {error}", self.namespace);
                        self.todos.later(name, None, true, at.now);
                        return None;
                    }
                }
                if matches!(task.action, Action::Look) {
                    self.todos.looked(name, at.now);
                    self.check(name, at);
                    return None;
                }
                self.todos.done(name, at)
            }
            // There is no such namespace.
            Err(Failure::Missing) if matches!(task.action, Action::Create(_)) => {
                self.todos.later(name, None, true, at.now);
                None
            }
            Err(Failure::Missing) => {
                self.seen.remove(name);
                self.todos.looked(name, at.now);
                self.check(name, at);
                None
            }
            Err(Failure::Exists | Failure::Taken) => {
                self.todos.look(name, at.now);
                None
            }
            Err(Failure::Later(asked, _)) => {
                self.todos.later(name, asked, false, at.now);
                None
            }
            Err(Failure::Forbidden(_) | Failure::Refused(_)) => {
                self.todos.later(name, None, true, at.now);
                None
            }
        }
    }
}

/// Names that nobody has: one more attempt to create a slice that is there is seen to be that.
fn namer(policy: &str, random: fn() -> u64) -> impl FnMut() -> String + use<> {
    let start = policy[..policy.floor_char_boundary(LONGEST_NAME)].trim_end_matches(['.', '-']).to_owned();
    move || format!("{start}-{:016x}", random())
}

#[cfg(test)]
mod tests;
