//! Where scenarios are played.

mod kernel_world;
mod memory_world;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use abi::{Address, Hook, Key, Reason};
use agent::explain::Asker;
use anyhow::Result;
use datapath::{Env, choose, decision, resolve};
use model::{Change, NodePortAddresses, Protocol};
use testkit::Family;

use crate::scenario::Client;

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
    /// EACCES.
    Denied,
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

    /// Which addresses of this node serve node ports, and which its interfaces have.
    ///
    /// # Errors
    /// As for [`World::change`].
    fn own_addresses(&mut self, node_ports: &[NodePortAddresses], interfaces: &[IpAddr]) -> Result<()>;

    /// Who uses the sockets from now on.
    ///
    /// # Errors
    /// The maps can't be written.
    fn client(&mut self, client: &Client) -> Result<()>;

    /// So many seconds pass.
    ///
    /// # Errors
    /// Never in fact.
    fn wait(&mut self, seconds: u64) -> Result<()>;

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
fn candidates<E: Env>(env: &E, asker: &Asker, key: &Key) -> Candidates {
    let (record, found) = resolve(env, asker, key, |_| datapath::policy::NOTHING_HELD);
    let record = record.filter(|_| found.reason == Reason::Balanced).ok_or(found.reason)?;
    let first = choose(env, &record, 1, |_| false);
    if !first.is_some() {
        return Err(first.reason);
    }
    (0..record.local.len)
        .map(|offset| match decision::at(env, &record, offset).backend(env, &record) {
            (Some(backend), _) => Ok(backend.endpoint().socket_addr()),
            (None, reason) => Err(reason),
        })
        .collect()
}

/// The value of `clients` for a client with these addresses.
fn known(netns: u64, addresses: &[IpAddr]) -> abi::Client {
    let mut known = abi::Client { netns, ..abi::Client::default() };
    for address in addresses.iter().map(|ip| Address::from(*ip)) {
        match address.as_v4() {
            Some(v4) => known.v4 = v4,
            None => known.v6 = address.0,
        }
    }
    known
}
