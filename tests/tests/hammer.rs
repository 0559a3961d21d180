//! Readers on all CPUs against an updater that never rests never see another service's backend.
//!
//! What could go wrong: a frontend is not found while others come and go in its line of the hash table, or one is found
//! that looks alike; and records, lists and backends are used again after a grace period, which might be too short. A
//! reader sees it only if it stands still between two loads for as long as an update takes. So each CPU is interrupted
//! all the time, by a timer, and the updater writes frontends without pause.
//!
//! The hook of `getpeername()` is taken away, so that it shows the real peer: hundreds of thousands a second.

#![allow(clippy::unwrap_used)]

use std::{
    net::{IpAddr, SocketAddr},
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use abi::{Key, Reason, Record, UDP};
use agent::Reconciler;
use balancing_tests::{
    machine::{CAPACITY, Machine},
    random::Random,
    scenario::upserts,
    socket::Socket,
};
use datapath::Env;
use kernel::{LiveTables, Maps, TableStore, wait_for_readers};
use model::{Change, Endpoint, EndpointSlice, Object, ObjectName, Protocol, SlicePort, View};
use plan::Deletes;
use rustix::{
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
    time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    },
};
use testkit::{Family, object::service, wait};

/// The first of them is never deleted.
const SERVICES: u8 = 3;
/// Frontends that come and go in the lines that the first service's are in: more than these hold.
const CROWD: usize = 12;
const FOR: Duration = Duration::from_secs(4);

fn vip(n: u8, ipv6: bool) -> SocketAddr {
    let ip: IpAddr =
        if ipv6 { [0xfd00, 0x96, 0, 0, 0, 0, 1, u16::from(n)].into() } else { [10, 96, 1, n].into() };
    SocketAddr::new(ip, 53)
}

fn backend(n: u8, host: u64, ipv6: bool) -> IpAddr {
    if ipv6 {
        [0xfd00, 1, 0, 0, 0, 0, u16::from(n), host as u16].into()
    } else {
        [10, 1, n, host as u8].into()
    }
}

/// Frontends of nobody that belong into the same lines as those of the first service, with the records that they lead
/// to: the last ones, which nobody else uses.
fn crowd(maps: &mut Maps) -> Vec<(Key, u32)> {
    let mut crowd: Vec<(Key, u32)> = Vec::new();
    for ipv6 in [false, true] {
        let shape = LiveTables::new(maps).shape(!ipv6);
        let key =
            |port: u16| Key { endpoint: SocketAddr::new(vip(0, ipv6).ip(), port).into(), protocol: UDP };
        let line = shape.place(&key(53)).line;
        let others = (1_024..u16::MAX).map(key).filter(|key| shape.place(key).line == line);
        let first = CAPACITY.records - 1 - crowd.len() as u32;
        crowd.extend(others.take(CROWD).zip((0..first).rev()));
    }
    assert_eq!(crowd.len(), 2 * CROWD);
    let record = |(key, index): &(Key, u32)| {
        let (address, port_be) = (key.endpoint.address, key.endpoint.port_be);
        (*index, Record { address, port_be, protocol: key.protocol, ..Record::default() })
    };
    maps.put_records(&crowd.iter().map(record).collect::<Vec<_>>()).unwrap();
    crowd
}

/// The service that an address is a backend of.
fn owner(ip: IpAddr) -> u16 {
    match ip {
        IpAddr::V4(ip) => u16::from(ip.octets()[2]),
        IpAddr::V6(ip) => ip.segments()[6],
    }
}

fn services() -> Vec<Change> {
    let all = (0..SERVICES).map(|n| {
        let both = service(&format!("s{n}")).cluster_ip(vip(n, false).ip()).cluster_ip(vip(n, true).ip());
        both.field("ipFamilyPolicy", "PreferDualStack").port("53/UDP").to_string()
    });
    upserts(&all.collect::<Vec<_>>().join("---\n")).unwrap()
}

