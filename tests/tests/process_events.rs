//! The event log: who asked for what and what became of it; and exactly how much of it is missing.

#![allow(clippy::unwrap_used)]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::UdpSocket,
    os::unix::net::UnixStream,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use balancing_tests::process::{Host, PATIENCE, web};
use rustix::process::Signal;
use serde_json::{Value, json};
use testkit::{Family, Kind, exchange};

/// `balancing events -f -o json`.
struct Follower {
    child: Child,
    lines: Receiver<String>,
}

impl Follower {
    fn start(host: &Host, arguments: &[&str]) -> Self {
        let mut child = host
            .command(&[&["events", "-f", "-o", "json"], arguments].concat())
            .stdout(Stdio::piped())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || {
            out.lines().map_while(Result::ok).take_while(|line| sender.send(line.clone()).is_ok()).count()
        });
        Self { child, lines }
    }

    /// The next line for which `wanted` holds; what is before it is passed over.
    #[track_caller]
    fn next(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    let value: Value = serde_json::from_str(&line).unwrap();
                    if wanted(&value) {
                        return value;
                    }
                }
                Err(RecvTimeoutError::Timeout) => panic!("no event {what}"),
                Err(RecvTimeoutError::Disconnected) => panic!("events ended before {what}"),
            }
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a shell inside that connects to `address` and `port`; its pid.
fn shell_connects(host: &Host, address: &str, port: u16) -> u32 {
    let mut shell = Command::new("bash");
    shell.args(["-c", &format!("exec 3<>/dev/tcp/{address}/{port}")]).stdin(Stdio::null());
    shell.stderr(Stdio::null());
    host.namespace().contain(&mut shell).unwrap();
    let mut child = host.cgroup().spawn(&mut shell).unwrap();
    let pid = child.id();
    child.wait().unwrap();
    pid
}

/// All that must be right about an event of a shell's connect.
fn expected(host: &Host, pid: u32, verdict: &str, reason: &str, service: &str, low: u8) -> Value {
    let cgroup = host.cgroup();
    let name = cgroup.path().file_name().unwrap().to_str().unwrap();
    json!({
        "schema": 1,
        "node": "n1",
        "hook": "connect",
        "verdict": verdict,
        "reason": reason,
        "protocol": "TCP",
        "client": {
            "namespace": null,
            "pod": null,
            "container": null,
            "containerId": null,
            "host": name,
            "pid": pid,
            "tid": pid,
            "comm": "bash",
            "uid": 0,
            "cgroup": format!("/{name}"),
            "cgroupId": cgroup.id().unwrap(),
        },
        "original": {"ip": format!("10.96.0.{low}"), "port": 80},
        "backend": null,
        "service": {"namespace": "default", "name": service, "port": "http"},
        "policy": null,
        "mode": "ClusterIP",
        "flags": [],
    })
}

/// Takes out what can't be known beforehand, after a look at it.
fn known(mut event: Value) -> Value {
    let fields = event.as_object_mut().unwrap();
    let time = fields.remove("time").unwrap();
    assert!(time.as_str().unwrap().ends_with('Z'), "{time}");
    let client = fields.get_mut("client").unwrap().as_object_mut().unwrap();
    assert!(client.remove("netnsCookie").unwrap().as_u64().unwrap() > 0);
    event
}

