//! Sockets of clients, and whether they are closed.

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use balancing_tests::{process::Host, socket::Socket};
use model::Protocol;
use testkit::{Family, Namespace};

/// What R8 gives the agent.
const SOON: Duration = Duration::from_secs(1);

/// Longer than the agent goes on looking after a change: what lives then is not closed for it.
pub(super) const LOOKED: Duration = Duration::from_millis(700);

/// A UDP socket of the machine itself.
pub(super) fn connected(host: &Host, family: Family, to: SocketAddr) -> Socket {
    connected_in(host, host.namespace(), family, to)
}

pub(super) fn connected_in(host: &Host, namespace: &Namespace, family: Family, to: SocketAddr) -> Socket {
    namespace.run(|| {
        host.cgroup().run(|| {
            let socket = Socket::open(Protocol::Udp, family).unwrap();
            socket.connect(to).unwrap();
            assert_eq!(socket.peer().unwrap(), to);
            socket
        })
    })
}

pub(super) fn is_connected(socket: &Socket) -> bool {
    match socket.peer() {
        Ok(_) => true,
        Err(error) if error.raw_os_error() == Some(libc::ENOTCONN) => false,
        Err(error) => panic!("getpeername: {error}"),
    }
}

#[track_caller]
pub(super) fn are_closed_since(begun: Instant, sockets: &[Socket]) {
    testkit::wait::until(SOON.saturating_sub(begun.elapsed()), "the sockets to be closed", || {
        !sockets.iter().any(is_connected)
    });
}

/// They keep their peers until the agent has looked for the last time.
#[track_caller]
pub(super) fn stay(sockets: &[(Socket, SocketAddr)]) {
    let end = Instant::now() + LOOKED;
    while Instant::now() < end {
        for (socket, peer) in sockets {
            assert_eq!(socket.peer().unwrap(), *peer);
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// An error that waits on the socket.
pub(super) fn error_of(socket: &Socket) -> Option<i32> {
    socket.answer(0).unwrap_err().raw_os_error()
}
