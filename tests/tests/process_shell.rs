//! What shells and `man` get of the command: completions and manual pages, used by the real ones.

#![allow(clippy::unwrap_used)]

use std::{fs, path::Path, process::Command};

use balancing_tests::process::{Answer, program, unconfigure};

fn balancing(arguments: &[&str]) -> Answer {
    let mut command = Command::new(program());
    unconfigure(&mut command);
    Answer::of(command.args(arguments)).unwrap()
}

/// What bash offers for the last word of a line.
#[track_caller]
fn offered(line: &[&str]) -> Vec<String> {
    let script = r#"
        source <("$0" completions bash)
        words=("$@")
        COMP_WORDS=("${words[@]}") COMP_CWORD=$((${#words[@]} - 1))
        handler=$(complete -p balancing | sed 's/.* -F \([^ ]*\).*/\1/')
        "$handler" balancing "${words[-1]}" "${words[-2]}"
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let mut bash = Command::new("bash");
    unconfigure(&mut bash);
    let answer = Answer::of(bash.arg("-c").arg(script).arg(program()).args(line)).unwrap();
    assert_eq!(answer.err, "", "{line:?}");
    answer.succeeds().lines().map(str::to_owned).collect()
}

#[test]
fn bash_offers_commands_flags_and_what_flags_take() {
    for (line, expected) in [
        (&["balancing", "ev"][..], &["events"][..]),
        (&["balancing", "t"], &["top"]),
        (&["balancing", "get", "us"], &["usage"]),
        (&["balancing", "events", "--verd"], &["--verdict"]),
        (&["balancing", "events", "--verdict", "re"], &["refused"]),
        (&["balancing", "top", "--output", "j"], &["json"]),
    ] {
        assert_eq!(offered(line), expected, "{line:?}");
    }
    assert!(offered(&["balancing", ""]).len() > 15);
}

#[test]
fn every_shell_gets_a_script_that_knows_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let answer = balancing(&["completions", shell]);
        for verb in ["events", "top", "why", "completions"] {
            assert!(answer.succeeds().contains(verb), "{shell} does not know {verb}");
        }
    }
    assert_eq!(balancing(&["completions", "csh"]).code, Some(2));
}

/// As a reader sees a page; `None` where there is no `man`. It has nothing to complain of.
fn read(page: &Path) -> Option<String> {
    let answer = Answer::of(
        Command::new("man")
            .args(["--warnings", "-l"])
            .arg(page)
            .env("MANWIDTH", "100")
            .env("LC_ALL", "C.UTF-8"),
    );
    // Small images have a script there that says that it is none.
    let answer =
        answer.ok().filter(|answer| !answer.out.contains("minimized") && answer.code != Some(127))?;
    assert_eq!((answer.code, answer.err.as_str()), (Some(0), ""), "{}", page.display());
    Some(answer.out)
}

#[test]
fn there_is_a_manual_page_of_every_command() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    balancing(&["man", path]).succeeds();
    let help = balancing(&["--help"]);
    let listed = help.succeeds().lines().skip_while(|line| *line != "Commands:").skip(1);
    let listed = listed.take_while(|line| !line.is_empty());
    // What does not fit goes on further to the right.
    let heads = listed.filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' ')));
    let verbs: Vec<&str> = heads.filter_map(|line| line.split_whitespace().next()).collect();
    assert!(verbs.len() > 15, "{verbs:?}");
    for verb in verbs.iter().filter(|verb| **verb != "help") {
        let page = directory.path().join(format!("balancing-{verb}.1"));
        let source = fs::read_to_string(&page).unwrap();
        assert!(source.contains(&format!(".TH balancing-{verb} 1 ")), "{source}");
        if let Some(text) = read(&page) {
            for words in ["NAME", "Example", "Exit codes: 0"] {
                let is_there = text.split_whitespace().collect::<Vec<_>>().join(" ").contains(words);
                assert!(is_there, "{words:?} is not in the page of {verb}:\n{text}");
            }
        }
    }
    // The main page alone.
    let page = directory.path().join("main.1");
    fs::write(&page, balancing(&["man"]).succeeds()).unwrap();
    assert_eq!(fs::read(&page).unwrap(), fs::read(directory.path().join("balancing.1")).unwrap());
    if let Some(text) = read(&page) {
        assert!(text.contains("balancing-why(1)"), "{text}");
    }
    balancing(&["man", "/nowhere/at/all"]).fails(1, &["/nowhere/at/all", "directory"]);
}
