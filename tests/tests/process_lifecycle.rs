//! Starting, stopping, pausing, cleaning: what is in force when.

#![allow(clippy::unwrap_used)]

use std::{fs, os::unix::process::CommandExt};

use balancing_tests::process::{Answer, Host, PATIENCE, program, web};
use rustix::process::Signal;

#[test]
fn a_missing_manifests_directory_is_said_and_nothing_is_pinned() {
    let host = Host::new("no-manifests").unwrap();
    fs::remove_dir(host.manifests()).unwrap();
    let answer = Answer::of(&mut host.agent_command(&program(), &[])).unwrap();
    answer.fails(1, &["manifests directory", &host.manifests().display().to_string(), "create it"]);
    assert!(!host.pins().exists(), "something is pinned");
    host.balancing(&["status"]).unwrap().fails(2, &["not running"]);
}

#[test]
fn a_second_agent_names_the_lock_of_the_first() {
    let host = Host::new("second").unwrap();
    let first = host.agent(&[]).unwrap();
    let lock = host.socket().with_extension("lock");
    let answer = Answer::of(&mut host.agent_command(&program(), &[])).unwrap();
    answer.fails(1, &["another agent is running", &lock.display().to_string()]);
    assert_eq!(first.status().unwrap().pid, first.pid(), "the first one is none the worse");
    drop(first);
    // The lock ends with its holder, however that ended.
    host.agent(&[]).unwrap();
}

#[test]
fn without_root_one_line_says_so() {
    let host = Host::new("nobody").unwrap();
    let agent = host.agent(&[]).unwrap();
    let as_nobody = |command: &mut std::process::Command| {
        Answer::of(command.uid(65_534).gid(65_534).current_dir("/")).unwrap()
    };
    // The program itself may be where nobody else may look: a copy is for all.
    let open = tempfile::Builder::new().permissions(mode(0o755)).tempdir().unwrap();
    let copy = open.path().join("balancing");
    fs::copy(program(), &copy).unwrap();
    let mut start = host.agent_command(&copy, &[]);
    as_nobody(&mut start).fails(1, &["root"]);

    // Its socket is for root only; that is not the same as an agent that does not run.
    let shared = tempfile::Builder::new().permissions(mode(0o755)).tempdir().unwrap();
    let socket = shared.path().join("agent.sock");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    fs::set_permissions(&socket, mode(0o600)).unwrap();
    let mut status = std::process::Command::new(&copy);
    status.arg("status").arg("--socket").arg(&socket);
    as_nobody(&mut status).fails(1, &["root", &socket.display().to_string()]);
    drop(agent);
}

fn mode(bits: u32) -> fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(bits)
}

#[test]
fn wrong_usage_is_exit_code_2_with_usage() {
    let host = Host::new("usage").unwrap();
    for arguments in [
        &["agent", "--no-such-flag"][..],
        &["agent"],
        &["agent", "--manifests", "/tmp", "--events", "loud"],
        &["agent", "--manifests", "/tmp", "--max-services", "0"],
        &["get", "nonsense"],
        &["get", "services", "-o", "xml"],
        &["events", "--verdict", "maybe"],
        &["why", "host"],
        &["nonsense"],
    ] {
        let answer = host.balancing(arguments).unwrap();
        answer.fails(2, &[]);
        assert!(answer.out.is_empty(), "{arguments:?}: {answer:?}");
        let helps = answer.err.contains("Usage:") || answer.err.contains("--help");
        assert!(helps, "{arguments:?}: {answer:?}");
    }
    assert!(!host.pins().exists(), "something is pinned");
}

#[test]
fn r27_a_stopped_agent_leaves_everything_in_force() {
    let host = Host::new("stop").unwrap();
    host.write("web.yaml", web::manifest("web", 10, &[1, 2])).unwrap();
    let _servers = web::serve(&host, &[1, 2]).unwrap();
    for signal in [Signal::TERM, Signal::INT] {
        let mut agent = host.agent(&[]).unwrap();
        web::all_answer(&host, 10, &[1, 2]);
        host.balancing(&["status"]).unwrap().succeeds();
        agent.signal(signal).unwrap();
        let status = agent.wait().unwrap();
        assert_eq!(status.code(), Some(0), "{signal:?}: {status}: {}", agent.log());
        web::all_answer(&host, 10, &[1, 2]);
        let answer = host.balancing(&["status"]).unwrap();
        answer.fails(2, &["not running"]);
        assert!(answer.err.contains("9 of 9 programs are attached"), "{answer:?}");
        assert!(!answer.err.contains("PAUSED"), "{answer:?}");
    }
}

