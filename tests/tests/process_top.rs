//! `balancing top` on a terminal, with answers that are made up.

#![allow(clippy::unwrap_used)]

use std::{path::PathBuf, process::Command};

use agent::local::{Endpoint, PortEndpoints};
use balancing_tests::{
    process::{
        Answer, PATIENCE, program,
        stand_in::{Lines, StandIn},
        unconfigure,
    },
    terminal::Terminal,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::eventually;

/// Ctrl-C, as a terminal says it to who wants to know.
const CTRL_C: &str = "\x03";
const DOWN: &str = "\x1b[B";

fn service(name: &str) -> Value {
    json!({"namespace": "shop", "name": name, "port": "http"})
}

fn client(pod: &str, name: &str, verdict: &str, reason: &str, minute: u64) -> Value {
    json!({
        "client": {"namespace": "shop", "pod": pod, "container": "app"}, "service": service(name), "policy": null,
        "verdict": verdict, "reason": reason, "total": minute * 2, "recent": minute / 30, "minute": minute,
        "last": "2026-11-23T10:00:00Z"
    })
}

fn backend(name: &str, low: u8, minute: u64) -> Value {
    json!({
        "service": service(name), "policy": null, "ip": format!("10.1.0.{low}"), "port": 8080, "namespace": "shop",
        "pod": format!("{name}-{low}"), "node": "n2", "locality": "other", "total": minute, "recent": 1, "minute": minute
    })
}

fn endpoint(low: u8, standing: &str) -> Endpoint {
    Endpoint {
        address: ([10, 1, 0, low], 8080).into(),
        selected: standing == "selected",
        standing: standing.into(),
        pod: Some(format!("shop/web-{low}")),
        node: Some("n2".into()),
        zone: None,
    }
}

/// cart is busier than web, of whose backends one is never chosen.
fn lines() -> Lines {
    let usage = json!({
        "time": "2026-11-23T10:00:00Z", "seconds": 2.0, "unattributed": 0,
        "clients": [
            client("client-1", "cart", "translated", "balanced", 6000),
            client("client-1", "web", "translated", "balanced", 300),
            client("client-2", "cart", "refused", "no-endpoints", 90),
        ],
        "backends": [backend("cart", 7, 6000), backend("web", 1, 300)],
    });
    let endpoints = vec![PortEndpoints {
        namespace: "shop".into(),
        service: "web".into(),
        port: "http".into(),
        protocol: "TCP".into(),
        family: 4,
        endpoints: vec![endpoint(1, "selected"), endpoint(2, "not ready")],
    }];
    let mut lines = Lines { usage, endpoints, ..Lines::default() };
    lines.status["maps"] = json!([{"name": "backends", "used": 93, "capacity": 50, "most": 100}]);
    lines
}

struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn socket(&self) -> PathBuf {
        self.0.path().join("agent.sock")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        unconfigure(&mut command);
        command.args(arguments).env("BALANCING_SOCKET", self.socket());
        command.env("BALANCING_BPFFS", self.0.path().join("pins")).env_remove("NO_COLOR");
        command
    }

    fn terminal(&self) -> Terminal {
        Terminal::start(&self.command(&["top", "--interval", "1"]), 24, 80).unwrap()
    }

    fn stand_in(&self) -> StandIn {
        StandIn::serve(&self.socket(), lines()).unwrap()
    }

    fn answer(&self, arguments: &[&str]) -> Answer {
        Answer::of(&mut self.command(arguments)).unwrap()
    }
}

fn signal(terminal: &Terminal, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(terminal.pid()).unwrap()).unwrap(), signal).unwrap();
}

/// It ends well, and the terminal is as before.
#[track_caller]
fn ends(terminal: &mut Terminal) {
    let status = terminal.wait().unwrap();
    assert!(status.success(), "{status}: {}", terminal.text());
    let is_restored = || if terminal.is_restored().unwrap() { Ok(()) } else { Err(terminal.text()) };
    eventually(PATIENCE, is_restored).expect("the terminal is as before");
}

