//! Where the event log is written, and that it says exactly what is missing: floods, files that are rotated, moved and
//! removed, full disks, readers that stall.

#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpStream},
    ops::Range,
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use agent::Status;
use balancing_tests::process::{
    Agent, Host, PATIENCE, program, web,
    within::{in_own_mounts, within},
};
use rustix::process::Signal;
use serde_json::Value;
use testkit::wait;

/// Failures a second in floods: for agents without optimization, on machines that do other things too.
const RATE: usize = 5_000;

/// A machine with a service that refuses all ports but its own, and an agent.
fn world(name: &str, arguments: &[&str]) -> (Host, Agent, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let host = Host::new(name).unwrap();
    host.write("web.yaml", web::manifest("web", 10, &[1])).unwrap();
    let place = |it: &&str| it.replace("DIR", &directory.path().display().to_string());
    let arguments: Vec<String> = arguments.iter().map(place).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let agent = host.agent(&arguments).unwrap();
    (host, agent, directory)
}

/// Connects once to each of these ports, none of which the service has: so many failures that can be told apart. How long
/// that takes.
/// One flood at a time: two would be more than what is to be stood.
fn fail(host: &Host, ports: Range<u16>, a_second: usize) -> Duration {
    static FLOOD: Mutex<()> = Mutex::new(());
    let _one = (ports.len() > 100).then(|| FLOOD.lock().unwrap_or_else(PoisonError::into_inner));
    host.run(|| {
        let begun = Instant::now();
        for (number, port) in ports.enumerate() {
            TcpStream::connect(SocketAddr::from(([10, 96, 0, 10], port))).unwrap_err();
            let due = Duration::from_micros(number as u64 * 1_000_000 / a_second as u64);
            if number % 20 == 0 {
                thread::sleep(due.saturating_sub(begun.elapsed()));
            }
        }
        begun.elapsed()
    })
}

/// What lines tell.
#[derive(Debug, Default)]
struct Told {
    ports: Vec<u16>,
    suppressed: Vec<(String, u64)>,
    lost: Vec<(String, u64)>,
}

impl Told {
    fn add(&mut self, line: &str) {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        assert_eq!(line["schema"], 1);
        let text = |key: &str| line[key].as_str().unwrap().to_owned();
        if let Some(count) = line["suppressed"].as_u64() {
            assert_eq!(line["reason"], "unknown-port");
            self.suppressed.push((text("time"), count));
        } else if let Some(count) = line["lost"].as_u64() {
            self.lost.push((text("at"), count));
        } else {
            assert_eq!(line["reason"], "unknown-port", "{line}");
            self.ports.push(line["original"]["port"].as_u64().unwrap().try_into().unwrap());
        }
    }

    fn of(text: &str) -> Self {
        let mut told = Self::default();
        text.lines().for_each(|line| told.add(line));
        told
    }

    fn of_file(path: &Path) -> Self {
        Self::of(&fs::read_to_string(path).unwrap_or_default())
    }

    fn lost_at(&self, place: &str) -> u64 {
        self.lost.iter().filter(|(at, _)| at == place).map(|(_, count)| count).sum()
    }

    fn all(&self) -> u64 {
        let sum = |counts: &[(String, u64)]| counts.iter().map(|(_, count)| count).sum::<u64>();
        self.ports.len() as u64 + sum(&self.suppressed) + sum(&self.lost)
    }
}

/// How many decisions the programs have counted.
fn counted(agent: &Agent) -> u64 {
    let decisions = agent.status().unwrap().decisions;
    decisions.iter().find(|(reason, _)| reason == "unknown-port").map_or(0, |(_, count)| *count)
}

fn has_problem(words: &'static str) -> impl Fn(&Status) -> bool {
    move |status| status.problems.iter().any(|problem| problem.contains(words))
}

#[test]
fn a_hangup_ends_nothing_and_a_file_that_was_moved_is_followed_by_another() {
    let (host, mut agent, directory) = world("event-hup", &["--event-log", "file:DIR/events"]);
    let path = directory.path().join("events");
    let lines = |path: &Path| Told::of_file(path).ports;
    fail(&host, 10_000..10_001, RATE);
    wait::until(PATIENCE, "the first line", || lines(&path) == [10_000]);
    let moved = directory.path().join("events-20261123");
    fs::rename(&path, &moved).unwrap();
    agent.signal(Signal::HUP).unwrap();
    fail(&host, 10_001..10_002, RATE);
    wait::until(PATIENCE, "the second line", || path.exists() && lines(&path) == [10_001]);
    assert_eq!(lines(&moved), [10_000]);
    agent.signal(Signal::TERM).unwrap();
    assert!(agent.wait().unwrap().success());
}

