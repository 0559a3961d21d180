//! The table: frontends, the records that say what to do, lists of backends, and backends.
//!
//! ```text
//! frontends4/6   key -> record index             a hash table of our own: `lines`
//! records        index -> Record                 immutable while a frontend points to it
//! lists          position -> Backend             ranges of one flat array: what to choose from
//! backends       index -> Backend                what sockets and clients remember is an index here
//! ```
//!
//! A frontend's entry holds no key. The record repeats it: who finds another key has found another frontend that looks
//! alike. Records, ranges and backends are reused only after a grace period, so that whoever has read an index may read
//! what it leads to.

use crate::{Address, Endpoint};
use bytemuck::{Pod, Zeroable};

/// What a connection asks for: address, port, protocol. Looked up in the table of the address' family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The address and port.
    pub endpoint: Endpoint,
    /// IP protocol number, and above it one of [`level`].
    pub protocol: u8,
}

/// Levels of a frontend, in the two highest bits of [`Key::protocol`]. What applications ask for is at the level 0: the record
/// there is that of the first who claims the frontend. Below a policy there is what would decide without it (P1, P5).
pub mod level {
    /// What decides first, whatever it is.
    pub const FIRST: u8 = 0;
    /// A BalancingPolicy below a LocalRedirectPolicy.
    pub const BALANCING: u8 = 0x40;
    /// A service below a policy.
    pub const SERVICE: u8 = 0x80;
    /// All of their bits: no protocol that is balanced has them.
    pub const MASK: u8 = 0xc0;
}

impl Key {
    /// The same frontend at a level.
    #[inline(always)]
    pub const fn at(self, level: u8) -> Self {
        Self { protocol: self.transport() | level, ..self }
    }

    /// One of [`level`].
    #[inline(always)]
    pub const fn level(&self) -> u8 {
        self.protocol & level::MASK
    }

    /// The IP protocol number.
    #[inline(always)]
    pub const fn transport(&self) -> u8 {
        self.protocol & !level::MASK
    }

    /// Is the address an IPv4 one?
    #[inline(always)]
    pub const fn is_v4(&self) -> bool {
        self.endpoint.address.as_v4().is_some()
    }
}

/// A range of the array `lists`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
pub struct Range {
    /// First position.
    pub start: u32,
    /// How many.
    pub len: u32,
}

/// What to do for one frontend. 64 bytes: one cache line.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Record {
    /// The frontend's address: the key, repeated.
    pub address: Address,
    /// The frontend's port in network byte order: the key, repeated.
    pub port_be: u16,
    /// The frontend's IP protocol number and level: the key, repeated.
    pub protocol: u8,
    /// One of [`mode`].
    pub mode: u8,
    /// Bits of [`record_flag`].
    pub flags: u32,
    /// Id of the service port, or policy port; key of `names`.
    pub service: u32,
    /// Backends for connections that begin on this node.
    pub local: Range,
    /// R23: for how many seconds a client keeps its backend; 0 = no affinity.
    pub affinity: u32,
    /// P6: how many connections a second the policy takes; 0 = any number.
    pub limit: u32,
    /// The policy ([`crate::policy::number`]), in halves; 0 = a service.
    pub policy: [u32; 2],
    /// Always 0; room for the list of outside traffic.
    pub pad: [u32; 3],
}

impl Record {
    /// The key that this record answers to.
    #[inline(always)]
    pub const fn key(&self) -> Key {
        Key { endpoint: Endpoint { address: self.address, port_be: self.port_be }, protocol: self.protocol }
    }

    /// The [`backend_flag`] that marks the members of the list that `local` is.
    #[inline(always)]
    pub const fn member_flag(&self) -> u16 {
        if self.mode == mode::CLUSTER_IP { backend_flag::INTERNAL } else { backend_flag::CLUSTER }
    }
}

/// Bits of [`Record::flags`].
pub mod record_flag {
    /// Some endpoint exists somewhere (R5 `has_any`): an empty list then means "none here" (R11), not "none
    /// at all" (R10).
    pub const HAS_ANY: u32 = 1;
    /// The external traffic policy is Local: another node's address is left to that node (R14).
    pub const EXTERNAL_LOCAL: u32 = 2;
    /// Only clients whose address is in `sources` may use it (R22).
    pub const RESTRICTED: u32 = 4;
    /// It is a policy's: what is at deeper levels decides where it does not (P5).
    pub const POLICY: u32 = 8;
}

/// Values of [`Record::mode`]: what kind of frontend it is.
pub mod mode {
    /// A cluster IP.
    pub const CLUSTER_IP: u8 = 1;
    /// A node port. Its address is the unspecified one of the family: it counts for every address that
    /// `addresses` says is a node's (R14).
    pub const NODE_PORT: u8 = 2;
    /// A load balancer VIP.
    pub const LOAD_BALANCER: u8 = 3;
    /// An external IP.
    pub const EXTERNAL_IP: u8 = 4;
    /// A LocalRedirectPolicy's, whatever the address is.
    pub const LOCAL_REDIRECT: u8 = 5;
    /// A BalancingPolicy's, whatever the address is.
    pub const BALANCING: u8 = 6;

    /// As events and listings name it.
    pub const fn name(mode: u8) -> &'static str {
        match mode {
            CLUSTER_IP => "ClusterIP",
            NODE_PORT => "NodePort",
            LOAD_BALANCER => "LoadBalancer",
            EXTERNAL_IP => "ExternalIP",
            LOCAL_REDIRECT => "LocalRedirect",
            BALANCING => "Balancing",
            _ => "unknown",
        }
    }
}

/// One endpoint of one service port. 32 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Backend {
    /// Address; IPv4 as mapped.
    pub address: Address,
    /// Port in network byte order.
    pub port_be: u16,
    /// Bits of [`backend_flag`].
    pub flags: u16,
    /// Id of the service port that it belongs to.
    pub service: u32,
    /// Goes up each time that the index is given to another endpoint; index and generation are never reused
    /// together.
    pub generation: u32,
    /// In an element of `lists`: its index in `backends`. There: 0.
    pub index: u32,
}

impl Backend {
    /// As an element of `lists`, being `backends`' element at this index. What may change of it is not there: flags.
    #[inline(always)]
    pub const fn listed(self, index: u32) -> Self {
        Self { flags: 0, index, ..self }
    }

    /// Where it listens.
    #[inline(always)]
    pub const fn endpoint(&self) -> Endpoint {
        Endpoint { address: self.address, port_be: self.port_be }
    }
}

/// Bits of [`Backend::flags`].
pub mod backend_flag {
    /// The index is in use.
    pub const LIVE: u16 = 1;
    /// R4 *usable*: what is on it may stay on it.
    pub const USABLE: u16 = 2;
    /// It is terminating, and was chosen because nothing better is left (R5).
    pub const TERMINATING: u16 = 4;
    /// It is in the list for cluster IPs now (R23: what a client remembers must be in the list).
    pub const INTERNAL: u16 = 8;
    /// It is in the list for node ports, load balancer VIPs and external IPs now.
    pub const CLUSTER: u16 = 16;
    /// All of them.
    pub const ALL: u16 = LIVE | USABLE | TERMINATING | INTERNAL | CLUSTER;
}

const _: () = assert!(size_of::<Record>() == 64);
const _: () = assert!(size_of::<Backend>() == 32);
