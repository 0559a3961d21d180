//! The nodes, as far as it matters for what is written to this one.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use model::{Change, Kind, Node, Object};
use tokio::sync::watch;

use super::annotations::{Wanted, wanted};

/// What each node of a cluster adds to the time over which all of their agents write what they all write at once: so 50 a
/// second do, however many they are.
const OF_NODE: Duration = Duration::from_millis(20);
/// And with one or two.
const AT_LEAST: Duration = Duration::from_millis(200);

/// Where this is, once all nodes are known.
#[derive(Clone, Debug, Default)]
pub(super) struct Here {
    /// This node, and what its annotations are to be; none on a host that is no node, where nothing is written.
    pub(super) own: Option<(Arc<Node>, Wanted)>,
    /// How many nodes there are.
    count: usize,
}

impl Here {
    /// Over how long agents write what they all write at once.
    pub(super) fn spread(&self) -> Duration {
        AT_LEAST + OF_NODE * u32::try_from(self.count).unwrap_or(u32::MAX)
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Nodes {
    /// Name of this one.
    name: String,
    known: BTreeMap<String, Arc<Node>>,
    is_complete: bool,
    here: watch::Sender<Option<Here>>,
}

impl Nodes {
    pub(super) fn new(name: &str) -> (Self, watch::Receiver<Option<Here>>) {
        let (here, receiver) = watch::channel(None);
        let nodes = Self { name: name.to_owned(), known: BTreeMap::new(), is_complete: false, here };
        (nodes, receiver)
    }

    /// What has changed.
    pub(crate) fn take(&mut self, changes: &[Change]) {
        let mut has_news = false;
        for change in changes {
            match change {
                Change::Upsert(Object::Node(node)) => {
                    let before = self.known.insert(node.name.clone(), node.clone());
                    has_news |= before.is_none_or(|before| self.matters(&before, node));
                }
                Change::Delete(id) if id.kind == Kind::Node => {
                    has_news |= self.known.remove(&id.name.name).is_some();
                }
                _ => {}
            }
        }
        if has_news && self.is_complete {
            self.decide();
        }
    }

    /// All that there are are known now.
    pub(crate) fn complete(&mut self) {
        self.is_complete = true;
        self.decide();
    }

    /// Does a change decide anything? Nodes change all the time in what does not, and of the others only who has this one's id
    /// matters, once it has one.
    fn matters(&self, before: &Node, after: &Node) -> bool {
        let facts = |node: &Node| (node.created, node.uid.clone(), node.annotations.clone());
        if after.name == self.name {
            return before.internal_ips != after.internal_ips || facts(before) != facts(after);
        }
        let own = self.known.get(&self.name).and_then(|own| own.id());
        let has_it = |node: &Node| own.is_none() || node.id() == own;
        facts(before) != facts(after) && (has_it(before) || has_it(after))
    }

    fn decide(&mut self) {
        let own = self.known.get(&self.name).map(|own| {
            let others = self.known.values().filter(|node| node.name != self.name);
            (own.clone(), wanted(own, others.map(|node| &**node)))
        });
        self.here.send_replace(Some(Here { own, count: self.known.len() }));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use model::{Annotation, NodeAnnotation, ObjectId, ObjectName};

    use super::*;

    fn upsert(node: Node) -> Vec<Change> {
        vec![Change::Upsert(node.into())]
    }

    #[test]
    fn only_news_of_what_decides_is_passed_on_and_only_when_all_are_known() {
        let (mut nodes, mut here) = Nodes::new("n1");
        let node = |name: &str| Node { name: name.into(), uid: name.into(), ..Node::default() };
        nodes.take(&upsert(node("n1")));
        assert!(!here.has_changed().unwrap());
        nodes.complete();
        let now = here.borrow_and_update().clone().unwrap();
        assert_eq!((now.own.unwrap().0.name.as_str(), now.count), ("n1", 1));
        let labels = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        nodes.take(&upsert(Node { labels, ..node("n1") }));
        assert!(!here.has_changed().unwrap());
        nodes.take(&upsert(node("n2")));
        assert_eq!(here.borrow_and_update().clone().unwrap().count, 2);
        let with_id = |name: &str, id: &str| {
            let annotation = Annotation { value: id.into(), is_ours: true };
            upsert(Node { annotations: BTreeMap::from([(NodeAnnotation::NodeId, annotation)]), ..node(name) })
        };
        for (name, id, decides) in [
            ("n2", "7", true),
            ("n1", "8", true),
            ("n2", "9", false),
            ("n2", "8", true),
            ("n2", "8", false),
            ("n2", "9", true),
            ("n2", "10", false),
        ] {
            nodes.take(&with_id(name, id));
            assert_eq!(here.has_changed().unwrap(), decides, "{name} {id}");
            here.mark_unchanged();
        }
        let id = ObjectId { kind: Kind::Node, name: ObjectName::new("", "n1") };
        nodes.take(&[Change::Delete(id)]);
        assert!(here.borrow_and_update().clone().unwrap().own.is_none());
    }

    #[test]
    fn many_agents_take_their_time() {
        let spread = |count| Here { own: None, count }.spread();
        assert!(spread(1) < Duration::from_secs(1));
        assert_eq!(spread(5000).as_secs(), 100);
    }
}
