//! `balancing report`: what is in the bundle, with the agent and without, and what is not.

#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use balancing_tests::process::{Host, unconfigure, web};
use rustix::process::Signal;
use serde_json::{Value, json};

/// Files by name, without the directory that they are in.
fn unpack(file: &Path) -> BTreeMap<String, String> {
    let directory = tempfile::tempdir().unwrap();
    let tar = Command::new("tar").arg("-xzf").arg(file).arg("-C").arg(directory.path()).status().unwrap();
    assert!(tar.success());
    let tops: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|it| it.unwrap().path()).collect();
    let [top] = tops.as_slice() else { panic!("one directory: {tops:?}") };
    fs::read_dir(top)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let text = fs::read_to_string(entry.path()).unwrap();
            (entry.file_name().into_string().unwrap(), text)
        })
        .collect()
}

const OF_THE_AGENT: [&str; 6] =
    ["status.json", "configuration.json", "log.txt", "events.jsonl", "endpoints.json", "nodes.json"];
const OF_THE_MAPS: [&str; 4] = ["maps.json", "settings.json", "counters.json", "tables.txt"];
const OF_THE_MACHINE: [&str; 8] = [
    "versions.json",
    "configuration-here.json",
    "environment.txt",
    "manifests.txt",
    "programs.json",
    "kernel.json",
    "mounts.txt",
    "doctor.json",
];

/// Takes a report, and checks what all have.
#[track_caller]
fn report(host: &Host, expected: &[&[&str]]) -> BTreeMap<String, String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("report.tar.gz");
    let mut command = host.command(&["report", "-o"]);
    command
        .arg(&path)
        .arg("--manifests")
        .arg(host.manifests())
        .arg("--cgroup-root")
        .arg(host.cgroup().path());
    command.env("BALANCING_NODE_NAME", "s3cret-in-environment");
    let answer = balancing_tests::process::Answer::of(&mut command).unwrap();
    assert!(answer.succeeds().starts_with("wrote "), "{answer:?}");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let files = unpack(&path);
    let mut names: Vec<&str> = expected.concat();
    names.push("README.md");
    names.sort_unstable();
    assert_eq!(files.keys().map(String::as_str).collect::<Vec<_>>(), names, "{answer:?}");
    let readme = &files["README.md"];
    for name in [&OF_THE_AGENT[..], &OF_THE_MAPS, &OF_THE_MACHINE].concat() {
        // Those that are missing too.
        assert!(readme.contains(name), "{name} is not in the README:\n{readme}");
        if names.contains(&name) {
            assert!(!answer.err.contains(name), "{answer:?}");
            assert!(
                !name.ends_with(".json") || serde_json::from_str::<Value>(&files[name]).is_ok(),
                "{name}"
            );
        } else {
            assert!(answer.err.contains(name), "{name}: {answer:?}");
        }
    }
    // A setting's value is no secret and the manifests' contents may be.
    let all = files.values().cloned().collect::<String>();
    assert!(!all.contains("s3cret-in-a-manifest"), "contents of manifests are in it");
    assert!(!files["environment.txt"].contains("s3cret"), "{}", files["environment.txt"]);
    files
}

