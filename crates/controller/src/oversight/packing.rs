//! Endpoints of a policy, a hundred to a slice: each stays where it is as long as it can, so that a pod's change is one slice's.
//!
//! The same aims as those of the EndpointSlice controller (kubernetes 1.36 staging/src/k8s.io/endpointslice/reconciler.go):
//! slices that change anyway are filled first, then the fullest with room. Unlike there, slices that have become nearly empty
//! are emptied into others.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use model::{Endpoint, EndpointSlice, Family, ObjectName, SlicePort};

/// Endpoints of a slice (kube-controller-manager's `--max-endpoints-per-slice`).
pub(super) const MOST: usize = 100;
/// A slice that has no more than these is emptied into another one,
const FEW: usize = MOST / 4;
/// if that has no more than these then: what fills and empties by turns is not moved each time.
const AFTER: usize = MOST * 3 / 4;

/// What a slice is to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Draft {
    pub(super) family: Family,
    pub(super) ports: Vec<SlicePort>,
    /// By pod.
    pub(super) endpoints: BTreeMap<ObjectName, Endpoint>,
}

impl Draft {
    fn is_of(&self, family: Family, ports: &[SlicePort]) -> bool {
        self.family == family && self.ports == ports
    }
}

/// The slices of one policy, by name.
#[derive(Debug, Default)]
pub(super) struct Pack {
    drafts: BTreeMap<Arc<str>, Draft>,
    at: HashMap<(Family, ObjectName), Arc<str>>,
    /// Those that have changed, or are gone.
    touched: BTreeSet<Arc<str>>,
}

impl Pack {
    /// Takes over a slice that is there. What it holds twice, or for no pod, or beyond its size, is not kept.
    pub(super) fn adopt(&mut self, name: &Arc<str>, slice: &EndpointSlice) {
        let mut endpoints = BTreeMap::new();
        for endpoint in &slice.endpoints {
            let Some(pod) = &endpoint.pod else { continue };
            let key = (slice.family, pod.clone());
            if endpoints.len() < MOST && !self.at.contains_key(&key) {
                self.at.insert(key, name.clone());
                endpoints.insert(pod.clone(), endpoint.clone());
            }
        }
        if endpoints.len() != slice.endpoints.len() || endpoints.is_empty() {
            self.touched.insert(name.clone());
        }
        let draft = Draft { family: slice.family, ports: slice.ports.clone(), endpoints };
        self.drafts.insert(name.clone(), draft);
    }

    /// What a slice is to hold; `None`: it is not to be.
    pub(super) fn draft(&self, name: &str) -> Option<&Draft> {
        self.drafts.get(name)
    }

