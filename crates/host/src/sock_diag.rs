//! TCP and UDP sockets as the kernel lists them (`NETLINK_SOCK_DIAG`), and closing them.
//!
//! A dump shows what is in the kernel's tables of one network namespace: sockets that are bound (UDP) or bound,
//! listening or connected (TCP). One that was never bound, or was disconnected, is in none.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use rustix::net::netlink;

use crate::{
    error::{Error, Result},
    netlink::{Netlink, u16_be_at, u32_at},
};

/// Kinds of messages, linux/sock_diag.h.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;

/// `struct inet_diag_sockid`, and where it is in `struct inet_diag_msg`, which is so long.
const ID: usize = 48;
const ID_IN_ANSWER: usize = 4;
const ANSWER: usize = 72;

/// Protocol of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// TCP, also that below MPTCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Transport {
    /// IP protocol number.
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => libc::IPPROTO_TCP as u8,
            Self::Udp => libc::IPPROTO_UDP as u8,
        }
    }
}

/// State of a socket (include/net/tcp_states.h); a UDP socket is `ESTABLISHED` while it is connected, else `CLOSE`.
pub mod state {
    /// Connected.
    pub const ESTABLISHED: u8 = 1;
    /// A connection that is being opened.
    pub const SYN_SENT: u8 = 2;
    /// We have closed.
    pub const FIN_WAIT1: u8 = 4;
    /// We have closed, and the peer knows.
    pub const FIN_WAIT2: u8 = 5;
    /// No connection.
    pub const CLOSE: u8 = 7;
    /// The peer has closed.
    pub const CLOSE_WAIT: u8 = 8;
    /// Both have closed, and the peer does not know yet.
    pub const LAST_ACK: u8 = 9;
    /// Takes connections.
    pub const LISTEN: u8 = 10;
    /// Both have closed at once.
    pub const CLOSING: u8 = 11;
}

/// One socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InetSocket {
    /// What the kernel knows it by, cookie included.
    id: [u8; ID],
    /// `AF_INET` or `AF_INET6`.
    family: u8,
    /// Its protocol.
    pub transport: Transport,
    /// One of [`state`], and others.
    pub state: u8,
    /// Inode of the socket; 0 once no process has it.
    pub inode: u32,
    /// This end.
    pub local: SocketAddr,
    /// The other end; unspecified where it is not connected.
    pub remote: SocketAddr,
}

impl InetSocket {
    /// Its cookie, as `SO_COOKIE` and `bpf_get_socket_cookie` give it.
    pub fn cookie(&self) -> u64 {
        let word = |offset| u64::from(u32_at(&self.id, offset).unwrap_or_default());
        word(40) | word(44) << 32
    }

    /// Reads `struct inet_diag_msg`.
    fn parse(transport: Transport, message: &[u8]) -> Option<Self> {
        let (fixed, _) = message.split_at_checked(ANSWER)?;
        let [family, state, ..] = *fixed else { return None };
        let id: [u8; ID] = fixed.get(ID_IN_ANSWER..ID_IN_ANSWER + ID)?.try_into().ok()?;
        let end = |port, address: usize| {
            let octets: [u8; 16] = id.get(address..address + 16)?.try_into().ok()?;
            let ip = match i32::from(family) {
                libc::AF_INET => {
                    let [a, b, c, d, ..] = octets;
                    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
                }
                // Of an IPv6 socket that talks IPv4, in one form with the others.
                libc::AF_INET6 => Ipv6Addr::from(octets).to_canonical(),
                _ => return None,
            };
            Some(SocketAddr::new(ip, u16_be_at(&id, port)?))
        };
        Some(Self {
            id,
            family,
            transport,
            state,
            inode: u32_at(fixed, 68)?,
            local: end(0, 4)?,
            remote: end(2, 20)?,
        })
    }
}

/// `struct inet_diag_req_v2`.
fn request(family: u8, transport: Transport, states: u32, id: &[u8; ID]) -> Vec<u8> {
    let mut request = vec![family, transport.number(), 0, 0];
    request.extend(states.to_ne_bytes());
    request.extend(id);
    request
}

/// A connection to the kernel's lists of sockets, of the network namespace in which it was opened.
pub struct SockDiag(Netlink);

impl SockDiag {
    /// Opens one, in the calling thread's namespace.
    pub fn open() -> Result<Self> {
        let netlink = Netlink::open(Some(netlink::SOCK_DIAG));
        netlink.map(Self).map_err(|source| error("socket(NETLINK_SOCK_DIAG)", "sockets", source))
    }

