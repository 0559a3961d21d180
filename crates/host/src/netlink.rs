//! Netlink: messages, their attributes, and dumps.
//!
//! By hand: of all that the crates for it know we need three kinds of messages, and none of their runtimes.

use std::{io, mem::size_of, os::fd::OwnedFd, time::Duration};

use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with, sockopt,
};

/// Kinds of messages, linux/netlink.h.
const NLMSG_NOOP: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

/// Flags of messages, linux/netlink.h.
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_DUMP: u16 = 0x300;

/// `struct nlmsghdr` and `struct nlattr`.
const MESSAGE_HEADER: usize = 16;
const ATTRIBUTE_HEADER: usize = 4;

/// Bits of an attribute's type that are flags (nested, network byte order).
const ATTRIBUTE_KIND: u16 = 0x3fff;

/// The kernel fills at most 32 KiB at a time unless one message needs more.
const BUFFER: usize = 64 * 1024;

/// How long the kernel may take for one answer; it answers at once.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How often a dump that changed under the kernel's hands is begun anew.
const ATTEMPTS: usize = 3;

/// `N` bytes at `offset`.
fn bytes_at<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..offset.checked_add(N)?)?.try_into().ok()
}

/// A number in the machine's byte order.
pub(crate) fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    bytes_at(bytes, offset).map(u16::from_ne_bytes)
}

/// A number in the machine's byte order.
pub(crate) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes_at(bytes, offset).map(u32::from_ne_bytes)
}

/// A number in network byte order.
pub(crate) fn u16_be_at(bytes: &[u8], offset: usize) -> Option<u16> {
    bytes_at(bytes, offset).map(u16::from_be_bytes)
}

/// The next multiple of 4.
const fn aligned(length: usize) -> usize {
    length.saturating_add(3) & !3
}

/// One message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Message<'a> {
    kind: u16,
    flags: u16,
    payload: &'a [u8],
}

/// The messages in a buffer, as it was received. One that is cut off is an error, and the last.
fn messages(mut rest: &[u8]) -> impl Iterator<Item = io::Result<Message<'_>>> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let message = (|| {
            let length = u32_at(rest, 0)? as usize;
            let (kind, flags) = (u16_at(rest, 4)?, u16_at(rest, 6)?);
            Some((Message { kind, flags, payload: rest.get(MESSAGE_HEADER..length)? }, length))
        })();
        match message {
            Some((message, length)) => {
                rest = rest.get(aligned(length)..).unwrap_or_default();
                Some(Ok(message))
            }
            None => {
                rest = &[];
                Some(Err(io::Error::new(io::ErrorKind::InvalidData, "a netlink message is cut off")))
            }
        }
    })
}

