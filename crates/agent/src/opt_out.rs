//! Which pods of this node are left alone because an annotation says so. Pure: which cgroups there are is given.
//!
//! The kubelet makes a pod's cgroup before its first container (kubernetes 1.36 pkg/kubelet/kubelet.go `SyncPod`), and hears of
//! the pod when the agent does: whoever looks for the cgroup soon and often has found it before anybody in it connects.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use model::{Cluster, ObjectId, ObjectName, Pod};

/// From one look for missing cgroups to the next, at first.
const SOON: Duration = Duration::from_millis(100);
/// The same for those that may never come.
const RARELY: Duration = Duration::from_secs(10);
/// Looking may take this part of a CPU; and of how long a cgroup has been missing already, this is how much longer it may be
/// until somebody notices that it is there.
const PART: u32 = 20;
/// How long a pod that runs may be without a cgroup before that is told of.
const PATIENCE: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct OptOuts {
    pods: BTreeMap<ObjectName, OptedOut>,
    /// When cgroups were looked for last, and how long that took.
    looked: Option<(Instant, Duration)>,
}

/// A pod that is to be left alone.
#[derive(Debug)]
struct OptedOut {
    uid: String,
    /// By whose annotation.
    by: ObjectId,
    /// It has had a container or an address, and so a cgroup.
    runs: bool,
    cgroup: Option<u64>,
    /// Since when there is no cgroup.
    since: Instant,
    /// It was looked for once at least.
    looked_for: bool,
}

impl OptedOut {
    fn new(uid: String, by: ObjectId, now: Instant) -> Self {
        Self { uid, by, runs: false, cgroup: None, since: now, looked_for: false }
    }

    /// Could its cgroup be found?
    fn is_missing(&self) -> bool {
        self.cgroup.is_none() && !self.uid.is_empty()
    }
}

impl OptOuts {
    /// Follows pods and namespaces.
    pub(crate) fn follow(&mut self, cluster: &Cluster, now: Instant) {
        let mut before = std::mem::take(&mut self.pods);
        for pod in cluster.own_pods().filter(|pod| !pod.finished) {
            let Some(by) = cluster.opted_out_by(pod) else { continue };
            let known = before.remove(&pod.name).filter(|known| known.uid == pod.uid);
            let mut it = match known {
                Some(known) => OptedOut { by, ..known },
                None => OptedOut::new(pod.uid.clone(), by, now),
            };
            // One that is ending may have lost its cgroup already.
            let runs = has_run(pod) && !pod.terminating;
            if runs && !it.runs {
                it.since = now;
            }
            it.runs = runs;
            self.pods.insert(pod.name.clone(), it);
        }
    }

    /// Their UIDs.
    pub(crate) fn uids(&self) -> BTreeSet<String> {
        self.pods.values().map(|it| it.uid.clone()).filter(|uid| !uid.is_empty()).collect()
    }

    /// When missing cgroups are to be looked for; `None`: there are none.
    pub(crate) fn due(&self) -> Option<Instant> {
        let missing = self.pods.values().filter(|it| it.is_missing());
        let newest = missing.max_by_key(|it| it.since)?;
        Some(match self.looked {
            Some((at, took)) if newest.looked_for => {
                at + pause(at.saturating_duration_since(newest.since), took)
            }
            _ => newest.since,
        })
    }

    /// They have just been looked for, which took so long.
    pub(crate) fn looked(&mut self, now: Instant, took: Duration) {
        self.looked = Some((now, took));
        self.pods.values_mut().for_each(|it| it.looked_for = true);
    }

    /// Pods' cgroups are these, by UID.
    pub(crate) fn place(&mut self, cgroups: &BTreeMap<String, u64>, now: Instant) {
        for it in self.pods.values_mut() {
            let cgroup = cgroups.get(&it.uid).copied();
            if it.cgroup.is_some() && cgroup.is_none() {
                it.since = now;
            }
            it.cgroup = cgroup;
        }
    }

    /// Their cgroups.
    pub(crate) fn cgroups(&self) -> impl Iterator<Item = u64> {
        self.pods.values().filter_map(|it| it.cgroup)
    }

    /// Has each been looked for? Until then others' cgroups may be theirs.
    pub(crate) fn are_known(&self) -> bool {
        self.pods.values().all(|it| it.looked_for || !it.is_missing())
    }

