//! Pictures of made-up answers.

use std::net::SocketAddr;

use agent::{
    Status,
    local::{Endpoint, PortEndpoints},
    status::MapUse,
};
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use observe::{
    Usage,
    event::{Policy, Service, Who},
    usage::{BackendUse, ClientUse, Count, Locality},
};
mod screen;

use super::{
    controls::{Controls, KEYS, Next},
    picture,
    rates::Rates,
    sheet::{Sheet, Tab},
    view::{Answers, Failed, Share, Stepped, View},
};
use crate::target::Target;

fn count(recent: u64, minute: u64, total: u64) -> Count {
    Count { total, recent, minute }
}

fn service(name: &str) -> Option<Service> {
    Some(Service { namespace: "shop".into(), name: name.into(), port: "http".into() })
}

fn pod(name: &str) -> Who {
    Who {
        namespace: Some("shop".into()),
        pod: Some(name.into()),
        container: Some("app".into()),
        ..Who::default()
    }
}

fn client(who: Who, service: Option<Service>, outcome: (&str, &str), count: Count) -> ClientUse {
    ClientUse {
        client: who,
        service,
        policy: None,
        verdict: outcome.0.into(),
        reason: outcome.1.into(),
        count,
        last: Some("2026-11-23T10:00:00Z".parse().unwrap()),
    }
}

fn backend(name: &str, low: u8, count: Count) -> BackendUse {
    BackendUse {
        service: service(name),
        policy: None,
        ip: [10, 1, 0, low].into(),
        port: 8080,
        namespace: Some("shop".into()),
        pod: Some(format!("{name}-{low}")),
        node: Some("n2".into()),
        locality: Locality::Other,
        count,
    }
}

fn endpoint(low: u8, standing: &str) -> Endpoint {
    Endpoint {
        address: SocketAddr::from(([10, 1, 0, low], 8080)),
        selected: standing == "selected",
        standing: standing.into(),
        pod: Some(format!("shop/cart-{low}")),
        node: Some("n2".into()),
        zone: None,
    }
}

fn policy() -> Policy {
    Policy { kind: "LocalRedirectPolicy".into(), name: "dns".into() }
}

fn status() -> Status {
    let map = |name: &str, used| MapUse { name: name.into(), used, capacity: 50, most: 100 };
    let text = serde_json::json!({
        "version": "0.1.0", "pid": 1, "uptimeSeconds": 1, "node": "n1", "zone": null, "cgroup": "/", "hooks": [],
        "sources": [], "objects": [], "frontends": 0, "backends": 0, "decisions": [], "paused": false,
        "events": "failures", "eventsLost": 0, "rounds": 0, "auditDifferences": 0, "problems": [], "notices": [],
        "maps": [map("records", 3), map("backends", 93)],
    });
    serde_json::from_value(text).unwrap()
}

/// Two seconds: cart takes 90 of 100 a second and refuses some, web takes the rest, a policy 1; cart's third backend is not ready,
/// its fourth is merely new.
fn answers() -> Answers {
    let ok = ("translated", "balanced");
    let refused = ("refused", "no-endpoints");
    let host = Who { host: Some("sshd.service".into()), ..Who::default() };
    let mut dns = client(pod("web-1"), None, ok, count(2, 60, 70));
    dns.policy = Some(policy());
    Answers {
        usage: Usage {
            time: Some("2026-11-23T10:00:00.5Z".parse().unwrap()),
            seconds: 2.0,
            clients: vec![
                client(pod("web-1"), service("web"), ok, count(20, 600, 700)),
                client(pod("web-1"), service("cart"), ok, count(100, 3000, 9000)),
                client(pod("web-2"), service("cart"), ok, count(72, 2000, 2500)),
                client(host, service("cart"), refused, count(6, 60, 66)),
                client(pod("web-2"), service("cart"), refused, count(2, 20, 20)),
                dns,
            ],
            backends: vec![
                backend("cart", 1, count(43, 1250, 4000)),
                backend("cart", 2, count(129, 3750, 7500)),
                backend("web", 9, count(20, 600, 700)),
            ],
            unattributed: 0,
        },
        status: status(),
        endpoints: vec![PortEndpoints {
            namespace: "shop".into(),
            service: "cart".into(),
            port: "http".into(),
            protocol: "TCP".into(),
            family: 4,
            endpoints: vec![
                endpoint(1, "selected"),
                endpoint(2, "selected"),
                endpoint(3, "not ready"),
                endpoint(4, "selected"),
            ],
        }],
        policies: vec![Stepped {
            policy: Target::Policy { kind: "LocalRedirectPolicy".into(), name: "dns".into() },
            fallbacks: 5,
            spills: 7,
            own: 1,
        }],
    }
}

fn view() -> View {
    View::new(&answers())
}

fn names(sheet: &Sheet) -> Vec<String> {
    sheet.lines.iter().map(|line| line.cells[0].text()).collect()
}

