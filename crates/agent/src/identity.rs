//! Whose a client is: cgroup → container → pod. Pure: what paths and namespaces there are is given.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    net::IpAddr,
};

use host::container::{InPod, Place};
use model::{Change, Kind, Object, ObjectName, Pod};
use observe::event::Who;

use crate::client::Found;

pub(crate) mod held;

/// Pods that are remembered after they have gone: their last events are read after that.
const GONE: usize = 1024;
/// Network namespaces that are known; all are looked for again when there are more.
const NAMESPACES: usize = 16_384;

/// What is known of the pods of this node.
#[derive(Debug, Default)]
pub(crate) struct Identities {
    /// By UID, those that have gone too.
    pods: HashMap<String, Known>,
    uids: HashMap<ObjectName, String>,
    gone: VecDeque<String>,
    /// The source has given everything once: who is not known now may be told of later, but need not be.
    synced: bool,
    /// Whose a network namespace is, by its cookie; `None` = no pod's.
    namespaces: HashMap<u64, Option<String>>,
    /// Goes up when somebody may be known who was not.
    version: u64,
}

#[derive(Debug)]
struct Known {
    name: ObjectName,
    host_network: bool,
    ips: Vec<IpAddr>,
    /// All its containers have ended: its address may be another's, though its status still has it.
    finished: bool,
    /// Who is preferred where several say that an address is theirs: who is ready, then who was seen first last.
    preference: (bool, u64),
    /// Names of its containers, by id, also of those that have ended.
    containers: BTreeMap<String, String>,
    /// Its only container, whose name needs no id.
    only: Option<String>,
    gone: bool,
}

/// A client with names.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) who: Who,
    /// Nothing more will be known of it.
    pub(crate) sure: bool,
}