    /// How many there are, and how many of them have a cgroup.
    pub(crate) fn count(&self) -> (usize, usize) {
        (self.pods.len(), self.cgroups().count())
    }

    /// The pod with this UID, and by whose annotation it is left alone.
    pub(crate) fn pod(&self, uid: &str) -> Option<(&ObjectName, &ObjectId)> {
        let (name, it) = self.pods.iter().find(|(_, it)| it.uid == uid)?;
        Some((name, &it.by))
    }

    /// Which of them run and are not left alone, and why.
    pub(crate) fn problem(&self, now: Instant) -> Option<String> {
        let is_late = |it: &OptedOut| it.runs && now.saturating_duration_since(it.since) >= PATIENCE;
        let late = self.names(|it| it.is_missing() && is_late(it));
        let nameless = self.names(|it| it.uid.is_empty());
        let late = late.map(|names| {
            format!("{names} (no cgroup of cgroup2 is theirs: is the container runtime one of cgroup v1?)")
        });
        let nameless =
            nameless.map(|names| format!("{names} (no metadata.uid, by which a pod's cgroup is found)"));
        let all: Vec<String> = late.into_iter().chain(nameless).collect();
        (!all.is_empty()).then(|| format!("translated all the same: {}", all.join("; ")))
    }

    /// Names of those of which this holds; `None` if it does of none.
    fn names(&self, holds: impl Fn(&OptedOut) -> bool) -> Option<String> {
        let names = self.pods.iter().filter(|(_, it)| holds(it)).map(|(name, _)| name.to_string());
        let names: Vec<String> = names.collect();
        (!names.is_empty()).then(|| names.join(", "))
    }
}

fn has_run(pod: &Pod) -> bool {
    !pod.ips.is_empty() || pod.containers.iter().any(|it| !it.ids.is_empty())
}

/// Until the next look, after one that took so long at what had been missing for so long.
fn pause(missing: Duration, took: Duration) -> Duration {
    (missing / PART).clamp(SOON, RARELY).max(took * PART)
}

#[cfg(test)]
mod tests {
    use model::{Change, Kind, Namespace, Object, View};

    use super::*;

    fn pod(name: &str, socket_lb: Option<bool>) -> Pod {
        Pod {
            name: ObjectName::new("shop", name),
            labels: BTreeMap::new(),
            node: Some("n1".into()),
            uid: format!("uid-{name}"),
            host_network: false,
            ips: vec![],
            ready: false,
            finished: false,
            terminating: false,
            ports: vec![],
            containers: vec![],
            socket_lb,
        }
    }

    fn running(name: &str) -> Pod {
        Pod { ips: vec!["10.0.0.1".parse().unwrap()], ..pod(name, Some(false)) }
    }

    fn cluster(pods: impl IntoIterator<Item = Pod>) -> Cluster {
        let mut cluster = Cluster::new(View { node: "n1".into(), ..View::default() });
        cluster.apply_all(pods.into_iter().map(|pod| Change::Upsert(pod.into())));
        cluster
    }

    fn following(pods: impl IntoIterator<Item = Pod>, now: Instant) -> OptOuts {
        let mut opt_outs = OptOuts::default();
        opt_outs.follow(&cluster(pods), now);
        opt_outs
    }

    fn found(uids: &[(&str, u64)]) -> BTreeMap<String, u64> {
        uids.iter().map(|(uid, id)| ((*uid).to_owned(), *id)).collect()
    }

    #[test]
    fn pods_of_this_node_that_run_or_will_are_left_alone() {
        let now = Instant::now();
        let finished = Pod { finished: true, ..running("finished") };
        let elsewhere = Pod { node: Some("n2".into()), ..running("elsewhere") };
        let pods =
            [pod("new", Some(false)), pod("mesh", None), pod("served", Some(true)), finished, elsewhere];
        let mut cluster = cluster(pods);
        let mut opt_outs = OptOuts::default();
        opt_outs.follow(&cluster, now);
        assert_eq!(opt_outs.uids(), ["uid-new".to_owned()].into());
        let namespace = Namespace { name: "shop".into(), socket_lb: false };
        cluster.apply(Change::Upsert(Object::from(namespace)));
        opt_outs.follow(&cluster, now);
        assert_eq!(opt_outs.uids(), ["uid-mesh".to_owned(), "uid-new".to_owned()].into());
        let by = |uid: &str| opt_outs.pod(uid).map(|(pod, by)| (pod.to_string(), by.to_string()));
        assert_eq!(by("uid-mesh"), Some(("shop/mesh".into(), "Namespace shop".into())));
        assert_eq!(by("uid-new"), Some(("shop/new".into(), "Pod shop/new".into())));
        assert_eq!(by("uid-served"), None);
        let gone = ObjectId { kind: Kind::Pod, name: ObjectName::new("shop", "new") };
        cluster.apply(Change::Delete(gone));
        opt_outs.follow(&cluster, now);
        assert_eq!(opt_outs.count(), (1, 0));
    }

