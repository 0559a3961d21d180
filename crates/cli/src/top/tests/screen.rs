//! What is on the screen.

use ratatui::{Terminal, backend::TestBackend, buffer::Buffer, style::Color};

use super::*;
use crate::top::screen::{Shown, draw};

fn screen(view: Option<&View>, controls: &Controls, trouble: Option<&str>, width: u16) -> Buffer {
    screen_of(view, controls, trouble, [width, 24])
}

fn screen_of(view: Option<&View>, controls: &Controls, trouble: Option<&str>, size: [u16; 2]) -> Buffer {
    let [width, height] = size;
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, &Shown { view, controls, trouble })).unwrap();
    terminal.backend().buffer().clone()
}

fn lines(buffer: &Buffer) -> Vec<String> {
    let row = |y| (0..buffer.area.width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
    (0..buffer.area.height).map(|y| row(y).trim_end().to_owned()).collect()
}

#[test]
fn a_screen_of_80_by_24_has_it_all() {
    let buffer = screen(Some(&view()), &Controls::default(), None, 80);
    let expected = "\
balancing top  n1  healthy  101.0/s, 4.0/s fail  10:00:00 UTC
maps that fill up: backends 93 %
1 services  2 failures  3 clients  4 policies  5 maps
SERVICE OR POLICY                    PER S  MINUTE MIN FAILED     TOTAL BACKENDS
shop/cart:http                          90    5080         80     11586        2
shop/web:http                           10     600          0       700        1
lr/dns                                 1.0      60          0        70        0







── shop/cart:http ──────────────────────────────────────────────────────────────
BACKEND                SHARE  MINUTE WHY                      POD
10.1.0.2:8080           75 %    3750 selected                 shop/cart-2
10.1.0.1:8080           25 %    1250 selected                 shop/cart-1
10.1.0.3:8080            0 %       0 not ready                shop/cart-3
10.1.0.4:8080            0 %       0 selected                 shop/cart-4


refused (no-endpoints): minute 80, total 86, most by host sshd.service
q quit  1-5 Tab views  Up Down choose  s sort  r reverse  / filter  space freeze";
    assert_eq!(lines(&buffer).join("\n"), expected);
    let page = include_str!("../../../../../docs/top.md");
    assert!(page.contains(&format!("```text\n{expected}\n```\n")), "docs/top.md has another picture");
    let color = |y: u16| buffer[(0, y)].fg;
    assert_eq!([color(4), color(5), color(18)], [Color::Red, Color::Reset, Color::Yellow]);
}

#[test]
fn every_view_fits_and_says_what_it_is() {
    let (view, mut controls) = (view(), Controls::default());
    let table = [
        ("2", "shop/cart:http no-endpoints host sshd.service 60"),
        ("3", "shop/web-1/app shop/cart:http 50 3000 0"),
        ("4", "lr/dns 1.0 60 70 5 7"),
        ("5", "backends 93 50 100 93 %"),
    ];
    for (keys, expected) in table {
        press(&mut controls, &view, keys);
        let seen = lines(&screen(Some(&view), &controls, None, 80));
        let says = |line: &String| line.split_whitespace().collect::<Vec<_>>().join(" ") == expected;
        assert!(seen.iter().any(says), "{keys}: {}", seen.join("\n"));
    }
}

#[test]
fn what_failed_before_the_last_minute_is_no_failure_of_it_and_is_told_of() {
    let mut answers = answers();
    answers.usage.clients =
        vec![client(pod("web-1"), service("cart"), ("refused", "no-endpoints"), count(0, 0, 2))];
    answers.usage.backends.clear();
    let (view, mut controls) = (View::new(&answers), Controls::default());
    for (keys, width, head, row) in [
        ("1", 80, "PER S MINUTE MIN FAILED TOTAL BACKENDS", "shop/cart:http 0 0 0 2 0"),
        ("1", 100, "PER S MINUTE MIN FAILED TOTAL FAILED CLIENTS BACKENDS", "shop/cart:http 0 0 0 2 2 0 0"),
        ("3", 80, "PER S MINUTE MIN FAILED", "shop/web-1/app shop/cart:http 0 0 0"),
        ("3", 100, "PER S MINUTE MIN FAILED TOTAL FAILED", "shop/web-1/app shop/cart:http 0 0 0 2 2"),
    ] {
        press(&mut controls, &view, keys);
        let seen = lines(&screen(Some(&view), &controls, None, width));
        let words = |line: &String| line.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words(&seen[3]).ends_with(head) && words(&seen[4]) == row, "{}", seen.join("\n"));
    }
}

