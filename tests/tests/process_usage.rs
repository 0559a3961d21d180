//! What commands tell of use, by counts that are made up.

#![allow(clippy::unwrap_used)]

use std::net::{TcpStream, UdpSocket};

use balancing_tests::{
    process::{
        Answer, Host,
        stand_in::{Lines, StandIn},
        web,
    },
    terminal::Terminal,
};
use serde_json::{Value, json};

fn client(who: Value, service: Value, policy: Value, outcome: [&str; 2], minute: u64) -> Value {
    let [verdict, reason] = outcome;
    let last = (minute > 1).then_some("2025-11-23T10:00:05Z");
    json!({
        "client": who, "service": service, "policy": policy, "verdict": verdict, "reason": reason, "total": minute * 2,
        "recent": 0, "minute": minute, "last": last
    })
}

fn backend(service: Value, policy: Value, ip: &str, minute: u64) -> Value {
    json!({
        "service": service, "policy": policy, "ip": ip, "port": 8080, "namespace": null, "pod": null, "node": null,
        "locality": "other", "total": minute * 2, "recent": 0, "minute": minute
    })
}

fn lines() -> Lines {
    let pod =
        |name: &str| json!({"namespace": "shop", "pod": name, "container": "app", "containerId": "0123"});
    let cart = json!({"namespace": "shop", "name": "cart", "port": "http"});
    let web = json!({"namespace": "default", "name": "web", "port": "http"});
    let dns = json!({"kind": "LocalRedirectPolicy", "name": "dns"});
    let (ok, refused) = (["translated", "balanced"], ["refused", "no-endpoints"]);
    let usage = json!({
        "time": "2026-11-23T10:00:06Z", "seconds": 1.0, "unattributed": 0,
        "clients": [
            client(pod("web-1"), cart.clone(), json!(null), ok, 5),
            client(pod("web-1"), cart, json!(null), refused, 7),
            client(json!({"host": "sshd.service"}), web.clone(), json!(null), ok, 1),
            client(json!({"namespace": "other", "pod": "web-1"}), json!(null), dns, ok, 60),
        ],
        "backends": [backend(web, json!(null), "10.1.0.1", 42)],
    });
    Lines { usage, ..Lines::default() }
}

