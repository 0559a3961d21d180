//! R25: changes of endpoints that are on their way, and when they happened: the network programming latency, which clusters
//! have an objective for.
//!
//! Which count is as in kubernetes 1.36 pkg/proxy/endpointschangetracker.go: changes of what a slice says, not of its annotations
//! alone; those that happened since the agent started; not those of a service one of whose slices was deleted meanwhile, for the
//! deleted one says when it was changed last, not when it was deleted.

use std::collections::BTreeMap;

use model::{Change, Cluster, EndpointSlice, Family, Kind, Object, ObjectId, ObjectName};

/// Changes that are remembered at once; more are not counted. Only while nothing can be written are there so many.
const MOST: usize = 65_536;

/// Changes that are not in force yet.
#[derive(Debug)]
pub(crate) struct Triggers {
    /// In nanoseconds since 1970, as all times here.
    started: i64,
    waiting: BTreeMap<(ObjectId, Family), Vec<i64>>,
    count: usize,
}

impl Triggers {
    /// None yet.
    pub(crate) fn new(started: i64) -> Self {
        Self { started, waiting: BTreeMap::new(), count: 0 }
    }

    /// Sees changes before `cluster` does.
    pub(crate) fn see(&mut self, cluster: &Cluster, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Upsert(Object::EndpointSlice(slice)) => {
                    let is_news = cluster.slice(&slice.name).is_none_or(|before| !before.is_like(slice));
                    let at = slice.triggered.filter(|at| is_news && *at > self.started);
                    if let (Some(at), Some(of)) = (at.filter(|_| self.count < MOST), of(slice)) {
                        self.waiting.entry(of).or_default().push(at);
                        self.count += 1;
                    }
                }
                Change::Delete(id) if id.kind == Kind::EndpointSlice => {
                    let of = cluster.slice(&id.name).and_then(of);
                    self.count -= of.and_then(|of| self.waiting.remove(&of)).map_or(0, |times| times.len());
                }
                _ => {}
            }
        }
    }

    /// Everything is in force: what happened when, in which family.
    pub(crate) fn take(&mut self) -> impl Iterator<Item = (Family, i64)> + use<> {
        self.count = 0;
        let waiting = std::mem::take(&mut self.waiting);
        waiting.into_iter().flat_map(|((_, family), times)| times.into_iter().map(move |at| (family, at)))
    }
}

/// Whose it is.
fn of(slice: &EndpointSlice) -> Option<(ObjectId, Family)> {
    let (kind, namespace, name) = slice.owner()?;
    Some((ObjectId { kind, name: ObjectName::new(namespace, name) }, slice.family))
}

#[cfg(test)]
mod tests {
    use model::{Protocol, SlicePort, View};

    use super::*;

    /// A slice that says `port`.
    fn slice(name: &str, triggered: Option<i64>, port: u16) -> EndpointSlice {
        EndpointSlice {
            name: ObjectName::new("default", name),
            service: Some("web".into()),
            policy: None,
            headless: false,
            family: Family::V4,
            ports: vec![SlicePort { name: "".into(), protocol: Protocol::Tcp, port: Some(port) }],
            endpoints: vec![],
            triggered,
        }
    }

    /// What counts of these batches of changes, all taken at the end.
    fn counted(batches: Vec<Vec<Change>>) -> Vec<i64> {
        let (mut triggers, mut cluster) = (Triggers::new(100), Cluster::new(View::default()));
        for batch in batches {
            triggers.see(&cluster, &batch);
            cluster.apply_all(batch);
        }
        let counted = triggers.take().map(|(_, at)| at).collect();
        assert_eq!((triggers.take().count(), triggers.count), (0, 0), "each counts once");
        counted
    }

    fn put(name: &str, triggered: Option<i64>, port: u16) -> Change {
        Change::Upsert(slice(name, triggered, port).into())
    }

    fn delete(name: &str) -> Change {
        let Object::EndpointSlice(slice) = Object::from(slice(name, None, 80)) else { panic!() };
        Change::Delete(Object::EndpointSlice(slice).id())
    }

    const NONE: [i64; 0] = [];

    #[test]
    fn r25_changes_since_the_start_count() {
        assert_eq!(counted(vec![vec![put("a", Some(101), 80)]]), [101]);
        assert_eq!(counted(vec![vec![put("a", Some(100), 80), put("b", Some(99), 80)]]), NONE);
        assert_eq!(counted(vec![vec![put("a", None, 80)]]), NONE);
        let several =
            vec![vec![put("a", Some(101), 80), put("b", Some(102), 80)], vec![put("a", Some(103), 81)]];
        assert_eq!(counted(several), [101, 102, 103]);
    }

    #[test]
    fn r25_a_slice_that_says_the_same_does_not_count() {
        assert_eq!(counted(vec![vec![put("a", Some(101), 80)], vec![put("a", Some(102), 80)]]), [101]);
    }

    #[test]
    fn r25_what_a_deletion_changed_does_not_count() {
        let batch = vec![put("a", Some(101), 80), put("b", Some(102), 80)];
        assert_eq!(counted(vec![batch.clone(), vec![delete("a")]]), NONE);
        assert_eq!(counted(vec![batch.clone(), vec![delete("c")]]), [101, 102], "nobody knows it");
        assert_eq!(counted(vec![batch, vec![delete("a"), put("b", Some(103), 81)]]), [103]);
    }

    #[test]
    fn r25_slices_of_nobody_do_not_count() {
        let headless = EndpointSlice { headless: true, ..slice("a", Some(101), 80) };
        let orphan = EndpointSlice { service: None, ..slice("b", Some(101), 80) };
        assert_eq!(counted(vec![vec![Change::Upsert(headless.into()), Change::Upsert(orphan.into())]]), NONE);
    }

    #[test]
    fn r25_no_more_are_remembered_than_there_is_room_for() {
        let batch: Vec<Change> = (0..MOST + 5).map(|n| put(&n.to_string(), Some(101), 80)).collect();
        assert_eq!(counted(vec![batch]).len(), MOST);
    }
}
