//! The agent killed, stopped and starved while clients connect: none of them notices.

#![allow(clippy::unwrap_used)]

use std::{os::unix::net::UnixStream, thread, time::Instant};

use balancing_tests::process::{Answer, Dice, Host, PATIENCE, program, traffic::Traffic, web, within::after};
use rustix::process::Signal;
use testkit::wait;

/// Kills in one run.
const KILLS: u32 = 110;
/// After so many kills one agent is let come up, to see whether it can.
const EVERY: u32 = 22;

#[test]
fn r27_killed_at_every_instant_of_its_start_and_after() {
    let host = Host::new("kills").unwrap();
    host.write("web.yaml", web::manifest("web", 10, &[1, 2])).unwrap();
    host.write("other.yaml", web::manifest("other", 11, &[1])).unwrap();
    let _servers = web::serve(&host, &[1, 2, 3]).unwrap();
    // The first one makes the maps, which takes longer.
    host.agent(&[]).unwrap().kill().unwrap();
    let began = Instant::now();
    let mut agent = host.agent(&[]).unwrap();
    let traffic = Traffic::with(&host, &[(10, &[1, 2])], &[(11, &[1, 3])]).unwrap();

    // From the first instruction of the process to a while after everything is in force.
    let span = began.elapsed() * 5 / 4;
    let mut dice = Dice::new(u64::from(std::process::id()));
    let mut logs = [0usize; 3];
    for kill in 0..KILLS {
        agent.kill().unwrap();
        let log = agent.log();
        for (count, words) in logs.iter_mut().zip(["", " started ", "programs in force"]) {
            *count += usize::from(log.contains(words));
        }
        traffic.has_not_failed(&log);
        // What it is to write changes all the time.
        let backend = if kill % 2 == 0 { 3 } else { 1 };
        host.write("other.yaml", web::manifest("other", 11, &[backend])).unwrap();
        agent = host.start(&program(), &[]).unwrap();
        if kill % EVERY == EVERY - 1 {
            let status = agent.wait_ready().unwrap();
            assert_eq!((status.problems, status.audit_differences), (vec![], 0), "{}", agent.log());
            web::all_answer(&host, 11, &[backend]);
        } else if kill % 3 == 2 {
            // Tables and programs are put in force within milliseconds.
            wait::until(PATIENCE, "the agent to begin", || agent.log().contains(" started "));
            thread::sleep(dice.millis(0, 12));
        } else {
            // Each part of the span has its turn, at a random instant of it.
            let part = span * (kill % EVERY) / EVERY;
            thread::sleep(part + dice.millis(0, span.as_millis() as usize / EVERY as usize));
        }
    }
    let status = agent.wait_ready().unwrap();
    assert_eq!((status.problems, status.audit_differences), (vec![], 0), "{}", agent.log());
    let exchanges = traffic.end();
    println!(
        "{KILLS} kills {logs:?} over a span of {span:?}: {exchanges} exchanges, {:?} in all",
        began.elapsed()
    );
    // Some died before they had said anything, some after the programs were in force. Between its first word and that an
    // agent that finds tables of its own needs some milliseconds only: few die there, or none.
    assert!(
        logs[1] < logs[0] && logs[2] <= logs[1] && logs[2] > 5 && logs[2] < logs[0] - 5,
        "the kills do not cover the start: {logs:?}"
    );
}

#[test]
fn a_stopped_agent_is_told_of_and_catches_up() {
    let host = Host::new("sigstop").unwrap();
    host.write("web.yaml", web::manifest("web", 10, &[1, 2])).unwrap();
    host.write("other.yaml", web::manifest("other", 11, &[1])).unwrap();
    let _servers = web::serve(&host, &[1, 2, 3]).unwrap();
    let mut agent = host.agent(&[]).unwrap();
    let traffic = Traffic::with(&host, &[(10, &[1, 2])], &[(11, &[1, 3])]).unwrap();

    agent.signal(Signal::STOP).unwrap();
    host.write("other.yaml", web::manifest("other", 11, &[3])).unwrap();
    host.write("new.yaml", web::manifest("new", 12, &[2])).unwrap();
    // `status` gives up after 5 s, and says what to look at.
    host.balancing(&["status"]).unwrap().fails(1, &["does not answer", "stopped or stuck"]);
    // It still holds the lock.
    host.balancing(&["clean"]).unwrap().fails(1, &["running"]);
    traffic.goes_on();
    web::none_answer(&host, 12);
    web::all_answer(&host, 11, &[1]);

    agent.signal(Signal::CONT).unwrap();
    wait::until_equal(PATIENCE, &Some("b3".to_owned()), || web::ask(&host, 11).ok().map(|seen| seen.backend));
    wait::until(PATIENCE, "the new service", || web::ask(&host, 12).is_ok());
    web::all_answer(&host, 12, &[2]);
    let status = agent.wait_ready().unwrap();
    assert_eq!((status.problems, status.audit_differences), (vec![], 0), "{}", agent.log());
    traffic.end();
}

#[test]
fn too_few_open_files_are_said_at_the_start_and_conversations_take_only_their_share() {
    let host = Host::new("nofile").unwrap();
    host.write("web.yaml", web::manifest("web", 10, &[1, 2])).unwrap();
    let _servers = web::serve(&host, &[1, 2, 3]).unwrap();
    host.agent(&[]).unwrap().kill().unwrap();
    let traffic = Traffic::with(&host, &[], &[(10, &[1, 2, 3])]).unwrap();

    let limited = |limits: &str| after(limits, &host.agent_command(&program(), &[]));
    for limit in ["8", "16", "24", "32", "40", "64", "128"] {
        let answer = Answer::of(&mut limited(&format!("ulimit -n {limit}"))).unwrap();
        // With no more than 8 there is not even a runtime to tell it better.
        let words: &[&str] =
            if limit == "8" { &["open files"] } else { &["raise the limit", "LimitNOFILE", limit] };
        answer.fails(1, words);
    }

    // The soft limit is nothing to care for, as long as the hard one is high enough.
    let mut agent = host.start_command(&mut limited("ulimit -Sn 20; ulimit -Hn 180")).unwrap();
    agent.wait_ready().unwrap();
    // Whoever asks and then says nothing: more of them than files may be open.
    let silent: Vec<_> = (0..120).map(|_| UnixStream::connect(host.socket())).collect();
    assert!(silent.iter().filter(|stream| stream.is_ok()).count() > 60, "{silent:?}");
    host.write("web.yaml", web::manifest("web", 10, &[3])).unwrap();
    wait::until_equal(PATIENCE, &Some("b3".to_owned()), || web::ask(&host, 10).ok().map(|seen| seen.backend));
    traffic.goes_on();
    drop(silent);
    let status = agent.wait_status("health", |status| status.problems.is_empty()).unwrap();
    assert_eq!(status.audit_differences, 0);
    assert!(!agent.log().contains("Too many open files"), "{}", agent.log());
    traffic.end();
}
