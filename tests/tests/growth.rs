//! Tables that become larger while they are in use (R30), and agents that die of it (R27).

#![allow(clippy::unwrap_used)]

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    thread,
    time::Duration,
};

use agent::{Status, capacity, sizes};
use balancing_tests::process::{
    Agent, Answer, Host, PATIENCE,
    limited::Limited,
    program,
    traffic::Traffic,
    web,
    within::{after, within},
};
use kernel::{Maps, Pins};
use plan::Capacity;
use testkit::{Backend, wait};

/// Room for two services of [`web`] and their backends, hardly.
const SMALL: [&str; 4] = ["--max-services", "9", "--max-backends", "16"];
const OFTEN: [&str; 2] = ["--audit-interval", "100ms"];

/// Two services, and small maps that are pinned: an agent that may make them larger finds these. Whoever starts it next
/// is to keep the servers.
fn pinned_small(name: &str) -> (Host, Vec<Backend>) {
    let host = Host::new(name).unwrap();
    host.write("a.yaml", web::manifest("a", 10, &[1])).unwrap();
    host.write("b.yaml", web::manifest("b", 11, &[2])).unwrap();
    let servers = web::serve(&host, &[1, 2]).unwrap();
    host.agent(&SMALL).unwrap().kill().unwrap();
    (host, servers)
}

/// Adds a service and waits until it is served.
fn add(host: &Host, low: u8) {
    host.write(&format!("{low}.yaml"), web::manifest(&format!("s{low}"), low, &[1])).unwrap();
    wait::until(PATIENCE, &format!("service {low}"), || web::ask(host, low).is_ok());
}

fn names(status: &Status) -> (u64, u64) {
    let names = status.maps.iter().find(|map| map.name == "names").unwrap();
    (names.capacity, names.most)
}

fn pins(host: &Host) -> Pins {
    Pins::new(host.pins())
}

/// Paths of pinned maps whose names end so.
fn ending(host: &Host, end: &str) -> Vec<PathBuf> {
    let all = fs::read_dir(host.pins().join("maps")).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<PathBuf> = all.filter(|path| path.to_str().unwrap().ends_with(end)).collect();
    found.sort();
    found
}

/// Where the map that waits at `next` is to be.
fn current(next: &Path) -> PathBuf {
    next.to_str().unwrap().strip_suffix("_next").unwrap().into()
}

#[track_caller]
fn is_well(host: &Host, agent: &Agent) {
    let status = agent.wait_status("no problems", |status| status.problems.is_empty()).unwrap();
    assert_eq!(status.audit_differences, 0, "{}", agent.log());
    assert_eq!(ending(host, "_next"), [] as [PathBuf; 0]);
}

#[test]
fn r30_tables_grow_while_connections_go_on() {
    let (host, _servers) = pinned_small("growth");
    let agent = host.agent(&OFTEN).unwrap();
    assert_eq!(names(&agent.status().unwrap()), (9, 65_536));
    let traffic = Traffic::start(&host, &[(10, &[1]), (11, &[2])]).unwrap();
    // Each has four service ports: names alone become larger three times.
    for low in 20..32 {
        add(&host, low);
        traffic.has_not_failed(&agent.log());
    }
    traffic.goes_on();
    // Who stays on a backend that the smaller table had no room for is not taken for one whose backend is gone.
    let late = Traffic::start(&host, &[(31, &[1])]).unwrap();
    thread::sleep(Duration::from_secs(2));
    late.end();
    assert_eq!(agent.status().unwrap().sockets_destroyed, 0, "{}", agent.log());
    is_well(&host, &agent);
    let (has, _) = names(&agent.status().unwrap());
    assert!((64..=128).contains(&has), "{has}");
    let told = agent.log().lines().filter(|line| line.contains("tables are larger: ")).count();
    assert!(told >= 3, "{}", agent.log());
    // They stay so, and what is removed leaves nothing behind.
    for low in 20..32 {
        host.remove(&format!("{low}.yaml")).unwrap();
    }
    agent.wait_status("8 frontends", |status| status.frontends == 8).unwrap();
    drop(agent);
    let agent = host.agent(&OFTEN).unwrap();
    assert_eq!(names(&agent.status().unwrap()).0, has);
    for low in [10, 11] {
        assert!(web::ask(&host, low).is_ok());
    }
    is_well(&host, &agent);
    traffic.end();
}

