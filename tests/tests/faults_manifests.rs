//! What is wrong with manifests, or with where they are: it is named, what was good stays in force, and no client
//! notices.

#![allow(clippy::unwrap_used)]

use std::{
    fs::{self, File, Permissions},
    io::Write,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use balancing_tests::process::{
    Agent, Answer, Host, PATIENCE, program,
    traffic::Traffic,
    web,
    within::{in_own_mounts, within},
};
use testkit::wait;

/// Waits until the status has one problem about `file`, with all of these words; the log says the same.
#[track_caller]
fn is_told(host: &Host, agent: &Agent, file: &str, words: &[&str]) {
    let place = host.manifests().join(file).display().to_string();
    let told = |problems: &[String]| {
        problems.iter().any(|it| it.starts_with(&place) && words.iter().all(|word| it.contains(word)))
    };
    let status = agent.wait_status(&format!("{file}: {words:?}"), |status| told(&status.problems)).unwrap();
    let problem = status.problems.iter().find(|problem| problem.starts_with(&place)).unwrap();
    assert!(agent.log().contains(problem), "not logged: {problem}\n{}", agent.log());
    assert_eq!(host.balancing(&["status"]).unwrap().code, Some(1));
}

#[track_caller]
fn is_healthy(agent: &Agent) {
    agent.wait_status("health", |status| status.problems.is_empty()).unwrap();
}

fn service(rest: &str) -> String {
    format!("apiVersion: v1\nkind: Service\nmetadata: {{name: x}}\nspec:\n  clusterIP: 10.96.0.99\n{rest}\n")
}

fn slice(rest: &str) -> String {
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{name: x-1, labels: {{kubernetes.io/service-name: x}}}}\n{rest}\n"
    )
}

#[test]
fn each_mistake_is_named_by_file_line_object_and_field_and_takes_nothing_away() {
    let host = Host::new("mistakes").unwrap();
    host.write("web.yaml", web::manifest("web", 10, &[1])).unwrap();
    host.write("other.yaml", web::manifest("other", 11, &[2])).unwrap();
    let _servers = web::serve(&host, &[1, 2]).unwrap();
    let agent = host.agent(&[]).unwrap();
    let traffic = Traffic::start(&host, &[(10, &[1]), (11, &[2])]).unwrap();

    let endpoints = "endpoints: [{addresses: [10.1.0.1]}]";
    let mistakes: Vec<(String, &[&str])> = vec![
        // No YAML.
        ("a: [\n".into(), &[":1: ", "unclosed"]),
        ("a: \"b\n".into(), &[":1: ", "unclosed quote"]),
        ("a: b: c\n".into(), &[":1: ", "mapping values are not allowed"]),
        ("a: *b\n".into(), &[":1: ", "unknown"]),
        ("[".repeat(100_000), &[":1: ", "recursion limit"]),
        (service("<<<<<<< HEAD"), &[":6: "]),
        (service("  clusterIP: 10.96.0.98"), &[":6: ", "duplicate", "clusterIP"]),
        // No object.
        ("just a text\n".into(), &[":1: ", "Kubernetes object"]),
        ("- a\n- b\n".into(), &[":1: ", "Kubernetes object"]),
        ("kind: Service\n".into(), &[":1: ", "apiVersion", "is missing"]),
        (
            "apiVersion: v2\nkind: Service\nmetadata: {name: x}\n".into(),
            &["Service", "x", "\"v2\"", "use v1"],
        ),
        // Wrong types.
        (service("  ports: [{port: http}]"), &["Service", "x: spec.ports[0].port: ", "string \"http\""]),
        (service("  ports: {port: 80}"), &["Service", "x: spec.ports: ", "map"]),
        (service("  ports: [{port: 80.5}]"), &["spec.ports[0].port: ", "80.5"]),
        (
            slice("addressType: IPv4\nendpoints: [{addresses: [10.1.0.1], conditions: {ready: \"yes\"}}]"),
            &["EndpointSlice", "x-1: endpoints[0].conditions.ready: ", "string \"yes\""],
        ),
        // Wrong values.
        (
            service("  ports: [{port: 0}]"),
            &["Service default/x: spec.ports[0].port: 0 is not a port; use 1-65535"],
        ),
        (
            service("  ports: [{port: 70000}]"),
            &["Service default/x: spec.ports[0].port: 70000 is not a port"],
        ),
        (
            service("  ports: [{port: 80, protocol: tcp}]"),
            &["spec.ports[0].protocol: \"tcp\"", "use TCP or UDP"],
        ),
        (service("  type: Cluster\n  ports: [{port: 80}]"), &["spec.type: \"Cluster\"", "use ClusterIP"]),
        (service("  ports: []"), &["spec.ports: is empty"]),
        (
            slice(&format!("addressType: IPv4\nports: [{{port: 70000}}]\n{endpoints}")),
            &["EndpointSlice default/x-1: ports[0].port: 70000 is not a port"],
        ),
        (
            slice(&format!("addressType: IPv6\nports: [{{port: 80}}]\n{endpoints}")),
            &[
                "EndpointSlice default/x-1: endpoints[0].addresses[0]: 10.1.0.1",
                "addressType",
                "another slice",
            ],
        ),
        (slice(&format!("addressType: IPv5\n{endpoints}")), &["addressType: \"IPv5\"", "use IPv4 or IPv6"]),
        (slice("addressType: IPv4\nendpoints: [{addresses: []}]"), &["endpoints[0].addresses: is empty"]),
        // Nothing at all.
        (String::new(), &["is empty", "write what it should say, or delete"]),
        ("\0".repeat(4096), &["is empty"]),
    ];
    for (text, words) in &mistakes {
        // In place of what was good, and of what was not there before.
        host.write("web.yaml", text).unwrap();
        host.write("new.yaml", text).unwrap();
        is_told(&host, &agent, "web.yaml", words);
        is_told(&host, &agent, "new.yaml", words);
        traffic.has_not_failed(&agent.log());
        host.remove("new.yaml").unwrap();
    }
    // The one that follows is taken as soon as it is right.
    host.write("web.yaml", web::manifest("web", 10, &[1])).unwrap();
    is_healthy(&agent);
    let log = agent.log();
    assert!(log.contains(&format!("no longer: {}", host.manifests().join("web.yaml").display())), "{log}");
    assert_eq!(agent.status().unwrap().audit_differences, 0);
    traffic.end();
}