#[test]
fn an_event_tells_exactly_who_asked_and_what_became_of_it() {
    let host = Host::new("events").unwrap();
    host.write("web.yaml", web::manifest("web", 10, &[1])).unwrap();
    host.write("empty.yaml", web::manifest("empty", 11, &[])).unwrap();
    let local = [("internalTrafficPolicy", "Local")];
    host.write("local.yaml", web::manifest_with("local", 12, &[1], &local)).unwrap();
    let _servers = web::serve(&host, &[1]).unwrap();
    let _agent = host.agent(&[]).unwrap();

    // At the level that is the default only failures are told of.
    let follower = Follower::start(&host, &[]);
    let passed = shell_connects(&host, "10.96.0.10", 80);
    let refused = shell_connects(&host, "10.96.0.11", 80);
    let of = |pid: u32| move |event: &Value| event["client"]["pid"] == json!(pid);
    let event = follower.next("of the first failure", |event| of(refused)(event) || of(passed)(event));
    assert_eq!(known(event), expected(&host, refused, "refused", "no-endpoints", "empty", 11));
    let unreachable = shell_connects(&host, "10.96.0.12", 80);
    let event = follower.next("of an unreachable one", of(unreachable));
    assert_eq!(known(event), expected(&host, unreachable, "unreachable", "no-local-endpoint", "local", 12));

    // At level all also what is translated.
    let all = Follower::start(&host, &["--level", "all"]);
    // It is in force when the status shows it.
    testkit::wait::until(PATIENCE, "the level", || {
        host.balancing(&["status"]).unwrap().out.contains("level all")
    });
    let translated = shell_connects(&host, "10.96.0.10", 80);
    let event = all.next("of a translated one", of(translated));
    let mut wanted = expected(&host, translated, "translated", "balanced", "web", 10);
    wanted["backend"] =
        json!({"ip": "10.1.0.1", "port": 8080, "namespace": "default", "pod": "web-1", "node": "n2"});
    assert_eq!(known(event), wanted);

    // What was told before is remembered for those who ask later, and filters choose.
    let past = host.balancing(&["events", "-o", "json", "--verdict", "unreachable"]).unwrap();
    let lines: Vec<Value> = past.succeeds().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 1, "{past:?}");
    assert!(of(unreachable)(&lines[0]), "{past:?}");
    let past = host.balancing(&["events", "--service", "default/web"]).unwrap();
    assert!(past.succeeds().contains(&format!("bash[{translated}]")), "{past:?}");
    assert!(!past.succeeds().contains("default/empty"), "{past:?}");
    let past = host.balancing(&["events", "--pid", &refused.to_string()]).unwrap();
    assert_eq!(past.succeeds().lines().count(), 1, "{past:?}");
}

/// "Loud in status, metrics and events".
#[test]
fn a_pause_is_told_of_and_so_are_connections_that_pass_because_of_it() {
    let host = Host::new("events-pause").unwrap();
    host.write("web.yaml", web::manifest("web", 10, &[1])).unwrap();
    let foreign = "\n  labels: {service.kubernetes.io/service-proxy-name: mesh}";
    let foreign =
        web::manifest("other", 12, &[1]).replacen("name: other", &format!("name: other{foreign}"), 1);
    host.write("other.yaml", foreign).unwrap();
    let mut agent = host.agent(&[]).unwrap();
    host.balancing(&["pause"]).unwrap().succeeds();
    let follower = Follower::start(&host, &[]);
    let paused = follower.next("of the pause", |event| event["paused"] == json!(true));
    assert_eq!(paused["node"], json!("n1"));
    agent.signal(Signal::TERM).unwrap();
    agent.wait().unwrap();
    let _agent = host.agent(&["--events", "all"]).unwrap();
    follower.next("of the next agent", |event| event["paused"] == json!(true));

    let of = |pid: u32| move |event: &Value| event["client"]["pid"] == json!(pid);
    let reason = |event: Value| event["reason"].as_str().map(str::to_owned);
    let during = shell_connects(&host, "10.96.0.10", 80);
    let event = follower.next("of what passes", of(during));
    assert_eq!((&event["verdict"], &event["reason"]), (&json!("passed"), &json!("paused")));
    host.balancing(&["resume"]).unwrap().succeeds();
    let resumed = follower.next("of its end", |event| event["paused"] == json!(false));
    assert!(resumed["since"].is_string(), "{resumed}");
    let foreign = shell_connects(&host, "10.96.0.12", 80);
    assert_eq!(
        reason(follower.next("of another's service", of(foreign))).as_deref(),
        Some("foreign-service")
    );
}

/// Whoever comes and says nothing, or never reads, shuts nobody out for long, and is seen.
#[test]
fn readers_that_are_too_many_are_told_so() {
    let host = Host::new("events-many").unwrap();
    let agent = host.agent(&[]).unwrap();
    let ask = |line: &str| {
        let mut stream = UnixStream::connect(host.socket()).unwrap();
        stream.write_all(line.as_bytes()).unwrap();
        stream
    };
    let mut followers: Vec<UnixStream> =
        (0..32).map(|_| ask("{\"events\":{\"follow\":true,\"how_far\":true}}\n")).collect();
    for follower in &mut followers {
        let mut first = [0];
        follower.read_exact(&mut first).unwrap();
    }
    host.balancing(&["events"]).unwrap().fails(1, &["32 commands read the events of this agent already"]);
    let status = host.balancing(&["status"]).unwrap();
    assert!(status.out.contains(", 32 read them"), "{status:?}");
    // Those that say nothing take the rest of the places.
    let silent: Vec<UnixStream> = (0..16).map(|_| ask("")).collect();
    host.balancing(&["get", "nodes"]).unwrap().fails(1, &["48 commands ask this agent already"]);
    // For some seconds.
    let all = "everybody is heard again";
    testkit::wait::until(PATIENCE, all, || host.balancing(&["status"]).unwrap().out.contains("read them"));
    drop((followers, silent));
    testkit::wait::until(PATIENCE, "all gone", || agent.status().is_ok_and(|it| it.event_followers == 0));
}

