use std::time::Duration;

use model::{Pod, Policy, RedirectMode, TargetPort, resolve_policy};
use proptest::{collection::vec, prelude::*};
use serde_json::json;

use super::*;
use crate::oversight::{packing::MOST, sample::*};

const NAMESPACE: &str = "system";

fn random() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Relaxed)
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Works,
    /// It fails, and nothing has happened.
    Fails,
    /// It has happened, and nobody hears of it.
    Unheard,
    Conflicts,
}

/// Slices, and a server that has them.
struct World {
    slices: Slices,
    /// By name: version and object.
    server: BTreeMap<String, (u64, Value)>,
    version: u64,
    /// What the server has said and nobody has heard yet: name, version and object.
    said: Vec<(String, u64, Option<Value>)>,
    pods: BTreeMap<ObjectName, Pod>,
    policies: BTreeMap<String, Policy>,
    now: Moment,
    writes: Vec<String>,
}

impl World {
    fn new() -> Self {
        let mut slices = Slices::new(NAMESPACE, random);
        slices.start();
        let now = Moment { now: Instant::now(), time: Timestamp::UNIX_EPOCH };
        Self {
            slices,
            server: BTreeMap::new(),
            version: 0,
            said: Vec::new(),
            pods: BTreeMap::new(),
            policies: BTreeMap::new(),
            now,
            writes: Vec::new(),
        }
    }

    fn wanted(&self, policy: &Policy) -> Vec<EndpointSlice> {
        resolve_policy(policy, self.pods.values(), |_| None)
    }

    fn set_policy(&mut self, name: &str, uid: &str) {
        let policy = Policy { uid: uid.into(), ..policy(name) };
        let owner = Owner { name: name.into(), uid: uid.into() };
        self.slices.set_policy(owner, self.wanted(&policy));
        self.policies.insert(name.into(), policy);
        self.slices.settle(self.now);
    }

    fn remove_policy(&mut self, name: &str) {
        self.policies.remove(name);
        self.slices.remove_policy(name);
        self.slices.settle(self.now);
    }

    fn set_pod(&mut self, pod: Pod) {
        for policy in self.policies.values() {
            self.slices.set_pod(&policy.name, &pod.name, resolve_policy(policy, [&pod], |_| None));
        }
        self.pods.insert(pod.name.clone(), pod);
        self.slices.settle(self.now);
    }

    /// Another controller begins where this one was.
    fn restart(&mut self) {
        self.slices = Slices::new(NAMESPACE, random);
        self.said.clear();
        let all =
            self.server.iter().map(|(name, (version, object))| (name.clone(), *version, object.clone()));
        for (name, version, object) in all.collect::<Vec<_>>() {
            self.said.push((name, version, Some(object)));
        }
        self.hear(usize::MAX);
        assert_eq!((self.slices.waiting(), self.slices.next()), (0, None), "who follows does not write");
        self.slices.start();
        for policy in self.policies.clone().into_values() {
            self.set_policy(&policy.name, &policy.uid);
        }
        self.slices.sweep();
        self.slices.settle(self.now);
    }

    fn hear(&mut self, most: usize) {
        for (name, version, object) in self.said.drain(..most.min(self.said.len())).collect::<Vec<_>>() {
            let name = ObjectName::new(NAMESPACE, name);
            let text = object.map(|object| object.to_string());
            self.slices.saw(&name, &version.to_string(), text.as_deref(), self.now);
        }
    }

    fn store(&mut self, name: &str, object: Option<Value>) -> Value {
        self.version += 1;
        let stored = object.map(|mut object| {
            object["metadata"]["resourceVersion"] = self.version.to_string().into();
            self.server.insert(name.to_owned(), (self.version, object.clone()));
            object
        });
        if stored.is_none() {
            self.server.remove(name);
        }
        self.said.push((name.to_owned(), self.version, stored.clone()));
        stored.unwrap_or_default()
    }

    fn act(&mut self, task: &Task) -> Result<Value, Failure> {
        let there = self.server.get(&*task.name).cloned();
        let is = |version: &Value| {
            version.as_str().and_then(|text| text.parse().ok()) == there.as_ref().map(|it| it.0)
        };
        match &task.action {
            Action::Look => there.map(|(_, object)| object).ok_or(Failure::Missing),
            Action::Create(_) if there.is_some() => Err(Failure::Exists),
            Action::Create(body) => Ok(self.store(&task.name, Some(body.clone()))),
            _ if there.is_none() => Err(Failure::Missing),
            Action::Update(body) if is(&body["metadata"]["resourceVersion"]) => {
                Ok(self.store(&task.name, Some(body.clone())))
            }
            Action::Delete(version) if is(&version.text.as_str().into()) => Ok(self.store(&task.name, None)),
            Action::Update(_) | Action::Delete(_) => Err(Failure::Taken),
        }
    }

