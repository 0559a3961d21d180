//! Sets of names by key.

use std::{
    borrow::Borrow,
    collections::{BTreeSet, HashMap},
    hash::Hash,
};

/// Sets of names by key, without empty sets.
#[derive(Clone, Debug)]
pub(super) struct Index<K, N>(HashMap<K, BTreeSet<N>>);

impl<K, N> Default for Index<K, N> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Hash + Eq, N: Ord + Clone> Index<K, N> {
    pub(super) fn add(&mut self, key: K, name: &N) {
        self.0.entry(key).or_default().insert(name.clone());
    }

    pub(super) fn remove(&mut self, key: &K, name: &N) {
        if let Some(names) = self.0.get_mut(key) {
            names.remove(name);
            if names.is_empty() {
                self.0.remove(key);
            }
        }
    }

    pub(super) fn len(&self, key: &K) -> usize {
        self.0.get(key).map_or(0, BTreeSet::len)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn get<'a, Q>(&'a self, key: &Q) -> impl Iterator<Item = &'a N> + use<'a, K, N, Q>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.0.get(key).into_iter().flatten()
    }
}
