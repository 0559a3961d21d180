//! P6: a policy's connections a second, while all CPUs offer as many as they can.
//!
//! Who got a connection is seen by its real peer: the hook of `getpeername()` is taken away. When it was let in is known to be
//! between two looks at the clock, before and after its `connect()`: what is certain by these is what is checked.

#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use abi::policy::{halves, number};
use balancing_tests::{
    scenario::upserts,
    socket::Socket,
    world::{KernelWorld, World},
};
use model::{Protocol, View};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use testkit::{
    Family,
    object::{documents, pod, service, slice},
    wait,
};

const VIP: &str = "10.96.0.10:53";
const LOCAL: &str = "10.1.0.1:53";
const LIMIT: usize = 1_000;
const FOR: Duration = Duration::from_secs(10);
const SECOND: Duration = Duration::from_secs(1);
/// Threads on each CPU: what one has begun another may overtake.
const EACH: usize = 2;

/// A DNS service with a pod on another node, and a policy that redirects to a pod here.
fn manifests() -> String {
    let dns = service("dns").cluster_ip("10.96.0.10").port("dns:53/UDP").port("dns-tcp:53/TCP");
    let far = slice("dns-4", "dns").port("dns:53/UDP").port("dns-tcp:53/TCP").endpoint("10.1.0.9");
    let near = pod("near").label("app", "near").node("n1").ip("10.1.0.1");
    let policy = format!(
        "apiVersion: balancing.elf.io/v1beta1
kind: LocalRedirectPolicy
metadata: {{name: near}}
spec:
  config: {{qosLimit: {LIMIT}}}
  frontend:
    serviceMatcher: {{namespace: default, serviceName: dns}}
  backend:
    endpointSelector: {{matchLabels: {{app: near}}}}
    toPorts:
      - {{name: dns, port: \"53\", protocol: UDP}}
      - {{name: dns-tcp, port: \"53\", protocol: TCP}}
"
    );
    documents(&[&dns, &far, &near, &policy])
}

/// What a client has seen.
#[derive(Default)]
struct Seen {
    connects: usize,
    /// The clock before and after each connection that was redirected.
    redirected: Vec<[Instant; 2]>,
}

/// Connects as often as it can: sockets of UDP and of both families over and over, each connect a new choice (R8); if `tcp`, a
/// new connection now and then, too.
fn connect(stop: &AtomicBool, tcp: bool) -> Seen {
    let (vip, local): (SocketAddr, SocketAddr) = (VIP.parse().unwrap(), LOCAL.parse().unwrap());
    let families = [Family::V4, Family::Mapped];
    let sockets = families.map(|family| Socket::open(Protocol::Udp, family).unwrap());
    let mut seen = Seen::default();
    while !stop.load(Relaxed) {
        seen.connects += 1;
        let fresh;
        let mut socket = &sockets[seen.connects % 2];
        if tcp && seen.connects % 64 == 0 {
            fresh = Socket::open(Protocol::Tcp, families[seen.connects / 64 % 2]).unwrap();
            socket = &fresh;
        }
        let before = Instant::now();
        socket.connect(vip).unwrap();
        let after = Instant::now();
        let peer = socket.peer().unwrap();
        if peer == local {
            seen.redirected.push([before, after]);
        }
    }
    seen
}

/// The most connections that were let in within one second for certain.
fn most_in_a_second(mut all: Vec<[Instant; 2]>) -> usize {
    all.sort();
    // Those that began at the same time or later, and were over within a second of that.
    let within = |first: usize| {
        let end = all[first][0] + SECOND;
        all[first..].iter().take_while(|it| it[0] <= end).filter(|it| it[1] <= end).count()
    };
    (0..all.len()).map(within).max().unwrap_or_default()
}

#[test]
fn p6_a_thousand_a_second_are_redirected_whatever_all_cpus_offer_and_the_rest_spills() {
    let view = View { node: "n1".into(), ..View::default() };
    let mut world = KernelWorld::new("limit", view).unwrap();
    world.change(upserts(&manifests()).unwrap()).unwrap();
    world.sync().unwrap();
    let machine = world.machine();
    for hook in ["getpeername4", "getpeername6"] {
        machine.pins.remove_link(hook).unwrap();
    }
    // The kernel detaches when the last reference to the link is gone, which may be a moment later.
    let mut tried = 0;
    wait::until(Duration::from_secs(5), "getpeername() without its hook", || {
        tried += 1;
        machine.run(|| {
            let socket = Socket::open(Protocol::Udp, Family::V4).unwrap();
            socket.connect(VIP.parse().unwrap()).unwrap();
            socket.peer().unwrap() != VIP.parse().unwrap()
        })
    });
    let policy = halves(number(abi::name::owner_kind::LOCAL_REDIRECT, b"near"));
    let maps = machine.maps().unwrap();
    let counted = || maps.policies().unwrap()[&policy];
    let before = counted();
    assert_eq!((before.spills, before.fallbacks), (0, 0), "{tried} connects");
    // Those of before are over.
    thread::sleep(SECOND + Duration::from_millis(10));

    let stop = Arc::new(AtomicBool::new(false));
    let begun = Instant::now();
    let cpus = (0..CpuSet::MAX_CPU).filter(|cpu| sched_getaffinity(None).unwrap().is_set(*cpu));
    let clients: Vec<_> = cpus
        .flat_map(|cpu| (0..EACH).map(move |n| (cpu, n)))
        .map(|(cpu, n)| {
            let (stop, cgroup, namespace) =
                (Arc::clone(&stop), Arc::clone(&machine.cgroup), Arc::clone(&machine.namespace));
            thread::spawn(move || {
                cgroup.enter_thread().unwrap();
                namespace.enter_thread().unwrap();
                drop(cgroup);
                let mut only = CpuSet::new();
                only.set(cpu);
                sched_setaffinity(None, &only).unwrap();
                connect(&stop, n == 0)
            })
        })
        .collect();
    thread::sleep(FOR.saturating_sub(begun.elapsed()));
    let over = Instant::now();
    stop.store(true, Relaxed);
    let seen: Vec<Seen> = clients.into_iter().map(|client| client.join().unwrap()).collect();

    let connects: usize = seen.iter().map(|it| it.connects).sum();
    let redirected: Vec<[Instant; 2]> = seen.into_iter().flat_map(|it| it.redirected).collect();
    let all = redirected.len();
    let in_time = redirected.iter().filter(|it| it[1] <= begun + FOR).count();
    let mut seconds: BTreeMap<u64, usize> = BTreeMap::new();
    for [at, _] in &redirected {
        *seconds.entry(at.saturating_duration_since(begun).as_secs()).or_default() += 1;
    }
    let most = most_in_a_second(redirected);
    println!(
        "{connects} connects in {:?}, {all} redirected ({in_time} in time; by second {seconds:?}), at most {most} in a second",
        over - begun
    );
    assert!(connects > 20 * LIMIT * FOR.as_secs() as usize / 10, "too few to be a test: {connects}");
    assert!(most <= LIMIT + LIMIT / 100, "{most} in a second");
    assert!(in_time >= 9_900, "only {in_time} were redirected in {FOR:?}: {seconds:?}");
    // What spilled is exactly the rest.
    let after = counted();
    assert_eq!(after.spills - before.spills, (connects - all) as u64);
    assert_eq!((after.fallbacks, after.own), (0, 0));
}