#[test]
fn clean_leaves_the_machine_as_before() {
    let host = Host::new("clean").unwrap();
    host.write("web.yaml", web::manifest("web", 10, &[1])).unwrap();
    let _servers = web::serve(&host, &[1]).unwrap();
    let mut agent = host.agent(&[]).unwrap();
    host.balancing(&["clean"]).unwrap().fails(1, &["the agent is running", &agent.pid().to_string()]);
    web::all_answer(&host, 10, &[1]);

    agent.kill().unwrap();
    web::all_answer(&host, 10, &[1]);
    let said = host.balancing(&["clean"]).unwrap();
    assert!(said.succeeds().contains(&host.pins().display().to_string()), "{said:?}");
    assert!(!host.pins().exists(), "pins are left");
    web::none_answer(&host, 10);
    // The same once more, on a machine that is clean.
    let said = host.balancing(&["clean"]).unwrap();
    assert!(said.succeeds().contains("nothing to do"), "{said:?}");
    let answer = host.balancing(&["status"]).unwrap();
    answer.fails(2, &["not running"]);
    assert!(!answer.err.contains("attached"), "{answer:?}");
    let answer = host.balancing(&["status", "-o", "json"]).unwrap();
    answer.fails(2, &["not running"]);
    let json: serde_json::Value = serde_json::from_str(&answer.out).unwrap();
    assert_eq!((&json["running"], &json["paused"]), (&false.into(), &serde_json::Value::Null), "{json}");
    for listing in ["services", "endpoints", "maps"] {
        host.balancing(&["get", listing]).unwrap().fails(1, &["is not there"]);
    }
    // And all again.
    let _agent = host.agent(&[]).unwrap();
    web::all_answer(&host, 10, &[1]);
}

#[test]
fn clean_refuses_also_an_agent_that_does_not_answer() {
    let host = Host::new("clean-hung").unwrap();
    let agent = host.agent(&[]).unwrap();
    // It holds the lock, but nobody finds its socket.
    fs::remove_file(host.socket()).unwrap();
    host.balancing(&["clean"]).unwrap().fails(1, &["running"]);
    assert!(host.pins().exists(), "the pins of a running agent are gone");
    drop(agent);
    host.balancing(&["clean"]).unwrap().succeeds();
}

#[test]
fn a_pause_passes_everything_with_the_agent_and_without() {
    let host = Host::new("pause").unwrap();
    host.write("web.yaml", web::manifest("web", 10, &[1])).unwrap();
    let _servers = web::serve(&host, &[1]).unwrap();
    host.balancing(&["pause"]).unwrap().fails(1, &["is not there"]);
    let mut agent = host.agent(&[]).unwrap();
    web::all_answer(&host, 10, &[1]);

    assert!(host.balancing(&["pause"]).unwrap().succeeds().starts_with("paused"));
    web::none_answer(&host, 10);
    let status = host.balancing(&["status"]).unwrap();
    assert_eq!(status.code, Some(1), "{status:?}");
    assert!(status.out.contains("PAUSED") && status.out.contains("balancing resume"), "{status:?}");
    assert_eq!(host.balancing(&["pause"]).unwrap().succeeds().trim(), "already paused");

    // It outlives the agent, and a new one.
    agent.kill().unwrap();
    web::none_answer(&host, 10);
    let status = host.balancing(&["status"]).unwrap();
    status.fails(2, &["not running"]);
    assert!(status.err.contains("PAUSED") && status.err.contains("balancing resume"), "{status:?}");
    let status = host.balancing(&["status", "-o", "json"]).unwrap();
    status.fails(2, &["not running"]);
    let json: serde_json::Value = serde_json::from_str(&status.out).unwrap();
    assert_eq!((&json["running"], &json["paused"]), (&false.into(), &true.into()), "{json}");
    assert_eq!(json["hooks"].as_array().map(Vec::len), Some(9), "{json}");
    assert_eq!((&json["frontends"], &json["events"]), (&4.into(), &"failures".into()), "{json}");
    let agent = host.agent(&[]).unwrap();
    web::none_answer(&host, 10);
    assert!(agent.status().unwrap().paused);
    assert!(host.balancing(&["resume"]).unwrap().succeeds().starts_with("resumed"));
    web::all_answer(&host, 10, &[1]);
    host.balancing(&["status"]).unwrap().succeeds();
    assert_eq!(host.balancing(&["resume"]).unwrap().succeeds().trim(), "not paused");

    drop(agent);
    host.balancing(&["pause"]).unwrap().succeeds();
    web::none_answer(&host, 10);
    host.balancing(&["resume"]).unwrap().succeeds();
    web::all_answer(&host, 10, &[1]);
}

#[test]
fn what_somebody_detached_is_attached_again() {
    let host = Host::new("detached").unwrap();
    host.write("web.yaml", web::manifest("web", 10, &[1])).unwrap();
    let _servers = web::serve(&host, &[1]).unwrap();
    let _agent = host.agent(&[]).unwrap();
    web::all_answer(&host, 10, &[1]);
    for link in fs::read_dir(host.pins().join("links")).unwrap() {
        fs::remove_file(link.unwrap().path()).unwrap();
    }
    testkit::wait::until(PATIENCE, "an answer", || web::ask(&host, 10).is_ok());
    testkit::wait::until(PATIENCE, "health", || host.balancing(&["status"]).unwrap().code == Some(0));
    web::all_answer(&host, 10, &[1]);
}

#[test]
fn an_agent_whose_pins_are_gone_says_so_and_ends() {
    let host = Host::new("pins-gone").unwrap();
    host.write("web.yaml", web::manifest("web", 10, &[1])).unwrap();
    let _servers = web::serve(&host, &[1]).unwrap();
    let mut agent = host.agent(&[]).unwrap();
    web::all_answer(&host, 10, &[1]);
    fs::remove_dir_all(host.pins().join("maps")).unwrap();
    assert_eq!(agent.wait().unwrap().code(), Some(1));
    assert!(agent.log().contains("removed or replaced"), "{}", agent.log());
    // The next one makes what is missing anew.
    let _agent = host.agent(&[]).unwrap();
    web::all_answer(&host, 10, &[1]);
}
