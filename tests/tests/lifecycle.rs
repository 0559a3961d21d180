//! Attaching, replacing, adopting, cleaning: what is pinned outlives the agent, and is found again.

#![allow(clippy::unwrap_used)]

use std::{
    fs, io,
    net::SocketAddr,
    os::unix::fs::MetadataExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
};

use abi::settings::level;
use balancing_tests::{
    control::Control,
    machine::{Machine, sizes},
    scenario::upserts,
    socket::Socket,
};
use kernel::{Error, HOOKS, Loaded, Maps, Pins, attached, clean, install};
use model::{Protocol, View};
use testkit::{
    Bpffs, Cgroup, Family,
    object::{documents, service, slice},
};

const VIP: &str = "10.96.0.10:80";
const BACKEND: &str = "10.1.0.1:8080";

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Puts one service into the tables.
fn program(machine: &Machine) {
    let view = View { node: "n1".into(), ..View::default() };
    let mut control = Control::new(machine.maps().unwrap(), view).unwrap();
    let manifests = documents(&[
        &service("web").cluster_ip("10.96.0.10").port("80/UDP"),
        &slice("web-4", "web").port("8080/UDP").endpoint("10.1.0.1"),
    ]);
    control.change(upserts(&manifests).unwrap()).unwrap();
}

/// Is a new connection translated?
fn translated() -> bool {
    let socket = Socket::open(Protocol::Udp, Family::V4).unwrap();
    match socket.connect(at(VIP)) {
        Ok(()) => {
            assert_eq!(socket.peer().unwrap(), at(VIP));
            true
        }
        Err(error) if error.raw_os_error() == Some(libc::ENETUNREACH) => false,
        Err(error) => panic!("connect: {error}"),
    }
}

/// A pinned link is another file once it is another link.
fn links(pins: &Pins) -> Vec<u64> {
    HOOKS.iter().map(|hook| fs::metadata(pins.link(hook.name)).unwrap().ino()).collect()
}

fn programs(pins: &Pins) -> Vec<u32> {
    attached(pins).unwrap().into_iter().map(|it| it.program_id.unwrap_or(0)).collect()
}

fn map_ids(maps: &Maps) -> Vec<u32> {
    maps.all().iter().map(|map| map.id()).collect()
}

fn install_on(pins: &Pins, cgroup: &Cgroup) {
    install(Loaded::load(pins, &sizes()).unwrap(), pins, &sizes(), cgroup.path()).unwrap();
}

#[test]
fn a_second_installation_replaces_programs_and_adopts_all_else() {
    let mut machine = Machine::new("replace").unwrap();
    machine.listen(Protocol::Udp, at(BACKEND)).unwrap();
    program(&machine);
    let cgroup_id = machine.cgroup.id().unwrap();
    assert!(attached(&machine.pins).unwrap().iter().all(|it| it.cgroup_id == cgroup_id));

    // Somebody connects all the time, and never finds a moment without a program or a service.
    let stop = Arc::new(AtomicBool::new(false));
    let connects = Arc::new(AtomicU64::new(0));
    let client = {
        let (stop, connects) = (Arc::clone(&stop), Arc::clone(&connects));
        let (cgroup, namespace) = (Arc::clone(&machine.cgroup), Arc::clone(&machine.namespace));
        thread::spawn(move || {
            cgroup.enter_thread().unwrap();
            namespace.enter_thread().unwrap();
            while !stop.load(Relaxed) {
                assert!(translated());
                connects.fetch_add(1, Relaxed);
            }
        })
    };
    for _ in 0..3 {
        let before = (links(&machine.pins), map_ids(&machine.maps().unwrap()));
        let old = programs(&machine.pins);
        let count = connects.load(Relaxed);
        let done = machine.install().unwrap();
        assert_eq!((done.removed, done.carried), (vec![], None));
        assert_eq!((links(&machine.pins), map_ids(&machine.maps().unwrap())), before);
        let new = programs(&machine.pins);
        assert!(new.iter().zip(&old).all(|(new, old)| new != old && *new != 0), "{old:?} {new:?}");
        testkit::wait::until(std::time::Duration::from_secs(5), "a connect", || {
            client.is_finished() || connects.load(Relaxed) > count
        });
    }
    stop.store(true, Relaxed);
    client.join().unwrap();
}

