//! Watches: events from a version on, initial events, bookmarks.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use serde_json::json;
use tokio::{
    sync::watch::Receiver,
    time::{Instant, Interval, interval_at, sleep_until},
};

use crate::{
    cluster::Cluster,
    control::OpenWatch,
    kind::Kind,
    list::write_object,
    object::Object,
    request::{Form, Query},
    selector::Selector,
    status::{Answer, Status},
    store::{Change, Store},
};

/// A real server ends a watch that says no timeout after 30 to 60 minutes.
const LONGEST: Duration = Duration::from_secs(45 * 60);

/// About this many bytes of events go into one piece.
const PIECE: usize = 256 * 1024;

/// What a watch asks for.
#[derive(Clone, Debug)]
pub(crate) struct WatchOptions {
    version: Option<u64>,
    bookmarks: bool,
    initial_events: Option<bool>,
    timeout: Duration,
}

/// Where events go and what of them.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) kind: Arc<Kind>,
    pub(crate) version: String,
    pub(crate) selector: Selector,
    pub(crate) form: Form,
}

/// An open watch.
pub(crate) struct Watch {
    cluster: Cluster,
    view: View,
    /// All changes up to this revision were sent.
    cursor: u64,
    epoch: u64,
    changed: Receiver<()>,
    bookmarks: Option<(Receiver<u64>, Interval)>,
    /// It has yet to be said that all initial events were sent; as soon as this is false.
    held: Option<Receiver<bool>>,
    deadline: Instant,
    /// Written and not yet sent.
    pending: Vec<u8>,
    is_over: bool,
    open: OpenWatch,
}

impl WatchOptions {
    pub(crate) fn parse(query: &Query) -> Answer<Self> {
        let matching = query.text("resourceVersionMatch");
        let initial_events = match query.text("sendInitialEvents") {
            "" => None,
            text => Some(text == "true" || text == "1"),
        };
        let forbidden = |what: &str| {
            let what = format!("Forbidden: {what}");
            Err(Status::invalid("ListOptions", "meta.k8s.io", "", "resourceVersionMatch", &what))
        };
        match (initial_events, matching) {
            (Some(_), "NotOlderThan") | (None, "") => {}
            (Some(_), _) => {
                return forbidden("sendInitialEvents requires setting resourceVersionMatch to NotOlderThan");
            }
            (None, _) => {
                return forbidden(
                    "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
                );
            }
        }
        Ok(Self {
            version: query.number("resourceVersion")?.filter(|&version| version > 0),
            bookmarks: query.flag("allowWatchBookmarks"),
            initial_events,
            timeout: query.number("timeoutSeconds")?.map_or(LONGEST, Duration::from_secs),
        })
    }
}

impl View {
    fn event(&self, to: &mut Vec<u8>, what: &str, object: &Object) {
        to.extend_from_slice(format!("{{\"type\":\"{what}\",\"object\":").as_bytes());
        write_object(to, &self.kind, &self.version, object, self.form);
        to.extend_from_slice(b"}\n");
    }

    /// What a change is to those who see only a part of the objects.
    fn change(&self, to: &mut Vec<u8>, change: &Change) {
        let sees = |object: &Option<Arc<Object>>| {
            object.as_ref().is_some_and(|object| self.selector.matches(&object.fields))
        };
        match (&change.after, sees(&change.before), sees(&change.after)) {
            (Some(after), false, true) => self.event(to, "ADDED", after),
            (Some(after), true, true) => self.event(to, "MODIFIED", after),
            (_, true, false) => {
                if let Some(gone) = change.gone() {
                    self.event(to, "DELETED", gone);
                }
            }
            _ => {}
        }
    }

