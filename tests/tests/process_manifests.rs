//! What the agent makes of manifests that change, break, vanish and come back.

#![allow(clippy::unwrap_used)]

use std::fs;

use balancing_tests::process::{Answer, Host, PATIENCE, program, web};
use testkit::wait;

const BROKEN: &str = "apiVersion: v1\nkind: Service\nmetadata:\n  name: a: b\nspec: {}\n";

/// Frontends that the kernel has.
fn frontends(host: &Host) -> usize {
    let listed = host.balancing(&["get", "services", "-o", "json"]).unwrap();
    serde_json::from_str::<Vec<serde_json::Value>>(listed.succeeds()).unwrap().len()
}

#[test]
fn a_file_that_is_broken_at_the_start_spoils_no_other() {
    let host = Host::new("broken-start").unwrap();
    host.write("bad.yaml", BROKEN).unwrap();
    host.write("web.yaml", web::manifest("web", 10, &[1])).unwrap();
    let _servers = web::serve(&host, &[1]).unwrap();
    let agent = host.agent(&[]).unwrap();
    web::all_answer(&host, 10, &[1]);
    let status = host.balancing(&["status"]).unwrap();
    assert_eq!(status.code, Some(1), "{status:?}");
    let place = format!("{}:4", host.manifests().join("bad.yaml").display());
    assert!(status.out.contains("degraded") && status.out.contains(&place), "{status:?} lacks {place}");

    host.write("bad.yaml", web::manifest("other", 11, &[1])).unwrap();
    agent.wait_status("health", |status| status.problems.is_empty()).unwrap();
    host.balancing(&["status"]).unwrap().succeeds();
    web::all_answer(&host, 11, &[1]);
}

#[test]
fn a_file_that_breaks_keeps_its_last_good_content_in_force() {
    let host = Host::new("broken-later").unwrap();
    host.write("web.yaml", web::manifest("web", 10, &[1])).unwrap();
    host.write("other.yaml", web::manifest("other", 11, &[2])).unwrap();
    let _servers = web::serve(&host, &[1, 2, 3]).unwrap();
    let agent = host.agent(&[]).unwrap();

    host.write("web.yaml", BROKEN).unwrap();
    let status = agent.wait_status("the problem", |status| !status.problems.is_empty()).unwrap();
    let place = format!("{}:4", host.manifests().join("web.yaml").display());
    assert!(status.problems.iter().any(|problem| problem.contains(&place)), "{status:?}");
    assert_eq!(host.balancing(&["status"]).unwrap().code, Some(1));
    web::all_answer(&host, 10, &[1]);
    // Other files are followed all the same.
    host.write("other.yaml", web::manifest("other", 11, &[3])).unwrap();
    wait::until_equal(PATIENCE, &Some("b3".to_owned()), || web::ask(&host, 11).ok().map(|seen| seen.backend));
    web::all_answer(&host, 10, &[1]);

    host.write("web.yaml", web::manifest("web", 10, &[2])).unwrap();
    agent.wait_status("health", |status| status.problems.is_empty()).unwrap();
    web::all_answer(&host, 10, &[2]);
}

#[test]
fn r27_a_file_that_is_broken_when_the_agent_comes_back_loses_nothing() {
    let host = Host::new("broken-return").unwrap();
    host.write("web.yaml", web::manifest("web", 10, &[1])).unwrap();
    host.write("other.yaml", web::manifest("other", 11, &[2])).unwrap();
    let _servers = web::serve(&host, &[1, 2, 3]).unwrap();
    let mut agent = host.agent(&[]).unwrap();
    web::all_answer(&host, 10, &[1]);
    agent.kill().unwrap();

    // Nobody knows any more what the broken one said, but for the tables.
    host.write("web.yaml", BROKEN).unwrap();
    host.write("other.yaml", web::manifest("other", 11, &[3])).unwrap();
    let agent = host.start(&program(), &[]).unwrap();
    wait::until_equal(PATIENCE, &Some("b3".to_owned()), || web::ask(&host, 11).ok().map(|seen| seen.backend));
    web::all_answer(&host, 10, &[1]);
    let status = host.balancing(&["status"]).unwrap();
    assert!(status.out.contains("nothing is deleted until"), "{status:?}");

    host.write("web.yaml", web::manifest("web", 12, &[1])).unwrap();
    agent.wait_status("health", |status| status.problems.is_empty()).unwrap();
    web::all_answer(&host, 12, &[1]);
    web::none_answer(&host, 10);
}

