//! A client with a habit of using sockets, and one retry.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket},
    time::{Duration, Instant},
};

use hickory_proto::{
    op::{Message, MessageType, Query, ResponseCode},
    rr::{Name, RData, RecordType},
};

use super::NAME;

/// How often a socket that is kept is used before there is another one.
const USES: u32 = 40;

/// How a client uses sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Habit {
    /// A socket for each question, connected: glibc.
    Connected,
    /// A socket for each question, not connected: musl.
    Unconnected,
    /// A connected socket that is kept.
    ConnectedKept,
    /// An unconnected socket that is kept: many caches.
    UnconnectedKept,
    /// A TCP connection for each question.
    Tcp,
    /// A TCP connection for several questions.
    TcpKept,
}

impl Habit {
    /// Every habit.
    pub const ALL: [Self; 6] = [
        Self::Connected,
        Self::Unconnected,
        Self::ConnectedKept,
        Self::UnconnectedKept,
        Self::Tcp,
        Self::TcpKept,
    ];

    /// Those that use a socket more than once.
    pub const KEPT: [Self; 3] = [Self::ConnectedKept, Self::UnconnectedKept, Self::TcpKept];

    fn is_tcp(self) -> bool {
        matches!(self, Self::Tcp | Self::TcpKept)
    }
}

enum Socket {
    Udp(UdpSocket),
    Tcp(TcpStream),
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The name server that gave it.
    pub server: Ipv4Addr,
    /// Was the socket made for this question?
    pub fresh: bool,
    /// What was wrong with the first attempt, if this is the second.
    pub retried: Option<Trouble>,
}

/// What was wrong with an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The socket had been closed by the agent, since its backend was gone (R8).
    Closed,
    /// Anything else.
    Failed(String),
}

/// See the module. It uses the calling thread's namespace and cgroup.
pub struct Resolver {
    habit: Habit,
    server: SocketAddr,
    mapped: bool,
    /// And how often it has been used.
    open: Option<(Socket, u32)>,
    asked: u16,
}

impl Resolver {
    /// Of the name server at an address; `mapped`: by sockets of IPv6.
    pub fn new(habit: Habit, server: SocketAddr, mapped: bool) -> Self {
        Self { habit, server, mapped, open: None, asked: 0 }
    }

    /// Asks, and asks again if that fails: when `timeout` is over, as a resolver does that is told nothing. If it is told that the
    /// socket is closed: at once.
    ///
    /// # Errors
    /// What was wrong with both attempts.
    pub fn ask(&mut self, timeout: Duration) -> Result<Reply, [Trouble; 2]> {
        let begun = Instant::now();
        let first = match self.attempt(timeout) {
            Ok((server, fresh)) => return Ok(Reply { server, fresh, retried: None }),
            Err(error) => trouble(&error),
        };
        if first != Trouble::Closed {
            std::thread::sleep((begun + timeout).saturating_duration_since(Instant::now()));
        }
        match self.attempt(timeout) {
            Ok((server, fresh)) => Ok(Reply { server, fresh, retried: Some(first) }),
            Err(error) => Err([first, trouble(&error)]),
        }
    }

    fn attempt(&mut self, timeout: Duration) -> io::Result<(Ipv4Addr, bool)> {
        let (mut socket, mut uses) = match self.open.take() {
            Some(kept) => kept,
            None => (self.open(timeout)?, 0),
        };
        let mut outcome = self.exchange(&mut socket, timeout);
        // A connection that was closed while nobody used it has not failed: RFC 7766, 6.2.4.
        if self.habit == Habit::TcpKept && uses > 0 && outcome.as_ref().is_err_and(was_ended) {
            (socket, uses) = (self.open(timeout)?, 0);
            outcome = self.exchange(&mut socket, timeout);
        }
        let fresh = uses == 0;
        // Unconnected sockets have nothing that could break.
        let is_whole = outcome.is_ok() || self.habit == Habit::UnconnectedKept;
        if Habit::KEPT.contains(&self.habit) && is_whole && uses + 1 < USES {
            self.open = Some((socket, uses + 1));
        }
        Ok((outcome?, fresh))
    }

