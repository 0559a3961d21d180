//! Pods by name, label and node, and services by what they select, so that neither side is ever scanned for
//! the other.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::object::{ObjectName, Pod, Service};

/// A label of a pod, or one of a selector, in a namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Label {
    namespace: String,
    key: String,
    value: String,
}

fn labels<'a>(namespace: &'a str, labels: &'a BTreeMap<String, String>) -> impl Iterator<Item = Label> + 'a {
    labels.iter().map(|(key, value)| Label {
        namespace: namespace.to_owned(),
        key: key.clone(),
        value: value.clone(),
    })
}

/// Sets of names by key, without empty sets.
#[derive(Clone, Debug)]
struct Index<K>(HashMap<K, BTreeSet<ObjectName>>);

impl<K> Default for Index<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: std::hash::Hash + Eq> Index<K> {
    fn add(&mut self, key: K, name: &ObjectName) {
        self.0.entry(key).or_default().insert(name.clone());
    }

    fn remove(&mut self, key: &K, name: &ObjectName) {
        if let Some(names) = self.0.get_mut(key) {
            names.remove(name);
            if names.is_empty() {
                self.0.remove(key);
            }
        }
    }

    fn len(&self, key: &K) -> usize {
        self.0.get(key).map_or(0, BTreeSet::len)
    }

    fn get<'a, Q>(&'a self, key: &Q) -> impl Iterator<Item = &'a ObjectName> + use<'a, K, Q>
    where
        K: std::borrow::Borrow<Q>,
        Q: std::hash::Hash + Eq + ?Sized,
    {
        self.0.get(key).into_iter().flatten()
    }
}

/// The pods.
#[derive(Clone, Debug, Default)]
pub(super) struct Pods {
    all: BTreeMap<ObjectName, Pod>,
    by_label: Index<Label>,
    by_node: Index<String>,
}

impl Pods {
    /// Puts a pod in the place of the one with its name, which is returned.
    pub(super) fn set(&mut self, name: &ObjectName, pod: Option<Pod>) -> Option<Pod> {
        let old = self.all.remove(name);
        if let Some(old) = &old {
            for label in labels(&name.namespace, &old.labels) {
                self.by_label.remove(&label, name);
            }
            if let Some(node) = &old.node {
                self.by_node.remove(node, name);
            }
        }
        if let Some(pod) = pod {
            for label in labels(&name.namespace, &pod.labels) {
                self.by_label.add(label, name);
            }
            if let Some(node) = &pod.node {
                self.by_node.add(node.clone(), name);
            }
            self.all.insert(name.clone(), pod);
        }
        old
    }

    pub(super) fn get(&self, name: &ObjectName) -> Option<&Pod> {
        self.all.get(name)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Pod> {
        self.all.values()
    }

    pub(super) fn on_node(&self, node: &str) -> impl Iterator<Item = &Pod> {
        self.by_node.get(node).filter_map(|name| self.all.get(name))
    }

    /// A set that holds all pods that `service` selects, and not many more.
    pub(super) fn near(&self, service: &Service) -> impl Iterator<Item = &Pod> {
        let rarest =
            labels(&service.name.namespace, &service.selector).min_by_key(|label| self.by_label.len(label));
        rarest.into_iter().flat_map(|label| self.by_label.get(&label)).filter_map(|name| self.all.get(name))
    }
}

/// Services by one label of their selector.
#[derive(Clone, Debug, Default)]
pub(super) struct Selectors {
    by_label: Index<Label>,
    filed: HashMap<ObjectName, Label>,
}

impl Selectors {
    /// Files a service under the label of its selector that tells it best from the others.
    pub(super) fn set(&mut self, name: &ObjectName, service: Option<&Service>) {
        if let Some(label) = self.filed.remove(name) {
            self.by_label.remove(&label, name);
        }
        let label = service.and_then(|service| {
            labels(&name.namespace, &service.selector).min_by_key(|label| self.by_label.len(label))
        });
        if let Some(label) = label {
            self.by_label.add(label.clone(), name);
            self.filed.insert(name.clone(), label);
        }
    }

    /// A set that holds all services that select `pod`, and not many more.
    pub(super) fn near<'a>(&'a self, pod: &'a Pod) -> impl Iterator<Item = &'a ObjectName> + 'a {
        labels(&pod.name.namespace, &pod.labels).flat_map(|label| self.by_label.get(&label))
    }
}