#[test]
fn what_has_no_effect_is_told_and_is_no_problem() {
    let host = Host::new("notices").unwrap();
    host.write("web.yaml", web::manifest("web", 10, &[1])).unwrap();
    let _servers = web::serve(&host, &[1]).unwrap();
    let agent = host.agent(&[]).unwrap();
    let traffic = Traffic::start(&host, &[(10, &[1])]).unwrap();
    let cases: [(String, &str); 5] = [
        (
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\n".into(),
            ":1: 1 of kind Deployment (apps/v1) ignored",
        ),
        (
            "apiVersion: v1\nkind: Sevrice\nmetadata: {name: web}\n".into(),
            ":1: 1 of kind Sevrice (v1) ignored",
        ),
        (
            service("  ports: [{port: 80, protocl: UDP}]"),
            "x: spec.ports[0].protocl: is no known field, and has no effect",
        ),
        (
            slice("addressType: IPv4\nendpoints: [{addresses: [10.1.0.1]}]"),
            "EndpointSlice default/x-1: metadata.labels.kubernetes.io/service-name: there is no Service default/x",
        ),
        (
            slice("addressType: IPv4").replace("kubernetes.io/service-name: x", ""),
            "EndpointSlice default/x-1: metadata.labels.kubernetes.io/service-name: is missing",
        ),
    ];
    for (text, words) in &cases {
        host.write("new.yaml", text).unwrap();
        let told = |notice: &String| notice.contains("new.yaml") && notice.contains(words);
        let status = agent.wait_status(words, |status| status.notices.iter().any(told)).unwrap();
        assert_eq!(status.problems, Vec::<String>::new());
        let answer = host.balancing(&["status"]).unwrap();
        assert!(answer.succeeds().contains(words), "{answer:?}");
        assert!(agent.log().contains(words), "{}", agent.log());
    }
    host.remove("new.yaml").unwrap();
    agent.wait_status("no notices", |status| status.notices.is_empty()).unwrap();
    traffic.end();
}