    /// The name server's address as such a socket has it.
    fn named(&self) -> SocketAddr {
        match self.server.ip() {
            IpAddr::V4(ip) if self.mapped => SocketAddr::new(ip.to_ipv6_mapped().into(), self.server.port()),
            ip => SocketAddr::new(ip, self.server.port()),
        }
    }

    fn open(&self, timeout: Duration) -> io::Result<Socket> {
        if self.habit.is_tcp() {
            let stream = TcpStream::connect_timeout(&self.named(), timeout)?;
            stream.set_nodelay(true)?;
            return Ok(Socket::Tcp(stream));
        }
        let any: IpAddr =
            if self.mapped { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
        if matches!(self.habit, Habit::Connected | Habit::ConnectedKept) {
            socket.connect(self.named())?;
        }
        Ok(Socket::Udp(socket))
    }

    fn exchange(&mut self, socket: &mut Socket, timeout: Duration) -> io::Result<Ipv4Addr> {
        // No answer is taken for that to an earlier question.
        self.asked = self.asked.wrapping_add(1);
        let question = question(self.asked)?;
        match socket {
            Socket::Tcp(stream) => {
                stream.set_read_timeout(Some(timeout))?;
                let length = u16::try_from(question.len()).map_err(io::Error::other)?;
                stream.write_all(&[&length.to_be_bytes(), question.as_slice()].concat())?;
                let mut length = [0; 2];
                stream.read_exact(&mut length)?;
                let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
                stream.read_exact(&mut answer)?;
                self.came_from(stream.peer_addr()?)?;
                read(&answer, self.asked)?.ok_or_else(|| io::Error::other("an answer to another question"))
            }
            Socket::Udp(socket) => {
                let begun = Instant::now();
                match self.habit {
                    Habit::Connected | Habit::ConnectedKept => socket.send(&question)?,
                    _ => socket.send_to(&question, self.named())?,
                };
                let mut buffer = [0; 1500];
                loop {
                    let left = timeout.saturating_sub(begun.elapsed()).max(Duration::from_millis(1));
                    socket.set_read_timeout(Some(left))?;
                    let (length, source) = socket.recv_from(&mut buffer)?;
                    self.came_from(source)?;
                    if let Some(server) = read(buffer.get(..length).unwrap_or_default(), self.asked)? {
                        return Ok(server);
                    }
                }
            }
        }
    }

    /// R9: resolvers drop what does not come from whom they asked.
    fn came_from(&self, source: SocketAddr) -> io::Result<()> {
        if source == self.named() {
            return Ok(());
        }
        Err(io::Error::other(format!("an answer from {source}, not from {}", self.named())))
    }
}

fn question(id: u16) -> io::Result<Vec<u8>> {
    let mut message = Message::new(id, MessageType::Query, hickory_proto::op::OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(NAME).map_err(io::Error::other)?, RecordType::A));
    message.to_vec().map_err(io::Error::other)
}

/// The address in an answer; `None`: it is the answer to another question.
fn read(answer: &[u8], id: u16) -> io::Result<Option<Ipv4Addr>> {
    let message = Message::from_vec(answer).map_err(io::Error::other)?;
    if message.metadata.id != id {
        return Ok(None);
    }
    let address = message.answers.iter().find_map(|record| match &record.data {
        RData::A(address) => Some(address.0),
        _ => None,
    });
    match address {
        Some(address) if message.metadata.response_code == ResponseCode::NoError => Ok(Some(address)),
        _ => Err(io::Error::other(format!("no address: {message}"))),
    }
}

fn trouble(error: &io::Error) -> Trouble {
    match error.raw_os_error() {
        Some(libc::EDESTADDRREQ | libc::ECONNABORTED | libc::ENOTCONN) => Trouble::Closed,
        _ => Trouble::Failed(error.to_string()),
    }
}

/// Has the other side closed the connection?
fn was_ended(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
}
