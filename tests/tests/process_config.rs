//! Configuring the agent: flags, environment, one file; what wins, and what is said of mistakes.

#![allow(clippy::unwrap_used)]

use std::{fs, path::Path};

use balancing_tests::process::{Answer, Host, program, unconfigure, web};
use serde_json::{Value, json};

/// `balancing` without anything in its environment that would configure it.
fn bare(arguments: &[&str], environment: &[(&str, &str)]) -> Answer {
    let mut command = std::process::Command::new(program());
    unconfigure(&mut command);
    command.args(arguments).envs(environment.iter().copied());
    Answer::of(&mut command).unwrap()
}

fn file(directory: &Path, text: &str) -> String {
    let path = directory.join("agent.yaml");
    fs::write(&path, text).unwrap();
    path.display().to_string()
}

/// Key, value and origin of each setting.
fn shown(answer: &Answer) -> Vec<(String, Value, Value)> {
    let rows: Vec<Value> = serde_json::from_str(answer.succeeds()).unwrap();
    rows.iter()
        .map(|row| (row["key"].as_str().unwrap().to_owned(), row["value"].clone(), row["from"].clone()))
        .collect()
}

#[test]
fn print_config_shows_values_and_where_they_came_from() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(
        directory.path(),
        "manifests: /from/file\nnodeName: from-file\nevents: all\nserviceProxyName: ours\n",
    );
    let environment = [("BALANCING_NODE_NAME", "from-environment"), ("BALANCING_EVENTS", "off")];
    let arguments = ["agent", "--print-config", "--config", &path, "--events", "sampled=9"];
    let answer = bare(&[&arguments[..], &["-o", "json"]].concat(), &environment);
    let all = shown(&answer);
    let one = |key: &str| {
        let (_, value, from) = all.iter().find(|(known, ..)| known == key).unwrap();
        (value.clone(), from.clone())
    };
    let at = |line: u64| json!({"kind": "file", "path": path, "line": line});
    assert_eq!(one("manifests"), (json!("/from/file"), at(1)));
    assert_eq!(one("nodeName"), (json!("from-environment"), json!({"kind": "environment"})));
    assert_eq!(one("events"), (json!("sampled=9"), json!({"kind": "flag"})));
    assert_eq!(one("serviceProxyName"), (json!("ours"), at(4)));
    assert_eq!(one("maxServices"), (json!(65_536), json!({"kind": "default"})));
    assert_eq!(one("cgroupRoot"), (Value::Null, json!({"kind": "default"})));

    let yaml = bare(&[&arguments[..], &["-o", "yaml"]].concat(), &environment);
    let yaml: Vec<Value> = serde_saphyr::from_str(yaml.succeeds()).unwrap();
    assert_eq!(json!(yaml), serde_json::from_str::<Value>(&answer.out).unwrap());

    let table = bare(&arguments, &environment);
    let lines: Vec<String> =
        table.succeeds().lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(lines.len(), all.len() + 1, "{table:?}");
    for line in [
        "KEY VALUE FROM".to_owned(),
        format!("manifests /from/file {path}:1"),
        "nodeName from-environment environment BALANCING_NODE_NAME".into(),
        "events sampled=9 flag --events".into(),
        "maxServices 65536 default".into(),
        "cgroupRoot - default: the root of the cgroup2 mount, that is all".into(),
    ] {
        assert!(lines.contains(&line), "{line:?} is missing: {lines:#?}");
    }
    // The file may also be named by the environment; a flag for it wins.
    let answer = bare(&["agent", "--print-config", "-o", "json"], &[("BALANCING_CONFIG", &path)]);
    assert!(shown(&answer).contains(&("nodeName".into(), json!("from-file"), at(2))), "{answer:?}");
    let answer = bare(&["agent", "--print-config", "--config", &path], &[("BALANCING_CONFIG", "/nowhere")]);
    answer.succeeds();
}

#[test]
fn mistakes_keep_the_agent_from_starting() {
    let directory = tempfile::tempdir().unwrap();
    for (text, words) in [
        ("manifests: /m\nnodename: n1\n", &["agent.yaml:2", "\"nodename\"", "nodeName"][..]),
        ("manifests: /m\nmax-services: 4\n", &["agent.yaml:2", "maxServices"]),
        ("maxServices: lots\n", &["agent.yaml:1", "maxServices", "\"lots\"", "whole number"]),
        ("\n\nmaxServices: 0\n", &["agent.yaml:3", "maxServices", "from 1 to 4194304"]),
        ("events: loud\n", &["agent.yaml:1", "events", "\"loud\"", "give off, failures"]),
        ("nodeName: 7\n", &["agent.yaml:1", "nodeName", "quotes"]),
        ("nodeName: a\nnodeName: b\n", &["agent.yaml:2", "nodeName"]),
        ("nodeName: [a\n", &["agent.yaml:"]),
        ("events: off\n", &["--manifests DIR", "--kubeconfig FILE"]),
    ] {
        bare(&["agent", "--config", &file(directory.path(), text)], &[]).fails(2, words);
    }
    let unreadable = directory.path().join("none.yaml").display().to_string();
    bare(&["agent", "--config", &unreadable], &[]).fails(2, &["none.yaml", "No such file"]);
    bare(&["agent"], &[("BALANCING_MAX_SERVICES", "many"), ("BALANCING_MANIFESTS", "/m")])
        .fails(2, &["BALANCING_MAX_SERVICES", "\"many\"", "from 1 to"]);
    bare(&["agent", "--manifests", "/m", "--events", "loud"], &[]).fails(2, &["--events", "'loud'"]);
    // For whoever asks the agent too.
    let path = file(directory.path(), "sockets: /run/x.sock\n");
    bare(&["status"], &[("BALANCING_CONFIG", &path)]).fails(2, &["agent.yaml:1", "\"sockets\"", "socket"]);
}

#[test]
fn a_file_is_enough() {
    let host = Host::new("config").unwrap();
    host.write("web.yaml", web::manifest("web", 10, &[1])).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = file(
        directory.path(),
        &format!(
            "manifests: {}\ncgroupRoot: {}\nbpffs: {}\nsocket: {}\nnodeName: n7\nevents: sampled=3\nmaxServices: 64\n\
             healthPort: 0\nmetricsPort: 0\n",
            host.manifests().display(),
            host.cgroup().path().display(),
            host.pins().display(),
            host.socket().display(),
        ),
    );
    let mut command = std::process::Command::new(program());
    unconfigure(&mut command);
    command.args(["agent", "--config", &path]);
    let mut agent = host.start_command(&mut command).unwrap();
    agent.wait_ready().unwrap();
    let status = agent.status().unwrap();
    assert_eq!((status.node.as_str(), status.events.as_str()), ("n7", "sampled=3"));
    assert_eq!(status.maps.iter().find(|map| map.name == "names").unwrap().capacity, 64);
    // And so it is for the others.
    let answer = bare(&["get", "services", "-o", "json", "--config", &path], &[]);
    assert!(answer.succeeds().contains("10.96.0.10:80"), "{answer:?}");
    bare(&["status"], &[("BALANCING_CONFIG", &path)]).succeeds();
}