#[test]
fn at_80_by_24_reasons_are_whole_and_names_have_both_ends() {
    let mut answers = answers();
    let [one, two, three, _] = answers.endpoints[0].endpoints.as_mut_slice() else {
        panic!("other endpoints")
    };
    one.pod = Some("shop/cart-with-a-long-name-7d9f8b6c5d-x2x4z".into());
    two.standing = "last resort: terminating".into();
    three.standing = "remote, policy is Local".into();
    answers.status.problems = vec!["one thing after another is wrong here, ".repeat(4) + "and so on"];
    let seen = lines(&screen(Some(&View::new(&answers)), &Controls::default(), None, 80)).join("\n");
    for words in ["remote, policy is Local ", "last resort: terminating ", "-x2x4z", "and so on"] {
        assert!(seen.contains(words), "{words:?} is missing:\n{seen}");
    }
}

#[test]
fn any_size_will_do_and_a_long_list_follows_the_cursor() {
    let mut answers = answers();
    let ok = ("translated", "balanced");
    let many = (100..200).map(|n| client(pod("web-1"), service(&format!("s{n}")), ok, count(0, 1, 1)));
    answers.usage.clients.extend(many);
    let view = View::new(&answers);
    let mut controls = Controls::default();
    for size in [[1, 1], [20, 5], [80, 8], [300, 90]] {
        screen_of(Some(&view), &controls, Some("nobody is there"), size);
        screen_of(None, &controls, None, size);
    }
    controls.press(key(KeyCode::End), &controls.sheet(&view));
    let seen = lines(&screen(Some(&view), &controls, None, 80));
    assert!(seen.iter().any(|line| line.starts_with("shop/s199:http")), "{}", seen.join("\n"));
    controls.press(key(KeyCode::PageUp), &controls.sheet(&view));
    let seen = lines(&screen(Some(&view), &controls, None, 80));
    assert!(seen.iter().any(|line| line.starts_with("── shop/s191:http ")), "{}", seen.join("\n"));
    let wide = lines(&screen(Some(&view), &controls, None, 120));
    assert!(wide[3].contains("CLIENTS"), "{}", wide[3]);
}

#[test]
fn an_agent_that_is_away_is_said_and_old_figures_stay() {
    let controls = Controls::default();
    let seen = lines(&screen(None, &controls, Some("the agent is not running"), 80));
    assert_eq!(seen[1], "the agent is not running; trying again");
    let seen = lines(&screen(Some(&view()), &controls, Some("the agent is not running"), 80));
    assert!(seen[0].contains("no answer"), "{seen:?}");
    assert_eq!(seen[1], "the agent is not running; trying again, these are old figures");
    assert!(seen.iter().any(|line| line.starts_with("shop/cart:http")), "{seen:?}");
}

#[test]
fn a_name_can_not_write_on_the_screen() {
    let mut answers = answers();
    let evil = Who { host: Some("\x1b[2J\u{9b}".into()), ..Who::default() };
    answers.usage.clients = vec![client(evil, service("cart"), ("refused", "no-endpoints"), count(1, 1, 1))];
    let view = View::new(&answers);
    let mut controls = Controls::default();
    for keys in ["1", "2", "3"] {
        press(&mut controls, &view, keys);
        let seen = lines(&screen(Some(&view), &controls, None, 80)).join("");
        assert!(!seen.contains(char::is_control), "{seen:?}");
    }
    assert!(!picture::text(&view).replace('\n', "").contains(char::is_control));
}

#[test]
fn plain_text_has_100_characters_a_line_at_most() {
    let mut answers = answers();
    answers.usage.clients[0].client = pod(&"long-".repeat(30));
    answers.usage.clients[0].service = service(&"very-".repeat(30));
    answers.status.problems = vec!["something is wrong".into(), "on and on ".repeat(20)];
    let text = picture::text(&View::new(&answers));
    let longest = text.lines().map(|line| line.chars().count()).max();
    assert!(longest <= Some(100), "{text}");
    for expected in [
        "n1 at 2026-11-23T10:00:00.5Z: degraded, 101.0 connections/s, 4.0/s fail",
        "problem: something is wrong",
        "maps that fill up: backends 93 %",
        "10.1.0.3:8080    0 %       0  not ready  shop/cart-3  n2",
    ] {
        assert!(text.lines().any(|line| line == expected), "{expected:?} is missing:\n{text}");
    }
}
