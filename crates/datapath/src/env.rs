//! What a decision looks at.

use abi::{Backend, Endpoint, Key, Pairs, Record, Settings, Slot};
use core::ops::Deref;

/// The tables. Three implementations: the bpf maps in the kernel, [`crate::memory`], and the live pinned maps
/// read from user space.
///
/// Values come by reference where the kernel has them in place: an `Option` of a larger value would leave its
/// undefined payload in registers, and the verifier refuses to see those spilled.
pub trait Env {
    /// A reference into a table, or what stands for one.
    type Ref<'a, T: 'a>: Deref<Target = T>
    where
        Self: 'a;
    /// The agent's settings.
    fn settings(&self) -> Settings;
    /// `frontends4` or `frontends6`: the record index of a frontend.
    fn frontend(&self, key: &Key) -> Option<u32>;
    /// `records`.
    fn record(&self, index: u32) -> Option<Self::Ref<'_, Record>>;
    /// `lists`: the backend index at a position.
    fn listed(&self, position: u32) -> Option<u32>;
    /// `backends`.
    fn backend(&self, index: u32) -> Option<Self::Ref<'_, Backend>>;
    /// 32 random bits.
    fn random(&self) -> u32;
}

/// The socket that asks, and where what is known of it is kept.
pub trait Socket {
    /// Socket cookie: unique for the life of the machine.
    fn cookie(&self) -> u64;
    /// The slot at the cookie's index, whoever owns it.
    fn slot(&self) -> Option<&Slot>;
    /// The slot of the previous layout, while a program replacement carries sockets over.
    fn previous_slot(&self) -> Option<&Slot>;
    /// The socket's storage, if it has one.
    fn stored(&self) -> Option<&Pairs>;
    /// The socket's storage, made if need be; `None` if there is no memory.
    fn store(&self) -> Option<&Pairs>;
    /// Is it connected now? (`connect()` to AF_UNSPEC undoes that without running a hook.)
    fn is_connected(&self) -> bool;
    /// Is it connected to this IPv4 address and port now, as the kernel sees it (the backend, not the VIP)?
    fn is_connected_to(&self, endpoint: &Endpoint) -> bool;
}
