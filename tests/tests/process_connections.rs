//! `balancing get connections`: which sockets live, where they asked and where they went.

#![allow(clippy::unwrap_used)]

use std::net::{TcpStream, UdpSocket};

use balancing_tests::process::{Host, web};
use serde_json::{Value, json};

#[track_caller]
fn rows(host: &Host, line: &str) -> Vec<Value> {
    let arguments: Vec<&str> = line.split(' ').chain(["-o", "json"]).collect();
    serde_json::from_str(host.balancing(&arguments).unwrap().succeeds()).unwrap()
}

/// What tells one from another, without the cookie.
fn told(rows: &[Value]) -> Vec<String> {
    let text = |row: &Value, field: &str| row[field].as_str().unwrap_or("-").to_owned();
    rows.iter()
        .map(|row| {
            let by = if row["connected"] == json!(true) { "connect" } else { "send" };
            let fields = ["service", "port", "protocol", "original", "backend", "state", "pod", "node"];
            format!("{} {by}", fields.map(|field| text(row, field)).join(" "))
        })
        .collect()
}

#[test]
fn living_sockets_are_listed_with_what_they_asked_for_and_got() {
    let host = Host::new("connections").unwrap();
    host.write("web.yaml", web::manifest("web", 10, &[1])).unwrap();
    host.write("api.yaml", web::manifest("api", 11, &[2])).unwrap();
    let mut agent = host.agent(&[]).unwrap();
    let _servers = web::serve(&host, &[1, 2]).unwrap();
    let none = host.balancing(&["get", "connections"]).unwrap();
    assert_eq!(none.succeeds(), "");
    assert!(none.err.starts_with("no connections: ") && none.err.contains("balancing events"), "{none:?}");

    let (tcp, connected, sending) = host.run(|| {
        let tcp = TcpStream::connect("10.96.0.10:80").unwrap();
        let connected = UdpSocket::bind("[::]:0").unwrap();
        connected.connect("[fd00:96::a]:53").unwrap();
        let sending = UdpSocket::bind("0.0.0.0:0").unwrap();
        sending.send_to(b"?", "10.96.0.11:53").unwrap();
        (tcp, connected, sending)
    });
    let all = [
        "api dns UDP 10.96.0.11:53 10.1.0.2:5353 in use default/api-2 n2 send",
        "web dns UDP [fd00:96::a]:53 [fd00:1::1]:5353 in use default/web-1 n2 connect",
        "web http TCP 10.96.0.10:80 10.1.0.1:8080 in use default/web-1 n2 connect",
    ];
    assert_eq!(told(&rows(&host, "get connections")), all);
    assert_eq!(told(&rows(&host, "get conn web --protocol tcp")), &all[2..]);
    assert_eq!(told(&rows(&host, "get connections --family 6")), &all[1..2]);
    assert_eq!(told(&rows(&host, "get connections default/api -n default")), &all[..1]);
    assert_eq!(told(&rows(&host, "get connections --state in-use")), all);
    assert_eq!(rows(&host, "get connections --state stale"), Vec::<Value>::new());
    let cookies: Vec<u64> =
        rows(&host, "get connections").iter().map(|row| row["cookie"].as_u64().unwrap()).collect();
    assert!(cookies.iter().all(|cookie| *cookie > 0), "{cookies:?}");
    let table = host.balancing(&["get", "connections"]).unwrap();
    assert_eq!(table.succeeds().lines().count(), 4, "{table:?}");
    assert!(table.out.lines().all(|line| line.chars().count() <= 100), "{}", table.out);
    let wide = host.balancing(&["get", "connections", "-o", "wide"]).unwrap();
    assert!(wide.succeeds().contains("default/web-1"), "{wide:?}");

    // A TCP connection outlives its backend's place in the tables, and is told of as that.
    host.write("web.yaml", web::manifest("web", 10, &[])).unwrap();
    agent.wait_status("web without backends", |status| status.backends == 4).unwrap();
    let stale = told(&rows(&host, "get connections --state stale --protocol tcp"));
    assert_eq!(stale, ["web http TCP 10.96.0.10:80 10.1.0.1:8080 stale - - connect"]);

    // Without the agent too, but for pods and nodes.
    agent.kill().unwrap();
    let without = told(&rows(&host, "get connections api"));
    assert_eq!(without, ["api dns UDP 10.96.0.11:53 10.1.0.2:5353 in use - - send"]);
    drop((tcp, connected, sending));
    assert_eq!(rows(&host, "get connections"), Vec::<Value>::new());
}