#[test]
fn a_file_that_rotates_under_a_flood_has_all_of_it() {
    let settings =
        ["--event-log", "file:DIR/log/events", "--event-log-size", "256KiB", "--event-log-keep", "500"];
    let (host, agent, directory) = world("event-file", &settings);
    let path = directory.path().join("log/events");
    let ports = 10_000..30_000;
    let took = fail(&host, ports.clone(), RATE);
    let files = || {
        let mut files = vec![path.clone()];
        files.extend(
            (1..)
                .map(|number| PathBuf::from(format!("{}.{number}", path.display())))
                .take_while(|it| it.exists()),
        );
        files
    };
    let read = || {
        // The oldest first. Between two looks a file may get another name: until all is there, that is.
        let texts: Vec<String> =
            files().iter().rev().map(|file| fs::read_to_string(file).unwrap_or_default()).collect();
        texts.concat()
    };
    wait::until(PATIENCE, "all lines", || read().lines().count() >= ports.len());
    let told = Told::of(&read());
    let status = agent.status().unwrap();
    assert_eq!((status.events_lost, status.events_suppressed), (0, 0));
    assert_eq!(told.ports.iter().copied().collect::<BTreeSet<_>>(), ports.clone().collect());
    assert_eq!(told.all(), ports.len() as u64);
    let sizes: Vec<u64> = files().iter().map(|file| fs::metadata(file).unwrap().len()).collect();
    assert!(sizes.len() > 20 && sizes.iter().all(|size| *size <= 256 << 10), "{sizes:?}");
    assert_eq!(status.event_sinks[0].written, ports.len() as u64);
    println!("{} failures in {took:?}: {} files, all there", ports.len(), sizes.len());

    // Others may move or remove it, its directory too; and it is not full of what nobody keeps.
    fs::rename(&path, directory.path().join("moved")).unwrap();
    fail(&host, 1000..1001, 1000);
    wait::until_equal(PATIENCE, &vec![1000], || Told::of_file(&path).ports);
    fs::remove_dir_all(path.parent().unwrap()).unwrap();
    fail(&host, 1001..1002, 1000);
    wait::until_equal(PATIENCE, &vec![1001], || Told::of_file(&path).ports);
    assert_eq!(agent.status().unwrap().problems, Vec::<String>::new());
}

#[test]
fn what_is_suppressed_is_what_the_programs_counted_and_is_not_in_the_log() {
    let limits = ["--event-log", "file:DIR/events", "--event-rate", "500", "--event-burst", "200"];
    let (host, mut agent, directory) = world("event-rate", &limits);
    let path = directory.path().join("events");
    fail(&host, 10_000..14_000, 4_000);
    let at_rest = |told: &Told| told.all() == counted(&agent);
    wait::until(Duration::from_secs(3), "the count of what was suppressed", || {
        at_rest(&Told::of_file(&path))
    });
    let told = Told::of_file(&path);
    assert_eq!(told.all(), 4_000, "{told:?}");
    let suppressed: u64 = told.suppressed.iter().map(|(_, count)| count).sum();
    assert!((2_000..3_500).contains(&suppressed), "{suppressed}");
    assert_eq!(agent.status().unwrap().events_suppressed, suppressed);
    let times: Vec<jiff::Timestamp> = told.suppressed.iter().map(|(time, _)| time.parse().unwrap()).collect();
    let apart =
        |pair: &[jiff::Timestamp]| pair[0].duration_until(pair[1]) > jiff::SignedDuration::from_millis(990);
    assert!(times.windows(2).all(apart), "{times:?}");
    println!("{} passed + {suppressed} suppressed = {}", told.ports.len(), told.all());
    let shown = host.balancing(&["events"]).unwrap();
    assert!(shown.succeeds().contains("more of unknown-port in "), "{shown:?}");

    // What has not been told of by the end is told of at the end.
    fail(&host, 20_000..21_000, 100_000);
    wait::until(PATIENCE, "most of it", || agent.status().unwrap().events_suppressed > suppressed + 500);
    let all = counted(&agent);
    agent.signal(Signal::TERM).unwrap();
    assert!(agent.wait().unwrap().success());
    assert_eq!((all, Told::of_file(&path).all()), (5_000, 5_000));
}

