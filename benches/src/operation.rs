//! What is measured: one operation over one kind of path, client and server in one thread, so that no scheduler
//! is in the numbers.

use std::{
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, accept_with, bind, connect, getpeername,
    listen, recv, recvfrom, send, sendto, socket_with, sockopt,
};
use serde::Serialize;

use crate::tables::{ENDPOINTS, PORT, TARGET, endpoint4, endpoint6, vip4, vip6};

/// What a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Operation {
    /// Socket, connect, close.
    UdpConnect,
    /// Socket, connect, accept, reset.
    TcpConnect,
    /// Request and reply over one unconnected socket that stays.
    UdpExchange,
    /// Socket, request and reply, close: what a resolver does.
    UdpExchangeFresh,
    /// One byte and one back, over a connection that stays.
    TcpTraffic,
    /// The peer's name of a connection that stays.
    PeerName,
}

/// Family of the client's socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) enum Family {
    /// An IPv4 socket.
    #[serde(rename = "IPv4")]
    V4,
    /// An IPv6 socket.
    #[serde(rename = "IPv6")]
    V6,
    /// An IPv6 socket to an IPv4 address.
    #[serde(rename = "mapped")]
    Mapped,
}

/// Where to, and whether the programs see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Path {
    /// An endpoint's own address, without programs: what all is compared with.
    Direct,
    /// One VIP, again and again.
    Hot,
    /// Each time another VIP, at random.
    Random,
    /// An endpoint's own address, with programs.
    NoService,
    /// The same, with programs at all hooks that do nothing: what the kernel takes for calling any.
    Idle,
}

impl Operation {
    /// All.
    pub(crate) const ALL: [Self; 6] = [
        Self::UdpConnect,
        Self::TcpConnect,
        Self::UdpExchange,
        Self::UdpExchangeFresh,
        Self::TcpTraffic,
        Self::PeerName,
    ];

    /// Those that a ratio says something about. A peer's name is asked for in so little time that the program is most
    /// of it: what that costs net is what counts.
    pub(crate) const COMPARED: [Self; 5] =
        [Self::UdpConnect, Self::TcpConnect, Self::UdpExchange, Self::UdpExchangeFresh, Self::TcpTraffic];

    /// Where it can be tried: a connection that stays is to one service.
    pub(crate) fn paths(self) -> &'static [Path] {
        match self {
            Self::TcpTraffic | Self::PeerName => &[Path::Direct, Path::Hot, Path::NoService],
            _ => &Path::ALL,
        }
    }
}

impl Family {
    /// All.
    pub(crate) const ALL: [Self; 3] = [Self::V4, Self::V6, Self::Mapped];

    fn domain(self) -> AddressFamily {
        if self == Self::V4 { AddressFamily::INET } else { AddressFamily::INET6 }
    }
}

impl Path {
    /// All.
    pub(crate) const ALL: [Self; 5] = [Self::Direct, Self::Hot, Self::Random, Self::NoService, Self::Idle];

    /// Whether the client is where our programs are attached.
    pub(crate) fn has_programs(self) -> bool {
        !matches!(self, Self::Direct | Self::Idle)
    }
}

/// A series of measurements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Case {
    /// What.
    pub(crate) operation: Operation,
    /// From which socket.
    pub(crate) family: Family,
    /// Where to.
    pub(crate) path: Path,
}

impl Case {
    /// Where what stays for this family and path is among a client's.
    #[inline]
    fn index(self) -> usize {
        self.family as usize * Path::ALL.len() + self.path as usize
    }
}

/// Numbers at random: xorshift64, never 0.
#[derive(Debug)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// A number below `limit`.
    #[inline]
    pub(crate) fn below(&mut self, limit: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (((self.0 >> 32) * u64::from(limit)) >> 32) as u32
    }
}

/// Servers of one family: on all addresses of their namespace.
#[derive(Debug)]
struct Servers {
    tcp: OwnedFd,
    udp: OwnedFd,
}

/// Servers of both families. Made outside of the cgroup of the programs: only the client's side is measured.
#[derive(Debug)]
pub(crate) struct Server {
    v4: Servers,
    v6: Servers,
}

impl Server {
    /// Listens in the calling thread's namespace.
    pub(crate) fn open() -> Result<Self> {
        Ok(Self { v4: Servers::open(Family::V4)?, v6: Servers::open(Family::V6)? })
    }