/// A slice with a random choice of the service's endpoints, never none.
fn slice(random: &mut Random, n: u8, ipv6: bool) -> Change {
    let chosen = 1 + random.below(15);
    let endpoints = (0..4).filter(|host| chosen & (1 << host) != 0).map(|host| Endpoint {
        address: backend(n, host + 1, ipv6),
        ready: true,
        serving: true,
        terminating: false,
        node: None,
        zone: None,
        zone_hints: Vec::new(),
        node_hints: Vec::new(),
        pod: None,
    });
    Change::Upsert(Object::from(EndpointSlice {
        name: ObjectName::new("default", format!("s{n}-{ipv6}")),
        service: Some(format!("s{n}")),
        policy: None,
        headless: false,
        triggered: None,
        family: if ipv6 { model::Family::V6 } else { model::Family::V4 },
        ports: vec![SlicePort { name: "".into(), protocol: Protocol::Udp, port: Some(5353) }],
        endpoints: endpoints.collect(),
    }))
}

/// Interrupts the CPU that the calling thread is on, all the time.
fn interrupt() -> OwnedFd {
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC).unwrap();
    let often = Timespec { tv_sec: 0, tv_nsec: 20_000 };
    let setting = Itimerspec { it_interval: often, it_value: often };
    timerfd_settime(&timer, TimerfdTimerFlags::empty(), &setting).unwrap();
    timer
}

#[derive(Default)]
struct Read {
    connects: u64,
    /// The frontend was not there at that moment.
    passed: u64,
    problems: Vec<String>,
}

/// Connects to one service after the other, and looks who it got.
fn read(stop: &AtomicBool, seed: u64) -> Read {
    let mut random = Random::new(seed);
    let sockets = [Family::V4, Family::V6].map(|family| Socket::open(Protocol::Udp, family).unwrap());
    let mut read = Read::default();
    while !stop.load(Relaxed) && read.problems.len() < 10 {
        let (n, ipv6) = (random.below(SERVICES.into()) as u8, random.one_in(2));
        let socket = &sockets[usize::from(ipv6)];
        read.connects += 1;
        match socket.connect(vip(n, ipv6)) {
            Ok(()) => {
                let peer = socket.peer().unwrap();
                if owner(peer.ip()) != u16::from(n) || peer.port() != 5353 {
                    read.problems.push(format!("{} led to {peer}", vip(n, ipv6)));
                }
            }
            // Gone, and its address too, or not yet (R12).
            Err(error)
                if n > 0 && matches!(error.raw_os_error(), Some(libc::ENETUNREACH | libc::ECONNREFUSED)) =>
            {
                read.passed += 1;
            }
            Err(error) => read.problems.push(format!("{}: {error}", vip(n, ipv6))),
        }
    }
    read
}

/// What the updater did.
#[derive(Debug, Default)]
struct Updates {
    rounds: u64,
    rewrites: u64,
}