#[test]
fn r30_a_first_start_makes_them_large_enough_before_the_programs_are_in_force() {
    let host = Host::new("growth-first").unwrap();
    let _servers = web::serve(&host, &[1]).unwrap();
    // Ours, too small, with nothing in it.
    let small = sizes(&Capacity::for_cluster(1, 1));
    drop(kernel::Loaded::load(&pins(&host), &small).unwrap());
    for low in 10..20 {
        host.write(&format!("{low}.yaml"), web::manifest(&format!("s{low}"), low, &[1])).unwrap();
    }
    let agent = host.agent(&[]).unwrap();
    let log = agent.log();
    let at = |text: &str| log.find(text).unwrap_or_else(|| panic!("no {text:?} in {log}"));
    assert!(at("tables are larger: ") < at("programs in force"), "{log}");
    assert!(!log.contains("full ("), "{log}");
    for low in 10..20 {
        assert!(web::ask(&host, low).is_ok());
    }
    is_well(&host, &agent);
}

/// Leaves everything as an agent does that dies while it makes tables larger: with the new programs in force or not, and
/// so many of the larger maps in their places.
fn die(host: &Host, in_force: bool, placed: usize) {
    let pins = pins(host);
    let maps = Maps::open(&pins).unwrap();
    let has = capacity(&maps);
    let twice = sizes(&Capacity::new(|room| has.of(room) * 2));
    let (loaded, larger) = kernel::grow(&pins, &maps, &twice).unwrap();
    assert!(capacity(&larger).backends == has.backends * 2);
    let waiting = ending(host, "_next");
    assert_eq!(waiting.len(), 9, "{waiting:?}");
    if !in_force {
        waiting.iter().take(placed).for_each(|next| fs::rename(next, current(next)).unwrap());
        return;
    }
    let aside = host.pins().with_file_name("aside");
    let aside = |path: &Path| aside.join(path.file_name().unwrap());
    fs::create_dir(host.pins().with_file_name("aside")).unwrap();
    for next in &waiting {
        fs::hard_link(next, aside(next)).unwrap();
        fs::hard_link(current(next), aside(&current(next))).unwrap();
    }
    // Puts all of them in their places.
    kernel::install(loaded, &pins, &twice, host.cgroup().path()).unwrap();
    for next in waiting.iter().skip(placed) {
        fs::rename(aside(next), next).unwrap();
        fs::rename(aside(&current(next)), current(next)).unwrap();
    }
    fs::remove_dir_all(host.pins().with_file_name("aside")).unwrap();
}

/// On and off: a new record of every frontend.
fn affinity(round: usize) -> &'static [(&'static str, &'static str)] {
    if round.is_multiple_of(2) { &[("sessionAffinity", "ClientIP")] } else { &[] }
}

#[test]
fn r27_who_dies_while_tables_grow_harms_nobody() {
    let (host, _servers) = pinned_small("growth-death");
    let mut agent = host.agent(&OFTEN).unwrap();
    let traffic = Traffic::with(&host, &[(11, &[2])], &[(10, &[1, 2])]).unwrap();
    for (round, (in_force, placed)) in
        [(false, 0), (false, 4), (false, 9), (true, 0), (true, 5)].into_iter().enumerate()
    {
        agent.kill().unwrap();
        die(&host, in_force, placed);
        // Much is to be written at the next start, also of what is in use.
        let backends: &[u8] = if round % 2 == 0 { &[1, 2] } else { &[1] };
        host.write("a.yaml", web::manifest("a", 10, backends)).unwrap();
        host.write("b.yaml", web::manifest_with("b", 11, &[2], affinity(round))).unwrap();
        traffic.goes_on();
        agent = host.agent(&OFTEN).unwrap();
        add(&host, 20 + round as u8);
        traffic.goes_on();
        is_well(&host, &agent);
    }
    traffic.end();
}

