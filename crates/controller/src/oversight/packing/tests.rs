use std::net::Ipv6Addr;

use model::{ContainerPort, Pod, Policy, PolicyBackends, Protocol, RedirectMode, TargetPort, resolve_policy};
use proptest::{collection::vec, prelude::*};

use super::*;
use crate::oversight::sample::*;

/// Slices of one policy whose port has a name, as they become with changes of pods.
struct World {
    policy: Policy,
    pods: BTreeMap<ObjectName, Pod>,
    pack: Pack,
    names: usize,
}

impl World {
    fn new() -> Self {
        let named = backends(TargetPort::Name("http".into()));
        let policy =
            Policy { backends: PolicyBackends::Pods(named, RedirectMode::PodEndpoint), ..policy("p") };
        Self { policy, pods: BTreeMap::new(), pack: Pack::default(), names: 0 }
    }

    /// What is touched.
    fn set(&mut self, pod: Pod) -> BTreeSet<Arc<str>> {
        let name = pod.name.clone();
        let wanted = resolve_policy(&self.policy, [&pod], |_| None);
        self.pods.insert(name.clone(), pod);
        self.change(&name, wanted);
        self.pack.settle()
    }

    fn remove(&mut self, number: usize) -> BTreeSet<Arc<str>> {
        self.pods.remove(&pod_name(number));
        self.change(&pod_name(number), Vec::new());
        self.pack.settle()
    }

    fn change(&mut self, pod: &ObjectName, wanted: Vec<EndpointSlice>) {
        let names = &mut self.names;
        self.pack.set_pod(pod, wanted, &mut || {
            *names += 1;
            format!("s{names}")
        });
    }

    fn set_all(&mut self) -> BTreeSet<Arc<str>> {
        let names = &mut self.names;
        let wanted = resolve_policy(&self.policy, self.pods.values(), |_| None);
        self.pack.set_all(wanted, &mut || {
            *names += 1;
            format!("s{names}")
        });
        self.pack.settle()
    }

    fn sizes(&self) -> Vec<usize> {
        self.pack.drafts.values().map(|draft| draft.endpoints.len()).collect()
    }

    /// As [`model::resolve_policy`] has it from scratch, but for the cut: each endpoint once, no slice too large.
    fn check(&self) {
        let wanted: BTreeMap<_, _> =
            endpoints(resolve_policy(&self.policy, self.pods.values(), |_| None)).collect();
        let mut held = BTreeMap::new();
        for (name, draft) in &self.pack.drafts {
            assert!((1..=MOST).contains(&draft.endpoints.len()), "{name}: {}", draft.endpoints.len());
            for (pod, endpoint) in &draft.endpoints {
                let value = (Arc::from(draft.ports.clone()), endpoint.clone());
                assert!(held.insert((draft.family, pod.clone()), value).is_none(), "{pod} twice");
                assert_eq!(self.pack.at.get(&(draft.family, pod.clone())), Some(name));
            }
        }
        assert_eq!(held, wanted);
        assert_eq!(self.pack.at.len(), held.len());
        assert!(self.pack.touched.is_empty());
    }
}

fn http(pod: Pod, port: u16) -> Pod {
    Pod { ports: vec![ContainerPort { name: "http".into(), protocol: Protocol::Tcp, port }], ..pod }
}

fn full(count: usize) -> World {
    let mut world = World::new();
    for number in 0..count {
        world.pods.insert(pod_name(number), http(pod(number), 80));
    }
    world.set_all();
    world.check();
    world
}

#[test]
fn p10_a_pod_s_change_is_one_slice_s() {
    let mut world = full(1000);
    assert_eq!(world.sizes(), [MOST; 10]);
    for number in [0, 1, 500, 999] {
        assert_eq!(world.set(Pod { ready: false, ..http(pod(number), 80) }).len(), 1);
        assert_eq!(world.remove(number).len(), 1);
        // The hole that it has left is filled.
        assert_eq!(world.set(http(pod(2000 + number), 80)).len(), 1);
        world.check();
    }
    assert_eq!(world.sizes().len(), 10);
    assert_eq!(world.set(http(pod(500), 80)).len(), 1, "a slice is begun");
    assert_eq!(world.sizes().len(), 11);
    assert_eq!(world.set(http(pod(500), 80)), BTreeSet::new(), "no change is none");
}

