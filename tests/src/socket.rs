//! Sockets of all kinds, used as applications use them: connected again, disconnected, sent from to anywhere.
//! They belong to the cgroup and namespace of the thread that opens them.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    num::NonZeroU32,
    os::fd::{AsFd, OwnedFd},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use model::Protocol;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, connect, connect_unspec, getpeername,
    ipproto, recvfrom, send, sendto, socket_with, sockopt,
};
use testkit::Family;

/// How long anything may take.
pub const TIMEOUT: Duration = Duration::from_secs(2);

/// Number of `IPPROTO_MPTCP`.
const MPTCP: NonZeroU32 = NonZeroU32::new(262).unwrap();

/// A socket.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    family: Family,
    protocol: Protocol,
}

/// Who answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The address where it listens, which it says itself.
    pub backend: SocketAddr,
    /// Its address as the application sees it.
    pub shown: SocketAddr,
}

impl Socket {
    /// A new socket, bound to nothing.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn open(protocol: Protocol, family: Family) -> io::Result<Self> {
        match protocol {
            Protocol::Tcp => Self::open_as(SocketType::STREAM, ipproto::TCP, protocol, family),
            Protocol::Udp => Self::open_as(SocketType::DGRAM, ipproto::UDP, protocol, family),
        }
    }

    /// A multipath TCP socket.
    ///
    /// # Errors
    /// The kernel refuses, or has none.
    pub fn open_mptcp(family: Family) -> io::Result<Self> {
        Self::open_as(SocketType::STREAM, rustix::net::Protocol::from_raw(MPTCP), Protocol::Tcp, family)
    }

    fn open_as(
        kind: SocketType,
        number: rustix::net::Protocol,
        protocol: Protocol,
        family: Family,
    ) -> io::Result<Self> {
        let domain = if family == Family::V4 { AddressFamily::INET } else { AddressFamily::INET6 };
        let fd = socket_with(domain, kind, SocketFlags::CLOEXEC, Some(number))?;
        for which in [sockopt::Timeout::Recv, sockopt::Timeout::Send] {
            sockopt::set_socket_timeout(&fd, which, Some(TIMEOUT))?;
        }
        Ok(Self { fd, family, protocol })
    }

    /// Binds it to a port of the wildcard address, 0 = any.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn bind(&self, port: u16) -> io::Result<()> {
        let any: SocketAddr = match self.family {
            Family::V4 => (Ipv4Addr::UNSPECIFIED, port).into(),
            _ => (Ipv6Addr::UNSPECIFIED, port).into(),
        };
        Ok(bind(&self.fd, &any)?)
    }

    /// `connect()`.
    ///
    /// # Errors
    /// What the application sees.
    pub fn connect(&self, to: SocketAddr) -> io::Result<()> {
        Ok(connect(&self.fd, &self.named(to))?)
    }

    /// `connect()` to AF_UNSPEC.
    ///
    /// # Errors
    /// What the application sees.
    pub fn hang_up(&self) -> io::Result<()> {
        Ok(connect_unspec(&self.fd)?)
    }

    /// `getpeername()`.
    ///
    /// # Errors
    /// What the application sees, or an address that such a socket must not see.
    pub fn peer(&self) -> io::Result<SocketAddr> {
        let peer = getpeername(&self.fd)?.ok_or_else(|| io::Error::other("an unnamed peer"))?;
        self.plain(peer.try_into()?)
    }

    /// The kernel's cookie of it.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn cookie(&self) -> io::Result<u64> {
        Ok(sockopt::socket_cookie(&self.fd)?)
    }

    /// Reads the greeting of a TCP backend.
    ///
    /// # Errors
    /// What the application sees.
    pub fn greeting(&self) -> io::Result<Answer> {
        let mut text = Vec::new();
        let mut part = [0; 256];
        while !text.ends_with(b"\n") {
            let (length, _, _) = recvfrom(&self.fd, &mut part, RecvFlags::empty())?;
            if length == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            text.extend_from_slice(&part[..length]);
        }
        Ok(Answer { backend: parse(&text)?.0, shown: self.peer()? })
    }

    /// Sends a question: over the connection, or to an address. What [`Self::answer`] waits for.
    ///
    /// # Errors
    /// What the application sees.
    pub fn question(&self, to: Option<SocketAddr>) -> io::Result<u64> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let question = NEXT.fetch_add(1, Ordering::Relaxed);
        let text = question.to_string();
        match to {
            Some(to) => sendto(&self.fd, text.as_bytes(), SendFlags::empty(), &self.named(to))?,
            None => send(&self.fd, text.as_bytes(), SendFlags::empty())?,
        };
        Ok(question)
    }

    /// The answer to a question; those to earlier ones are dropped.
    ///
    /// # Errors
    /// What the application sees.
    pub fn answer(&self, question: u64) -> io::Result<Answer> {
        let [answer] = self.answers([question])?;
        Ok(answer)
    }

    /// The answers to some questions, which may come in any order; those to others are dropped.
    ///
    /// # Errors
    /// What the application sees.
    pub fn answers<const N: usize>(&self, questions: [u64; N]) -> io::Result<[Answer; N]> {
        let mut answers = [None; N];
        let mut datagram = [0; 512];
        loop {
            let (length, _, from) = recvfrom(&self.fd, &mut datagram, RecvFlags::empty())?;
            let (backend, echo) = parse(&datagram[..length])?;
            let from = from.ok_or_else(|| io::Error::other("a datagram from nowhere"))?;
            if let Some(place) = questions.iter().position(|question| *question == echo) {
                answers[place] = Some(Answer { backend, shown: self.plain(from.try_into()?)? });
            }
            if answers.iter().all(Option::is_some) {
                let all: Vec<Answer> = answers.into_iter().flatten().collect();
                return all.try_into().map_err(|_| io::Error::other("an answer is missing"));
            }
        }
    }

    /// Asks and waits for the answer: UDP.
    ///
    /// # Errors
    /// What the application sees.
    pub fn ask(&self, to: Option<SocketAddr>) -> io::Result<Answer> {
        self.answer(self.question(to)?)
    }

    /// TCP or UDP.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// `address` as such a socket names it.
    fn named(&self, address: SocketAddr) -> SocketAddr {
        match address {
            SocketAddr::V4(v4) if self.family != Family::V4 => (v4.ip().to_ipv6_mapped(), v4.port()).into(),
            address => address,
        }
    }

    /// The reverse of `named`: an address of another form is an error.
    fn plain(&self, address: SocketAddr) -> io::Result<SocketAddr> {
        let plain = SocketAddr::new(address.ip().to_canonical(), address.port());
        if self.named(plain).ip() == address.ip() {
            return Ok(plain);
        }
        Err(io::Error::other(format!("a {:?} socket was given the address {address}", self.family)))
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Name (which is an address) and question of `NAME CLIENT QUESTION`.
fn parse(answer: &[u8]) -> io::Result<(SocketAddr, u64)> {
    let text = String::from_utf8_lossy(answer);
    let mut words = text.split_whitespace();
    let backend = words.next().and_then(|word| word.parse().ok());
    let echo = words.nth(1).map_or(Some(0), |word| word.parse().ok());
    backend
        .zip(echo)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("not an answer: {text:?}")))
}