    #[test]
    fn a_cgroup_is_looked_for_at_once_then_often_then_rarely() {
        let begun = Instant::now();
        let mut opt_outs = following([pod("a", Some(false))], begun);
        assert!(!opt_outs.are_known());
        let (mut now, mut looks) = (begun, 0);
        assert_eq!(opt_outs.due(), Some(begun));
        while now < begun + Duration::from_secs(3600) {
            opt_outs.looked(now, Duration::from_millis(2));
            opt_outs.place(&found(&[]), now);
            looks += 1;
            let due = opt_outs.due().unwrap();
            let waited = now - begun;
            assert!(due - now >= SOON && due - now <= SOON.max(waited / 10).min(RARELY), "{waited:?}");
            now = due;
        }
        assert!(opt_outs.are_known() && looks < 600, "{looks}");
        // Another one is not late because of it.
        opt_outs.follow(&cluster([pod("a", Some(false)), pod("b", Some(false))]), now);
        assert_eq!((opt_outs.due(), opt_outs.are_known()), (Some(now), false));
        opt_outs.looked(now, Duration::ZERO);
        opt_outs.place(&found(&[("uid-a", 7), ("uid-b", 8), ("uid-other", 9)]), now);
        assert_eq!((opt_outs.due(), opt_outs.cgroups().collect::<Vec<_>>()), (None, vec![7, 8]));
        // It goes, and may come again.
        opt_outs.place(&found(&[("uid-a", 7)]), now);
        assert!(opt_outs.due().is_some_and(|due| due <= now + SOON));
        assert_eq!(opt_outs.cgroups().collect::<Vec<_>>(), [7]);
    }

    #[test]
    fn looking_takes_no_more_than_its_share() {
        let now = Instant::now();
        let mut opt_outs = following([pod("a", Some(false))], now);
        opt_outs.looked(now, Duration::from_secs(1));
        assert_eq!(opt_outs.due(), Some(now + Duration::from_secs(20)));
    }

    #[test]
    fn another_pod_of_the_same_name_has_another_cgroup() {
        let now = Instant::now();
        let mut opt_outs = following([running("a")], now);
        opt_outs.place(&found(&[("uid-a", 7)]), now);
        opt_outs.follow(&cluster([Pod { uid: "uid-b".into(), ..running("a") }]), now);
        assert_eq!((opt_outs.count(), opt_outs.are_known()), ((1, 0), false));
    }

    #[test]
    fn who_runs_and_is_not_found_is_told_of() {
        let begun = Instant::now();
        let later = begun + PATIENCE;
        let ending = Pod { terminating: true, ..running("ending") };
        let mut opt_outs = following([pod("waits", Some(false)), running("a"), running("b"), ending], begun);
        opt_outs.looked(begun, Duration::ZERO);
        opt_outs.place(&found(&[("uid-b", 7)]), begun);
        assert_eq!(opt_outs.problem(begun), None, "it may be there in a moment");
        let problem = opt_outs.problem(later).unwrap();
        assert!(problem.starts_with("translated all the same: shop/a (no cgroup"), "{problem}");
        // One that begins to run has as long.
        let pods = [running("waits"), running("b"), Pod { uid: String::new(), ..running("c") }];
        opt_outs.follow(&cluster(pods), later);
        let problem = opt_outs.problem(later).unwrap();
        assert!(problem.starts_with("translated all the same: shop/c (no metadata.uid"), "{problem}");
        assert!(opt_outs.problem(later + PATIENCE).unwrap().contains("shop/waits (no cgroup"));
    }
}