#[test]
fn who_follows_is_told_when_the_agent_ends_and_goes_on_with_the_next() {
    let host = Host::new("events-end").unwrap();
    host.write("empty.yaml", web::manifest("empty", 11, &[])).unwrap();
    let mut agent = host.agent(&[]).unwrap();
    let mut follower = Follower::start(&host, &[]);
    let pid = |pid: u32| move |event: &Value| event["client"]["pid"] == json!(pid);
    let before = shell_connects(&host, "10.96.0.11", 80);
    follower.next("of the first agent", pid(before));
    agent.kill().unwrap();
    // Nobody is there: the next one tells of it.
    let between = shell_connects(&host, "10.96.0.11", 80);
    let mut agent = host.agent(&[]).unwrap();
    follower.next("of the time without an agent", pid(between));
    let after = shell_connects(&host, "10.96.0.11", 80);
    follower.next("of the second agent", pid(after));
    agent.signal(Signal::TERM).unwrap();
    agent.wait().unwrap();
    // Scripts must not take this for success.
    let status = follower.child.wait().unwrap();
    assert_eq!(status.code(), Some(1));
}

#[test]
fn what_the_ring_has_no_room_for_is_counted_exactly() {
    const SENDERS: usize = 4;
    const SENDS: usize = 10_000;
    let host = Host::new("lost").unwrap();
    host.write("web.yaml", web::manifest("web", 10, &[1, 2])).unwrap();
    host.write("empty.yaml", web::manifest("empty", 11, &[])).unwrap();
    let _servers = web::serve(&host, &[1, 2]).unwrap();
    let agent = host.agent(&["--events", "all"]).unwrap();
    let follower = Follower::start(&host, &[]);
    // The follower follows once it has seen something.
    let first = shell_connects(&host, "10.96.0.11", 80);
    follower.next("of the beginning", |event| event["client"]["pid"] == json!(first));

    agent.signal(Signal::STOP).unwrap();
    let vip = web::vip(Kind::UnconnectedUdp, Family::V4, 10);
    thread::scope(|scope| {
        for _ in 0..SENDERS {
            scope.spawn(|| {
                host.run(|| {
                    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
                    for _ in 0..SENDS {
                        socket.send_to(b"x", vip).unwrap();
                    }
                })
            });
        }
    });
    agent.signal(Signal::CONT).unwrap();
    // One more at the end: when it is told of, so is everything before it.
    let refused = web::vip(Kind::Tcp, Family::V4, 11);
    let last = std::cell::Cell::new(false);
    let (mut seen, mut lost) = (0, 0);
    let own = json!(std::process::id());
    let deadline = Instant::now() + PATIENCE;
    while seen + lost < SENDERS * SENDS || !last.get() {
        assert!(Instant::now() < deadline, "{seen} seen, {lost} lost of {}", SENDERS * SENDS);
        if seen + lost >= SENDERS * SENDS && !last.get() {
            host.run(|| exchange(Kind::Tcp, Family::V4, refused)).unwrap_err();
        }
        let Ok(line) = follower.lines.recv_timeout(Duration::from_millis(500)) else { continue };
        let event: Value = serde_json::from_str(&line).unwrap();
        if let Some(count) = event["lost"].as_u64() {
            assert_eq!(event["at"], json!("ring"), "{event}");
            lost += usize::try_from(count).unwrap();
        } else if event["client"]["pid"] == own && event["hook"] == json!("sendmsg") {
            seen += 1;
        } else if event["client"]["pid"] == own && event["verdict"] == json!("refused") {
            last.set(true);
        }
    }
    assert_eq!(seen + lost, SENDERS * SENDS, "{seen} seen, {lost} lost");
    assert!(lost > 0 && seen > 0, "{seen} seen, {lost} lost: the ring was never full");
    println!("{seen} seen + {lost} lost = {} made", SENDERS * SENDS);
    let status = agent.status().unwrap();
    assert_eq!(usize::try_from(status.events_lost).unwrap(), lost);
}
