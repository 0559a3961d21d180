//! Who asks: the addresses of network namespaces, and which backend a client keeps.
//!
//! ```text
//! clients    network namespace -> Client         R22: a client's address
//! sources    (service port, prefix) -> 1         R22: which may use its load balancer VIPs; an LPM trie
//! affinity   (client, service port) -> Affinity  R23
//! ```

use crate::{Address, Word};
use bytemuck::{Pod, Zeroable};

/// Value of `clients`. The key comes first, as in [`crate::space::Use4`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Client {
    /// Cookie of the network namespace: the key, repeated.
    pub netns: u64,
    /// Its IPv6 address, network byte order; zero = none.
    pub v6: [u32; 4],
    /// Its IPv4 address, network byte order; zero = none.
    pub v4: u32,
    /// Always 0.
    pub pad: u32,
}

/// Key of `sources`, as an LPM trie has it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
pub struct SourceKey {
    /// How many of the bits that follow count: 32 for the service port, and those of the prefix (IPv4: 96 more).
    pub bits: u32,
    /// Service port id.
    pub service: u32,
    /// Address, network byte order, IPv4 as mapped.
    pub address: [u32; 4],
}

impl SourceKey {
    /// What is looked up: the whole address.
    pub const WHOLE: u32 = 32 + 128;

    /// Is the address in this prefix?
    pub fn covers(&self, address: &Address) -> bool {
        let bits = self.bits.saturating_sub(32).min(128);
        let mask = if bits == 0 { 0 } else { u128::MAX << (128 - bits) };
        let number = |words: [u32; 4]| u128::from_be_bytes(bytemuck::cast(words));
        number(address.0) & mask == number(self.address) & mask
    }
}

/// Key of `affinity`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
pub struct AffinityKey {
    /// The client: the cookie of its network namespace.
    pub client: u64,
    /// Service port id: not the VIP, so that all VIPs of a service agree.
    pub service: u32,
    /// Always 0.
    pub pad: u32,
}

/// Value of `affinity`, shared by all CPUs. The key comes first, as in [`crate::space::Use4`].
#[repr(C)]
#[derive(Default)]
#[cfg_attr(not(target_arch = "bpf"), derive(Debug))]
pub struct Affinity {
    /// The client.
    pub client: Word,
    /// Service port id.
    pub service: Word,
    /// Backend index and generation: [`crate::slot::Ids`].
    pub ids: Word,
    /// When a connection was last made, nanoseconds of CLOCK_MONOTONIC.
    pub used: Word,
}

/// The words of an [`Affinity`], copied.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct AffinityWords {
    /// As in [`Affinity`].
    pub client: u64,
    /// As in [`Affinity`].
    pub service: u64,
    /// As in [`Affinity`].
    pub ids: u64,
    /// As in [`Affinity`].
    pub used: u64,
}

const _: () = assert!(size_of::<Client>() == 32);
const _: () = assert!(size_of::<SourceKey>() == 24);
const _: () = assert!(size_of::<AffinityKey>() == 16);
const _: () = assert!(size_of::<Affinity>() == size_of::<AffinityWords>());
