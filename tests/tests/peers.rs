//! R9 on real sockets: what applications do, where the kernel runs which hook, and that nothing is left behind.

#![allow(clippy::unwrap_used)]

use std::{io, net::SocketAddr};

use balancing_tests::{
    machine::Machine,
    scenario::{deletion, upserts},
    socket::{Answer, Socket},
    world::{KernelWorld, World},
};
use model::{Protocol, View};
use testkit::{
    Family,
    object::{documents, service, slice},
};

const VIP: &str = "10.96.0.10:80";
const VIP6: &str = "[fd00:96::a]:80";
const BACKEND: &str = "10.1.0.1:8080";
const BACKEND6: &str = "[fd00:1::1]:8080";
const EMPTY: &str = "10.96.0.20:80";
const EMPTY6: &str = "[fd00:96::14]:80";

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A machine with one service that has a backend, and one that has none, in both families and protocols.
fn world(name: &str) -> KernelWorld {
    let view = View { node: "n1".into(), ..View::default() };
    let mut world = KernelWorld::new(name, view).unwrap();
    let both = |name: &str, v4: &str, v6: &str| {
        service(name)
            .cluster_ip(v4)
            .cluster_ip(v6)
            .field("ipFamilyPolicy", "PreferDualStack")
            .field("ipFamilies", "[IPv4, IPv6]")
            .port("t:80")
            .port("u:80/UDP")
    };
    let manifests = documents(&[
        &both("web", "10.96.0.10", "fd00:96::a"),
        &both("empty", "10.96.0.20", "fd00:96::14"),
        &slice("web-4", "web").port("t:8080").port("u:8080/UDP").endpoint("10.1.0.1"),
        &slice("web-6", "web").port("t:8080").port("u:8080/UDP").endpoint("fd00:1::1"),
    ]);
    world.change(upserts(&manifests).unwrap()).unwrap();
    world.sync().unwrap();
    world
}

fn open(world: &mut KernelWorld, protocol: Protocol, family: Family) -> Socket {
    world.machine().run(move || Socket::open(protocol, family)).unwrap()
}

fn exchange(socket: &Socket) -> io::Result<Answer> {
    match socket.protocol() {
        Protocol::Tcp => socket.greeting(),
        Protocol::Udp => socket.ask(None),
    }
}

/// VIP, its backend, and a VIP without, for a family.
fn addresses(family: Family) -> [SocketAddr; 3] {
    match family {
        Family::V6 => [VIP6, BACKEND6, EMPTY6],
        _ => [VIP, BACKEND, EMPTY],
    }
    .map(at)
}

#[test]
fn r9_every_kind_forgets_by_connecting_and_by_being_refused() {
    let mut world = world("forgets");
    for family in Family::ALL {
        let [vip, backend, empty] = addresses(family);
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let about = format!("{protocol} {family:?}");
            let socket = open(&mut world, protocol, family);
            let reaches = |to: SocketAddr| {
                socket.connect(to).unwrap_or_else(|error| panic!("{about}: connect {to}: {error}"));
                let answer = exchange(&socket).unwrap();
                assert_eq!(answer, Answer { backend, shown: to }, "{about}");
                assert_eq!(socket.peer().unwrap(), to, "{about}");
                socket.hang_up().unwrap();
                assert!(socket.peer().is_err(), "{about}: AF_UNSPEC left it connected");
            };
            let cookie = socket.cookie().unwrap();
            reaches(vip);
            reaches(backend);
            reaches(vip);
            reaches(vip);
            let refused = socket.connect(empty).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused, "{about}");
            reaches(backend);
            assert_eq!(socket.cookie().unwrap(), cookie, "{about}: it was one socket all the time");
        }
    }
    wait_for_slots(&mut world, 0);
}