    /// The names of all slices.
    pub(super) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.drafts.keys()
    }

    /// All endpoints, as [`model::resolve_policy`] gives them.
    pub(super) fn set_all(&mut self, wanted: Vec<EndpointSlice>, name: &mut dyn FnMut() -> String) {
        let wanted: BTreeMap<_, _> = endpoints(wanted).collect();
        let gone: Vec<_> = self.at.keys().filter(|key| !wanted.contains_key(*key)).cloned().collect();
        gone.iter().for_each(|key| self.remove(key));
        // First those that have to leave a place, then those that take one.
        for (key, (ports, _)) in &wanted {
            if self.at.get(key).is_some_and(|at| !self.drafts[at].is_of(key.0, ports)) {
                self.remove(key);
            }
        }
        for (key, (ports, endpoint)) in wanted {
            self.set(key, &ports, endpoint, name);
        }
    }

    /// The endpoints of one pod, likewise.
    pub(super) fn set_pod(
        &mut self,
        pod: &ObjectName,
        wanted: Vec<EndpointSlice>,
        name: &mut dyn FnMut() -> String,
    ) {
        let mut gone = BTreeSet::from([Family::V4, Family::V6]);
        for (key, (ports, endpoint)) in endpoints(wanted) {
            gone.remove(&key.0);
            self.set(key, &ports, endpoint, name);
        }
        gone.into_iter().for_each(|family| self.remove(&(family, pod.clone())));
    }

    fn set(
        &mut self,
        key: (Family, ObjectName),
        ports: &Arc<[SlicePort]>,
        endpoint: Endpoint,
        name: &mut dyn FnMut() -> String,
    ) {
        if let Some(at) = self.at.get(&key)
            && let Some(draft) = self.drafts.get_mut(at).filter(|draft| draft.is_of(key.0, ports))
        {
            if draft.endpoints.get(&key.1) != Some(&endpoint) {
                draft.endpoints.insert(key.1, endpoint);
                self.touched.insert(at.clone());
            }
            return;
        }
        self.remove(&key);
        let at = self.room(key.0, ports, 1, MOST, None).unwrap_or_else(|| {
            let mut new = || Arc::from(name());
            let mut at: Arc<str> = new();
            while self.drafts.contains_key(&at) {
                at = new();
            }
            let draft = Draft { family: key.0, ports: ports.to_vec(), endpoints: BTreeMap::new() };
            self.drafts.insert(at.clone(), draft);
            at
        });
        self.touched.insert(at.clone());
        if let Some(draft) = self.drafts.get_mut(&at) {
            draft.endpoints.insert(key.1.clone(), endpoint);
        }
        self.at.insert(key, at);
    }

    fn remove(&mut self, key: &(Family, ObjectName)) {
        let Some(at) = self.at.remove(key) else { return };
        if let Some(draft) = self.drafts.get_mut(&at) {
            draft.endpoints.remove(&key.1);
        }
        self.touched.insert(at);
    }

    /// A slice, not `but`, that has no more than `most` endpoints with `count` more: one that changes anyway, then the fullest.
    fn room(
        &self,
        family: Family,
        ports: &[SlicePort],
        count: usize,
        most: usize,
        but: Option<&Arc<str>>,
    ) -> Option<Arc<str>> {
        let all = self.drafts.iter().filter(|(name, draft)| {
            draft.endpoints.len() + count <= most && draft.is_of(family, ports) && Some(*name) != but
        });
        let best = all.max_by_key(|(name, draft)| (self.touched.contains(*name), draft.endpoints.len()));
        best.map(|(name, _)| name.clone())
    }

    /// Once all changes are in: drops what is empty, merges what is nearly so, and says which slices have changed or are gone.
    pub(super) fn settle(&mut self) -> BTreeSet<Arc<str>> {
        for name in self.touched.clone() {
            let Some(draft) = self.drafts.get(&name) else { continue };
            let count = draft.endpoints.len();
            if count == 0 {
                self.drafts.remove(&name);
            } else if let Some(into) = (count <= FEW)
                .then(|| self.room(draft.family, &draft.ports, count, AFTER, Some(&name)))
                .flatten()
            {
                self.merge(&name, into);
            } else if let Some(few) = self.few(&name, draft) {
                self.merge(&few, name);
            }
        }
        std::mem::take(&mut self.touched)
    }

    /// A nearly empty slice that has room in another one, which is called `name`.
    fn few(&self, name: &Arc<str>, into: &Draft) -> Option<Arc<str>> {
        let most = FEW.min(AFTER.checked_sub(into.endpoints.len())?);
        let mut all = self.drafts.iter();
        let few = all.find(|(other, draft)| {
            draft.endpoints.len() <= most && draft.is_of(into.family, &into.ports) && *other != name
        });
        few.map(|(other, _)| other.clone())
    }

    fn merge(&mut self, from: &Arc<str>, into: Arc<str>) {
        let Some(draft) = self.drafts.remove(from) else { return };
        for pod in draft.endpoints.keys() {
            self.at.insert((draft.family, pod.clone()), into.clone());
        }
        if let Some(other) = self.drafts.get_mut(&into) {
            other.endpoints.extend(draft.endpoints);
        }
        self.touched.extend([from.clone(), into]);
    }
}

type Placed = ((Family, ObjectName), (Arc<[SlicePort]>, Endpoint));

/// Each endpoint by family and pod, with its ports.
fn endpoints(slices: Vec<EndpointSlice>) -> impl Iterator<Item = Placed> {
    slices.into_iter().flat_map(|slice| {
        let ports: Arc<[SlicePort]> = slice.ports.into();
        slice.endpoints.into_iter().filter_map(move |endpoint| {
            let pod = endpoint.pod.clone()?;
            Some(((slice.family, pod), (ports.clone(), endpoint)))
        })
    })
}

#[cfg(test)]
mod tests;