#[test]
fn a_reader_that_stalls_loses_lines_and_is_told_how_many() {
    let to = ["--event-log", "socket:DIR/events.sock", "--event-rate", "0", "--event-socket-mode", "0660"];
    let (host, agent, directory) = world("event-socket", &to);
    let path = directory.path().join("events.sock");
    wait::until(PATIENCE, "the socket", || path.exists());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    let connect = || BufReader::new(UnixStream::connect(&path).unwrap());
    let (mut quick, mut slow) = (connect(), connect());
    // Both read once they have seen something.
    let mut line = String::new();
    let first = Instant::now();
    for reader in [&mut quick, &mut slow] {
        reader.get_ref().set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        while reader.read_line(&mut line).is_err() {
            assert!(first.elapsed() < PATIENCE);
            fail(&host, 1..2, 1000);
        }
        reader.get_ref().set_read_timeout(Some(PATIENCE)).unwrap();
        line.clear();
    }
    let ports = 10_000..34_000;
    let is_last = |told: &Told| told.ports.last() == Some(&60_000);
    let read = |mut reader: BufReader<UnixStream>| {
        let mut told = Told::default();
        while !is_last(&told) {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            told.add(&line);
        }
        // What it had seen before it counted is not counted.
        told.ports.retain(|port| ports.contains(port));
        told
    };
    let (quick, slow) = thread::scope(|scope| {
        let quick = scope.spawn(|| read(quick));
        fail(&host, ports.clone(), RATE);
        thread::sleep(Duration::from_millis(200));
        fail(&host, 60_000..60_001, 1000);
        (quick.join().unwrap(), read(slow))
    });
    let sink = format!("socket:{}", path.display());
    assert_eq!((quick.all(), quick.lost_at(&sink)), (ports.len() as u64, 0), "{:?}", quick.lost);
    let lost = slow.lost_at(&sink);
    assert!(lost > 0);
    assert_eq!(slow.all(), ports.len() as u64, "{:?}", slow.lost);
    println!("{} read + {lost} lost = {}", slow.ports.len(), ports.len());
    let status = agent.status().unwrap();
    assert_eq!((status.event_sinks[0].lost, status.problems), (lost, Vec::new()));
}

#[test]
fn a_full_disk_stops_nobody_and_what_it_had_no_room_for_is_counted() {
    let directory = tempfile::tempdir().unwrap();
    let host = Host::new("event-full").unwrap();
    host.write("web.yaml", web::manifest("web", 10, &[1])).unwrap();
    let _servers = web::serve(&host, &[1]).unwrap();
    let place = directory.path().display().to_string();
    let script = format!("mount -t tmpfs -o size=32m balancing {place}\nfallocate -l 31m {place}/filler");
    let sink = format!("file:{place}/events");
    let command = host.agent_command(&program(), &["--event-log", &sink, "--event-rate", "0"]);
    let mut agent = host.start_command(&mut in_own_mounts(&script, &command)).unwrap();
    agent.wait_ready().unwrap();
    // As the agent sees it.
    let inside = PathBuf::from(format!("/proc/{}/root{place}", agent.pid()));
    fail(&host, 10_000..35_000, RATE);
    let status = agent.wait_status("the full disk", has_problem("No space left on device")).unwrap();
    let problem = status.problems.join(" ");
    assert!(
        problem.contains(&format!("writing events to {sink}: write")) && problem.contains("make room there"),
        "{problem}"
    );
    assert_eq!(web::ask(&host, 10).unwrap().backend, "b1");
    assert_eq!(host.balancing(&["events", "-o", "json"]).unwrap().succeeds().lines().count(), 8192);
    fs::remove_file(inside.join("filler")).unwrap();
    agent.wait_status("that it works again", |status| status.problems.is_empty()).unwrap();
    let all = || {
        let text = fs::read_to_string(inside.join("events")).unwrap();
        Some(Told::of(&text)).filter(|told| text.ends_with('\n') && told.all() == 25_000)
    };
    wait::until(PATIENCE, "the last line", || all().is_some());
    let told = all().unwrap();
    let status = agent.status().unwrap();
    let lost = told.lost_at(&sink);
    assert!(lost > 0, "{:?}", told.lost);
    assert_eq!(status.event_sinks[0].lost, lost);
    assert!(agent.log().contains("works again"), "{}", agent.log());
    println!("{} written + {lost} lost = {}", told.ports.len(), told.all());
}

