//! Clients of every kind of socket, for backends of [`crate::backend`].
//!
//! They use the calling thread's namespace and cgroup: see [`crate::Namespace::run`], [`crate::Cgroup::run`].

use std::{
    fmt,
    io::{self, BufRead, BufReader, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// How long a client waits for anything, unless told.
pub const TIMEOUT: Duration = Duration::from_secs(2);

/// Protocol and manner of use of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `connect`, read.
    Tcp,
    /// `connect`, `send`, `recv`.
    ConnectedUdp,
    /// `sendto`, `recvfrom`.
    UnconnectedUdp,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Tcp, Self::ConnectedUdp, Self::UnconnectedUdp];
}

/// Family of a socket, as far as programs can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// An IPv4 socket.
    V4,
    /// An IPv6 socket that talks IPv6.
    V6,
    /// An IPv6 socket that talks IPv4, by addresses such as `::ffff:10.0.0.1`.
    Mapped,
}

impl Family {
    /// Every family.
    pub const ALL: [Self; 3] = [Self::V4, Self::V6, Self::Mapped];

    /// Whether such a socket can talk to `ip`.
    pub fn reaches(self, ip: IpAddr) -> bool {
        ip.is_ipv6() == (self == Self::V6)
    }

    /// `address` as such a socket names it.
    fn named(self, address: SocketAddr) -> io::Result<SocketAddr> {
        match (self, address.ip()) {
            (Self::Mapped, IpAddr::V4(ip)) => Ok(SocketAddr::new(ip.to_ipv6_mapped().into(), address.port())),
            (_, ip) if self.reaches(ip) => Ok(address),
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("no {self:?} socket reaches {address}"),
            )),
        }
    }

    /// The reverse of `named`; an error if the kernel gave an address of another form.
    fn plain(self, address: SocketAddr) -> io::Result<SocketAddr> {
        let ip = address.ip().to_canonical();
        let plain = SocketAddr::new(ip, address.port());
        if ip.is_unspecified() || self.named(plain).is_ok_and(|named| named.ip() == address.ip()) {
            return Ok(plain);
        }
        Err(io::Error::other(format!("a {self:?} socket was given the address {address}")))
    }

    fn wildcard(self) -> SocketAddr {
        let ip: IpAddr =
            if self == Self::V4 { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        SocketAddr::new(ip, 0)
    }
}

/// One question and its answer. IPv4-mapped addresses are given as IPv4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// Name of the backend that answered.
    pub backend: String,
    /// The client's address, as the backend saw it.
    pub client: SocketAddr,
    /// Who answered, as the client sees it: `getpeername`, and for UDP the source that `recvfrom` gave.
    pub peer: SocketAddr,
}

/// Asks whoever is behind `destination` for its name, from a fresh socket. Errors keep their errno.
pub fn exchange(kind: Kind, family: Family, destination: SocketAddr) -> io::Result<Exchange> {
    Client::open(kind, family, destination, TIMEOUT)?.ask()
}

/// A socket that can ask more than once. A TCP backend must be of the lasting kind for that.
pub struct Client {
    family: Family,
    destination: SocketAddr,
    socket: Socket,
}

enum Socket {
    Tcp(BufReader<TcpStream>),
    /// Connected or not.
    Udp(UdpSocket, bool),
}

impl Client {
    /// Opens a socket and, where that is its kind, connects it.
    pub fn open(kind: Kind, family: Family, destination: SocketAddr, timeout: Duration) -> io::Result<Self> {
        let named = family.named(destination)?;
        let socket = match kind {
            Kind::Tcp => {
                let stream = TcpStream::connect_timeout(&named, timeout)?;
                stream.set_read_timeout(Some(timeout))?;
                stream.set_write_timeout(Some(timeout))?;
                stream.set_nodelay(true)?;
                Socket::Tcp(BufReader::with_capacity(256, stream))
            }
            Kind::ConnectedUdp | Kind::UnconnectedUdp => {
                let socket = UdpSocket::bind(family.wildcard())?;
                socket.set_read_timeout(Some(timeout))?;
                socket.set_write_timeout(Some(timeout))?;
                if kind == Kind::ConnectedUdp {
                    socket.connect(named)?;
                }
                Socket::Udp(socket, kind == Kind::ConnectedUdp)
            }
        };
        Ok(Self { family, destination, socket })
    }