fn update(store: Maps, mut again: Maps, until: Instant) -> Updates {
    let view = View { node: "n1".into(), ..View::default() };
    let mut reconciler = Reconciler::new(store, CAPACITY, view).unwrap();
    let (mut random, all) = (Random::new(Random::seed()), services());
    let crowd = crowd(&mut again);
    // The first service's frontends find their lines full.
    again.put_frontends(&crowd).unwrap();
    reconciler.apply(all.clone());
    for n in 0..SERVICES {
        reconciler.apply([false, true].map(|ipv6| slice(&mut random, n, ipv6)));
    }
    reconciler.complete();
    reconciler.round(Deletes::Allowed).unwrap();
    let mut updates = Updates::default();
    while Instant::now() < until {
        let n = random.below(SERVICES.into()) as u8;
        match (random.below(10), &all[usize::from(n)]) {
            (0, Change::Upsert(object)) if n > 0 => reconciler.apply([Change::Delete(object.id())]),
            (1..4, _) => reconciler.apply(all.clone()),
            _ => reconciler.apply([false, true].map(|ipv6| slice(&mut random, n, ipv6))),
        }
        let round = reconciler.round(Deletes::Allowed).unwrap();
        assert!(round.refused.is_empty(), "{:?}", round.refused);
        updates.rounds += 1;
        if updates.rounds % 4 == 0
            && let Some(grace) = reconciler.begin_grace()
        {
            let reading = reconciler.begin_reading();
            wait_for_readers();
            reconciler.grace_passed(grace);
            reconciler.has_read(reading);
        }
        // Those of the crowd go and come, some at a time.
        for _ in 0..100 {
            let first = random.below(crowd.len() as u64) as usize;
            let some = crowd.iter().cycle().skip(first).take(1 + random.below(CROWD as u64) as usize);
            let some: Vec<(Key, u32)> = some.copied().collect();
            again.delete_frontends(&some.iter().map(|(key, _)| *key).collect::<Vec<_>>()).unwrap();
            again.put_frontends(&some).unwrap();
            updates.rewrites += some.len() as u64;
        }
    }
    again.delete_frontends(&crowd.iter().map(|(key, _)| *key).collect::<Vec<_>>()).unwrap();
    updates
}

#[test]
fn readers_on_all_cpus_never_see_another_services_backend() {
    let machine = Machine::new("hammer").unwrap();
    for hook in ["getpeername4", "getpeername6"] {
        machine.pins.remove_link(hook).unwrap();
    }
    let first = Instant::now();
    let updates = update(machine.maps().unwrap(), machine.maps().unwrap(), first);
    assert_eq!(updates.rounds, 0, "only the start");
    // The kernel detaches when the last reference to the link is gone, which may be a moment later.
    wait::until(Duration::from_secs(5), "getpeername() without its hook", || {
        machine.run(|| {
            let socket = Socket::open(Protocol::Udp, Family::V4).unwrap();
            socket.connect(vip(0, false)).unwrap();
            socket.peer().unwrap().port() == 5353
        })
    });

    let stop = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..CpuSet::MAX_CPU)
        .filter(|cpu| sched_getaffinity(None).unwrap().is_set(*cpu))
        .map(|cpu| {
            let (stop, cgroup, namespace) =
                (Arc::clone(&stop), Arc::clone(&machine.cgroup), Arc::clone(&machine.namespace));
            thread::spawn(move || {
                cgroup.enter_thread().unwrap();
                namespace.enter_thread().unwrap();
                let mut only = CpuSet::new();
                only.set(cpu);
                sched_setaffinity(None, &only).unwrap();
                // The updater first: a reader that waits for its turn while the updater has it sees nothing.
                rustix::process::nice(10).unwrap();
                let _timer = interrupt();
                read(&stop, cpu as u64)
            })
        })
        .collect();
    let (store, again) = (machine.maps().unwrap(), machine.maps().unwrap());
    let updater = thread::spawn(move || update(store, again, Instant::now() + FOR));
    let updates = updater.join();
    stop.store(true, Relaxed);
    let reads: Vec<Read> = readers.into_iter().map(|reader| reader.join().unwrap()).collect();
    let updates = updates.unwrap();

    let connects: u64 = reads.iter().map(|read| read.connects).sum();
    let passed: u64 = reads.iter().map(|read| read.passed).sum();
    println!("{connects} connects ({passed} between delete and add), {updates:?}");
    let problems: Vec<&String> = reads.iter().flat_map(|read| &read.problems).collect();
    assert!(problems.is_empty(), "{problems:#?}");
    let broken = |(_, _, reason, _): &(_, _, Reason, u64)| *reason == Reason::BrokenTable;
    assert!(!machine.maps().unwrap().decisions().unwrap().iter().any(broken));
    assert!(reads.iter().all(|read| read.connects > 1_000), "a CPU had no reader: {connects} connects");
    assert!(updates.rounds > 10 && updates.rewrites > 10_000, "the updater rested: {updates:?}");
}