#[test]
fn r27_a_service_whose_endpoints_are_in_the_broken_file_keeps_those_that_it_had() {
    let host = Host::new("broken-endpoints").unwrap();
    let manifest = web::manifest("web", 10, &[1]);
    let (service, slices) = manifest.split_once("---\n").unwrap();
    host.write("service.yaml", service).unwrap();
    host.write("slices.yaml", slices).unwrap();
    let _servers = web::serve(&host, &[1]).unwrap();
    let mut agent = host.agent(&[]).unwrap();
    web::all_answer(&host, 10, &[1]);
    agent.kill().unwrap();

    host.write("slices.yaml", BROKEN).unwrap();
    let agent = host.start(&program(), &[]).unwrap();
    let held = |problem: &String| problem.contains("Service default/web: no endpoint is known so far");
    agent.wait_status("what is held back", |status| status.problems.iter().any(held)).unwrap();
    web::all_answer(&host, 10, &[1]);
    // Once all is known, it is as the files say.
    host.write("slices.yaml", "# none").unwrap();
    agent.wait_status("health", |status| status.problems.is_empty()).unwrap();
    assert_eq!(web::ask(&host, 10).unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
}

#[test]
fn r13_a_service_whose_file_is_deleted_stops_answering_and_can_come_back() {
    let host = Host::new("delete").unwrap();
    host.write("web.yaml", web::manifest("web", 10, &[1, 2])).unwrap();
    host.write("other.yaml", web::manifest("other", 11, &[2])).unwrap();
    let _servers = web::serve(&host, &[1, 2, 3]).unwrap();
    let _agent = host.agent(&[]).unwrap();
    assert_eq!(frontends(&host), 8);
    for backends in [&[1][..], &[2, 3], &[3]] {
        host.remove("web.yaml").unwrap();
        wait::until_equal(PATIENCE, &4, || frontends(&host));
        web::none_answer(&host, 10);
        web::all_answer(&host, 11, &[2]);
        let listed = host.balancing(&["get", "endpoints", "-o", "json"]).unwrap();
        assert!(!listed.succeeds().contains("\"web\""), "{listed:?}");
        // What comes back has nothing of what was.
        host.write("web.yaml", web::manifest("web", 10, backends)).unwrap();
        wait::until_equal(PATIENCE, &8, || frontends(&host));
        web::all_answer(&host, 10, backends);
    }
}

#[test]
fn r10_an_emptied_service_refuses_at_once_and_recovers() {
    let host = Host::new("emptied").unwrap();
    host.write("web.yaml", web::manifest("web", 10, &[1])).unwrap();
    let _servers = web::serve(&host, &[1]).unwrap();
    let _agent = host.agent(&[]).unwrap();
    web::all_answer(&host, 10, &[1]);
    host.write("web.yaml", web::manifest("web", 10, &[])).unwrap();
    let refused = Some(libc::ECONNREFUSED);
    wait::until_equal(PATIENCE, &refused, || web::ask(&host, 10).err().and_then(|e| e.raw_os_error()));
    host.write("web.yaml", web::manifest("web", 10, &[1])).unwrap();
    wait::until(PATIENCE, "an answer", || web::ask(&host, 10).is_ok());
    web::all_answer(&host, 10, &[1]);
}

#[test]
fn r6_nothing_is_deleted_before_the_manifests_are_read() {
    let host = Host::new("unread").unwrap();
    host.write("web.yaml", web::manifest("web", 10, &[1])).unwrap();
    let _servers = web::serve(&host, &[1]).unwrap();
    host.agent(&[]).unwrap().kill().unwrap();
    web::all_answer(&host, 10, &[1]);

    // A directory that can't be listed: the agent says so, and leaves all as it was.
    let (there, away) = (host.manifests(), host.manifests().with_extension("away"));
    fs::rename(&there, &away).unwrap();
    fs::write(&there, "not a directory").unwrap();
    let answer = Answer::of(&mut host.agent_command(&program(), &[])).unwrap();
    answer.fails(1, &["manifests directory", &there.display().to_string()]);
    web::all_answer(&host, 10, &[1]);
    assert_eq!(frontends(&host), 4);

    // An empty one: everything goes, but not before it has been read.
    fs::remove_file(&there).unwrap();
    fs::create_dir(&there).unwrap();
    let agent = host.start(&program(), &[]).unwrap();
    let mut answers = 0;
    wait::until(PATIENCE, "the service to go", || match web::ask(&host, 10) {
        Ok(_) => {
            answers += 1;
            false
        }
        Err(_) => true,
    });
    let status = agent.status().unwrap();
    assert!(status.sources.iter().all(|source| source.synced), "{status:?}");
    assert!(answers > 0, "the service was gone at once");
    wait::until_equal(PATIENCE, &0, || frontends(&host));
    web::none_answer(&host, 10);
}

#[test]
fn r6_a_directory_that_vanishes_takes_nothing_with_it() {
    let host = Host::new("vanish").unwrap();
    host.write("web.yaml", web::manifest("web", 10, &[1])).unwrap();
    let _servers = web::serve(&host, &[1, 2]).unwrap();
    let agent = host.agent(&[]).unwrap();
    let (there, away) = (host.manifests(), host.manifests().with_extension("away"));
    fs::rename(&there, &away).unwrap();
    let status = agent.wait_status("the problem", |status| !status.problems.is_empty()).unwrap();
    assert!(status.problems.iter().any(|it| it.contains(&there.display().to_string())), "{status:?}");
    web::all_answer(&host, 10, &[1]);
    assert_eq!(frontends(&host), 4);
    // Another one in its place is read, and followed.
    fs::rename(&away, &there).unwrap();
    agent.wait_status("health", |status| status.problems.is_empty()).unwrap();
    host.write("web.yaml", web::manifest("web", 10, &[2])).unwrap();
    wait::until_equal(PATIENCE, &Some("b2".to_owned()), || web::ask(&host, 10).ok().map(|seen| seen.backend));
    web::all_answer(&host, 10, &[2]);
}

#[test]
fn r27_what_changed_while_no_agent_ran_is_made_true_by_the_next() {
    let host = Host::new("meanwhile").unwrap();
    host.write("web.yaml", web::manifest("web", 10, &[1, 2])).unwrap();
    host.write("gone.yaml", web::manifest("gone", 11, &[1])).unwrap();
    let _servers = web::serve(&host, &[1, 2, 3]).unwrap();
    host.agent(&[]).unwrap().kill().unwrap();
    host.write("web.yaml", web::manifest("web", 10, &[3])).unwrap();
    host.remove("gone.yaml").unwrap();
    host.write("new.yaml", web::manifest("new", 12, &[2])).unwrap();
    web::all_answer(&host, 10, &[1, 2]);
    web::all_answer(&host, 11, &[1]);
    web::none_answer(&host, 12);
    let agent = host.agent(&[]).unwrap();
    web::all_answer(&host, 10, &[3]);
    web::none_answer(&host, 11);
    web::all_answer(&host, 12, &[2]);
    assert_eq!(agent.status().unwrap().problems, Vec::<String>::new());
}
