//! `balancing check`: what it says of manifests, and its exit codes.

#![allow(clippy::unwrap_used)]

use std::{
    fs,
    io::Write,
    process::{Command, Stdio},
};

use balancing_tests::process::{Answer, program};
use serde_json::Value;

const RIGHT: &str = r#"
apiVersion: balancing.elf.io/v1beta1
kind: LocalRedirectPolicy
metadata:
  name: test-addr
  annotations: {balancing.elf.io/serviceId: "10091"}
spec:
  frontend:
    addressMatcher:
      ip: "169.254.0.90"
      toPorts:
        - {port: "8080", protocol: TCP, name: p1}
        - {port: "80", protocol: TCP, name: p2}
  backend:
    endpointSelector: {matchLabels: {app: http-redirect}}
    toPorts:
      - {port: "80", protocol: TCP, name: p1}
      - {port: "80", protocol: TCP, name: p2}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: x}
"#;

fn check(arguments: &[&str]) -> Answer {
    Answer::of(Command::new(program()).arg("check").args(arguments)).unwrap()
}

#[test]
fn what_is_right_is_done_with_exit_code_0() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("right.yaml");
    fs::write(&path, RIGHT).unwrap();
    let answer = check(&[path.to_str().unwrap()]);
    assert_eq!(answer.succeeds().trim(), "1 object, 0 problems; 1 of other kinds not looked at");
    assert_eq!(check(&[directory.path().to_str().unwrap()]).code, Some(0));
}

#[test]
fn what_is_wrong_is_named_with_exit_code_1() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("wrong.yaml");
    fs::write(&path, RIGHT.replace("\"8080\"", "\"80800\"")).unwrap();
    let file = path.to_str().unwrap();
    let answer = check(&[file]);
    let line = format!(
        "{file}:2: LocalRedirectPolicy test-addr: spec.frontend.addressMatcher.toPorts[0].port: \
         must be a port number from 1 to 65535, as a text: \"80\"\n"
    );
    assert!(answer.code == Some(1) && answer.out.starts_with(&line), "{answer:?}");

    let answer = check(&["-o", "json", file, "/nowhere/at/all.yaml"]);
    assert_eq!(answer.code, Some(1));
    let report: Value = serde_json::from_str(&answer.out).unwrap();
    assert_eq!(report["problems"][0]["object"], "LocalRedirectPolicy test-addr");
    assert_eq!(report["problems"][0]["field"], "spec.frontend.addressMatcher.toPorts[0].port");
    assert_eq!(report["problems"][1]["file"], "/nowhere/at/all.yaml");
    check(&[]).fails(2, &["required arguments"]);
}

#[test]
fn standard_input_is_a_file_too() {
    let mut child = Command::new(program())
        .args(["check", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let text = RIGHT.replace("169.254.0.90", "169.254.0.900");
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let out = String::from_utf8(output.stdout).unwrap();
    assert!(
        out.starts_with("-:2: LocalRedirectPolicy test-addr: spec.frontend.addressMatcher.ip: "),
        "{out}"
    );
}

/// What the pages show is right.
#[test]
fn the_policies_of_the_documentation_are_right() {
    let docs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let directory = tempfile::tempdir().unwrap();
    let mut pages = 0;
    for page in
        fs::read_dir(docs).unwrap().flatten().filter(|it| it.path().extension() == Some("md".as_ref()))
    {
        let text = fs::read_to_string(page.path()).unwrap();
        let blocks = text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
        let policies: Vec<&str> = blocks.filter(|it| it.contains("apiVersion: balancing.elf.io/")).collect();
        if policies.is_empty() {
            continue;
        }
        pages += 1;
        let file = directory.path().join(page.file_name()).with_extension("yaml");
        fs::write(&file, policies.join("\n---\n")).unwrap();
        let answer = check(&[file.to_str().unwrap()]);
        assert!(answer.succeeds().contains(" 0 problems"), "{answer:?}");
    }
    assert!(pages > 0);
}