#[test]
fn a_terminal_shows_who_is_busy_and_which_backend_is_never_chosen() {
    let place = Place::new();
    let stand_in = place.stand_in();
    let mut terminal = place.terminal();
    let text = terminal.shows(&["shop/cart:http", "── shop/cart:http", "no-endpoints"]).unwrap();
    assert!(terminal.is_full_screen());
    assert!(text.find("shop/cart:http") < text.find("shop/web:http"), "{text}");
    assert!(text.contains("maps that fill up: backends 93 %"), "{text}");
    assert_eq!(text.lines().count(), 24, "{text}");
    assert_eq!(terminal.color("maps that fill up"), Some(vt100::Color::Idx(3)), "yellow");

    // Only of a service that is looked at the endpoints are asked for.
    terminal.press(DOWN).unwrap();
    let text = terminal.shows(&["── shop/web:http", "not ready"]).unwrap();
    let idle = text.lines().find(|line| line.starts_with("10.1.0.2:8080")).unwrap();
    let words: Vec<&str> = idle.split_whitespace().collect();
    assert_eq!(words, ["10.1.0.2:8080", "0", "%", "0", "not", "ready", "shop/web-2"]);

    terminal.press("3/client-2\r").unwrap();
    let text = terminal.shows(&["filter: client-2", "shop/client-2/app"]).unwrap();
    assert!(!text.contains("shop/client-1/app"), "{text}");
    terminal.press("\x1b").unwrap();
    terminal.shows(&["shop/client-1/app"]).unwrap();

    // What comes later is shown without a key.
    stand_in.change(|lines| lines.usage["clients"][0]["client"]["pod"] = json!("late"));
    terminal.shows(&["shop/late/app"]).unwrap();
    terminal.press("q").unwrap();
    ends(&mut terminal);
}

#[test]
fn an_agent_that_goes_away_is_waited_for() {
    let place = Place::new();
    let mut terminal = place.terminal();
    terminal.shows(&["the agent is not running", "trying again"]).unwrap();
    let stand_in = place.stand_in();
    terminal.shows(&["healthy", "shop/cart:http"]).unwrap();
    drop(stand_in);
    let text = terminal.shows(&["no answer", "trying again"]).unwrap();
    assert!(text.contains("shop/cart:http"), "the old figures stay:\n{text}");
    let _back = place.stand_in();
    let text = terminal.shows(&["healthy"]).unwrap();
    assert!(!text.contains("trying again"), "{text}");
    terminal.press(CTRL_C).unwrap();
    ends(&mut terminal);
}

#[test]
fn a_signal_puts_the_terminal_right() {
    let place = Place::new();
    let _stand_in = place.stand_in();
    let mut terminal = place.terminal();
    terminal.shows(&["shop/cart:http"]).unwrap();
    assert!(!terminal.is_restored().unwrap());
    signal(&terminal, Signal::TERM);
    ends(&mut terminal);
}

#[test]
fn no_color_is_respected() {
    let place = Place::new();
    let _stand_in = place.stand_in();
    let mut command = place.command(&["top"]);
    let terminal = Terminal::start(command.env("NO_COLOR", "1"), 24, 80).unwrap();
    terminal.shows(&["maps that fill up"]).unwrap();
    assert_eq!(terminal.color("maps that fill up"), Some(vt100::Color::Default));
}

#[test]
fn one_picture_is_printed_for_people_and_for_machines() {
    let place = Place::new();
    place.answer(&["top", "--once"]).fails(1, &["the agent is not running", "balancing agent"]);
    place.answer(&["top"]).fails(2, &["no terminal", "--once"]);
    assert_eq!(place.answer(&["top", "-o", "json"]).code, Some(2), "a live view has no form");
    let _stand_in = place.stand_in();
    let answer = place.answer(&["top", "--once"]);
    let text = answer.succeeds();
    for words in ["shop/cart:http", "not ready", "no-endpoints", "shop/client-2/app"] {
        assert!(text.contains(words), "{words:?} is missing:\n{text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    let json: Value =
        serde_json::from_str(place.answer(&["top", "--once", "-o", "json"]).succeeds()).unwrap();
    let idle = &json["services"][1]["backends"][1];
    assert_eq!(idle["percent"], 0.0, "{json}");
    assert_eq!((&idle["standing"], &idle["pod"]), (&json!("not ready"), &json!("shop/web-2")));
    let yaml: Value =
        serde_saphyr::from_str(place.answer(&["top", "--once", "-o", "yaml"]).succeeds()).unwrap();
    assert_eq!(yaml["services"][0]["target"], json["services"][0]["target"]);
}