/// Refused by the backend's machine, which no hook sees: the socket may connect again, with the same cookie.
#[test]
fn r9_a_backend_that_refuses_leaves_nothing_behind() {
    let mut world = world("refuses");
    let (vip, backend) = (at(VIP), at(BACKEND));
    world.machine().close(Protocol::Tcp, backend);
    for family in [Family::V4, Family::Mapped] {
        let socket = open(&mut world, Protocol::Tcp, family);
        assert_eq!(socket.connect(vip).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        let other = at("10.1.0.1:9999");
        world.machine().listen(Protocol::Tcp, other).unwrap();
        socket.connect(other).unwrap();
        assert_eq!(exchange(&socket).unwrap(), Answer { backend: other, shown: other });
        // The very address of the backend.
        let socket = open(&mut world, Protocol::Tcp, family);
        assert_eq!(socket.connect(vip).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        world.machine().listen(Protocol::Tcp, backend).unwrap();
        socket.connect(backend).unwrap();
        assert_eq!(exchange(&socket).unwrap(), Answer { backend, shown: backend });
        world.machine().close(Protocol::Tcp, backend);
    }
}

#[test]
fn r9_a_send_without_connection_shows_what_was_asked_for_last() {
    let mut world = world("sends");
    for family in Family::ALL {
        let [vip, backend, empty] = addresses(family);
        let socket = open(&mut world, Protocol::Udp, family);
        for to in [vip, backend, vip, vip, backend, backend, vip] {
            assert_eq!(socket.ask(Some(to)).unwrap(), Answer { backend, shown: to }, "{family:?}");
        }
        assert_eq!(socket.ask(Some(empty)).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        // Connected, disconnected, and both ways of sending in between.
        socket.connect(vip).unwrap();
        for to in [None, Some(vip), None] {
            assert_eq!(socket.ask(to).unwrap(), Answer { backend, shown: vip }, "{family:?}");
        }
        socket.hang_up().unwrap();
        assert_eq!(socket.ask(Some(backend)).unwrap(), Answer { backend, shown: backend }, "{family:?}");
        assert_eq!(socket.ask(Some(vip)).unwrap(), Answer { backend, shown: vip }, "{family:?}");
    }
}

/// What arrives late was asked for at a VIP, and says so, though the socket has other destinations by now.
#[test]
fn r9_a_late_answer_bears_its_own_vip() {
    let mut world = world("late");
    let second = documents(&[
        &service("log").cluster_ip("10.96.0.30").port("80/UDP"),
        &slice("log-4", "log").port("8080/UDP").endpoint("10.1.0.2"),
    ]);
    world.change(upserts(&second).unwrap()).unwrap();
    for family in [Family::V4, Family::Mapped] {
        let socket = open(&mut world, Protocol::Udp, family);
        let asked = [at(VIP), at("10.96.0.30:80")];
        let questions = asked.map(|vip| socket.question(Some(vip)).unwrap());
        assert_eq!(socket.answers(questions).unwrap().map(|answer| answer.shown), asked, "{family:?}");
    }
}

#[test]
fn r9_an_accepted_socket_is_none_of_ours() {
    let mut world = world("accepted");
    let listener = world.machine().run(|| std::net::TcpListener::bind(at("10.1.0.5:7000"))).unwrap();
    let manifest = documents(&[
        &service("own").cluster_ip("10.96.0.40").port("80"),
        &slice("own-4", "own").port("7000").endpoint("10.1.0.5"),
    ]);
    // The runner would listen there itself.
    let changes = upserts(&manifest).unwrap();
    assert!(world.change(changes).is_err(), "the address is taken");
    let client = open(&mut world, Protocol::Tcp, Family::V4);
    client.connect(at("10.96.0.40:80")).unwrap();
    assert_eq!(client.peer().unwrap(), at("10.96.0.40:80"));
    let (accepted, seen) = listener.accept().unwrap();
    assert_eq!(accepted.peer_addr().unwrap(), seen, "the server sees the client's own address");
}

/// Multipath TCP: the hooks run for the subflow, which is a socket of the kernel with a cookie of its own. So the
/// connection is translated; `getpeername()`, which runs for the socket that the application has, shows the
/// backend; and no release hook runs for the subflow, whose slot the agent's audit frees, as it does for NFS.
#[test]
fn r9_mptcp_is_translated_and_getpeername_shows_the_backend() {
    let mut world = world("mptcp");
    let has_it = world.machine().run(|| std::fs::read_to_string("/proc/sys/net/mptcp/enabled"));
    for family in Family::ALL {
        let opened = world.machine().run(move || Socket::open_mptcp(family));
        if has_it.is_err() {
            // A kernel without: an application can't even ask for it.
            assert_eq!(opened.unwrap_err().raw_os_error(), Some(libc::EPROTONOSUPPORT));
            continue;
        }
        let [vip, backend, empty] = addresses(family);
        let socket = opened.unwrap();
        socket.connect(vip).unwrap();
        let answer = socket.greeting().unwrap();
        assert_eq!(answer, Answer { backend, shown: backend }, "{family:?}");
        let socket = world.machine().run(move || Socket::open_mptcp(family)).unwrap();
        assert_eq!(socket.connect(empty).unwrap_err().kind(), io::ErrorKind::ConnectionRefused, "{family:?}");
    }
    // One a subflow at most: what is refused is not remembered.
    assert!(world.machine().maps().unwrap().slots_used().unwrap() <= Family::ALL.len());
}

/// Slots are freed by the last close; that of a TCP socket may come a moment after `close()`.
#[track_caller]
fn wait_for_slots(world: &mut KernelWorld, count: usize) {
    let maps = world.machine().maps().unwrap();
    testkit::wait::until_equal(std::time::Duration::from_secs(5), &count, || maps.slots_used().unwrap());
}

#[test]
fn r9_ten_thousand_sockets_leave_no_slot_behind() {
    let mut world = world("leaks");
    let used = |machine: &Machine| machine.maps().unwrap().slots_used().unwrap();
    for family in Family::ALL {
        let [vip, _, empty] = addresses(family);
        world.machine().run(move || {
            for turn in 0..3_400 {
                let socket = Socket::open(Protocol::Udp, family).unwrap();
                socket.connect(vip).unwrap();
                assert_eq!(socket.peer().unwrap(), vip);
                if turn % 4 == 0 {
                    socket.connect(empty).unwrap_err();
                }
                if turn % 8 == 0 {
                    socket.hang_up().unwrap();
                }
            }
        });
    }
    assert_eq!(used(world.machine()), 0);
    // Many at once, all exact, and then none.
    let mut sockets = Vec::new();
    for _ in 0..500 {
        for family in Family::ALL {
            let socket = open(&mut world, Protocol::Udp, family);
            socket.connect(addresses(family)[0]).unwrap();
            sockets.push((socket, addresses(family)[0]));
        }
    }
    assert!(sockets.iter().all(|(socket, vip)| socket.peer().unwrap() == *vip));
    let owned = used(world.machine());
    assert!(owned > 1000 && owned <= 1500, "{owned} slots of 1500 sockets");
    // A socket that a second descriptor keeps alive keeps its slot.
    let (last, _) = sockets.pop().unwrap();
    let second = rustix::io::dup(&last).unwrap();
    drop(sockets);
    drop(last);
    assert_eq!(used(world.machine()), 1);
    drop(second);
    assert_eq!(used(world.machine()), 0);
}

#[test]
fn r9_the_peer_outlives_the_service_and_two_replacements() {
    let mut world = world("outlives");
    let sockets: Vec<(Socket, SocketAddr)> = Family::ALL
        .into_iter()
        .map(|family| {
            let socket = open(&mut world, Protocol::Udp, family);
            socket.connect(addresses(family)[0]).unwrap();
            (socket, addresses(family)[0])
        })
        .collect();
    let gone = ["Service default/web", "EndpointSlice default/web-4", "EndpointSlice default/web-6"];
    world.change(gone.map(|name| deletion(name).unwrap()).into()).unwrap();
    for _ in 0..2 {
        world.machine().install().unwrap();
        for (socket, vip) in &sockets {
            assert_eq!((socket.peer().unwrap(), socket.ask(None).unwrap().shown), (*vip, *vip));
        }
    }
}
