//! Slots that sockets of the kernel leave behind are freed, and no living socket's.

use std::{
    io::{IoSlice, IoSliceMut},
    mem::MaybeUninit,
    net::UdpSocket,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
};

use balancing_tests::{
    process::{Host, PATIENCE, web},
    socket::Socket,
};
use kernel::{Maps, Pins};
use model::Protocol;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use testkit::{Backend, Family, Kind};

use super::{
    machine::{serve, vip},
    sockets::connected,
};

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