#[test]
fn a_report_has_what_there_is_and_says_what_there_is_not() {
    let host = Host::new("report").unwrap();
    host.write("web.yaml", web::manifest("web", 10, &[1])).unwrap();
    let secret =
        "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {password: s3cret-in-a-manifest}\n";
    host.write("secret.yaml", secret).unwrap();

    // Where no agent ever ran.
    let files = report(&host, &[&OF_THE_MACHINE]);
    assert!(files["README.md"].contains("What could not be had"), "{}", files["README.md"]);

    let mut agent = host.agent(&["--events", "all"]).unwrap();
    let _servers = web::serve(&host, &[1]).unwrap();
    web::ask(&host, 10).unwrap();
    let files = loop {
        let files = report(&host, &[&OF_THE_AGENT, &OF_THE_MAPS, &OF_THE_MACHINE]);
        // They are read every 20 ms.
        if !files["events.jsonl"].is_empty() {
            break files;
        }
    };
    let of = |name: &str| -> Value { serde_json::from_str(&files[name]).unwrap() };
    assert_eq!(of("status.json")["pid"], json!(agent.pid()));
    let settings = of("configuration.json");
    let events = settings.as_array().unwrap().iter().find(|it| it["key"] == "events").unwrap();
    assert_eq!((&events["value"], &events["from"]["kind"]), (&json!("all"), &json!("flag")));
    assert!(files["log.txt"].contains("started node=\"n1\""), "{}", files["log.txt"]);
    // Both say when, each a few microseconds after the other.
    let said = |log: &str| -> Vec<String> {
        log.lines().filter_map(|line| Some(line.split_once(' ')?.1.to_owned())).collect()
    };
    assert_eq!(said(&files["log.txt"]), said(&agent.log()), "it is remembered as it was written");
    let event: Value = serde_json::from_str(files["events.jsonl"].lines().next().unwrap()).unwrap();
    assert_eq!(event["service"]["name"], json!("web"));
    for words in ["names: 4\n", "frontend 10.96.0.10:80/TCP", "backend 0: ", "default/web:http/TCP IPv4"] {
        assert!(files["tables.txt"].contains(words), "{words}: {}", files["tables.txt"]);
    }
    assert_eq!(of("settings.json")["events"], json!("all"));
    assert_eq!(of("programs.json")["ours"].as_array().unwrap().len(), 9);
    assert_eq!(of("programs.json")["cgroup"], json!(host.cgroup().path()));
    assert_eq!(of("kernel.json")["capabilities"]["CAP_NET_ADMIN"], json!(true));
    assert!(files["environment.txt"].contains("BALANCING_NODE_NAME\n"), "{}", files["environment.txt"]);
    assert!(files["manifests.txt"].contains("secret.yaml  "), "{}", files["manifests.txt"]);

    // One that does not answer is waited for once, not for each question.
    agent.signal(Signal::STOP).unwrap();
    let begun = std::time::Instant::now();
    let files = report(&host, &[&OF_THE_MAPS, &OF_THE_MACHINE]);
    assert!(begun.elapsed().as_secs() < 10, "{:?}", begun.elapsed());
    assert!(files["README.md"].contains("does not answer"), "{}", files["README.md"]);
    agent.signal(Signal::CONT).unwrap();

    agent.kill().unwrap();
    let files = report(&host, &[&OF_THE_MAPS, &OF_THE_MACHINE]);
    assert!(files["README.md"].contains("the agent is not running"), "{}", files["README.md"]);
    assert!(files["tables.txt"].contains("frontend 10.96.0.10:80/TCP"), "{}", files["tables.txt"]);
}

#[test]
fn it_goes_where_it_is_told() {
    let host = Host::new("report-where").unwrap();
    host.balancing(&["report", "-o", "/nowhere/x.tar.gz"]).unwrap().fails(1, &["/nowhere/x.tar.gz", "-o"]);
    let directory = tempfile::tempdir().unwrap();
    let mut command = host.command(&["report"]);
    unconfigure(&mut command);
    command.current_dir(directory.path()).env("BALANCING_SOCKET", host.socket());
    command.env("BALANCING_BPFFS", host.pins()).env("BALANCING_NODE_NAME", "n9");
    assert!(command.output().unwrap().status.success());
    let made: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|it| it.unwrap().path()).collect();
    let name = made[0].file_name().unwrap().to_str().unwrap();
    assert!(
        made.len() == 1 && name.starts_with("balancing-report-n9-") && name.ends_with(".tar.gz"),
        "{made:?}"
    );
    // To standard output, and nothing else there.
    let output = host.command(&["report", "-o", "-"]).output().unwrap();
    let piped = directory.path().join("piped.tar.gz");
    fs::write(&piped, output.stdout).unwrap();
    assert!(unpack(&piped).contains_key("README.md"));
}