    /// Mapped addresses arrive as IPv4.
    fn of(&self, family: Family) -> &Servers {
        if family == Family::V6 { &self.v6 } else { &self.v4 }
    }
}

impl Servers {
    fn open(family: Family) -> Result<Self> {
        let any: IpAddr = if family == Family::V4 { [0; 4].into() } else { [0u16; 8].into() };
        let open = |kind: SocketType| -> Result<OwnedFd> {
            let socket = socket_with(family.domain(), kind, SocketFlags::CLOEXEC, None)?;
            if family == Family::V6 {
                sockopt::set_ipv6_v6only(&socket, true)?;
            }
            bind(&socket, &SocketAddr::new(any, TARGET))?;
            Ok(socket)
        };
        let servers = Self {
            tcp: open(SocketType::STREAM).context("bind the TCP server")?,
            udp: open(SocketType::DGRAM).context("bind the UDP server")?,
        };
        listen(&servers.tcp, 128).context("listen")?;
        Ok(servers)
    }
}

/// Both ends of a TCP connection.
#[derive(Debug)]
struct Connection {
    client: OwnedFd,
    server: OwnedFd,
}

impl Connection {
    fn open(server: &Server, family: Family, to: SocketAddr) -> Result<Self> {
        let client = fresh(family, SocketType::STREAM)?;
        connect(&client, &to)?;
        let server = accept_with(&server.of(family).tcp, SocketFlags::CLOEXEC)?;
        for end in [&client, &server] {
            sockopt::set_tcp_nodelay(end, true)?;
            // What gets lost is an error, and no run that never ends.
            sockopt::set_socket_timeout(end, sockopt::Timeout::Recv, Some(Duration::from_secs(5)))?;
        }
        Ok(Self { client, server })
    }

    /// One byte there, one back.
    #[inline]
    fn ping(&self) -> Result<()> {
        let mut byte = [1];
        for (from, to) in [(&self.client, &self.server), (&self.server, &self.client)] {
            send(from, &byte, SendFlags::empty())?;
            if recv(to, &mut byte, RecvFlags::empty())?.0 != byte.len() {
                bail!("an established connection has ended");
            }
        }
        Ok(())
    }
}

/// A client: its sockets that stay, and its dice.
#[derive(Debug)]
pub(crate) struct Client {
    /// One for each family and path, in the order of both: what is remembered of a socket that talks to a
    /// thousand services must not slow down one that talks to none.
    sockets: Vec<OwnedFd>,
    /// In the same order; made when first used, as not every client reaches all.
    connections: Vec<Option<Connection>>,
    services: u32,
    dice: Dice,
}

impl Client {
    /// In the calling thread's namespace and cgroup.
    pub(crate) fn open(services: u32) -> Result<Self> {
        let families = Family::ALL.into_iter().flat_map(|family| Path::ALL.map(|_| family));
        let sockets: Vec<_> =
            families.map(|family| fresh(family, SocketType::DGRAM)).collect::<Result<_>>()?;
        let connections = sockets.iter().map(|_| None).collect();
        Ok(Self { sockets, connections, services, dice: Dice(0x9e37_79b9_7f4a_7c15) })
    }

    /// Does it `count` times; how long all of it took.
    pub(crate) fn run(&mut self, server: &Server, case: Case, count: u32) -> Result<Duration> {
        if matches!(case.operation, Operation::TcpTraffic | Operation::PeerName) {
            self.establish(server, case)?;
        }
        let begun = Instant::now();
        for _ in 0..count {
            let to = self.destination(case);
            self.once(server, case, to).with_context(|| format!("{case:?} to {to}"))?;
        }
        Ok(begun.elapsed())
    }

    /// Sees to it that there is a connection for `case`.
    fn establish(&mut self, server: &Server, case: Case) -> Result<()> {
        let to = self.destination(case);
        let connection = self.connections.get_mut(case.index()).context("no such connection")?;
        if connection.is_none() {
            let opened = Connection::open(server, case.family, to);
            *connection = Some(opened.with_context(|| format!("{case:?} to {to}"))?);
        }
        Ok(())
    }

    /// Ends all connections that stay: the next round that needs one makes it anew.
    pub(crate) fn hang_up(&mut self) {
        self.connections.fill_with(|| None);
    }