#[test]
fn what_changes_anyway_is_filled_first() {
    let mut world = full(200);
    let at = |world: &World, number: usize| world.pack.at[&(Family::V4, pod_name(number))].clone();
    let (first, other) =
        (at(&world, 0), (0..200).find(|number| at(&world, *number) != at(&world, 0)).unwrap());
    world.change(&pod_name(other), Vec::new());
    world.pack.settle();
    world.change(&pod_name(0), Vec::new());
    let new = http(pod(300), 80);
    let wanted = resolve_policy(&world.policy, [&new], |_| None);
    world.change(&new.name, wanted);
    assert_eq!(world.pack.settle(), BTreeSet::from([first]), "both have room");
}

#[test]
fn slices_that_are_nearly_empty_go_into_others_and_not_back() {
    let mut world = full(200);
    let (mut most, mut last) = (0, world.sizes());
    for number in 0..150 {
        most = most.max(world.remove(number).len());
        world.check();
        last = world.sizes();
    }
    assert_eq!(last, [50], "50 of 200 are left");
    assert_eq!(most, 2, "a merge is one more slice");
    for number in 0..60 {
        assert_eq!(world.set(http(pod(number), 80)).len(), 1);
    }
    // To and fro over the edge nothing moves.
    for _ in 0..5 {
        assert_eq!((world.remove(0).len(), world.set(http(pod(0), 80)).len()), (1, 1));
    }
}

#[test]
fn pods_whose_ports_differ_share_no_slice() {
    let mut world = full(3);
    assert_eq!(world.set(http(pod(1), 81)).len(), 2);
    world.check();
    assert_eq!(world.sizes().len(), 2);
    let touched = world.set(pod(1));
    assert_eq!((touched.len(), world.sizes().len()), (1, 1), "it has no port of that name");
    world.check();
}

#[test]
fn what_is_taken_over_stays_where_it_is_and_what_is_wrong_with_it_does_not() {
    let world = full(250);
    let mut slices: Vec<EndpointSlice> = Vec::new();
    for (name, draft) in &world.pack.drafts {
        slices.push(EndpointSlice {
            name: ObjectName::new("system", &**name),
            family: draft.family,
            ports: draft.ports.clone(),
            endpoints: draft.endpoints.values().cloned().collect(),
            ..resolve_policy(&world.policy, [&http(pod(0), 80)], |_| None).remove(0)
        });
    }
    let adopt = |slices: &[EndpointSlice]| {
        let mut taken = World { pack: Pack::default(), pods: world.pods.clone(), ..World::new() };
        slices.iter().for_each(|it| taken.pack.adopt(&it.name.name.as_str().into(), it));
        (taken.set_all(), taken)
    };
    let (touched, taken) = adopt(&slices);
    taken.check();
    assert_eq!((touched, &taken.pack.drafts), (BTreeSet::new(), &world.pack.drafts));

    let twice = slices[0].endpoints[0].clone();
    slices[1].endpoints.push(twice);
    slices[2].endpoints[0].pod = None;
    let (touched, taken) = adopt(&slices);
    taken.check();
    let names = [1, 2].map(|at| Arc::from(slices[at].name.name.as_str()));
    assert_eq!(touched, BTreeSet::from(names));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn p10_pod_by_pod_is_as_from_scratch(
        changes in vec((0usize..180, 0u8..8), 1..700),
        batch in 1usize..50,
    ) {
        let mut world = World::new();
        for part in changes.chunks(batch) {
            for (number, what) in part {
                let mut new = http(pod(*number), 80 + u16::from(*what == 1));
                match what {
                    0 => new.finished = true,
                    2 => new.ready = false,
                    3 => new.ips.push(Ipv6Addr::from(*number as u128 + 1).into()),
                    4 => new.ips.clear(),
                    5 => new.ports.clear(),
                    _ => {}
                }
                if *what == 6 {
                    world.remove(*number);
                } else {
                    let wanted = resolve_policy(&world.policy, [&new], |_| None);
                    world.change(&new.name.clone(), wanted);
                    world.pods.insert(new.name.clone(), new);
                }
            }
            let touched = world.pack.settle();
            // Each pod is in two families at most, leaves a place and takes one, and a merge is one more.
            prop_assert!(touched.len() <= part.len() * 8, "{} of {}", touched.len(), part.len());
            world.check();
        }
        prop_assert!(world.set_all().is_empty());
    }
}
