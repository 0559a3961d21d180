//! Runs the demo, and compares the shape of what it prints with the recording in README.md.
//!
//! Shape: the same lines in the same order, after numbers, addresses, times and bars are made the same.

use std::{env, fs, path::Path, process::Command};

const BEGIN: &str = "<!-- demo:begin -->";
const END: &str = "<!-- demo:end -->";

#[test]
fn the_demo_prints_what_the_readme_shows() {
    testkit::require_root();
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md")).unwrap();
    let recorded = recording(&readme).expect("README.md has no recording: run `cargo xtask demo --record`");
    let balancing =
        env::var_os("BALANCING_BIN").expect("BALANCING_BIN names no program: run `cargo xtask test`");
    let output = Command::new(env!("CARGO_BIN_EXE_balancing-demo"))
        .arg("--fast")
        .arg("--balancing")
        .arg(balancing)
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{printed}{complaints}", output.status);

    let (recorded, printed) = (shape(recorded), shape(&printed));
    if recorded != printed {
        let differs = recorded.iter().zip(&printed).position(|(a, b)| a != b);
        let at = differs.unwrap_or(recorded.len().min(printed.len()));
        panic!(
            "line {} of the demo is {:?}, in README.md {:?} (`cargo xtask demo --record` writes it anew)",
            at + 1,
            printed.get(at),
            recorded.get(at)
        );
    }
}

/// The block between the markers, without its fence.
fn recording(readme: &str) -> Option<&str> {
    let (_, rest) = readme.split_once(BEGIN)?;
    let (block, _) = rest.split_once(END)?;
    let block = block.trim().strip_prefix("```text\n")?.strip_suffix("```")?;
    (!block.trim().is_empty()).then_some(block)
}

fn shape(text: &str) -> Vec<String> {
    text.lines().map(line_shape).collect()
}

fn line_shape(line: &str) -> String {
    let words: Vec<String> = line.split_whitespace().map(word_shape).collect();
    match words.first() {
        // An event: who asked what, and who answered, is chance.
        Some(first) if first == "#:#:#.#" => "event".to_owned(),
        // Its second line, wherever it was folded.
        Some(_) if words.last().is_some_and(|last| last.starts_with("demo/web:")) => {
            "service of the event".to_owned()
        }
        _ => words.into_iter().filter(|word| word != "bar").collect::<Vec<_>>().join(" "),
    }
}

/// The word with every number as `#`; a bar as `bar`.
fn word_shape(word: &str) -> String {
    if word.chars().all(|c| c == '█') {
        return "bar".to_owned();
    }
    let mut shape = String::new();
    let mut characters = word.chars().peekable();
    while let Some(character) = characters.next() {
        if !character.is_ascii_digit() {
            shape.push(character);
            continue;
        }
        shape.push('#');
        // The rest of the number, with its thousands.
        while characters.next_if(|c| c.is_ascii_digit() || *c == ',').is_some() {}
    }
    shape
}

#[test]
fn shapes_ignore_what_changes() {
    let one =
        "  web-1  1,003  1,046   ██████  2,158\n  12:34:56.789  translated  client[7]  UDP 10.96.0.80:80\n";
    let other =
        "  web-1    998     46   ██  58\n  01:02:03.004  translated  client[12345]  TCP [fd00:96::80]:80\n";
    assert_eq!(shape(one), shape(other));
    assert_ne!(shape("── 1. The agent ──"), shape("── 1. An agent ──"));
    assert_ne!(shape("web-2  not ready  7"), shape("web-2  7"));
}

#[test]
fn the_recording_is_found() {
    assert_eq!(recording("a\n<!-- demo:begin -->\n```text\nx\n```\n<!-- demo:end -->\n"), Some("x\n"));
    assert_eq!(recording("a\n<!-- demo:begin -->\n<!-- demo:end -->\n"), None);
    assert_eq!(recording("a"), None);
}