impl Identities {
    /// Objects have changed.
    pub(crate) fn see(&mut self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Upsert(Object::Pod(pod)) if !pod.uid.is_empty() => self.see_pod(pod),
                Change::Delete(id) if id.kind == Kind::Pod => {
                    if let Some(uid) = self.uids.remove(&id.name) {
                        self.forget_later(uid);
                    }
                }
                _ => {}
            }
        }
    }

    /// The source has given everything once.
    pub(crate) fn synced(&mut self) {
        self.synced = true;
        self.version += 1;
    }

    fn see_pod(&mut self, pod: &Pod) {
        self.version += 1;
        match self.uids.insert(pod.name.clone(), pod.uid.clone()) {
            Some(before) if before != pod.uid => self.forget_later(before),
            _ => {}
        }
        let version = self.version;
        let known = self.pods.entry(pod.uid.clone()).or_insert_with(|| Known {
            name: pod.name.clone(),
            host_network: pod.host_network,
            ips: Vec::new(),
            finished: false,
            preference: (false, version),
            containers: BTreeMap::new(),
            only: None,
            gone: false,
        });
        known.gone = false;
        known.ips.clone_from(&pod.ips);
        known.finished = pod.finished;
        known.preference.0 = pod.ready && !pod.terminating;
        known.only = match &pod.containers[..] {
            [only] => Some(only.name.clone()),
            _ => None,
        };
        let ids = pod.containers.iter().flat_map(|it| it.ids.iter().map(|id| (id.clone(), it.name.clone())));
        known.containers.extend(ids);
    }

    fn forget_later(&mut self, uid: String) {
        if let Some(known) = self.pods.get_mut(&uid) {
            known.gone = true;
            self.gone.push_back(uid);
        }
        while self.gone.len() > GONE {
            if let Some(uid) = self.gone.pop_front()
                && self.pods.get(&uid).is_some_and(|known| known.gone)
            {
                self.pods.remove(&uid);
            }
        }
    }

    /// The network namespaces of the machine are these.
    pub(crate) fn set_namespaces(&mut self, found: &Found) {
        let mut pods: Vec<_> =
            self.pods.iter().filter(|(_, pod)| !pod.host_network && !pod.gone && !pod.finished).collect();
        // The last one counts.
        pods.sort_by_key(|(_, pod)| pod.preference);
        let by_ip: HashMap<IpAddr, &String> =
            pods.into_iter().flat_map(|(uid, pod)| pod.ips.iter().map(move |ip| (*ip, uid))).collect();
        if self.namespaces.len() > NAMESPACES {
            self.namespaces.clear();
        }
        for (cookie, ips) in found {
            let pod = ips.iter().find_map(|ip| by_ip.get(ip)).map(|uid| (*uid).clone());
            // Whose it was it stays, also when the pod has gone: cookies are never used again.
            if pod.is_some() || !self.namespaces.contains_key(cookie) {
                self.namespaces.insert(*cookie, pod);
            }
        }
        self.version += 1;
    }

    /// It is in nobody's sight, and will not come back into it.
    pub(crate) fn give_up_namespace(&mut self, cookie: u64) {
        self.namespaces.entry(cookie).or_insert(None);
    }

    /// Goes up when somebody may be known who was not.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// Is there anybody whose namespace could tell who it is?
    pub(crate) fn has_namespaces(&self) -> bool {
        self.pods.values().any(|pod| !pod.host_network)
    }

    /// Whose the processes of a cgroup are. `netns` is the client's network namespace, `None` if it is the host's or not known.
    /// `v1` gives what the process's other cgroups say; it is asked only where nothing else tells.
    pub(crate) fn who(
        &self,
        place: Option<&Place>,
        netns: Option<u64>,
        v1: impl FnOnce() -> Option<Place>,
    ) -> Named {
        let unknown = Place::default();
        let place = place.unwrap_or(&unknown);
        if let Some((pod, spot)) = self.in_known_pod(place) {
            return named(pod, spot.container.as_deref());
        }
        let is_host = place.container.is_none() && place.pods.is_empty() && !place.host.is_empty();
        let host = is_host.then(|| place.host.clone());
        let who = Who { host, container_id: place.container.clone(), ..Who::default() };
        if !place.pods.is_empty() {
            // Its pod may be told of in a moment; where none ever is, there is nothing to wait for.
            return Named { who, sure: self.synced && self.pods.is_empty() };
        }
        // No cgroup of a pod: where runtimes use other hierarchies, the network namespace tells.
        let by_namespace = netns.map(|cookie| self.namespaces.get(&cookie));
        match by_namespace {
            Some(Some(Some(uid))) => match self.pods.get(uid) {
                Some(pod) => {
                    let spot = v1().and_then(|v1| v1.pods.into_iter().find(|spot| spot.uid == *uid));
                    let container = spot.and_then(|spot| spot.container);
                    let Named { who, sure } = named(pod, container.as_deref());
                    Named { sure: sure || container.is_none(), who }
                }
                None => Named { who, sure: true },
            },
            Some(None) if !self.synced || self.has_namespaces() => Named { who, sure: false },
            // In the host's: a pod there has nothing but its cgroups.
            None if self.pods.values().any(|pod| pod.host_network) => {
                let v1 = v1().unwrap_or_default();
                match self.in_known_pod(&v1) {
                    Some((pod, spot)) if pod.host_network => named(pod, spot.container.as_deref()),
                    _ => Named { who, sure: true },
                }
            }
            _ => Named { who, sure: true },
        }
    }

    fn in_known_pod<'a>(&'a self, place: &'a Place) -> Option<(&'a Known, &'a InPod)> {
        place.pods.iter().find_map(|spot| Some((self.pods.get(&spot.uid)?, spot)))
    }
}