    /// Asks once. The first answer of a TCP backend comes unasked, each further one is asked for with [`Self::again`].
    pub fn ask(&mut self) -> io::Result<Exchange> {
        match &mut self.socket {
            Socket::Tcp(stream) => {
                let mut line = String::new();
                stream.read_line(&mut line)?;
                let peer = self.family.plain(stream.get_ref().peer_addr()?)?;
                let (backend, client, _) = parse(&line)?;
                Ok(Exchange { backend, client, peer })
            }
            Socket::Udp(socket, connected) => {
                ask_datagram(socket, *connected, self.family, self.family.named(self.destination)?)
            }
        }
    }

    /// Asks once more over the same socket.
    pub fn again(&mut self) -> io::Result<Exchange> {
        if let Socket::Tcp(stream) = &mut self.socket {
            stream.get_mut().write_all(b"again\n")?;
        }
        self.ask()
    }

    /// Sends further questions of an unconnected UDP socket elsewhere.
    pub fn redirect(&mut self, destination: SocketAddr) {
        self.destination = destination;
    }

    /// This end's address.
    pub fn local(&self) -> io::Result<SocketAddr> {
        self.family.plain(match &self.socket {
            Socket::Tcp(stream) => stream.get_ref().local_addr()?,
            Socket::Udp(socket, _) => socket.local_addr()?,
        })
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.socket {
            Socket::Tcp(_) => "TCP",
            Socket::Udp(_, true) => "connected UDP",
            Socket::Udp(_, false) => "unconnected UDP",
        };
        write!(f, "Client({kind}, {:?}, {})", self.family, self.destination)
    }
}

fn ask_datagram(
    socket: &UdpSocket,
    connected: bool,
    family: Family,
    destination: SocketAddr,
) -> io::Result<Exchange> {
    // An answer to an earlier question that had timed out must not be taken for this one's.
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let question = NEXT.fetch_add(1, Ordering::Relaxed).to_string();
    let sent = if connected {
        socket.send(question.as_bytes())
    } else {
        socket.send_to(question.as_bytes(), destination)
    };
    sent?;
    let mut datagram = [0; 2048];
    loop {
        let (length, source) = socket.recv_from(&mut datagram)?;
        let answer = String::from_utf8_lossy(datagram.get(..length).unwrap_or_default());
        let (backend, client, echo) = parse(&answer)?;
        if echo != question {
            continue;
        }
        let peer = family.plain(source)?;
        if connected {
            let named = family.plain(socket.peer_addr()?)?;
            if named != peer {
                return Err(io::Error::other(format!("recvfrom says {peer}, getpeername says {named}")));
            }
        }
        return Ok(Exchange { backend, client, peer });
    }
}

/// Name, client and the rest of what a backend answered.
fn parse(answer: &str) -> io::Result<(String, SocketAddr, String)> {
    if answer.is_empty() {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the backend closed without a word"));
    }
    let mut words = answer.split_whitespace();
    let parsed = (|| {
        let name = words.next()?.to_owned();
        Some((name, words.next()?.parse().ok()?, words.next().unwrap_or_default().to_owned()))
    })();
    parsed.ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, format!("not a backend's answer: {answer:?}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_addresses_go_out_mapped_and_come_back_plain() {
        let v4: SocketAddr = "10.0.0.1:80".parse().unwrap();
        let mapped: SocketAddr = "[::ffff:10.0.0.1]:80".parse().unwrap();
        let v6: SocketAddr = "[fd00::1]:80".parse().unwrap();
        assert_eq!(Family::Mapped.named(v4).unwrap(), mapped);
        assert_eq!(Family::Mapped.plain(mapped).unwrap(), v4);
        assert_eq!(Family::V6.plain(v6).unwrap(), v6);
        assert!(Family::Mapped.plain(v4).is_err());
        assert!(Family::Mapped.plain(v6).is_err());
        assert!(Family::V6.named(v4).is_err());
    }

    #[test]
    fn answers_are_parsed() {
        let client = "10.0.0.9:4000".parse().unwrap();
        assert_eq!(parse("a 10.0.0.9:4000\n").unwrap(), ("a".to_owned(), client, String::new()));
        assert_eq!(parse("a 10.0.0.9:4000 17").unwrap(), ("a".to_owned(), client, "17".to_owned()));
        assert_eq!(parse("").unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(parse("a").unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