    /// Some time passes; what is due is tried.
    fn pass(&mut self, time: Duration, fate: Fate) {
        self.now.now += time;
        for task in self.slices.take(4, self.now.now) {
            self.writes.push(task.name.to_string());
            let outcome = match fate {
                Fate::Works => self.act(&task),
                Fate::Fails => Err(Failure::Later(None, String::new())),
                Fate::Unheard => {
                    let _ = self.act(&task);
                    Err(Failure::Later(None, String::new()))
                }
                Fate::Conflicts => Err(Failure::Taken),
            };
            self.slices.done(&task, outcome, self.now);
        }
    }

    /// Until nothing is to be done.
    fn drain(&mut self) {
        for _ in 0..500 {
            self.hear(usize::MAX);
            match self.slices.next() {
                None if self.said.is_empty() => return,
                None => {}
                Some(next) => self.pass(next.saturating_duration_since(self.now.now), Fate::Works),
            }
        }
        panic!("it never ends: {:?}", self.slices.todos);
    }

    /// What the server has is what should be.
    fn check(&self) {
        let mut held: BTreeMap<(String, ObjectName), (Vec<model::SlicePort>, model::Endpoint)> =
            BTreeMap::new();
        for (version, object) in self.server.values() {
            let (_, seen) = Seen::read(&serde_json::from_value(object.clone()).unwrap());
            let owner = seen.owner.expect("no owner");
            assert_eq!(self.policies.get(&owner.name).map(|it| &it.uid), Some(&owner.uid), "{version}");
            let slice = seen.slice.unwrap();
            assert!((1..=MOST).contains(&slice.endpoints.len()));
            for endpoint in slice.endpoints {
                let key = (owner.name.clone(), endpoint.pod.clone().unwrap());
                assert!(held.insert(key.clone(), (slice.ports.clone(), endpoint)).is_none(), "{key:?} twice");
            }
        }
        let mut wanted = BTreeMap::new();
        for policy in self.policies.values() {
            for slice in self.wanted(policy) {
                for endpoint in slice.endpoints {
                    let key = (policy.name.clone(), endpoint.pod.clone().unwrap());
                    wanted.insert(key, (slice.ports.clone(), endpoint));
                }
            }
        }
        assert_eq!(held, wanted);
        assert_eq!((self.slices.waiting(), self.slices.count()), (0, self.server.len()));
    }

    fn edit(&mut self, change: impl FnOnce(&mut Value)) {
        let Some((name, (_, mut object))) = self.server.clone().into_iter().next() else { return };
        change(&mut object);
        self.store(&name, Some(object));
    }
}

fn world(pods: usize) -> World {
    let mut world = World::new();
    world.pods = (0..pods).map(|number| (pod_name(number), pod(number))).collect();
    world.set_policy("web", "u1");
    world.drain();
    world.check();
    world.writes.clear();
    world
}

#[test]
fn p10_many_changes_are_one_write_and_none_is_written_twice() {
    let mut world = world(250);
    assert_eq!(world.server.len(), 3);
    for number in 0..20 {
        world.set_pod(Pod { ready: false, ..pod(number) });
    }
    assert_eq!(world.slices.next(), Some(world.now.now + Duration::from_millis(50)), "they are collected");
    world.drain();
    world.check();
    assert_eq!(world.writes.len(), 3, "one for each slice that one of the pods is in");
    world.drain();
    assert_eq!(world.writes.len(), 3, "what comes back is no news");
}

#[test]
fn what_somebody_edits_or_deletes_is_put_right() {
    let mut world = world(3);
    world.edit(|object| object["endpoints"] = json!([]));
    world.drain();
    world.check();
    world.edit(|object| object["metadata"]["labels"]["kubernetes.io/service-name"] = "web".into());
    world.drain();
    world.check();
    let name = world.server.keys().next().unwrap().clone();
    world.store(&name, None);
    world.drain();
    world.check();
    assert_eq!(world.writes.len(), 3);
    // Somebody else's of our label, and one that claims to be of the policy.
    let (_, mut stray) = world.server[&name].clone();
    world.store("copy", Some(stray.clone()));
    stray["metadata"]["ownerReferences"] = json!([]);
    world.store("stray", Some(stray));
    world.drain();
    world.check();
}

#[test]
fn a_policy_that_goes_takes_its_slices_along_and_one_of_its_name_has_its_own() {
    let mut world = world(3);
    let before = world.server.keys().next().unwrap().clone();
    world.set_policy("web", "u2");
    world.drain();
    world.check();
    assert!(!world.server.contains_key(&before));
    world.remove_policy("web");
    world.drain();
    world.check();
    assert!(world.server.is_empty());
}