#[test]
fn the_busiest_service_is_first_and_failures_are_told_of() {
    let view = view();
    let rows: Vec<_> =
        view.services.iter().map(|it| (it.target.to_string(), it.figures.per_second)).collect();
    let expected = [("shop/cart:http", 90.0), ("shop/web:http", 10.0), ("lr/dns", 1.0)];
    assert_eq!(rows, expected.map(|(name, rate)| (name.to_owned(), rate)));
    assert_eq!((view.per_second, view.failed_per_second), (101.0, 4.0));
    let cart = &view.services[0];
    assert_eq!(
        (cart.figures.minute, cart.figures.total, cart.failed),
        (5080, 11586, Failed { minute: 80, total: 86 })
    );
    assert_eq!(cart.clients, 3);
    let [why] = cart.failures.as_slice() else { panic!("{:?}", cart.failures) };
    assert_eq!((why.reason.as_str(), why.figures.minute), ("no-endpoints", 80));
    assert_eq!(why.client, "host sshd.service", "whom it met most");
    let failures: Vec<_> = view.failures.iter().map(|it| (it.client.as_str(), it.figures.minute)).collect();
    assert_eq!(failures, [("host sshd.service", 60), ("shop/web-2/app", 20)]);
}

#[test]
fn a_backend_that_is_never_chosen_has_share_0_and_a_reason() {
    let view = view();
    let of = |share: &Share| {
        let low = share.address.ip().to_string().pop();
        (low, share.percent, share.selected, share.standing.clone().unwrap_or_default())
    };
    let shares: Vec<_> = view.services[0].backends.iter().map(of).collect();
    let selected = || "selected".to_owned();
    assert_eq!(
        shares,
        [
            (Some('2'), Some(75.0), Some(true), selected()),
            (Some('1'), Some(25.0), Some(true), selected()),
            (Some('3'), Some(0.0), Some(false), "not ready".into()),
            (Some('4'), Some(0.0), Some(true), selected()),
        ]
    );
    // Nobody asked for the endpoints of this one.
    assert_eq!(view.services[1].backends[0].standing, None);
    assert_eq!(view.services[1].backends[0].pod.as_deref(), Some("shop/web-9"));
}

#[test]
fn backends_of_a_policy_that_get_nothing_are_there_too() {
    let mut answers = answers();
    answers.endpoints.push(PortEndpoints {
        namespace: String::new(),
        service: "lr/dns".into(),
        port: "dns".into(),
        protocol: "UDP".into(),
        family: 4,
        endpoints: vec![endpoint(7, "not ready")],
    });
    // One that nobody has used is no row.
    answers.endpoints.push(PortEndpoints { service: "bl/dns".into(), ..answers.endpoints[1].clone() });
    let view = View::new(&answers);
    let policy = view.services.iter().find(|it| it.target.to_string() == "lr/dns").unwrap();
    let backends: Vec<_> = policy.backends.iter().map(|it| it.standing.as_deref()).collect();
    assert_eq!((backends, view.services.len()), (vec![Some("not ready")], 3));
}

#[test]
fn an_idle_minute_has_no_shares_and_an_empty_usage_no_rows() {
    let mut answers = answers();
    for it in &mut answers.usage.backends {
        it.count.minute = 0;
    }
    let view = View::new(&answers);
    assert!(view.services[0].backends.iter().all(|share| share.percent.is_none()));
    answers.usage = Usage::default();
    let view = View::new(&answers);
    assert!(view.services.is_empty() && view.failures.is_empty() && view.clients.is_empty());
    assert_eq!((view.per_second, view.policies.len()), (0.0, 1), "policies that nobody uses are there");
}

#[test]
fn policies_tell_what_they_took_and_what_not_and_the_fullest_map_is_first() {
    let view = view();
    let dns = &view.policies[0];
    assert_eq!((dns.figures.minute, dns.fallbacks, dns.spills, dns.own), (60, 5, 7, 1));
    let maps: Vec<_> =
        view.maps.iter().map(|it| (it.map.name.as_str(), it.percent, it.is_filling())).collect();
    assert_eq!(maps, [("backends", 93, true), ("records", 3, false)]);
}

/// cart's counts at a time of day: of its busiest client, and of its second backend.
fn usage(time: &str, seconds: f64, client: u64, backend: u64) -> Usage {
    let mut usage = answers().usage;
    (usage.time, usage.seconds) = (Some(format!("2026-11-23T{time}Z").parse().unwrap()), seconds);
    (usage.clients[1].count.total, usage.backends[1].count.total) = (client, backend);
    usage
}