fn named(pod: &Known, container: Option<&str>) -> Named {
    let name = container.and_then(|id| pod.containers.get(id).or(pod.only.as_ref()));
    let who = Who {
        namespace: Some(pod.name.namespace.to_string()),
        pod: Some(pod.name.name.clone()),
        container: name.cloned(),
        container_id: container.map(Into::into),
        host: None,
    };
    // The status follows the container, which may connect before that.
    Named { sure: name.is_some() || container.is_none() || pod.gone, who }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Container, ObjectId};
    use std::sync::Arc;

    const UID: &str = "01234567-89ab-cdef-0123-456789abcdef";
    const OUTER: &str = "fedcba9876543210fedcba9876543210";
    const ID: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn pod(name: &str, uid: &str, containers: &[(&str, &[&str])]) -> Pod {
        let containers = containers.iter().map(|(name, ids)| Container {
            name: (*name).into(),
            ids: ids.iter().map(|id| (*id).into()).collect(),
        });
        Pod {
            name: ObjectName::new("shop", name),
            labels: BTreeMap::new(),
            node: Some("n1".into()),
            uid: uid.into(),
            host_network: false,
            ips: vec!["10.0.0.1".parse().unwrap()],
            ready: true,
            finished: false,
            terminating: false,
            ports: vec![],
            containers: containers.collect(),
            socket_lb: None,
        }
    }

    fn seen(pods: &[Pod]) -> Identities {
        let mut identities = Identities::default();
        identities.synced();
        let changes: Vec<Change> =
            pods.iter().map(|pod| Change::Upsert(Object::Pod(Arc::new(pod.clone())))).collect();
        identities.see(&changes);
        identities
    }

    fn place(uid: &str) -> Place {
        Place::of(&format!("/kubepods/burstable/pod{uid}/{ID}"))
    }

    /// Pod, container, sure.
    fn told(
        identities: &Identities,
        place: &Place,
        netns: Option<u64>,
    ) -> (Option<String>, Option<String>, bool) {
        let Named { who, sure } = identities.who(Some(place), netns, || None);
        (who.pod, who.container, sure)
    }

    #[test]
    fn a_container_has_the_name_that_the_status_gives_it() {
        let identities = seen(&[pod("web-1", UID, &[("init", &["a1"]), ("web", &["b2", ID])])]);
        assert_eq!(told(&identities, &place(UID), None), (Some("web-1".into()), Some("web".into()), true));
    }

    #[test]
    fn names_that_are_not_known_yet_are_waited_for_unless_there_is_only_one() {
        let two = pod("web-1", UID, &[("web", &[]), ("proxy", &[])]);
        let identities = seen(&[two]);
        assert_eq!(told(&identities, &place(UID), None), (Some("web-1".into()), None, false));
        let one = pod("web-1", UID, &[("web", &[])]);
        let identities = seen(&[one]);
        assert_eq!(told(&identities, &place(UID), None), (Some("web-1".into()), Some("web".into()), true));
        // Another pod's: it may be told of.
        assert_eq!(told(&identities, &place(OUTER), None), (None, None, false));
        let mut nobody = Identities::default();
        assert_eq!(told(&nobody, &place(OUTER), None), (None, None, false), "the source was not read yet");
        assert!(!told(&nobody, &Place::of("/x"), Some(7)).2 && told(&nobody, &Place::of("/x"), None).2);
        let before = nobody.version();
        nobody.synced();
        assert!(nobody.version() > before, "those that are held are looked at again");
        assert_eq!(told(&nobody, &place(OUTER), None), (None, None, true), "nobody is ever");
        assert!(told(&nobody, &Place::of("/x"), Some(7)).2);
    }

    #[test]
    fn what_is_in_a_container_is_not_the_hosts() {
        let unknown = seen(&[]).who(Some(&place(UID)), None, || None).who;
        assert_eq!((unknown.host, unknown.container_id.as_deref()), (None, Some(ID)));
        let docker = Place::of(&format!("/system.slice/docker-{ID}.scope"));
        let docker = seen(&[]).who(Some(&docker), None, || None).who;
        assert_eq!((docker.host, docker.container_id.as_deref()), (None, Some(ID)));
        // Of a pod's own cgroup nothing is known but that.
        assert_eq!(
            seen(&[]).who(Some(&Place::of(&format!("/kubepods/pod{UID}"))), None, || None).who,
            Who::default()
        );
    }

    /// The status of a pod that has finished keeps the address, which may be another's by now.
    #[test]
    fn an_address_that_several_pods_have_is_the_living_ones_and_then_the_newest_ready_ones() {
        let told = |change: fn(&mut Pod)| {
            let mut all: Vec<Pod> =
                (0..20).map(|n| pod(&format!("old-{n}"), &format!("{n:032}"), &[])).collect();
            all.iter_mut().for_each(change);
            all.push(pod("new", UID, &[]));
            let mut identities = seen(&all);
            identities.set_namespaces(&Found::from([(7, vec!["10.0.0.1".parse().unwrap()])]));
            identities.who(None, Some(7), || None).who.pod
        };
        assert_eq!(told(|old| old.finished = true).as_deref(), Some("new"));
        assert_eq!(told(|old| old.ready = false).as_deref(), Some("new"));
        assert_eq!(told(|old| old.terminating = true).as_deref(), Some("new"));
        assert_eq!(told(|_| {}).as_deref(), Some("new"));
        let last_is_not_ready = {
            let mut all = vec![pod("ready", UID, &[]), pod("starts", OUTER, &[])];
            all[1].ready = false;
            let mut identities = seen(&all);
            identities.set_namespaces(&Found::from([(7, vec!["10.0.0.1".parse().unwrap()])]));
            identities.who(None, Some(7), || None).who.pod
        };
        assert_eq!(last_is_not_ready.as_deref(), Some("ready"));
    }

    #[test]
    fn a_pod_that_has_gone_is_known_for_its_last_events() {
        let mut identities = seen(&[pod("web-1", UID, &[("web", &[ID]), ("proxy", &[])])]);
        // The name is another pod's now.
        identities.see(&[Change::Upsert(Object::Pod(Arc::new(pod("web-1", OUTER, &[("web", &[])]))))]);
        assert_eq!(told(&identities, &place(UID), None).1.as_deref(), Some("web"));
        identities
            .see(&[Change::Delete(ObjectId { kind: Kind::Pod, name: ObjectName::new("shop", "web-1") })]);
        assert_eq!(told(&identities, &place(OUTER), None).0.as_deref(), Some("web-1"));
        for n in 0..GONE {
            let other = pod("web-1", &format!("{n:032}"), &[]);
            identities.see(&[Change::Upsert(Object::Pod(Arc::new(other)))]);
        }
        assert_eq!(told(&identities, &place(UID), None).0, None, "not for ever");
        assert!(identities.pods.len() <= GONE + 1);
    }

    #[test]
    fn the_outermost_pod_that_is_known_counts() {
        let nested = Place::of(&format!("/kubepods/pod{OUTER}/{ID}/kubelet/kubepods/pod{UID}/{ID}"));
        for (uid, name) in [(UID, "inner"), (OUTER, "outer")] {
            let identities = seen(&[pod(name, uid, &[("it", &[ID])])]);
            assert_eq!(told(&identities, &nested, None).0.as_deref(), Some(name));
        }
        let both = seen(&[pod("inner", UID, &[]), pod("outer", OUTER, &[])]);
        assert_eq!(
            told(&both, &nested, None).0.as_deref(),
            Some("outer"),
            "the other one may be a name that it made up"
        );
    }

    #[test]
    fn without_a_pods_cgroup_the_network_namespace_tells_and_other_hierarchies_which_container() {
        let mut identities = seen(&[pod("web-1", UID, &[("web", &[ID]), ("proxy", &[])])]);
        let runtime = Place::of("/system.slice/containerd.service");
        assert_eq!(told(&identities, &runtime, Some(7)), (None, None, false), "it may be found");
        identities.set_namespaces(&Found::from([
            (7, vec!["10.0.0.1".parse().unwrap()]),
            (8, vec!["10.9.9.9".parse().unwrap()]),
        ]));
        assert_eq!(told(&identities, &runtime, Some(7)), (Some("web-1".into()), None, true));
        let v1 = identities.who(Some(&runtime), Some(7), || Some(place(UID)));
        assert_eq!(v1.who.container.as_deref(), Some("web"));
        // Of another pod: a process id that is somebody else's by now.
        let wrong = identities.who(Some(&runtime), Some(7), || Some(place(OUTER)));
        assert_eq!((wrong.who.pod.as_deref(), wrong.who.container), (Some("web-1"), None));
        // A namespace of no pod, and one that nobody finds.
        let host = |netns| identities.who(Some(&runtime), netns, || None);
        assert_eq!(host(Some(8)), host(None));
        assert_eq!(host(None).who.host.as_deref(), Some("containerd.service"));
        assert!(host(Some(8)).sure && !host(Some(9)).sure);
        identities.give_up_namespace(9);
        assert!(identities.who(Some(&runtime), Some(9), || None).sure);
    }

    #[test]
    fn on_the_hosts_network_only_other_hierarchies_tell() {
        let mut own = pod("agent", UID, &[("it", &[ID])]);
        own.host_network = true;
        let identities = seen(&[own]);
        let runtime = Place::of("/system.slice/containerd.service");
        let who = |v1: Option<Place>| identities.who(Some(&runtime), None, || v1).who;
        assert_eq!(who(Some(place(UID))).pod.as_deref(), Some("agent"));
        assert_eq!(who(Some(place(OUTER))).host.as_deref(), Some("containerd.service"));
        assert_eq!(who(None).host.as_deref(), Some("containerd.service"));
    }
}
