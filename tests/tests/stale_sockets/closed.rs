//! Which sockets are closed as a backend goes, and what their applications make of it.

use std::{io, net::SocketAddr, thread, time::Instant};

use balancing_tests::{
    process::{PATIENCE, web},
    socket::Socket,
};
use model::Protocol;
use serde_json::Value;
use testkit::{
    Family, Kind,
    object::{documents, endpoint, service, slice},
};

use super::{
    machine::{pod_address, serve, start, vip},
    sockets::{are_closed_since, connected, error_of, is_connected, stay},
};

#[test]
fn r8_stale_connected_udp_is_closed_within_a_second_and_nothing_else() {
    let (host, _pod, agent) = start("kinds", &[]);
    // Another service with the very same backend, which it keeps.
    host.write("same.yaml", web::manifest("same", 30, &[1])).unwrap();
    agent.wait_status("both services", |status| status.frontends == 8).unwrap();
    let _servers = serve(&host, &[1, 2]);
    let (mut stale, mut others) = (Vec::new(), Vec::new());
    let mut unconnected = Vec::new();
    for family in Family::ALL {
        let web = vip(family, 10);
        stale.push(connected(&host, family, web));
        for to in [pod_address(family, 1), vip(family, 30)] {
            others.push((connected(&host, family, to), to));
        }
        let tcp = host.run(|| Socket::open(Protocol::Tcp, family)).unwrap();
        let to = web::vip(Kind::Tcp, family, 10);
        tcp.connect(to).unwrap();
        tcp.greeting().unwrap();
        others.push((tcp, to));
        let socket = host.run(|| Socket::open(Protocol::Udp, family)).unwrap();
        assert_eq!(socket.ask(Some(web)).unwrap().backend, pod_address(family, 1));
        unconnected.push((socket, web));
    }
    let begun = Instant::now();
    host.write("web.yaml", web::manifest("web", 10, &[2])).unwrap();
    are_closed_since(begun, &stale);
    assert!(stale.iter().all(|socket| error_of(socket) == Some(libc::ECONNABORTED)));
    stay(&others);
    for (socket, web) in &unconnected {
        let backend = socket.ask(Some(*web)).unwrap().backend;
        assert_eq!((backend.port(), backend.ip().to_string().ends_with('2')), (5353, true));
    }
    assert_eq!(agent.status().unwrap().sockets_destroyed, stale.len() as u64);
    // The same sockets may connect again, and others may have their ports.
    for (socket, family) in stale.iter().zip(Family::ALL) {
        socket.connect(vip(family, 10)).unwrap();
        assert_eq!(socket.ask(None).unwrap().backend, pod_address(family, 2));
    }
}

#[test]
fn r8_a_client_with_a_fixed_port_can_bind_it_again_at_once() {
    let (host, _pod, _agent) = start("rebind", &[]);
    let _servers = serve(&host, &[2]);
    let open = |family, port| {
        host.run(|| {
            let socket = Socket::open(Protocol::Udp, family).unwrap();
            socket.bind(port).unwrap();
            socket.connect(vip(family, 10)).unwrap();
            socket
        })
    };
    let stale: Vec<Socket> =
        Family::ALL.into_iter().zip(7001..).map(|(family, port)| open(family, port)).collect();
    let begun = Instant::now();
    host.write("web.yaml", web::manifest("web", 10, &[2])).unwrap();
    are_closed_since(begun, &stale);
    drop(stale);
    for (family, port) in Family::ALL.into_iter().zip(7001..) {
        assert_eq!(open(family, port).ask(None).unwrap().backend, pod_address(family, 2));
    }
}

#[test]
fn r8_another_target_port_is_another_backend() {
    let (host, _pod, _agent) = start("port", &[]);
    let stale = Family::ALL.map(|family| connected(&host, family, vip(family, 10)));
    let begun = Instant::now();
    host.write("web.yaml", web::manifest("web", 10, &[1]).replace("5353", "5454")).unwrap();
    are_closed_since(begun, &stale);
}