#[test]
fn one_name_in_two_files_belongs_to_the_first_whoever_comes_and_goes() {
    let host = Host::new("twice").unwrap();
    host.write("b.yaml", web::manifest("web", 10, &[1])).unwrap();
    let _servers = web::serve(&host, &[1, 2]).unwrap();
    let agent = host.agent(&[]).unwrap();
    let traffic = Traffic::with(&host, &[], &[(10, &[1, 2])]).unwrap();
    for _ in 0..3 {
        // The first in name order takes over.
        host.write("a.yaml", web::manifest("web", 10, &[2])).unwrap();
        is_told(
            &host,
            &agent,
            "b.yaml",
            &["Service default/web: is also in a.yaml, which holds it; remove one"],
        );
        web::all_answer(&host, 10, &[2]);
        // It goes, and the other one holds it again.
        host.remove("a.yaml").unwrap();
        is_healthy(&agent);
        web::all_answer(&host, 10, &[1]);
    }
    traffic.end();
}

#[test]
fn what_is_no_file_to_read_is_named_and_harms_no_other() {
    let host = Host::new("files").unwrap();
    host.write("web.yaml", web::manifest("web", 10, &[1])).unwrap();
    let _servers = web::serve(&host, &[1]).unwrap();
    let agent = host.agent(&[]).unwrap();
    let traffic = Traffic::start(&host, &[(10, &[1])]).unwrap();
    let at = |name: &str| host.manifests().join(name);
    type Put<'a> = (&'a str, &'a dyn Fn(), &'a [&'a str]);
    let puts: [Put<'_>; 5] = [
        (
            "loop.yaml",
            &|| symlink("loop.yaml", at("loop.yaml")).unwrap(),
            &["Too many levels of symbolic links"],
        ),
        (
            "huge.yaml",
            &|| File::create(at("huge.yaml")).unwrap().set_len(65 << 20).unwrap(),
            &["is larger than 64 MiB; split it"],
        ),
        // As large as may be: read, and found wrong at its beginning.
        ("large.yaml", &|| fs::write(at("large.yaml"), "[\n".repeat(5 << 20)).unwrap(), &[":256: "]),
        ("utf8.yaml", &|| fs::write(at("utf8.yaml"), b"# one\n# \xff\xfe\n").unwrap(), &[":2: is not UTF-8"]),
        (
            "pipe.yaml",
            &|| {
                let made = Command::new("mkfifo").arg(at("pipe.yaml")).status().unwrap();
                assert!(made.success());
            },
            &["is not a regular file"],
        ),
    ];
    for (name, put, words) in puts {
        // First by itself, then in the place of the good one.
        put();
        is_told(&host, &agent, name, words);
        fs::rename(at(name), at("web.yaml")).unwrap();
        if name == "loop.yaml" {
            // It leads to a name that is not there: as good as no file, but that it is one.
            fs::remove_file(at("web.yaml")).unwrap();
            symlink("web.yaml", at("web.yaml")).unwrap();
        }
        is_told(&host, &agent, "web.yaml", words);
        traffic.goes_on();
        host.write("web.yaml", web::manifest("web", 10, &[1])).unwrap();
        is_healthy(&agent);
    }
    traffic.end();
}

#[test]
fn what_may_not_be_read_is_named() {
    // Root may read everything; one without that right may not.
    let host = Host::new("unreadable").unwrap();
    host.write("web.yaml", web::manifest("web", 10, &[1])).unwrap();
    let _servers = web::serve(&host, &[1]).unwrap();
    let plain = host.agent_command(&program(), &[]);
    let bounded = ["--bounding-set", "-dac_override,-dac_read_search"];
    let mut agent = host.start_command(&mut within("setpriv", &bounded, &plain)).unwrap();
    agent.wait_ready().unwrap();
    let traffic = Traffic::start(&host, &[(10, &[1])]).unwrap();
    let at = host.manifests().join("web.yaml");
    fs::set_permissions(&at, Permissions::from_mode(0o000)).unwrap();
    // Files that are as they were are not read again; this one is.
    File::options().append(true).open(&at).unwrap().write_all(b"# changed\n").unwrap();
    is_told(&host, &agent, "web.yaml", &["Permission denied"]);
    fs::set_permissions(host.manifests(), Permissions::from_mode(0o000)).unwrap();
    let directory = host.manifests().display().to_string();
    let told =
        |problem: &String| problem.starts_with(&format!("{directory}: cannot be read, everything stays"));
    agent.wait_status("the directory", |status| status.problems.iter().any(told)).unwrap();
    traffic.goes_on();
    fs::set_permissions(host.manifests(), Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&at, Permissions::from_mode(0o644)).unwrap();
    is_healthy(&agent);
    traffic.end();
}

#[test]
fn r6_a_directory_that_goes_and_comes_back_takes_nothing_with_it() {
    let host = Host::new("directory").unwrap();
    host.write("web.yaml", web::manifest("web", 10, &[1])).unwrap();
    let _servers = web::serve(&host, &[1, 2]).unwrap();
    let agent = host.agent(&[]).unwrap();
    let traffic = Traffic::with(&host, &[], &[(10, &[1, 2])]).unwrap();
    let (there, away) = (host.manifests(), host.manifests().with_extension("away"));
    let told = |words: &str| {
        let prefix = format!("{}: ", there.display());
        let is = |problem: &String| problem.starts_with(&prefix) && problem.contains(words);
        agent.wait_status(words, |status| status.problems.iter().any(is)).unwrap();
        traffic.goes_on();
    };
    let is_followed = |backend: u8| {
        is_healthy(&agent);
        host.write("web.yaml", web::manifest("web", 10, &[backend])).unwrap();
        let name = Some(format!("b{backend}"));
        wait::until_equal(PATIENCE, &name, || web::ask(&host, 10).ok().map(|seen| seen.backend));
    };
    // Moved away, and back.
    fs::rename(&there, &away).unwrap();
    told("No such file");
    fs::rename(&away, &there).unwrap();
    is_followed(2);
    // Something else in its place.
    fs::rename(&there, &away).unwrap();
    fs::write(&there, "a file").unwrap();
    told("Not a directory");
    fs::remove_file(&there).unwrap();
    // An empty one in its place, as below a mount point.
    fs::create_dir(&there).unwrap();
    told("another directory is there, which is empty (unmounted?)");
    fs::remove_dir(&there).unwrap();
    fs::rename(&away, &there).unwrap();
    is_followed(1);
    // A link that is made to lead to another one, as deployments do.
    let other = there.with_extension("other");
    fs::rename(&there, &away).unwrap();
    symlink(&away, &there).unwrap();
    is_followed(2);
    fs::create_dir(&other).unwrap();
    fs::write(other.join("web.yaml"), web::manifest("web", 10, &[1])).unwrap();
    symlink(&other, there.with_extension("link")).unwrap();
    fs::rename(there.with_extension("link"), &there).unwrap();
    wait::until_equal(PATIENCE, &Some("b1".into()), || web::ask(&host, 10).ok().map(|seen| seen.backend));
    is_followed(2);
    traffic.end();
}

/// As often at least.
const REWRITES: usize = 20;

#[test]
fn files_that_are_written_all_the_time_are_never_seen_half() {
    let host = Host::new("rapid").unwrap();
    let text = |backends: &[u8]| web::manifest("web", 10, backends);
    host.write("web.yaml", text(&[1, 2])).unwrap();
    host.write("slow.yaml", web::manifest("slow", 11, &[1, 2])).unwrap();
    let _servers = web::serve(&host, &[1, 2, 3]).unwrap();
    let agent = host.agent(&[]).unwrap();
    let traffic = Traffic::with(&host, &[], &[(10, &[1, 2, 3]), (11, &[1, 2, 3])]).unwrap();
    let end = Instant::now() + Duration::from_secs(4);
    let (mut renames, mut rewrites) = (0, 0);
    thread::scope(|scope| {
        // As fast as it goes, each time another file renamed into place.
        scope.spawn(|| {
            while Instant::now() < end {
                host.write("web.yaml", text([&[1, 2][..], &[2, 3], &[3, 1]][renames % 3])).unwrap();
                renames += 1;
            }
        });
        // In place, line by line: emptied first, and for most of the time half of what it is to be, which is good YAML.
        scope.spawn(|| {
            // A machine that is busy takes longer.
            while Instant::now() < end || rewrites <= REWRITES {
                let text = web::manifest("slow", 11, [&[1, 2][..], &[2, 3], &[3, 1]][rewrites % 3]);
                let mut file = File::create(host.manifests().join("slow.yaml")).unwrap();
                for line in text.split_inclusive('\n') {
                    file.write_all(line.as_bytes()).unwrap();
                    thread::sleep(Duration::from_millis(3));
                }
                rewrites += 1;
            }
        });
    });
    traffic.has_not_failed(&agent.log());
    host.write("web.yaml", text(&[3])).unwrap();
    fs::write(host.manifests().join("slow.yaml"), web::manifest("slow", 11, &[3])).unwrap();
    for low in [10, 11] {
        wait::until(PATIENCE, "the last content", || {
            (0..8).all(|_| web::ask(&host, low).is_ok_and(|seen| seen.backend == "b3"))
        });
    }
    is_healthy(&agent);
    assert!(renames > 500 && rewrites > REWRITES, "{renames} renames, {rewrites} rewrites");
    println!("{renames} renames, {rewrites} rewrites, {} exchanges", traffic.end());
}

#[test]
fn a_full_disk_below_the_manifests_takes_nothing_away() {
    let host = Host::new("full").unwrap();
    let _servers = web::serve(&host, &[1, 2]).unwrap();
    // The tmpfs is mounted for the agent only, and written to through its root in /proc.
    let mount = format!("mount -t tmpfs -o size=32k balancing {}", host.manifests().display());
    let script =
        format!("{mount}\ncp {0} {1}/web.yaml", draft(&host, &[1]).display(), host.manifests().display());
    let mut command = in_own_mounts(&script, &host.agent_command(&program(), &[]));
    let mut agent = host.start_command(&mut command).unwrap();
    agent.wait_ready().unwrap();
    let traffic = Traffic::with(&host, &[], &[(10, &[1, 2])]).unwrap();
    let inside =
        Path::new(&format!("/proc/{}/root", agent.pid())).join(host.manifests().strip_prefix("/").unwrap());
    let filler = inside.join("filler");
    // Until nothing fits any more.
    let mut file = File::create(&filler).unwrap();
    while file.write_all(&[b'#'; 4096]).is_ok() {}
    // A copy in place empties the file, and then finds no room.
    let good = web::manifest("web", 10, &[2]);
    let mut copy = File::create(inside.join("web.yaml")).unwrap();
    // What was freed on another CPU may take a moment to be counted as free.
    wait::until(PATIENCE, "room for the filler", || file.write_all(&[b'#'; 4096]).is_ok());
    assert_eq!(copy.write_all(good.as_bytes()).unwrap_err().kind(), std::io::ErrorKind::StorageFull);
    drop(copy);
    is_told(&host, &agent, "web.yaml", &["is empty, and what it said before stays as it was"]);
    traffic.goes_on();
    // A part of it fits: where that is no YAML, the same; nobody can tell a half that is.
    drop(file);
    fs::remove_file(&filler).unwrap();
    fs::write(inside.join("web.yaml"), &good[..good.find("ports:").unwrap() + 3]).unwrap();
    is_told(&host, &agent, "web.yaml", &[":"]);
    traffic.goes_on();
    fs::write(inside.join("web.yaml"), good).unwrap();
    is_healthy(&agent);
    web::all_answer(&host, 10, &[2]);
    // The file system goes, with everything: what was below it is empty.
    let mut enter = Command::new("nsenter");
    enter.args(["-t", &agent.pid().to_string(), "--mount", "umount", "-l"]).arg(host.manifests());
    Answer::of(&mut enter).unwrap().succeeds();
    let told = |problem: &String| problem.contains("which is empty (unmounted?)");
    agent.wait_status("the unmount", |status| status.problems.iter().any(told)).unwrap();
    traffic.end();
}

fn draft(host: &Host, backends: &[u8]) -> std::path::PathBuf {
    let path = host.manifests().with_extension("draft");
    fs::write(&path, web::manifest("web", 10, backends)).unwrap();
    path
}