/// The attributes in a part of a message; what is cut off ends them.
pub(crate) fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(rest, 0)?);
        let kind = u16_at(rest, 2)? & ATTRIBUTE_KIND;
        let value = rest.get(ATTRIBUTE_HEADER..length)?;
        rest = rest.get(aligned(length)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The value of one attribute.
pub(crate) fn attribute(part: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(part).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

/// Appends an attribute.
#[cfg(test)]
pub(crate) fn put_attribute(part: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = ATTRIBUTE_HEADER + value.len();
    part.extend((length as u16).to_ne_bytes());
    part.extend(kind.to_ne_bytes());
    part.extend(value);
    part.resize(aligned(part.len()), 0);
}

/// A request of one message.
fn request(kind: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(MESSAGE_HEADER + payload.len());
    bytes.extend(((MESSAGE_HEADER + payload.len()) as u32).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    // Sequence and port: one request at a time on a socket of its own needs neither.
    bytes.extend([0; 2 * size_of::<u32>()]);
    bytes.extend(payload);
    bytes
}

/// What the messages of one buffer come to.
#[derive(Debug, PartialEq, Eq)]
enum Progress {
    /// There is more to come.
    More,
    /// That was all.
    Done,
    /// What is dumped changed meanwhile: something may be missing.
    Interrupted,
}

/// Hands the payloads in a received buffer to `see`.
fn take(buffer: &[u8], see: &mut impl FnMut(&[u8])) -> io::Result<Progress> {
    let mut progress = Progress::More;
    for message in messages(buffer) {
        let message = message?;
        if message.flags & NLM_F_DUMP_INTR != 0 {
            progress = Progress::Interrupted;
        }
        match message.kind {
            NLMSG_NOOP => {}
            NLMSG_ERROR | NLMSG_DONE => {
                // 0, or an errno, negative; NLMSG_DONE of old kernels has none.
                match u32_at(message.payload, 0).map_or(0, u32::cast_signed) {
                    0 if progress == Progress::Interrupted => return Ok(progress),
                    0 => return Ok(Progress::Done),
                    errno => return Err(io::Error::from_raw_os_error(errno.saturating_neg())),
                }
            }
            _ => see(message.payload),
        }
    }
    Ok(progress)
}

/// A netlink socket, of the network namespace in which it was opened.
pub(crate) struct Netlink {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

impl Netlink {
    /// Opens one, in the calling thread's namespace.
    pub(crate) fn open(protocol: Option<Protocol>) -> io::Result<Self> {
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(TIMEOUT))?;
        Ok(Self { socket, buffer: vec![0; BUFFER] })
    }

    /// Asks for everything, and hands the payload of each message to `see`. What changes meanwhile may be seen
    /// twice, or not.
    pub(crate) fn dump(&mut self, kind: u16, payload: &[u8], mut see: impl FnMut(&[u8])) -> io::Result<()> {
        for _ in 0..ATTEMPTS {
            send(&self.socket, &request(kind, NLM_F_REQUEST | NLM_F_DUMP, payload), SendFlags::empty())?;
            let mut interrupted = false;
            loop {
                let length = self.receive()?;
                match take(self.buffer.get(..length).unwrap_or_default(), &mut see)? {
                    Progress::More => {}
                    Progress::Done if interrupted => break,
                    Progress::Done => return Ok(()),
                    // It goes on to its end all the same, unless this was it.
                    Progress::Interrupted if ends(self.buffer.get(..length).unwrap_or_default()) => break,
                    Progress::Interrupted => interrupted = true,
                }
            }
        }
        Err(io::Error::from_raw_os_error(libc::EINTR))
    }

    /// Asks for one thing to be done.
    pub(crate) fn act(&mut self, kind: u16, payload: &[u8]) -> io::Result<()> {
        send(&self.socket, &request(kind, NLM_F_REQUEST | NLM_F_ACK, payload), SendFlags::empty())?;
        loop {
            let length = self.receive()?;
            if take(self.buffer.get(..length).unwrap_or_default(), &mut |_| {})? == Progress::Done {
                return Ok(());
            }
        }
    }

    /// The next datagram, whole; its length.
    fn receive(&mut self) -> io::Result<usize> {
        loop {
            // Looked at first: what does not fit would be cut off, and be gone.
            let look = RecvFlags::PEEK | RecvFlags::TRUNC;
            let length = match recv(&self.socket, self.buffer.as_mut_slice(), look) {
                Ok((_, length)) => length,
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            if length > self.buffer.len() {
                self.buffer.resize(length, 0);
            }
            match recv(&self.socket, self.buffer.as_mut_slice(), RecvFlags::empty()) {
                Ok((_, length)) => return Ok(length),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Is the end of a dump in this buffer?
fn ends(buffer: &[u8]) -> bool {
    messages(buffer).any(|message| message.is_ok_and(|message| message.kind == NLMSG_DONE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(buffer: &[u8]) -> (io::Result<Progress>, Vec<Vec<u8>>) {
        let mut seen = Vec::new();
        let progress = take(buffer, &mut |payload| seen.push(payload.to_vec()));
        (progress, seen)
    }

    #[test]
    fn messages_are_padded_to_four_bytes() {
        let mut buffer = request(20, 0, b"abcde");
        buffer.resize(aligned(buffer.len()), 0);
        buffer.extend(request(20, 0, b"f"));
        let (progress, payloads) = seen(&buffer);
        assert_eq!((progress.unwrap(), payloads), (Progress::More, vec![b"abcde".to_vec(), b"f".to_vec()]));
    }

    #[test]
    fn a_dump_ends_with_done_and_its_error() {
        let mut buffer = request(20, 0, b"abcd");
        buffer.extend(request(NLMSG_DONE, 0, &0i32.to_ne_bytes()));
        assert_eq!(seen(&buffer).0.unwrap(), Progress::Done);
        assert!(ends(&buffer) && !ends(&request(20, 0, b"abcd")));
        assert_eq!(seen(&request(NLMSG_DONE, 0, b"")).0.unwrap(), Progress::Done);
        for kind in [NLMSG_ERROR, NLMSG_DONE] {
            let error = seen(&request(kind, 0, &(-libc::ENOENT).to_ne_bytes())).0.unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
        }
        // An acknowledgement.
        assert_eq!(seen(&request(NLMSG_ERROR, 0, &[0; 20])).0.unwrap(), Progress::Done);
        assert_eq!(seen(&request(NLMSG_NOOP, 0, b"")).0.unwrap(), Progress::More);
    }

    #[test]
    fn an_interrupted_dump_is_told_of() {
        let mut buffer = request(20, NLM_F_DUMP_INTR, b"abcd");
        assert_eq!(seen(&buffer).0.unwrap(), Progress::Interrupted);
        buffer.extend(request(NLMSG_DONE, 0, &0i32.to_ne_bytes()));
        assert_eq!(seen(&buffer).0.unwrap(), Progress::Interrupted);
        assert_eq!(seen(&request(NLMSG_DONE, NLM_F_DUMP_INTR, &[0; 4])).0.unwrap(), Progress::Interrupted);
    }

    #[test]
    fn what_is_cut_off_is_an_error() {
        let whole = request(20, 0, b"abcdefgh");
        for length in 1..whole.len() {
            let (progress, payloads) = seen(&whole[..length]);
            assert!(progress.is_err() && payloads.is_empty(), "{length}");
        }
        // Shorter than its own header.
        let mut short = request(20, 0, b"");
        short[0] = 8;
        assert!(seen(&short).0.is_err());
    }

    #[test]
    fn attributes_are_found_also_flagged_and_cut_off_ones_end_them() {
        let mut part = Vec::new();
        put_attribute(&mut part, 3, b"abc");
        put_attribute(&mut part, 4 | 0x8000, b"d");
        assert_eq!(part.len(), 16);
        assert_eq!(attribute(&part, 3), Some(&b"abc"[..]));
        assert_eq!(attribute(&part, 4), Some(&b"d"[..]));
        assert_eq!(attribute(&part, 5), None);
        assert_eq!(attribute(&part[..12], 4), None);
        // A length of 0 must not go on for ever.
        assert_eq!(attributes(&[0; 8]).count(), 0);
    }
}