#[test]
fn r8_r4_a_backend_that_serves_on_keeps_its_sockets() {
    let (host, _pod, agent) = start("serving", &[]);
    let manifest = |second: bool, serving: bool| {
        let old = endpoint("10.1.0.1").node("n2").ready(false).serving(serving).terminating(true);
        let slice =
            slice("dns-4", "dns").port("5353/UDP").endpoint(if second { old } else { endpoint("10.1.0.1") });
        let slice = if second { slice.endpoint("10.1.0.2") } else { slice };
        documents(&[&service("dns").cluster_ip("10.96.0.20").port("53/UDP"), &slice])
    };
    host.write("dns.yaml", manifest(false, true)).unwrap();
    agent.wait_status("dns", |status| status.frontends == 5).unwrap();
    let to = vip(Family::V4, 20);
    let socket = connected(&host, Family::V4, to);
    host.write("dns.yaml", manifest(true, true)).unwrap();
    agent.wait_status("its second endpoint", |status| status.backends == 6).unwrap();
    let kept = [(socket, to)];
    stay(&kept);
    let begun = Instant::now();
    host.write("dns.yaml", manifest(true, false)).unwrap();
    are_closed_since(begun, &kept.map(|(socket, _)| socket));
}

#[test]
fn r13_a_deleted_service_closes_its_sockets_and_says_so() {
    let (host, _pod, agent) = start("deleted", &[]);
    let stale = [connected(&host, Family::Mapped, vip(Family::Mapped, 10))];
    let cookie = stale[0].cookie().unwrap();
    let begun = Instant::now();
    host.remove("web.yaml").unwrap();
    are_closed_since(begun, &stale);
    agent.wait_status("the count", |status| status.sockets_destroyed == 1).unwrap();
    let events = host.balancing(&["events", "-o", "json"]).unwrap();
    let lines: Vec<Value> =
        events.succeeds().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [line] = lines.as_slice() else { panic!("{lines:?}") };
    let told = |name: &str| line[name].to_string();
    assert_eq!(told("cookie"), cookie.to_string());
    assert_eq!((told("destroyed"), told("protocol")), ("\"backend-gone\"".into(), "\"UDP\"".into()));
    assert_eq!(told("original"), r#"{"ip":"10.96.0.10","port":53}"#);
    assert_eq!(told("backend"), r#"{"ip":"10.1.0.1","port":5353}"#);
    assert!(line["netnsCookie"].is_u64() && line["local"]["port"].is_u64(), "{line}");
    let text = host.balancing(&["events"]).unwrap();
    assert!(
        text.succeeds().contains("destroyed (backend-gone)  UDP 10.96.0.10:53 -> 10.1.0.1:5353"),
        "{text:?}"
    );
    assert_eq!(host.balancing(&["events", "--verdict", "refused"]).unwrap().succeeds(), "");
    assert!(host.balancing(&["status"]).unwrap().succeeds().contains("1 destroyed"));
}

#[test]
fn r8_tcp_is_reset_only_where_that_is_wanted() {
    let (host, _pod, agent) = start("tcp", &["--reset-tcp"]);
    let _servers = serve(&host, &[1]);
    let open = |family, to| {
        let socket = host.run(|| Socket::open(Protocol::Tcp, family)).unwrap();
        socket.connect(to).unwrap();
        socket.greeting().unwrap();
        socket
    };
    let stale = Family::ALL.map(|family| open(family, web::vip(Kind::Tcp, family, 10)));
    let direct = Family::ALL.map(|family| {
        let to = SocketAddr::new(pod_address(family, 1).ip(), 8080);
        (open(family, to), to)
    });
    let begun = Instant::now();
    host.write("web.yaml", web::manifest("web", 10, &[2])).unwrap();
    are_closed_since(begun, &stale);
    let read = |socket: &Socket| socket.greeting().unwrap_err().raw_os_error();
    assert!(stale.iter().all(|socket| read(socket) == Some(libc::ECONNABORTED)));
    stay(&direct);
    agent.wait_status("the count", |status| status.sockets_destroyed == 3).unwrap();
}

#[test]
fn r8_while_paused_nothing_is_closed() {
    let (host, _pod, _agent) = start("paused", &[]);
    let to = vip(Family::V4, 10);
    let kept = [(connected(&host, Family::V4, to), to)];
    host.balancing(&["pause"]).unwrap().succeeds();
    host.write("web.yaml", web::manifest("web", 10, &[2])).unwrap();
    stay(&kept);
    host.balancing(&["resume"]).unwrap().succeeds();
    testkit::wait::until(PATIENCE, "the socket to be closed", || !is_connected(&kept[0].0));
}

#[test]
fn r8_a_waiting_reader_wakes_up() {
    let (host, _pod, _agent) = start("wakes", &[]);
    let socket = connected(&host, Family::V4, vip(Family::V4, 10));
    let woken = thread::scope(|scope| {
        let reader = scope.spawn(|| socket.answer(0).map_err(|error: io::Error| error.raw_os_error()));
        host.write("web.yaml", web::manifest("web", 10, &[2])).unwrap();
        reader.join().unwrap()
    });
    assert_eq!(woken.unwrap_err(), Some(libc::ECONNABORTED));
}
