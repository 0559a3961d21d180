//! R8: connected UDP sockets whose backend has gone are closed, wherever they are, and nobody else's are; slots that
//! sockets of the kernel leave behind are freed, and no living socket's.

#![allow(clippy::unwrap_used)]

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    net::{IpAddr, SocketAddr, UdpSocket},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc::{Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use balancing_tests::{
    process::{Agent, Host, PATIENCE, web},
    socket::Socket,
};
use kernel::{Maps, Pins};
use model::Protocol;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde_json::Value;
use testkit::{
    Backend, Family, Kind, Namespace,
    object::{documents, endpoint, service, slice},
};

/// What R8 gives the agent.
const SOON: Duration = Duration::from_secs(1);

/// Longer than the agent goes on looking after a change: what lives then is not closed for it.
const LOOKED: Duration = Duration::from_millis(700);

/// Servers at the addresses of backends that answer with their address; TCP connections last.
fn serve(host: &Host, backends: &[u8]) -> Vec<Backend> {
    let mut servers = Vec::new();
    for low in backends {
        for family in [Family::V4, Family::V6] {
            let udp = pod_address(family, *low);
            let tcp = SocketAddr::new(udp.ip(), 8080);
            servers.push(Backend::udp(host.namespace(), &udp.to_string(), udp).unwrap());
            servers.push(Backend::tcp_lasting(host.namespace(), &tcp.to_string(), tcp).unwrap());
        }
    }
    servers
}

/// A thread that keeps a namespace in sight, as the first process of a pod does.
struct Resident {
    _stop: Sender<()>,
}

impl Resident {
    fn of(namespace: &Arc<Namespace>) -> Self {
        let (stop, stopped) = channel::<()>();
        let (ready, entered) = channel();
        let namespace = Arc::clone(namespace);
        thread::spawn(move || {
            namespace.enter_thread().unwrap();
            ready.send(()).unwrap();
            drop(namespace);
            let _ = stopped.recv();
        });
        entered.recv().unwrap();
        Self { _stop: stop }
    }
}

/// A machine with a pod in it, and an agent that serves `web` (VIP 10) from backend 1.
fn start(name: &str, arguments: &[&str]) -> (Host, Resident, Agent) {
    let host = Host::new(name).unwrap();
    let pod = Resident::of(host.namespace());
    host.write("web.yaml", web::manifest("web", 10, &[1])).unwrap();
    let agent = host.agent(arguments).unwrap();
    (host, pod, agent)
}

fn vip(family: Family, low: u8) -> SocketAddr {
    web::vip(Kind::ConnectedUdp, family, low)
}

/// Where backend `low` answers datagrams.
fn pod_address(family: Family, low: u8) -> SocketAddr {
    let ip = match family {
        Family::V6 => IpAddr::from([0xfd00, 1, 0, 0, 0, 0, 0, u16::from(low)]),
        Family::V4 | Family::Mapped => IpAddr::from([10, 1, 0, low]),
    };
    SocketAddr::new(ip, 5353)
}

fn connected(host: &Host, family: Family, to: SocketAddr) -> Socket {
    connected_in(host, host.namespace(), family, to)
}

fn connected_in(host: &Host, namespace: &Namespace, family: Family, to: SocketAddr) -> Socket {
    namespace.run(|| {
        host.cgroup().run(|| {
            let socket = Socket::open(Protocol::Udp, family).unwrap();
            socket.connect(to).unwrap();
            assert_eq!(socket.peer().unwrap(), to);
            socket
        })
    })
}

fn is_connected(socket: &Socket) -> bool {
    match socket.peer() {
        Ok(_) => true,
        Err(error) if error.raw_os_error() == Some(libc::ENOTCONN) => false,
        Err(error) => panic!("getpeername: {error}"),
    }
}

#[track_caller]
fn are_closed_since(begun: Instant, sockets: &[Socket]) {
    testkit::wait::until(SOON.saturating_sub(begun.elapsed()), "the sockets to be closed", || {
        !sockets.iter().any(is_connected)
    });
}

/// They keep their peers until the agent has looked for the last time.
#[track_caller]
fn stay(sockets: &[(Socket, SocketAddr)]) {
    let end = Instant::now() + LOOKED;
    while Instant::now() < end {
        for (socket, peer) in sockets {
            assert_eq!(socket.peer().unwrap(), *peer);
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// An error that waits on the socket.
fn error_of(socket: &Socket) -> Option<i32> {
    socket.answer(0).unwrap_err().raw_os_error()
}

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
fn r27_what_happened_while_no_agent_ran_is_made_good() {
    let (host, _pod, mut agent) = start("down", &[]);
    host.write("same.yaml", web::manifest("same", 30, &[1])).unwrap();
    agent.wait_status("both services", |status| status.frontends == 8).unwrap();
    let stale = Family::ALL.map(|family| connected(&host, family, vip(family, 10)));
    let others = Family::ALL.map(|family| (connected(&host, family, vip(family, 30)), vip(family, 30)));
    agent.kill().unwrap();
    host.write("web.yaml", web::manifest("web", 10, &[2])).unwrap();
    assert!(stale.iter().all(is_connected), "nobody is there to close them");
    let agent = host.agent(&[]).unwrap();
    are_closed_since(Instant::now(), &stale);
    stay(&others);
    agent.wait_status("the count", |status| status.sockets_destroyed == 3).unwrap();
    // And what the tables say already, but nobody has acted on.
    let mut agent = agent;
    let late = connected(&host, Family::V4, vip(Family::V4, 30));
    agent.signal(rustix::process::Signal::STOP).unwrap();
    agent.kill().unwrap();
    retire(&host, "same", true);
    let _agent = host.agent(&[]).unwrap();
    are_closed_since(Instant::now(), &[late]);
}

/// Marks the backends of a service as unusable in the tables, which no agent hears of; and deletes its manifest, or not.
fn retire(host: &Host, service: &str, delete: bool) {
    use kernel::TableStore;
    let mut maps = Maps::open(&Pins::new(host.pins())).unwrap();
    let contents = maps.read().unwrap();
    let ids: Vec<u32> = contents
        .names
        .iter()
        .filter(|(_, name)| abi::Name::text(&name.service) == service)
        .map(|(id, _)| *id)
        .collect();
    let retired: Vec<(u32, abi::Backend)> = contents
        .backends
        .into_iter()
        .filter(|(_, backend)| ids.contains(&backend.service) && backend.flags != 0)
        .map(|(index, backend)| (index, abi::Backend { flags: 0, ..backend }))
        .collect();
    assert!(!retired.is_empty());
    maps.put_backends(&retired).unwrap();
    if delete {
        host.remove(&format!("{service}.yaml")).unwrap();
    }
}

/// A namespace like that of the host's.
fn another_pod(name: &str) -> Arc<Namespace> {
    let namespace = Arc::new(Namespace::create(name).unwrap());
    namespace.ip("route add local 10.1.0.0/16 dev lo").unwrap();
    namespace.ip("-6 route add local fd00:1::/64 dev lo").unwrap();
    namespace.add_address("fd00:1::ffff".parse().unwrap()).unwrap();
    namespace
}

#[test]
fn r8_sockets_are_found_in_every_namespace() {
    let (host, _pod, _agent) = start("namespaces", &[]);
    let pods: Vec<Arc<Namespace>> = (0..4).map(|_| another_pod("pod")).collect();
    // The last is one that nothing leads to but the sockets in it.
    let _residents: Vec<Resident> = pods.iter().take(3).map(Resident::of).collect();
    let to = |family| vip(family, 10);
    let stale: Vec<Socket> = pods
        .iter()
        .flat_map(|pod| Family::ALL.map(|family| connected_in(&host, pod, family, to(family))))
        .collect();
    let direct: Vec<(Socket, SocketAddr)> = pods
        .iter()
        .map(|pod| {
            (connected_in(&host, pod, Family::V4, pod_address(Family::V4, 1)), pod_address(Family::V4, 1))
        })
        .collect();
    drop(pods);
    let begun = Instant::now();
    host.write("web.yaml", web::manifest("web", 10, &[2])).unwrap();
    are_closed_since(begun, &stale);
    stay(&direct);
}

/// A socket whose cookie leads to the same slot as `cookie` does. It is not connected.
fn sharing_slot(host: &Host, family: Family, cookie: u64) -> Socket {
    let slots = u64::from(abi::slot::SLOTS);
    host.run(|| {
        let end = Instant::now() + PATIENCE * 4;
        loop {
            let socket = Socket::open(Protocol::Udp, family).unwrap();
            if socket.cookie().unwrap() % slots == cookie % slots {
                return socket;
            }
            assert!(Instant::now() < end, "no cookie leads there");
        }
    })
}

#[test]
fn r8_sockets_that_found_their_slot_taken_are_closed_too() {
    let (host, _pod, agent) = start("overflow", &[]);
    host.write("same.yaml", web::manifest("same", 30, &[1])).unwrap();
    agent.wait_status("both services", |status| status.frontends == 8).unwrap();
    let first = connected(&host, Family::V4, vip(Family::V4, 10));
    let cookie = first.cookie().unwrap();
    let mut stale = vec![first];
    let mut others = Vec::new();
    for (family, low) in [(Family::V4, 10), (Family::Mapped, 10), (Family::V6, 10), (Family::Mapped, 30)] {
        let socket = sharing_slot(&host, family, cookie);
        socket.connect(vip(family, low)).unwrap();
        assert_eq!(socket.peer().unwrap(), vip(family, low));
        if low == 10 { stale.push(socket) } else { others.push((socket, vip(family, low))) }
    }
    assert_eq!(Maps::open(&Pins::new(host.pins())).unwrap().slots_used().unwrap(), 1);
    let begun = Instant::now();
    host.write("web.yaml", web::manifest("web", 10, &[2])).unwrap();
    are_closed_since(begun, &stale);
    stay(&others);
    assert_eq!(agent.status().unwrap().sockets_destroyed, stale.len() as u64);
}

#[test]
fn r8_a_connect_that_was_on_its_way_does_not_escape() {
    let (host, _pod, agent) = start("flight", &[]);
    let _servers = serve(&host, &[1, 2]);
    let stop = AtomicBool::new(false);
    let sockets: Vec<Socket> = host.run(|| {
        thread::scope(|scope| {
            let clients: Vec<_> = [Family::V4, Family::Mapped]
                .map(|family| {
                    let stop = &stop;
                    scope.spawn(move || {
                        let mut sockets = Vec::new();
                        while !stop.load(Relaxed) && sockets.len() < 4000 {
                            let socket = Socket::open(Protocol::Udp, family).unwrap();
                            socket.connect(vip(family, 10)).unwrap();
                            sockets.push(socket);
                        }
                        sockets
                    })
                })
                .into();
            for turn in 0..10u8 {
                let rounds = agent.status().unwrap().rounds;
                host.write("web.yaml", web::manifest("web", 10, &[1 + turn % 2])).unwrap();
                if turn > 0 {
                    agent.wait_status("a round", |status| status.rounds > rounds).unwrap();
                }
            }
            stop.store(true, Relaxed);
            clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
        })
    });
    testkit::wait::until(PATIENCE, "only sockets on backend 2 to be left", || {
        sockets
            .iter()
            .filter(|socket| is_connected(socket))
            .all(|socket| socket.ask(None).is_ok_and(|answer| answer.backend == pod_address(Family::V4, 2)))
    });
    assert!(agent.status().unwrap().sockets_destroyed > 0);
}

/// The same for sure: a slot that becomes stale when the agent has looked already, as one does that is written late.
#[test]
fn r8_what_becomes_stale_a_moment_later_is_closed_too() {
    let (host, _pod, agent) = start("later", &[]);
    let lows = 30..35u8;
    let name = |low: u8| format!("late-{low}");
    for low in lows.clone() {
        host.write(&format!("{}.yaml", name(low)), web::manifest(&name(low), low, &[1])).unwrap();
    }
    agent.wait_status("all services", |status| status.frontends == 24).unwrap();
    // On a machine that has much else to do, "a moment later" may be too late for the agent's last look.
    let closed = lows.zip([2, 1].into_iter().cycle()).any(|(low, backend)| {
        let first = [connected(&host, Family::V4, vip(Family::V4, 10))];
        let late = connected(&host, Family::V4, vip(Family::V4, low));
        host.write("web.yaml", web::manifest("web", 10, &[backend])).unwrap();
        testkit::wait::until(PATIENCE, "the first socket to be closed", || !is_connected(&first[0]));
        retire(&host, &name(low), false);
        let seen = || if is_connected(&late) { Err(()) } else { Ok(()) };
        testkit::eventually(LOOKED, seen).is_ok()
    });
    assert!(closed);
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

/// A socket on its way from one process to another: no table of descriptors has it.
struct InFlight(UnixStream);

impl InFlight {
    fn send(socket: Socket) -> Self {
        let (here, there) = UnixStream::pair().unwrap();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut message = SendAncillaryBuffer::new(&mut space);
        let descriptors = [socket.as_fd()];
        assert!(message.push(SendAncillaryMessage::ScmRights(&descriptors)));
        sendmsg(&there, &[IoSlice::new(b"x")], &mut message, SendFlags::empty()).unwrap();
        Self(here)
    }

    fn receive(self) -> OwnedFd {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut message = RecvAncillaryBuffer::new(&mut space);
        recvmsg(&self.0, &mut [IoSliceMut::new(&mut [0])], &mut message, RecvFlags::empty()).unwrap();
        let received = message.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        });
        received.unwrap()
    }
}

/// Multipath TCP leaves slots behind (peers.rs says why); nothing else is freed with them, though no namespace here has
/// a thread in it, so that only their descriptors show that the others live.
#[test]
fn r9_leaked_slots_are_freed_and_no_living_sockets() {
    let host = Host::new("leaks").unwrap();
    host.write("web.yaml", web::manifest("web", 10, &[1])).unwrap();
    let servers = serve(&host, &[1]);
    let agent = host.agent(&["--audit-interval", "100ms"]).unwrap();
    let maps = Maps::open(&Pins::new(host.pins())).unwrap();
    let mut living = Vec::new();
    for family in Family::ALL {
        living.push((connected(&host, family, vip(family, 10)), vip(family, 10)));
        let tcp = host.run(|| Socket::open(Protocol::Tcp, family)).unwrap();
        tcp.connect(web::vip(Kind::Tcp, family, 10)).unwrap();
        living.push((tcp, web::vip(Kind::Tcp, family, 10)));
    }
    // Not bound to anything any more, with an answer that nobody has read yet.
    let sent = host.run(|| Socket::open(Protocol::Udp, Family::V4)).unwrap();
    sent.question(Some(vip(Family::V4, 10))).unwrap();
    testkit::wait::until(PATIENCE, "its answer", || {
        servers.iter().any(|server| server.served() > 0 && is_udp(server))
    });
    sent.hang_up().unwrap();
    // Nor has anybody a descriptor of it.
    let in_flight = InFlight::send(sent);
    let used = maps.slots_used().unwrap();
    assert_eq!(used, living.len() + 1);
    for family in Family::ALL {
        let socket = host.run(|| Socket::open_mptcp(family)).unwrap();
        socket.connect(web::vip(Kind::Tcp, family, 10)).unwrap();
        socket.greeting().unwrap();
    }
    assert_eq!(maps.slots_used().unwrap(), used + 3, "MPTCP leaves its slots behind");
    agent.wait_status("three slots freed", |status| status.slots_freed == 3).unwrap();
    assert_eq!(maps.slots_used().unwrap(), used);
    // Two more audits, and all is as it was.
    let another = host.run(|| Socket::open_mptcp(Family::V4)).unwrap();
    another.connect(web::vip(Kind::Tcp, Family::V4, 10)).unwrap();
    drop(another);
    agent.wait_status("one more", |status| status.slots_freed == 4).unwrap();
    for (socket, peer) in &living {
        assert_eq!(socket.peer().unwrap(), *peer);
    }
    let sent = UdpSocket::from(in_flight.receive());
    let (length, source) = sent.recv_from(&mut [0; 64]).unwrap();
    assert_eq!((length > 0, source), (true, vip(Family::V4, 10)));
    drop((living, sent));
    testkit::wait::until_equal(PATIENCE, &0, || maps.slots_used().unwrap());
}

fn is_udp(server: &Backend) -> bool {
    server.address().port() == 5353
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