#[test]
fn standard_output_has_events_and_nothing_else_and_a_reader_that_stalls_stops_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let host = Host::new("event-stdout").unwrap();
    host.write("web.yaml", web::manifest("web", 10, &[1])).unwrap();
    let pipe = directory.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    // Reading and writing, so that nobody waits for the other end.
    let reader = fs::OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
    let command = host.agent_command(&program(), &["--event-log", "stdout", "--event-rate", "0"]);
    let script = format!("exec \"$@\" >{}", pipe.display());
    let mut agent = host.start_command(&mut within("sh", &["-c", &script, "sh"], &command)).unwrap();
    agent.wait_ready().unwrap();
    // More than a pipe holds, and than waits for it.
    fail(&host, 10_000..30_000, RATE);
    wait::until_equal(PATIENCE, &20_000, || counted(&agent));
    assert_eq!(agent.status().unwrap().problems, Vec::<String>::new());
    let (mut told, mut lines) = (Told::default(), BufReader::new(reader).lines());
    while told.all() < 20_000 {
        told.add(&lines.next().unwrap().unwrap());
    }
    assert_eq!(told.all(), 20_000);
    assert!(told.lost_at("stdout") > 0, "{:?}", told.lost);
    assert!(agent.log().contains(" started "), "{}", agent.log());
}

#[test]
fn events_since_a_time_and_how_far_back_that_is_known() {
    let (host, mut agent, _directory) = world("event-since", &["--event-memory", "10"]);
    let started = jiff::Timestamp::now();
    // A clock tick is a few milliseconds.
    thread::sleep(Duration::from_millis(20));
    fail(&host, 1000..1005, 1000);
    let events = |arguments: &[&str]| {
        let answer = host.balancing(&[&["events", "-o", "json"], arguments].concat()).unwrap();
        (Told::of(answer.succeeds()).ports, answer.err)
    };
    let all = |ports: Range<u16>| ports.collect::<Vec<_>>();
    wait::until_equal(PATIENCE, &all(1000..1005), || events(&[]).0);
    // The agent was not there an hour ago.
    let (ports, told) = events(&["--since", "1h"]);
    assert_eq!(ports, all(1000..1005));
    assert!(
        told.starts_with("the agent remembers events only since ") && told.lines().count() == 1,
        "{told}"
    );
    thread::sleep(Duration::from_millis(20));
    let between = jiff::Timestamp::now().to_string();
    assert_eq!(events(&["--since", &between]), (vec![], String::new()));
    thread::sleep(Duration::from_millis(20));
    fail(&host, 2000..2003, 1000);
    wait::until_equal(PATIENCE, &(all(2000..2003), String::new()), || events(&["--since", &between]));
    assert_eq!(
        events(&["--since", &started.to_string(), "-n", "default", "--policy", "none"]).0,
        Vec::<u16>::new()
    );
    assert_eq!(events(&["-n", "default"]).0.len(), 8);

    // Seven more: what was first is forgotten, and it says since when.
    fail(&host, 3000..3007, 1000);
    let expected = all(2000..2003).into_iter().chain(3000..3007).collect::<Vec<_>>();
    wait::until_equal(PATIENCE, &expected, || events(&[]).0);
    let (ports, told) = events(&["--since", &started.to_string()]);
    assert_eq!((ports, told.lines().count()), (expected.clone(), 1), "{told}");
    let known =
        told.split_whitespace().find_map(|word| word.trim_end_matches(';').parse::<jiff::Timestamp>().ok());
    assert!(known.unwrap() > started && known.unwrap() < between.parse().unwrap(), "{told}");
    assert_eq!(events(&["--since", &between]), (expected, String::new()));

    // Levels are set live, for as long as the agent lives.
    let level = |wanted: &str| agent.status().unwrap().events == wanted;
    assert!(level("failures"));
    host.balancing(&["events", "--level", "off"]).unwrap().succeeds();
    assert!(level("off"));
    fail(&host, 4000..4001, 1000);
    host.balancing(&["events", "--level", "sampled=10"]).unwrap().succeeds();
    fail(&host, 4001..4002, 1000);
    wait::until(PATIENCE, "a failure", || events(&[]).0.last() == Some(&4001));
    assert!(!events(&[]).0.contains(&4000) && level("sampled=10"));
    agent.kill().unwrap();
    let agent = host.agent(&[]).unwrap();
    assert_eq!(agent.status().unwrap().events, "failures");

    let schema: Value =
        serde_json::from_str(host.balancing(&["events", "--schema"]).unwrap().succeeds()).unwrap();
    let written =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/events.schema.json"));
    assert_eq!(schema, serde_json::from_str::<Value>(&written.unwrap()).unwrap());
}