#[test]
fn a_link_to_a_cgroup_that_is_gone_is_made_anew() {
    let machine = Machine::bare("gone").unwrap();
    let first = Cgroup::create().unwrap();
    install_on(&machine.pins, &first);
    let before = links(&machine.pins);
    let maps = map_ids(&machine.maps().unwrap());
    drop(first);
    // The kernel detaches when the cgroup goes, which it does in its own time.
    testkit::wait::until(std::time::Duration::from_secs(10), "the links to be detached", || {
        attached(&machine.pins).unwrap().iter().all(|it| it.program_id.is_none())
    });
    machine.install().unwrap();
    program(&machine);
    assert!(links(&machine.pins).iter().zip(&before).all(|(new, old)| new != old));
    assert_eq!(map_ids(&machine.maps().unwrap()), maps);
    assert!(machine.run(translated));
}

#[test]
fn links_to_another_cgroup_move() {
    let machine = Machine::new("move").unwrap();
    program(&machine);
    let other = Cgroup::create().unwrap();
    let inside = |cgroup: &Cgroup| machine.namespace.run(|| cgroup.run(translated));
    assert_eq!((inside(&machine.cgroup), inside(&other)), (true, false));
    install_on(&machine.pins, &other);
    assert_eq!((inside(&machine.cgroup), inside(&other)), (false, true));
    assert!(attached(&machine.pins).unwrap().iter().all(|it| it.cgroup_id == other.id().unwrap()));
}

#[test]
fn one_missing_link_is_replaced_and_the_others_stay() {
    let machine = Machine::new("missing").unwrap();
    program(&machine);
    let before = links(&machine.pins);
    machine.pins.remove_link("connect4").unwrap();
    let missing = attached(&machine.pins).unwrap().into_iter().find(|it| it.hook == "connect4");
    assert_eq!(missing.unwrap().program_id, None);
    machine.install().unwrap();
    let same = links(&machine.pins).iter().zip(&before).filter(|(new, old)| new == old).count();
    assert_eq!(same, HOOKS.len() - 1);
    assert!(machine.run(translated));
}

fn files(directory: &Path) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path.display().to_string());
        }
    }
    found.sort();
    found
}

#[test]
fn a_foreign_map_at_our_path_is_refused_and_nothing_is_touched() {
    let machine = Machine::new("foreign").unwrap();
    // On the same bpffs: another directory, in which a map bears another one's name.
    let pins = Pins::new(machine.pins.directory().with_file_name("other"));
    pins.create().unwrap();
    for (name, foreign) in [("backends", "records"), ("frontends4", "lists"), ("slots", "settings")] {
        let path = pins.map_named(name).unwrap();
        fs::hard_link(machine.pins.map_named(foreign).unwrap(), &path).unwrap();
        let before = files(pins.directory());
        match Loaded::load(&pins, &sizes()).err() {
            Some(Error::ForeignMap { path: told, .. }) => assert_eq!(told, path),
            other => panic!("{name}: {other:?}"),
        }
        assert!(matches!(Maps::open(&pins), Err(Error::ForeignMap { .. } | Error::NotInstalled(_))));
        assert_eq!(files(pins.directory()), before);
        fs::remove_file(path).unwrap();
    }
    // What it was in place of works on, and so does the directory now.
    let cgroup = Cgroup::create().unwrap();
    install_on(&pins, &cgroup);
    assert!(attached(&machine.pins).unwrap().iter().all(|it| it.program_id.is_some()));
}

#[test]
fn pins_belong_on_a_bpffs() {
    testkit::require_root();
    let directory = tempfile::tempdir().unwrap();
    let pins = Pins::new(directory.path().join("pins"));
    assert!(matches!(Loaded::load(&pins, &sizes()), Err(Error::NoBpffs(_))));
    assert!(!directory.path().join("pins").exists());
    assert!(matches!(Maps::open(&pins), Err(Error::NotInstalled(_))));
}

#[test]
fn clean_removes_everything_and_may_be_repeated() {
    let machine = Machine::new("clean").unwrap();
    program(&machine);
    assert!(machine.run(translated));
    for _ in 0..2 {
        clean(&machine.pins).unwrap();
        assert!(!machine.pins.directory().exists());
        assert!(!machine.run(translated));
    }
    assert!(attached(&machine.pins).unwrap().iter().all(|it| it.program_id.is_none()));
    // What an interrupted cleaning has left.
    machine.install().unwrap();
    machine.pins.remove_link("connect6").unwrap();
    fs::remove_file(machine.pins.map_named("pairs").unwrap()).unwrap();
    clean(&machine.pins).unwrap();
    assert!(!machine.pins.directory().exists());
    // And from the start.
    machine.install().unwrap();
    program(&machine);
    assert!(machine.run(translated));
    let never = Bpffs::mount().unwrap();
    clean(&Pins::new(never.path().join("never"))).unwrap();
}