    /// Lists the sockets of one protocol, IPv4 and IPv6, that are in one of `states` (bits, `1 << state`).
    pub fn list(&mut self, transport: Transport, states: u32, mut see: impl FnMut(InetSocket)) -> Result<()> {
        for family in [libc::AF_INET, libc::AF_INET6] {
            let request = request(family as u8, transport, states, &[0; ID]);
            let mut odd = false;
            let listed = self.0.dump(SOCK_DIAG_BY_FAMILY, &request, |message| {
                match InetSocket::parse(transport, message) {
                    Some(socket) => see(socket),
                    None => odd = true,
                }
            });
            let listed = match listed {
                Ok(()) if odd => Err(io::Error::new(io::ErrorKind::InvalidData, "an answer is cut off")),
                listed => listed,
            };
            listed.map_err(|source| error("SOCK_DIAG_BY_FAMILY", "sockets", source))?;
        }
        Ok(())
    }

    /// Ends a socket's connection under its owner. TCP is reset. UDP is disconnected: a thread that waits for a datagram
    /// wakes up, receiving fails once with ECONNABORTED, and sending without an address with EDESTADDRREQ until it
    /// connects again. `false` = it is not there any more, or no longer as it was listed.
    pub fn destroy(&mut self, socket: &InetSocket) -> Result<bool> {
        let request = request(socket.family, socket.transport, u32::MAX, &socket.id);
        match self.0.act(SOCK_DESTROY, &request) {
            Ok(()) => Ok(true),
            // ESTALE: the cookie is another socket's.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESTALE)) => Ok(false),
            Err(source) => Err(error("SOCK_DESTROY", &format!("{}", socket.remote), source)),
        }
    }
}

fn error(call: &'static str, object: &str, source: io::Error) -> Error {
    let next = match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => "it takes root, or CAP_NET_ADMIN",
        Some(libc::EOPNOTSUPP) => {
            "this kernel can't: CONFIG_INET_DIAG_DESTROY and CONFIG_INET_UDP_DIAG it takes"
        }
        Some(libc::ENOENT) => "`modprobe inet_diag tcp_diag udp_diag`",
        _ => "`ss -tuna` asks the kernel for the same",
    };
    Error::Call { call, object: object.to_owned(), source, next }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A `struct inet_diag_msg` with recognizable fields.
    fn answer(family: i32) -> Vec<u8> {
        let mut message = vec![family as u8, state::ESTABLISHED, 0, 0];
        message.extend(4000u16.to_be_bytes());
        message.extend(80u16.to_be_bytes());
        for last in [1, 2] {
            let octets = match family {
                libc::AF_INET => [10, 0, 0, last, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
                _ => Ipv4Addr::new(10, 0, 0, last).to_ipv6_mapped().octets(),
            };
            message.extend(octets);
        }
        message.extend(7u32.to_ne_bytes());
        message.extend(0x55u32.to_ne_bytes());
        message.extend(0x1u32.to_ne_bytes());
        message.extend([0; 16]);
        message.extend(1234u32.to_ne_bytes());
        message
    }

    #[test]
    fn both_families_are_read() {
        for family in [libc::AF_INET, libc::AF_INET6] {
            let message = answer(family);
            assert_eq!(message.len(), ANSWER);
            let socket = InetSocket::parse(Transport::Udp, &message).unwrap();
            assert_eq!(socket.cookie(), 0x1_0000_0055);
            assert_eq!((socket.state, socket.inode), (state::ESTABLISHED, 1234));
            assert_eq!(socket.local, "10.0.0.1:4000".parse().unwrap());
            assert_eq!(socket.remote, "10.0.0.2:80".parse().unwrap());
            // Closing it names the very id, in its own family.
            let request = request(socket.family, socket.transport, u32::MAX, &socket.id);
            assert_eq!((request.len(), i32::from(request[0])), (56, family));
            assert_eq!(request[8..], message[4..52]);
        }
    }

    #[test]
    fn what_is_cut_off_or_of_no_family_is_none() {
        let message = answer(libc::AF_INET);
        for length in 0..ANSWER {
            assert_eq!(InetSocket::parse(Transport::Tcp, &message[..length]), None);
        }
        assert_eq!(InetSocket::parse(Transport::Tcp, &answer(libc::AF_UNIX)), None);
    }
}