#[test]
fn endpoints_that_move_are_never_nowhere() {
    let mut world = world(3);
    let old = world.server.keys().next().unwrap().clone();
    // Another port: all endpoints go into another slice.
    let mut moved = policy("web");
    moved.uid = "u1".into();
    moved.backends =
        model::PolicyBackends::Pods(backends(TargetPort::Number(9090)), RedirectMode::PodEndpoint);
    let owner = Owner { name: "web".into(), uid: "u1".into() };
    let wanted = resolve_policy(&moved, world.pods.values(), |_| None);
    world.slices.set_policy(owner, wanted);
    world.slices.settle(world.now);
    world.policies.insert("web".into(), moved);
    world.pass(Duration::from_millis(60), Fate::Fails);
    assert!(world.server.contains_key(&old) && world.writes.len() == 1, "{:?}", world.writes);
    // Pods go on changing: what is to go does not wait for that.
    world.pass(Duration::from_secs(1), Fate::Works);
    world.set_pod(pod(7));
    world.pass(Duration::ZERO, Fate::Works);
    assert!(!world.server.contains_key(&old), "{:?}", world.server.keys());
    world.drain();
    world.check();
}

#[test]
fn whoever_takes_over_leaves_what_is_right() {
    let mut world = world(250);
    world.restart();
    world.drain();
    world.check();
    assert_eq!(world.writes, [""; 0]);
    world.pods.remove(&pod_name(0));
    world.policies.remove("gone");
    world.restart();
    world.drain();
    world.check();
    assert_eq!(world.writes.len(), 1);
}

#[test]
fn slices_of_a_policy_that_nobody_understands_stay() {
    let mut world = world(3);
    let before = world.server.clone();
    world.slices = Slices::new(NAMESPACE, random);
    for (name, (version, object)) in &before {
        world.slices.saw(
            &ObjectName::new(NAMESPACE, &**name),
            &version.to_string(),
            Some(&object.to_string()),
            world.now,
        );
    }
    world.slices.start();
    world.slices.spare(Owner { name: "web".into(), uid: "u1".into() });
    world.slices.sweep();
    world.slices.settle(world.now);
    assert_eq!((world.slices.waiting(), world.slices.next()), (0, None));
    world.slices.remove_policy("web");
    world.slices.sweep();
    world.slices.settle(world.now);
    world.policies.clear();
    world.drain();
    world.check();
}

#[test]
fn a_server_that_refuses_is_not_asked_without_end() {
    let mut world = world(3);
    world.set_pod(pod(4));
    let refusal = |failure: fn() -> Failure, world: &mut World| {
        let at = world.slices.next().unwrap();
        world.now.now = at;
        for task in world.slices.take(9, at) {
            world.slices.done(&task, Err(failure()), world.now);
        }
        world.slices.next().unwrap() - at
    };
    assert!(refusal(|| Failure::Refused(String::new()), &mut world) >= Duration::from_secs(15));
    assert!(
        refusal(|| Failure::Later(Some(Duration::from_secs(9)), String::new()), &mut world)
            >= Duration::from_secs(9)
    );
    let mut last = Duration::ZERO;
    for _ in 0..12 {
        last = refusal(|| Failure::Taken, &mut world);
    }
    assert!(last >= Duration::from_secs(15), "{last:?}");
    world.drain();
    world.check();
}

/// What happens.
#[derive(Clone, Debug)]
enum Event {
    Pod(usize, bool),
    NoPods(usize),
    Policy(bool, bool),
    Edit(u8),
    Time(u64, Fate),
    Hear(usize),
    Restart,
}

fn event() -> impl Strategy<Value = Event> {
    let fate = prop_oneof![
        4 => Just(Fate::Works),
        1 => Just(Fate::Fails),
        1 => Just(Fate::Unheard),
        1 => Just(Fate::Conflicts)
    ];
    prop_oneof![
        8 => (0usize..260, any::<bool>()).prop_map(|(number, ready)| Event::Pod(number, ready)),
        2 => (0usize..260).prop_map(Event::NoPods),
        1 => (any::<bool>(), any::<bool>()).prop_map(|(first, is_there)| Event::Policy(first, is_there)),
        1 => (0u8..3).prop_map(Event::Edit),
        6 => (0u64..200, fate).prop_map(|(time, fate)| Event::Time(time, fate)),
        3 => (1usize..5).prop_map(Event::Hear),
        1 => Just(Event::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn p10_whatever_happens_slices_become_right(events in vec(event(), 1..150)) {
        let mut world = world(200);
        let mut uid = 1;
        for event in events {
            match event {
                Event::Pod(number, ready) => world.set_pod(Pod { ready, ..pod(number) }),
                Event::NoPods(from) => {
                    for number in from..from + 40 {
                        world.set_pod(Pod { finished: true, ..pod(number) });
                    }
                }
                Event::Policy(first, is_there) => {
                    let name = if first { "web" } else { "other" };
                    uid += 1;
                    if is_there { world.set_policy(name, &format!("u{uid}")) } else { world.remove_policy(name) }
                }
                Event::Edit(0) => world.edit(|object| object["endpoints"] = json!([])),
                Event::Edit(1) => world.edit(|object| object["metadata"]["ownerReferences"] = json!([])),
                Event::Edit(_) => {
                    if let Some(name) = world.server.keys().next().cloned() {
                        world.store(&name, None);
                    }
                }
                Event::Time(time, fate) => world.pass(Duration::from_millis(time), fate),
                Event::Hear(count) => world.hear(count),
                Event::Restart => world.restart(),
            }
        }
        world.drain();
        world.check();
    }
}