#[test]
fn pause_passes_what_is_new_and_keeps_what_is_old() {
    let mut machine = Machine::new("pause").unwrap();
    machine.listen(Protocol::Udp, at(BACKEND)).unwrap();
    program(&machine);
    let maps = machine.maps().unwrap();
    let socket = machine.run(|| Socket::open(Protocol::Udp, Family::Mapped)).unwrap();
    socket.connect(at(VIP)).unwrap();
    maps.change_settings(|settings| settings.paused = 1).unwrap();
    assert!(!machine.run(translated));
    assert_eq!(socket.ask(None).unwrap().shown, at(VIP));
    maps.change_settings(|settings| settings.paused = 0).unwrap();
    assert!(machine.run(translated));
    assert_eq!(socket.ask(None).unwrap().shown, at(VIP));
}

#[test]
fn every_decision_is_one_event() {
    let machine = Machine::new("events").unwrap();
    program(&machine);
    let maps = machine.maps().unwrap();
    maps.change_settings(|settings| settings.events = level::ALL).unwrap();
    let mut events = kernel::Events::open(&machine.pins).unwrap();
    let cookies: Vec<u64> = machine.run(|| {
        let connect = |_| -> io::Result<u64> {
            let socket = Socket::open(Protocol::Udp, Family::V4)?;
            socket.connect(at(VIP))?;
            socket.cookie()
        };
        (0..100).map(connect).collect::<io::Result<_>>().unwrap()
    });
    let told: Vec<_> = std::iter::from_fn(|| events.next_event()).collect();
    assert_eq!(told.iter().map(|event| event.cookie).collect::<Vec<_>>(), cookies);
    let cgroup = machine.cgroup.id().unwrap();
    for event in &told {
        let original = abi::Endpoint { address: event.original, port_be: event.original_port_be };
        let backend = abi::Endpoint { address: event.backend, port_be: event.backend_port_be };
        assert_eq!((original.socket_addr(), backend.socket_addr()), (at(VIP), at(BACKEND)));
        assert_eq!((event.pid, event.cgroup), (std::process::id(), cgroup));
        assert_eq!((event.protocol, event.hook, event.mode), (abi::UDP, 0, 1));
        assert_eq!(abi::Name::text(&event.comm), "inside");
        assert!(event.netns > 0 && event.time > 0);
    }
    assert_eq!(maps.events_lost().unwrap(), 0);
}

/// As on a kernel before 5.18: the programs load, refuse with EPERM, and say what they do not know.
#[test]
fn r10_what_a_kernel_lacks_is_done_without() {
    let machine = Machine::new("features").unwrap();
    let view = View { node: "n1".into(), ..View::default() };
    let mut control = Control::new(machine.maps().unwrap(), view).unwrap();
    let empty = documents(&[&service("empty").cluster_ip("10.96.0.11").port("80/UDP")]);
    control.change(upserts(&empty).unwrap()).unwrap();
    let loaded = Loaded::load_with(&machine.pins, &sizes(), 0).unwrap();
    install(loaded, &machine.pins, &sizes(), machine.cgroup.path()).unwrap();
    let maps = machine.maps().unwrap();
    maps.change_settings(|settings| settings.events = level::FAILURES).unwrap();
    let mut events = kernel::Events::open(&machine.pins).unwrap();
    let connect =
        || Socket::open(Protocol::Udp, Family::V4).unwrap().connect(at("10.96.0.11:80")).unwrap_err();
    assert_eq!(machine.run(connect).raw_os_error(), Some(libc::EPERM));
    let event = events.next_event().unwrap();
    assert_eq!((event.known, event.pid, event.uid, event.cgroup, event.comm), (0, 0, 0, 0, [0; 16]));
    // With all that this kernel has, it is as ever.
    machine.install().unwrap();
    assert_eq!(machine.run(connect).raw_os_error(), Some(libc::ECONNREFUSED));
    assert_eq!(events.next_event().unwrap().pid, std::process::id());
}