    fn connection(&self, case: Case) -> Result<&Connection> {
        self.connections.get(case.index()).and_then(Option::as_ref).context("no such connection")
    }

    #[inline]
    fn once(&self, server: &Server, case: Case, to: SocketAddr) -> Result<()> {
        let servers = server.of(case.family);
        match case.operation {
            Operation::UdpConnect => {
                let socket = fresh(case.family, SocketType::DGRAM)?;
                Ok(connect(&socket, &to)?)
            }
            Operation::TcpConnect => {
                let socket = fresh(case.family, SocketType::STREAM)?;
                // Reset at close: else a million connections would wait for their end.
                sockopt::set_socket_linger(&socket, Some(Duration::ZERO))?;
                connect(&socket, &to)?;
                let accepted = accept_with(&servers.tcp, SocketFlags::CLOEXEC)?;
                drop(socket);
                drop(accepted);
                Ok(())
            }
            Operation::UdpExchange => {
                exchange(self.sockets.get(case.index()).context("no such socket")?, servers, to)
            }
            Operation::UdpExchangeFresh => {
                let socket = fresh(case.family, SocketType::DGRAM)?;
                exchange(&socket, servers, to)
            }
            Operation::TcpTraffic => self.connection(case)?.ping(),
            Operation::PeerName => getpeername(&self.connection(case)?.client)?.map(drop).context("no peer"),
        }
    }

    /// Computed, not looked up, so that no list of addresses competes with the tables for the caches.
    #[inline]
    fn destination(&mut self, case: Case) -> SocketAddr {
        let (v4, v6, port) = match case.path {
            Path::Direct | Path::NoService | Path::Idle => {
                let index = self.dice.below(ENDPOINTS);
                (endpoint4(index), endpoint6(index), TARGET)
            }
            Path::Hot => (vip4(self.services / 2), vip6(self.services / 2), PORT),
            Path::Random => {
                let index = self.dice.below(self.services);
                (vip4(index), vip6(index), PORT)
            }
        };
        let ip: IpAddr = match case.family {
            Family::V4 => v4.into(),
            Family::V6 => v6.into(),
            Family::Mapped => v4.to_ipv6_mapped().into(),
        };
        SocketAddr::new(ip, port)
    }

    /// Whether the programs are there where they should be, and only there.
    pub(crate) fn verify(&mut self, server: &Server, has_programs: bool) -> Result<()> {
        for family in Family::ALL {
            let case = Case { operation: Operation::TcpConnect, family, path: Path::Hot };
            let vip = self.destination(case);
            let socket = fresh(family, SocketType::STREAM)?;
            let connected = connect(&socket, &vip);
            if !has_programs {
                if connected.is_ok() {
                    bail!("{vip} is reached without programs");
                }
                continue;
            }
            connected.with_context(|| format!("connect to {vip}"))?;
            let _ = accept_with(&server.of(family).tcp, SocketFlags::CLOEXEC)?;
            let peer = getpeername(&socket)?.context("no peer")?;
            if SocketAddr::try_from(peer)? != vip {
                bail!("{vip} has another peer's name");
            }
        }
        Ok(())
    }
}

#[inline]
fn fresh(family: Family, kind: SocketType) -> Result<OwnedFd> {
    Ok(socket_with(family.domain(), kind, SocketFlags::CLOEXEC, None)?)
}

/// Request and reply; the reply has to come from where the request went to.
#[inline]
fn exchange(socket: impl AsFd, servers: &Servers, to: SocketAddr) -> Result<()> {
    const REQUEST: [u8; 32] = [7; 32];
    let mut buffer = [0u8; 64];
    sendto(&socket, &REQUEST, SendFlags::empty(), &to)?;
    let (length, _, client) = recvfrom(&servers.udp, &mut buffer, RecvFlags::empty())?;
    let client = client.context("a request without a sender")?;
    sendto(&servers.udp, buffer.get(..length).unwrap_or_default(), SendFlags::empty(), &client)?;
    let (_, _, source) = recvfrom(&socket, &mut buffer, RecvFlags::empty())?;
    let source = source.context("a reply without a sender")?;
    if SocketAddr::try_from(source)? != to {
        bail!("a reply came from elsewhere");
    }
    Ok(())
}