#[test]
fn rates_are_those_of_a_second_or_more_whoever_else_asks() {
    let figures =
        |usage: &Usage| (usage.seconds, usage.clients[1].count.recent, usage.backends[1].count.recent);
    let mut rates = Rates::default();
    let first = rates.apply(usage("10:00:00", 2.0, 9000, 7500));
    assert_eq!(figures(&first), (2.0, 100, 129), "the agent's own");
    let next = rates.apply(usage("10:00:02", 0.01, 9050, 7510));
    assert_eq!(figures(&next), (2.0, 50, 10), "though the agent has just read its counts for somebody else");
    // Somebody goes down the list and is answered at once.
    let soon = rates.apply(usage("10:00:02.2", 0.2, 9061, 7510));
    assert_eq!(figures(&soon), (2.2, 61, 10));
    let later = rates.apply(usage("10:00:04", 1.8, 9070, 7510));
    assert_eq!(figures(&later), (2.0, 20, 0));
    let restarted = rates.apply(usage("10:00:06", 2.0, 8, 0));
    assert_eq!(figures(&restarted), (2.0, 8, 0));
}

#[test]
fn a_lone_picture_of_a_moment_shows_the_last_minute() {
    let lone = Rates::default().apply(usage("10:00:00", 0.01, 9000, 7500));
    assert_eq!((lone.seconds, lone.clients[1].count.recent), (60.0, 3000));
}

fn key(code: KeyCode) -> KeyEvent {
    KeyEvent::new(code, KeyModifiers::NONE)
}

/// Presses keys, each with what is then to be seen.
fn press(controls: &mut Controls, view: &View, keys: &str) -> Next {
    let mut next = Next::Draw;
    for letter in keys.chars() {
        let code = match letter {
            '\n' => KeyCode::Enter,
            '\x1b' => KeyCode::Esc,
            letter => KeyCode::Char(letter),
        };
        next = controls.press(key(code), &controls.sheet(view));
    }
    next
}

#[test]
fn keys_sort_by_any_column_and_back() {
    let (view, mut controls) = (view(), Controls::default());
    let shown = |controls: &Controls| names(&controls.sheet(&view));
    assert_eq!(shown(&controls), ["shop/cart:http", "shop/web:http", "lr/dns"]);
    press(&mut controls, &view, "s");
    assert_eq!(shown(&controls), ["lr/dns", "shop/cart:http", "shop/web:http"], "names from A");
    press(&mut controls, &view, "sr");
    assert_eq!(shown(&controls), ["lr/dns", "shop/web:http", "shop/cart:http"], "the least rate first");
    press(&mut controls, &view, "SS");
    assert_eq!(controls.order().map(|it| it.column), Some(7), "before the first is the last");
    press(&mut controls, &view, "2");
    assert_eq!((controls.tab, controls.order()), (Tab::Failures, None), "each view has its own order");
}

#[test]
fn keys_filter_and_move_and_the_cursor_stays_on_its_row() {
    let (view, mut controls) = (view(), Controls::default());
    press(&mut controls, &view, "/WEB q\n");
    assert!(controls.sheet(&view).lines.is_empty(), "q is a letter here");
    press(&mut controls, &view, "/");
    controls.press(key(KeyCode::Backspace), &Sheet::default());
    press(&mut controls, &view, "\n");
    assert_eq!(names(&controls.sheet(&view)), ["shop/web:http"]);
    assert_eq!(press(&mut controls, &view, "\x1b"), Next::Draw, "takes the filter away");
    assert_eq!(controls.sheet(&view).lines.len(), 3);
    press(&mut controls, &view, "jjjjk");
    let at =
        |controls: &Controls| names(&controls.sheet(&view)).swap_remove(controls.row(&controls.sheet(&view)));
    assert_eq!(at(&controls), "shop/web:http");
    press(&mut controls, &view, "s");
    assert_eq!((at(&controls).as_str(), controls.row(&controls.sheet(&view))), ("shop/web:http", 2));
}

#[test]
fn keys_quit() {
    let (view, mut controls) = (view(), Controls::default());
    assert_eq!(press(&mut controls, &view, "q"), Next::Quit);
    assert_eq!(press(&mut controls, &view, "\x1b"), Next::Quit);
    let ctrl_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    press(&mut controls, &view, "/x");
    assert_eq!(controls.press(ctrl_c, &Sheet::default()), Next::Quit, "also while typing");
}

#[test]
fn the_page_tells_of_every_key() {
    let page = include_str!("../../../../docs/top.md");
    for key in
        ["`1` to `5`, Tab", "PgUp, PgDn, Home, End", "`s`, `S`", "`r`", "`/`", "space", "`q`, Esc, ctrl-C"]
    {
        assert!(page.contains(key), "docs/top.md does not tell of {key}");
        for word in key.replace('`', "").split(", ") {
            assert!(KEYS.contains(word), "--help does not tell of {word}");
        }
    }
}

#[test]
fn machines_get_the_same_figures() {
    let json = serde_json::to_value(view()).unwrap();
    let cart = &json["services"][0];
    assert_eq!(cart["target"]["service"]["name"], "cart");
    assert_eq!((cart["perSecond"].as_f64(), cart["minute"].as_u64()), (Some(90.0), Some(5080)));
    let idle = &cart["backends"][2];
    assert_eq!((idle["percent"].as_f64(), idle["standing"].as_str()), (Some(0.0), Some("not ready")));
    assert_eq!(json["policies"][0]["spills"], 7);
    assert_eq!(json["maps"][0]["percent"], 93);
}