/// A table without what aligns it.
fn table(text: &str) -> Vec<String> {
    text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn who_used_what_is_listed_and_filtered() {
    let host = Host::new("usage").unwrap();
    host.balancing(&["get", "usage"]).unwrap().fails(1, &["the agent is not running"]);
    let stand_in = StandIn::serve(&host.socket(), lines()).unwrap();
    let get = |line: &str| {
        let arguments: Vec<&str> = ["get", "usage"].into_iter().chain(line.split_whitespace()).collect();
        host.balancing(&arguments).unwrap()
    };
    let all = [
        "CLIENT SERVICE OR POLICY VERDICT REASON MINUTE TOTAL LAST SEEN",
        "other/web-1 lr/dns translated balanced 60 120 2025-11-23T10:00:05Z",
        "shop/web-1/app shop/cart:http refused no-endpoints 7 14 2025-11-23T10:00:05Z",
        "shop/web-1/app shop/cart:http translated balanced 5 10 2025-11-23T10:00:05Z",
        "host sshd.service default/web:http translated balanced 1 2 before start",
    ];
    assert_eq!(table(get("").succeeds()), all);
    assert!(get("-o wide").succeeds().contains("  0123\n"));
    let narrow = |form: &str| {
        let answer = Answer::of(host.command(&["get", "usage", "-o", form]).env("COLUMNS", "80")).unwrap();
        answer.succeeds().lines().map(|line| line.chars().count()).max()
    };
    assert!(narrow("table") <= Some(80) && narrow("wide") > Some(80), "{:?}", narrow("table"));
    for (line, kept) in [
        ("--service shop/cart", vec![2, 3]),
        ("--service shop/cart --verdict refused", vec![2]),
        ("--service shop/cart:http", vec![2, 3]),
        ("--policy dns", vec![1]),
        ("--policy lr/dns", vec![1]),
        ("--pod shop/web-1", vec![2, 3]),
        ("-n shop", vec![2, 3]),
        ("web-1", vec![1, 2, 3]),
        ("other/web-1", vec![1]),
        ("sshd.service", vec![4]),
        ("shop/web-1/app", vec![2, 3]),
    ] {
        let expected: Vec<&str> = std::iter::once(0).chain(kept).map(|row| all[row]).collect();
        assert_eq!(table(get(line).succeeds()), expected, "{line}");
    }
    let rows: Vec<Value> = serde_json::from_str(get("--policy dns -o json").succeeds()).unwrap();
    assert_eq!(
        rows,
        [lines().usage["clients"][3].clone()].map(|mut row| {
            // What is not known is said to be null.
            for name in ["container", "containerId", "host"] {
                row["client"][name] = json!(null);
            }
            row
        })
    );

    // Nothing, with what to do.
    let none = get("--verdict denied");
    assert_eq!(
        (none.succeeds(), none.err.as_str()),
        ("", "no clients fit --verdict; without, there are 3 clients\n")
    );
    get("web-7").fails(1, &["no client web-7", "`balancing get usage` lists"]);
    get("shop/web-7/app").fails(1, &["no client shop/web-7/app", "balancing get usage"]);
    let host_unit = host.balancing(&["get", "usage", "host sshd.service"]).unwrap();
    assert_eq!(table(host_unit.succeeds()), [all[0], all[4]]);
    assert_eq!(get("--policy shop/dns").code, Some(2));
    get("--state stale").fails(2, &["--state makes no sense for clients"]);
    assert_eq!(get("--service cart").code, Some(2));
    stand_in.change(|lines| lines.usage["clients"] = json!([]));
    assert!(get("").err.starts_with("no clients: none has connected"), "{:?}", get(""));
}

#[test]
fn what_failed_is_red_on_a_terminal_unless_nobody_wants_colours() {
    let host = Host::new("colours").unwrap();
    let _stand_in = StandIn::serve(&host.socket(), lines()).unwrap();
    assert!(!host.balancing(&["get", "usage"]).unwrap().succeeds().contains('\x1b'), "this is no terminal");
    for (no_color, red) in [("", vt100::Color::Idx(1)), ("1", vt100::Color::Default)] {
        let mut command = host.command(&["get", "usage", "--verdict", "refused"]);
        let mut terminal = Terminal::start(command.env("NO_COLOR", no_color), 24, 100).unwrap();
        assert!(terminal.wait().unwrap().success());
        terminal.shows(&["shop/web-1/app"]).unwrap();
        assert_eq!(terminal.color("shop/web-1/app"), Some(red), "NO_COLOR={no_color}");
        assert_eq!(terminal.color("CLIENT"), Some(vt100::Color::Default));
    }
}

#[test]
fn a_backend_that_is_never_chosen_is_seen_beside_its_standing() {
    let host = Host::new("chosen").unwrap();
    host.write("web.yaml", web::manifest("web", 10, &[1, 2])).unwrap();
    let mut agent = host.agent(&[]).unwrap();
    agent.kill().unwrap();
    let get = |form: &str| {
        let line = ["get", "endpoints", "web", "--protocol", "tcp", "--family", "4", "-o", form];
        host.balancing(&line).unwrap().succeeds().to_owned()
    };
    let heads = "NAMESPACE SERVICE PORT ADDRESS PROTOCOL STATE MINUTE TOTAL";
    let row = |low: u8, counts: &str| format!("default web http 10.1.0.{low}:8080 TCP in use {counts}");
    assert_eq!(table(&get("table")), [heads.to_owned(), row(1, "- -"), row(2, "- -")]);
    let stand_in = StandIn::serve(&host.socket(), lines()).unwrap();
    assert_eq!(table(&get("table")), [heads.to_owned(), row(1, "42 84"), row(2, "0 0")]);
    let json: Value = serde_json::from_str(&get("json")).unwrap();
    assert_eq!((&json[0]["lastMinute"], &json[1]["total"]), (&json!(42), &json!(0)));
    // Before the first reading nobody can say 0.
    stand_in.change(|lines| lines.usage["time"] = json!(null));
    assert_eq!(table(&get("table")), [heads.to_owned(), row(1, "- -"), row(2, "- -")]);

    stand_in.change(|lines| {
        let endpoint = |low: u8, standing: &str| agent::local::Endpoint {
            address: ([10, 1, 0, low], 8080).into(),
            selected: standing == "selected",
            standing: standing.into(),
            pod: Some(format!("default/web-{low}")),
            node: None,
            zone: None,
        };
        lines.endpoints = vec![agent::local::PortEndpoints {
            namespace: "default".into(),
            service: "web".into(),
            port: "http".into(),
            protocol: "TCP".into(),
            family: 4,
            endpoints: vec![endpoint(1, "selected"), endpoint(2, "not ready")],
        }];
    });
    let json: Value = serde_json::from_str(&get("json")).unwrap();
    assert_eq!(json[0]["standing"], json!("selected"));
    // The tables do not know of it yet.
    assert_eq!((&json[1]["state"], &json[1]["standing"]), (&json!("in use"), &Value::Null));

    // What is not ready is in no table; the agent knows it all the same.
    drop(stand_in);
    host.write("web.yaml", web::manifest("web", 10, &[1]) + &unready("10.1.0.9")).unwrap();
    let _agent = host.agent(&[]).unwrap();
    let table = table(&get("table"));
    assert!(table[1].starts_with("default web http 10.1.0.1:8080 TCP in use "), "{table:?}");
    assert!(table[2].starts_with("default web http 10.1.0.9:8080 TCP not ready "), "{table:?}");
    let json: Value = serde_json::from_str(&get("json")).unwrap();
    assert_eq!((&json[1]["index"], &json[1]["pod"]), (&Value::Null, &json!("default/web-9")));
}

/// A service, and a policy that would take it if it had a backend.
const DNS: &str = "
apiVersion: v1
kind: Service
metadata: {name: dns, namespace: default}
spec: {clusterIP: 10.96.0.30, ports: [{port: 53, protocol: UDP}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: dns-1, namespace: default, labels: {kubernetes.io/service-name: dns}}
addressType: IPv4
ports: [{port: 5353, protocol: UDP}]
endpoints: [{addresses: [10.1.0.1]}]
---
apiVersion: balancing.elf.io/v1beta1
kind: LocalRedirectPolicy
metadata: {name: dns}
spec:
  frontend: {serviceMatcher: {serviceName: dns, namespace: default}}
  backend:
    endpointSelector: {matchLabels: {app: local-dns}}
    toPorts: [{port: '5353', protocol: UDP}]
";

#[test]
fn what_a_real_agent_counts_is_what_commands_say() {
    let host = Host::new("counted").unwrap();
    host.write("web.yaml", web::manifest("web", 10, &[1, 2]) + &unready("10.1.0.9")).unwrap();
    host.write("empty.yaml", web::manifest("empty", 11, &[])).unwrap();
    host.write("dns.yaml", DNS).unwrap();
    let _servers = web::serve(&host, &[1, 2]).unwrap();
    let _agent = host.agent(&[]).unwrap();
    host.run(|| {
        for _ in 0..2 {
            UdpSocket::bind("0.0.0.0:0").unwrap().connect("10.96.0.30:53").unwrap();
        }
        for _ in 0..40 {
            TcpStream::connect("10.96.0.10:80").unwrap();
        }
        for _ in 0..3 {
            assert!(TcpStream::connect("10.96.0.11:80").is_err());
        }
    });
    let json = |line: &str| -> Value {
        let arguments: Vec<&str> = line.split(' ').chain(["-o", "json"]).collect();
        serde_json::from_str(host.balancing(&arguments).unwrap().succeeds()).unwrap()
    };
    let used = json("get usage --service default/web");
    assert_eq!(used.as_array().unwrap().len(), 1, "{used}");
    assert_eq!((&used[0]["total"], &used[0]["minute"]), (&json!(40), &json!(40)), "{used}");
    assert_eq!(json("get usage --verdict refused")[0]["total"], json!(3));

    let rows = json("get endpoints web --protocol tcp --family 4");
    let totals: Vec<u64> =
        rows.as_array().unwrap().iter().map(|row| row["total"].as_u64().unwrap()).collect();
    assert_eq!((totals.len(), totals[0] + totals[1], totals[2]), (3, 40, 0), "{rows}");

    let top = json("top --once");
    let web = top["services"]
        .as_array()
        .unwrap()
        .iter()
        .find(|it| it["target"]["service"]["name"] == "web")
        .unwrap();
    let shares: Vec<(&Value, &Value)> =
        web["backends"].as_array().unwrap().iter().map(|it| (&it["total"], &it["standing"])).collect();
    let (never, why) = shares.iter().find(|(total, _)| **total == json!(0)).unwrap();
    assert_eq!((never, why), (&&json!(0), &&json!("not ready")), "{web}");
    let policy = &top["policies"][0];
    assert_eq!(
        (&policy["policy"]["policy"]["name"], &policy["fallbacks"]),
        (&json!("dns"), &json!(2)),
        "{policy}"
    );
    assert_eq!(top["failures"][0]["reason"], json!("no-endpoints"), "{top}");
    assert_eq!(json("get policies lr/dns")[0]["name"], json!("dns"));
    let other = host.balancing(&["get", "policies", "bl/dns"]).unwrap();
    other.fails(1, &["no policy bl/dns; there is lr/dns"]);
    assert!(top["maps"].as_array().unwrap().iter().any(|map| map["name"] == "backends"), "{top}");
}

/// A slice of the service web with an endpoint that is not ready.
fn unready(ip: &str) -> String {
    format!(
        "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{name: web-unready, namespace: default, labels: {{kubernetes.io/service-name: web}}}}\n\
         addressType: IPv4\nports: [{{name: http, port: 8080}}]\n\
         endpoints: [{{addresses: [{ip}], conditions: {{ready: false, serving: false}}, targetRef: {{kind: Pod, name: web-9, namespace: default}}}}]\n"
    )
}
