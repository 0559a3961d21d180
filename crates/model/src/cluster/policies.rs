//! Policies, and what each of them depends on.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, OnceLock},
};

use super::index::Index;
use crate::{
    object::{EndpointSlice, ObjectId, ObjectName, Pod},
    policy::{Policy, PolicyBackends, RedirectMode},
};

/// A policy, and the slices of the pods that it selects.
#[derive(Clone, Debug)]
struct Entry {
    policy: Arc<Policy>,
    /// As that of services: filled when asked for, emptied by changes.
    resolved: OnceLock<Vec<EndpointSlice>>,
}

/// The policies.
#[derive(Clone, Debug, Default)]
pub(super) struct Policies {
    all: BTreeMap<ObjectId, Entry>,
    /// Those that are about a service, which need not exist.
    by_service: Index<ObjectName, ObjectId>,
    /// Those that select pods, by one label of their selectors.
    by_label: Index<(String, String), ObjectId>,
    /// Those that select pods by no label with one value.
    by_no_label: BTreeSet<ObjectId>,
}

impl Policies {
    pub(super) fn get(&self, id: &ObjectId) -> Option<&Policy> {
        self.all.get(id).map(|entry| &*entry.policy)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Policy> {
        self.all.values().map(|entry| &*entry.policy)
    }

    /// Puts a policy in the place of the one with its id.
    pub(super) fn set(&mut self, id: &ObjectId, policy: Option<Arc<Policy>>) {
        if let Some(old) = self.all.remove(id) {
            if let Some(service) = old.policy.service() {
                self.by_service.remove(service, id);
            }
            match filed_under(&old.policy) {
                Some(Some(label)) => self.by_label.remove(&label, id),
                Some(None) => drop(self.by_no_label.remove(id)),
                None => {}
            }
        }
        let Some(policy) = policy else { return };
        if let Some(service) = policy.service() {
            self.by_service.add(service.clone(), id);
        }
        match filed_under(&policy) {
            Some(Some(label)) => self.by_label.add(label, id),
            Some(None) => drop(self.by_no_label.insert(id.clone())),
            None => {}
        }
        self.all.insert(id.clone(), Entry { policy, resolved: OnceLock::new() });
    }

    /// Those that are about a service.
    pub(super) fn about(&self, service: &ObjectName) -> impl Iterator<Item = &ObjectId> {
        self.by_service.get(service)
    }

    /// Those that select a pod.
    pub(super) fn selecting<'a>(&'a self, pod: &'a Pod) -> impl Iterator<Item = &'a ObjectId> {
        let by_label = pod
            .labels
            .iter()
            .filter(|_| !self.by_label.is_empty())
            .flat_map(|(key, value)| self.by_label.get(&(key.clone(), value.clone())));
        by_label.chain(&self.by_no_label).filter(|id| {
            let pods = self.get(id).and_then(Policy::pods);
            pods.is_some_and(|pods| pods.selector.matches(&pod.labels))
        })
    }

    /// The slices of a policy's pods, made by `resolve` if need be.
    pub(super) fn resolved(
        &self,
        id: &ObjectId,
        resolve: impl FnOnce(&Policy) -> Vec<EndpointSlice>,
    ) -> &[EndpointSlice] {
        self.all.get(id).map_or(&[], |entry| entry.resolved.get_or_init(|| resolve(&entry.policy)))
    }

    /// What [`Policies::resolved`] has made is no longer right.
    pub(super) fn forget_resolved<'a>(&mut self, ids: impl IntoIterator<Item = &'a ObjectId>) {
        for id in ids {
            if let Some(entry) = self.all.get_mut(id) {
                entry.resolved.take();
            }
        }
    }

    /// Those to which addresses of nodes matter, and, where it `is_own`, labels of this one.
    pub(super) fn of_nodes(&self, is_own: bool) -> impl Iterator<Item = &Policy> {
        self.iter().filter(move |policy| {
            let by_address = matches!(
                policy.backends,
                PolicyBackends::Pods(_, RedirectMode::HostPort | RedirectMode::NodeProxy)
            );
            by_address || is_own && policy.nodes.is_some()
        })
    }
}

/// The label under which a policy that selects pods is filed, if it has one that pods must have.
fn filed_under(policy: &Policy) -> Option<Option<(String, String)>> {
    let labels = &policy.pods()?.selector.labels;
    Some(labels.iter().next().map(|(key, value)| (key.clone(), value.clone())))
}
