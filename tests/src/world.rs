//! Where scenarios are played.

mod kernel_world;
mod memory_world;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use abi::{Hook, Key, Reason};
use anyhow::Result;
use datapath::{Env, choose, decision, look_up};
use model::{Change, Protocol};
use testkit::Family;

pub use self::{kernel_world::KernelWorld, memory_world::MemoryWorld};

/// What became of a call, as the application sees it, and who really answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Somebody answered.
    Answered {
        /// Where it really listens.
        backend: SocketAddr,
        /// What `getpeername()` and `recvfrom()` say.
        shown: SocketAddr,
    },
    /// ECONNREFUSED.
    Refused,
    /// EHOSTUNREACH.
    Unreachable,
    /// ENOBUFS.
    NoMemory,
    /// It was left alone, and there is no way there (ENETUNREACH).
    Nobody,
}

/// How often each decision was made, by hook, IPv6, and reason.
pub type Decisions = BTreeMap<(&'static str, bool, &'static str), u64>;

fn count(decisions: &mut Decisions, (hook, v6, reason): (Hook, bool, Reason), times: u64) {
    *decisions.entry((hook.name(), v6, reason.name())).or_default() += times;
}

/// The backends that a new connection may get, or why there are none.
pub type Candidates = Result<BTreeSet<SocketAddr>, Reason>;

/// A node with its tables, and applications on it.
pub trait World {
    /// Objects change, and the tables follow.
    ///
    /// # Errors
    /// Something is wrong with the tables.
    fn change(&mut self, changes: Vec<Change>) -> Result<()>;

    /// The sources have synced.
    ///
    /// # Errors
    /// As for [`World::change`].
    fn sync(&mut self) -> Result<()>;

    /// The agent starts anew: it takes the tables over, knows no objects yet, and has not synced.
    ///
    /// # Errors
    /// As for [`World::change`].
    fn restart(&mut self) -> Result<()>;

    /// Somebody listens there, besides all backends of all services.
    ///
    /// # Errors
    /// The address can't be had.
    fn listen(&mut self, protocol: Protocol, address: SocketAddr) -> Result<()>;

    /// A new socket.
    ///
    /// # Errors
    /// The kernel refuses.
    fn open(&mut self, protocol: Protocol, family: Family) -> Result<SocketId>;

    /// It is closed.
    fn close(&mut self, socket: SocketId);

    /// `connect()`, and one exchange over the connection.
    ///
    /// # Errors
    /// What no application should ever see.
    fn connect(&mut self, socket: SocketId, to: SocketAddr) -> Result<Outcome>;

    /// One exchange over UDP: over the connection, or to an address.
    ///
    /// # Errors
    /// What no application should ever see.
    fn ask(&mut self, socket: SocketId, to: Option<SocketAddr>) -> Result<Outcome>;

    /// `connect()` to AF_UNSPEC.
    ///
    /// # Errors
    /// The kernel refuses.
    fn hang_up(&mut self, socket: SocketId) -> Result<()>;

    /// Decisions so far.
    ///
    /// # Errors
    /// They can't be read.
    fn decisions(&self) -> Result<Decisions>;

    /// What the tables say for an address.
    ///
    /// # Errors
    /// They can't be read.
    fn candidates(&self, key: &Key) -> Result<Candidates>;
}

/// A socket of a world.
pub type SocketId = usize;

/// The key of an address.
pub fn key(protocol: Protocol, address: SocketAddr) -> Key {
    let protocol = match protocol {
        Protocol::Tcp => abi::TCP,
        Protocol::Udp => abi::UDP,
    };
    Key { endpoint: address.into(), protocol }
}

/// Walks the list of a frontend.
fn candidates<E: Env>(env: &E, key: &Key) -> Candidates {
    let (record, reason) = look_up(env, key);
    let record = record.ok_or(reason)?;
    let first = choose(env, &record, 1, |_| false);
    if !first.is_some() {
        return Err(first.reason);
    }
    (0..record.local.len)
        .map(|offset| decision::at(env, &record, offset))
        .map(|choice| if choice.is_some() { Ok(choice.endpoint.socket_addr()) } else { Err(choice.reason) })
        .collect()
}
