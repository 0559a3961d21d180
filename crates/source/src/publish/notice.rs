//! Something to tell people who look at an object.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use model::{Kind, ObjectId, ObjectName};
use tokio::sync::mpsc;

use super::event::{LONGEST_NOTE, cut};

/// Notices that wait to be taken.
const WAITING: usize = 256;

/// Something to tell of an object: it becomes an Event there, if the agent is on a node and may write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// What it is about.
    pub regarding: Regarding,
    /// One word, `LikeThis`, for people to filter by.
    pub reason: &'static str,
    /// What is wrong, or has happened, and what to do.
    pub note: String,
    /// How bad it is.
    pub severity: Severity,
    /// Who else says so.
    pub scope: Scope,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Something is not in force that should be.
    Warning,
    /// Good to know.
    Normal,
}

/// Who else says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All agents see it alike: the first one tells of it, once. The note must be the same text on all of them.
    Cluster,
    /// It is so on this node: each tells for itself, and how often.
    Node,
}

/// The object that something is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Regarding {
    /// Kind, namespace and name.
    pub object: ObjectId,
    /// `metadata.uid`, empty if it is not known.
    pub uid: String,
}

impl Regarding {
    /// A Service.
    pub fn service(name: &ObjectName, uid: &str) -> Self {
        Self { object: ObjectId { kind: Kind::Service, name: name.clone() }, uid: uid.into() }
    }

    /// A Node.
    pub fn node(name: &str, uid: &str) -> Self {
        Self { object: ObjectId { kind: Kind::Node, name: ObjectName::new("", name) }, uid: uid.into() }
    }
}

/// What has become of notices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Events written, or their counts.
    pub written: u64,
    /// Notices that there was no room or no time for.
    pub dropped: u64,
}

/// Where notices are given. Clones lead to the same publisher.
#[derive(Clone, Debug, Default)]
pub struct Notices {
    sender: Option<mpsc::Sender<Notice>>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    written: AtomicU64,
    dropped: AtomicU64,
}

impl Notices {
    /// Some that somebody takes.
    pub(crate) fn new() -> (Self, Taken) {
        let (sender, receiver) = mpsc::channel(WAITING);
        let counts = Arc::new(Counts::default());
        (Self { sender: Some(sender), counts: counts.clone() }, Taken { receiver, counts })
    }

    /// Gives one. Never waits: what there is no room for is dropped, and counted. Where nothing is published it is passed
    /// over.
    pub fn tell(&self, mut notice: Notice) {
        let Some(sender) = &self.sender else { return };
        notice.note = cut(&notice.note, LONGEST_NOTE);
        if sender.try_send(notice).is_err() {
            self.counts.add_dropped(1);
        }
    }

    /// What has become of them; nothing where nothing is published.
    pub fn told(&self) -> Option<Told> {
        self.sender.as_ref().map(|_| Told {
            written: self.counts.written.load(Relaxed),
            dropped: self.counts.dropped.load(Relaxed),
        })
    }
}

/// The other end.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(super) receiver: mpsc::Receiver<Notice>,
    pub(super) counts: Arc<Counts>,
}

impl Counts {
    pub(super) fn add_written(&self) {
        self.written.fetch_add(1, Relaxed);
    }

    pub(super) fn add_dropped(&self, count: u64) {
        self.dropped.fetch_add(count, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn telling_never_waits_and_what_has_no_room_is_counted() {
        let notice = || Notice {
            regarding: Regarding::node("n1", "u"),
            reason: "Tested",
            note: "x".into(),
            severity: Severity::Normal,
            scope: Scope::Node,
        };
        let (notices, mut taken) = Notices::new();
        (0..WAITING + 3).for_each(|_| notices.tell(notice()));
        assert_eq!(notices.told(), Some(Told { written: 0, dropped: 3 }));
        assert_eq!(taken.receiver.try_recv(), Ok(notice()));
        let silent = Notices::default();
        silent.tell(notice());
        assert_eq!(silent.told(), None);
    }
}
