//! Pods by name, label and node, and services by what they select, so that neither side is ever scanned for
//! the other.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::index::Index;
use crate::{
    object::{ObjectName, Pod, Service},
    selector::Selector,
};

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

/// The pods.
#[derive(Clone, Debug, Default)]
pub(super) struct Pods {
    all: BTreeMap<ObjectName, Arc<Pod>>,
    by_label: Index<Label, ObjectName>,
    /// By key and value, in all namespaces.
    by_pair: Index<(String, String), ObjectName>,
    by_node: Index<Arc<str>, ObjectName>,
}

impl Pods {
    /// Puts a pod in the place of the one with its name, which is returned.
    pub(super) fn set(&mut self, name: &ObjectName, pod: Option<Arc<Pod>>) -> Option<Arc<Pod>> {
        let old = self.all.remove(name);
        if let Some(old) = &old {
            for label in labels(&name.namespace, &old.labels) {
                self.by_label.remove(&label, name);
                self.by_pair.remove(&(label.key, label.value), name);
            }
            if let Some(node) = &old.node {
                self.by_node.remove(node, name);
            }
        }
        if let Some(pod) = pod {
            for label in labels(&name.namespace, &pod.labels) {
                self.by_pair.add((label.key.clone(), label.value.clone()), name);
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
        self.all.get(name).map(Arc::as_ref)
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Pod> {
        self.all.values().map(Arc::as_ref)
    }

    pub(super) fn on_node(&self, node: &str) -> impl Iterator<Item = &Pod> {
        self.by_node.get(node).filter_map(|name| self.get(name))
    }

    /// A set that holds all pods that `service` selects, and not many more.
    pub(super) fn near(&self, service: &Service) -> impl Iterator<Item = &Pod> {
        let rarest =
            labels(&service.name.namespace, &service.selector).min_by_key(|label| self.by_label.len(label));
        rarest.into_iter().flat_map(|label| self.by_label.get(&label)).filter_map(|name| self.get(name))
    }
}

impl Pods {
    /// A set that holds all pods that `selector` picks, in all namespaces, and not many more if it names a label.
    pub(super) fn anywhere<'a>(&'a self, selector: &Selector) -> Box<dyn Iterator<Item = &'a Pod> + 'a> {
        let pairs = selector.labels.iter().map(|(key, value)| (key.clone(), value.clone()));
        match pairs.min_by_key(|pair| self.by_pair.len(pair)) {
            Some(pair) => Box::new(self.by_pair.get(&pair).filter_map(|name| self.get(name))),
            None => Box::new(self.iter()),
        }
    }
}

/// Services by one label of their selector.
#[derive(Clone, Debug, Default)]
pub(super) struct Selectors {
    by_label: Index<Label, ObjectName>,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{object::Service, sample::*};

    /// The first of its labels is everybody's, the second its own.
    fn app(n: usize) -> BTreeMap<String, String> {
        map(&[("all", "same"), ("app", &format!("a{n}"))])
    }

    #[test]
    fn pods_are_looked_for_by_the_rarest_label_of_a_selector() {
        let mut pods = Pods::default();
        for n in 0..10 {
            pods.set(&name(&format!("p{n}")), Some(Pod { labels: app(n), ..pod("p", "10.0.0.1") }.into()));
        }
        assert_eq!(pods.near(&Service { selector: app(3), ..service() }).count(), 1);
        assert_eq!(pods.near(&Service { selector: map(&[("all", "same")]), ..service() }).count(), 10);
        assert_eq!(pods.near(&Service { selector: map(&[]), ..service() }).count(), 0);
    }

    #[test]
    fn services_are_filed_by_the_label_that_fewest_are_filed_by() {
        let mut selectors = Selectors::default();
        let services: Vec<Service> = (0..10)
            .map(|n| Service { name: name(&format!("s{n}")), selector: app(n), ..service() })
            .collect();
        for service in &services {
            selectors.set(&service.name, Some(service));
        }
        // Only the first is filed by the label that all have: there was nobody yet.
        for (n, service) in services.iter().enumerate() {
            let pod = Pod { labels: app(n), ..pod("p", "10.0.0.1") };
            let near: Vec<_> = selectors.near(&pod).collect();
            assert!(near.contains(&&service.name) && near.len() <= 2, "{n}: {near:?}");
        }
    }

    #[test]
    fn what_is_gone_leaves_nothing_behind() {
        let (mut pods, mut selectors) = (Pods::default(), Selectors::default());
        pods.set(&name("p"), Some(pod("p", "10.0.0.1").into()));
        selectors.set(&name("web"), Some(&service()));
        let moved = Pod { labels: app(1), node: Some("n2".into()), ..pod("p", "10.0.0.1") };
        pods.set(&name("p"), Some(moved.into()));
        selectors.set(&name("web"), Some(&Service { selector: app(1), ..service() }));
        assert_eq!((pods.on_node("n1").count(), pods.on_node("n2").count()), (0, 1));
        assert_eq!(pods.near(&service()).count(), 0);
        assert_eq!(selectors.near(&pod("p", "10.0.0.1")).count(), 0);

        assert!(pods.set(&name("p"), None).is_some());
        selectors.set(&name("web"), None);
        assert!(pods.all.is_empty() && pods.by_label.is_empty() && pods.by_node.is_empty());
        assert!(pods.by_pair.is_empty() && selectors.by_label.is_empty() && selectors.filed.is_empty());
    }
}