    fn bookmark(&self, to: &mut Vec<u8>, revision: u64, ends_initial_events: bool) {
        let mut metadata = json!({"resourceVersion": revision.to_string()});
        if ends_initial_events {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let (kind, api_version) = match self.form {
            Form::Whole => (self.kind.kind.clone(), self.kind.api_version_of(&self.version)),
            Form::Metadata => ("PartialObjectMetadata".to_owned(), "meta.k8s.io/v1".to_owned()),
        };
        let object = json!({"kind": kind, "apiVersion": api_version, "metadata": metadata});
        to.extend_from_slice(json!({"type": "BOOKMARK", "object": object}).to_string().as_bytes());
        to.push(b'\n');
    }

    fn initial_events(&self, to: &mut Vec<u8>, store: &Store) {
        let page = store.page(&self.kind, store.revision(), &self.selector, None, usize::MAX);
        page.items.iter().for_each(|object| self.event(to, "ADDED", object));
    }
}

impl Watch {
    /// Opens a watch. What is wrong with the version is told by an event, as by a real server.
    pub(crate) fn open(
        cluster: &Cluster,
        view: View,
        options: &WatchOptions,
        open: OpenWatch,
    ) -> Answer<Self> {
        let (bookmark, period) = cluster.bookmarks();
        let bookmarks = (options.bookmarks)
            .then(|| (bookmark, interval_at(Instant::now() + period, period.max(Duration::from_millis(1)))));
        let store = cluster.store();
        let changed = store.follow(&view.kind).ok_or_else(Status::no_page)?;
        let (current, floor) = (store.revision(), store.floor(&view.kind));
        let mut pending = Vec::new();
        let mut is_over = false;
        let mut fail = |status: Status| {
            let event = json!({"type": "ERROR", "object": status.to_value()});
            pending = format!("{event}\n").into_bytes();
            is_over = true;
        };
        let mut cursor = current;
        let mut held = None;
        match (options.version, options.initial_events) {
            (Some(asked), Some(true)) if asked > current => fail(Status::too_large_version(asked, current)),
            (None, None) | (_, Some(true)) => {
                view.initial_events(&mut pending, &store);
                if options.initial_events.is_some() && options.bookmarks {
                    let lists = cluster.lists_held();
                    if *lists.borrow() {
                        held = Some(lists);
                    } else {
                        view.bookmark(&mut pending, current, true);
                    }
                }
            }
            (None, Some(false)) => {}
            (Some(asked), _) if asked < floor => {
                fail(Status::expired(format!("too old resource version: {asked} ({floor})")));
            }
            // A version that is not there yet is no error: nothing is sent until it is passed.
            (Some(asked), _) => cursor = asked,
        }
        let epoch = store.epoch;
        drop(store);
        let deadline = Instant::now() + options.timeout;
        Ok(Self {
            cluster: cluster.clone(),
            view,
            cursor,
            epoch,
            changed,
            bookmarks,
            held,
            deadline,
            pending,
            is_over,
            open,
        })
    }

    /// The next events; `None`: the watch has ended.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        loop {
            if !self.pending.is_empty() {
                return Some(Bytes::from(std::mem::take(&mut self.pending)));
            }
            if self.is_over {
                return None;
            }
            self.changed.mark_unchanged();
            self.collect();
            if !self.pending.is_empty() || self.is_over {
                continue;
            }
            let bookmark = async {
                match &mut self.bookmarks {
                    Some((ordered, interval)) => tokio::select! {
                        _ = interval.tick() => {}
                        // Its sender lives as long as the cluster.
                        _ = ordered.changed() => {}
                    },
                    None => std::future::pending().await,
                }
            };
            let released = async {
                match &mut self.held {
                    // Its sender lives as long as the cluster.
                    Some(held) => drop(held.wait_for(|held| !held).await),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = self.changed.changed() => {}
                () = released => {
                    self.held = None;
                    self.collect();
                    if !self.is_over {
                        self.view.bookmark(&mut self.pending, self.cursor, true);
                    }
                }
                () = sleep_until(self.deadline) => self.is_over = true,
                () = self.open.ended() => self.is_over = true,
                () = bookmark => {
                    self.collect();
                    self.view.bookmark(&mut self.pending, self.cursor, false);
                }
            }
        }
    }

    /// Writes what has changed since the last time.
    fn collect(&mut self) {
        let store = self.cluster.store();
        if store.epoch != self.epoch || self.cursor < store.lost(&self.view.kind) {
            // Restored to another time, or too slow to be told all.
            self.is_over = true;
            return;
        }
        for change in store.changes(&self.view.kind, self.cursor) {
            self.view.change(&mut self.pending, change);
            self.cursor = change.revision;
            if self.pending.len() >= PIECE {
                return;
            }
        }
        self.cursor = self.cursor.max(store.revision());
        self.is_over = !store.serves(&self.view.kind);
    }
}