#[test]
fn r30_tables_that_can_not_become_larger_are_told_of_and_tried_again() {
    let (host, _servers) = pinned_small("growth-fault");
    let agent = host.agent(&OFTEN).unwrap();
    let traffic = Traffic::start(&host, &[(10, &[1]), (11, &[2])]).unwrap();
    let [names] = &ending(&host, &format!("names_v{}", abi::layout::TABLES))[..] else { panic!() };
    let in_the_way = PathBuf::from(format!("{}_next", names.display()));
    fs::create_dir(&in_the_way).unwrap();
    // Of nine places one is free, and each service takes four.
    let more = [12, 13];
    for low in more {
        host.write(&format!("{low}.yaml"), web::manifest(&format!("s{low}"), low, &[1])).unwrap();
    }
    let told = |status: &Status, words: &[&str]| {
        status.problems.iter().any(|problem| words.iter().all(|word| problem.contains(word)))
    };
    agent
        .wait_status("what can't be done", |status| {
            told(status, &["making the tables larger", in_the_way.to_str().unwrap()])
                && told(status, &["names full", "default/"])
        })
        .unwrap();
    traffic.goes_on();
    fs::remove_dir(&in_the_way).unwrap();
    wait::until(PATIENCE, "all services", || more.iter().all(|low| web::ask(&host, *low).is_ok()));
    is_well(&host, &agent);
    traffic.end();
}

/// What the test below runs in a process that has too little memory.
#[test]
#[ignore = "only as a part of r30_too_little_memory_for_larger_tables_changes_nothing"]
fn grow_too_far() {
    let pins = Pins::new(env::var_os("TOO_FAR").unwrap());
    let far = sizes(&Capacity::for_cluster(64, 16_777_216));
    let error = kernel::grow(&pins, &Maps::open(&pins).unwrap(), &far).err().unwrap();
    println!("{error}");
}

#[test]
fn r30_too_little_memory_for_larger_tables_changes_nothing() {
    let (host, _servers) = pinned_small("growth-memory");
    let mut agent = host.agent(&[]).unwrap();
    let traffic = Traffic::start(&host, &[(10, &[1]), (11, &[2])]).unwrap();
    agent.kill().unwrap();
    let limited = Limited::new(64 << 20).unwrap();
    let mut grow = Command::new(env::current_exe().unwrap());
    grow.args(["grow_too_far", "--exact", "--ignored", "--nocapture"]).env("TOO_FAR", host.pins());
    let answer = Answer::of(&mut after(&limited.join(), &grow)).unwrap();
    let said = answer.succeeds();
    for words in ["1 passed", "Cannot allocate memory", "--max-services and --max-backends"] {
        assert!(said.contains(words), "{said}");
    }
    assert_eq!(ending(&host, "_next"), [] as [PathBuf; 0]);
    traffic.goes_on();
    let agent = host.agent(&OFTEN).unwrap();
    add(&host, 20);
    is_well(&host, &agent);
    traffic.end();
}

/// Maps that are made anew are empty: programs must not look into them before they are full, whatever is attached.
#[test]
fn r27_tables_that_are_made_anew_are_full_before_they_are_in_force() {
    let host = Host::new("growth-anew").unwrap();
    let _servers = web::serve(&host, &[1]).unwrap();
    for low in 10..110 {
        host.write(&format!("{low}.yaml"), web::manifest(&format!("s{low}"), low, &[1])).unwrap();
    }
    host.agent(&[]).unwrap().kill().unwrap();
    for map in ending(&host, "") {
        fs::remove_file(map).unwrap();
    }
    // Without that right nobody finds the maps that the attached programs still have.
    let bounded = ["--bounding-set", "-sys_admin"];
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut failures = Vec::new();
            while !over.load(SeqCst) {
                failures.extend((10..110).step_by(9).filter_map(|low| web::ask(&host, low).err()));
            }
            failures
        });
        let plain = host.agent_command(&program(), &OFTEN);
        let agent = host.start_command(&mut within("setpriv", &bounded, &plain));
        let outcome = agent.and_then(|mut agent| agent.wait_ready().map(drop));
        over.store(true, SeqCst);
        outcome.unwrap();
        let failures = asking.join().unwrap();
        assert!(failures.is_empty(), "{} of them: {:?}", failures.len(), failures.first());
    });
}
