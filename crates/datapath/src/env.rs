//! What a decision looks at.

use abi::{
    Address, Affinity, Backend, Client, Endpoint, Key, Limit, Pairs, Policy, Record, Settings, Slot, Space,
    lines::{Line, Shape},
    slot::Ids,
};
use core::ops::Deref;

use crate::{
    affinity,
    destination::{self, Found},
    frontends, policy,
    sockets::{self, Kept, PAIR_WORDS},
};

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
    /// What `frontends4` (`v4`) or `frontends6` is like.
    fn shape(&self, v4: bool) -> Shape;
    /// One of its lines.
    fn line(&self, v4: bool, number: u32) -> Option<Self::Ref<'_, Line>>;
    /// `records`.
    fn record(&self, index: u32) -> Option<Self::Ref<'_, Record>>;
    /// `lists`: the element at a position.
    fn listed(&self, position: u32) -> Option<Self::Ref<'_, Backend>>;
    /// `backends`.
    fn backend(&self, index: u32) -> Option<Self::Ref<'_, Backend>>;
    /// `spaces`.
    fn space(&self, index: u32) -> Option<Self::Ref<'_, Space>>;
    /// `addresses4` or `addresses6`: what an address is, [`abi::space::address_use`]; 0 = nothing that is known.
    fn uses(&self, address: &Address) -> u32;
    /// `clients`: the addresses of a network namespace.
    fn client(&self, netns: u64) -> Option<Self::Ref<'_, Client>>;
    /// `sources`: may this address use the load balancer VIPs of a service port?
    fn admits(&self, service: u32, address: &Address) -> bool;
    /// `affinity`: what is remembered of a client and a service port.
    fn affinity(&self, client: u64, service: u32) -> Option<Self::Ref<'_, Affinity>>;
    /// Puts an entry into `affinity`, unless there is one for this client and service port; is there one now, this or
    /// another?
    fn remember(&self, client: u64, service: u32, ids: Ids, now: u64) -> bool;
    /// `limits`: when the last connections of a policy were that takes so many a second; in halves.
    fn limit(&self, policy: [u32; 2], limit: u32) -> Option<Self::Ref<'_, Limit>>;
    /// `policies`: what is counted of a policy, in halves.
    fn policy(&self, policy: [u32; 2]) -> Option<Self::Ref<'_, Policy>>;
    /// `exempt`: is this client ([`abi::policy::ExemptKey`]) one of a policy's own backends?
    fn exempts(&self, policy: [u32; 2], client: u64) -> bool;
    /// Nanoseconds of CLOCK_MONOTONIC, to the kernel's tick.
    fn now(&self) -> u64;
    /// The same, to the nanosecond, which costs more.
    fn now_exactly(&self) -> u64;
    /// 32 random bits.
    fn random(&self) -> u32;

    /// [`frontends::look`].
    #[inline(always)]
    fn look(&self, key: &Key) -> (u32, bool)
    where
        Self: Sized,
    {
        frontends::look(self, key)
    }
    /// [`frontends::look_further`]; out of line in the kernel, as [`Env::unusual`].
    fn look_further(&self, key: &Key) -> u32
    where
        Self: Sized,
    {
        frontends::look_further(self, key)
    }
    /// [`destination::unusual`] for a client of this network namespace. In the kernel a function that the verifier checks once, by itself: numbers go in, a
    /// number comes out. Inlined, its ways would multiply with those of all that follows.
    fn unusual(&self, netns: u64, key: &Key) -> Found
    where
        Self: Sized,
    {
        destination::unusual(self, netns, key)
    }
    /// [`policy::redirect`]; out of line in the kernel, as [`Env::unusual`].
    fn redirect<C: Caller>(&self, caller: &C, key: &Key) -> Found
    where
        Self: Sized,
    {
        policy::redirect(self, caller, key)
    }
    /// [`policy::stay`]; out of line in the kernel, as [`Env::unusual`].
    fn stay(&self, key: &Key, held: u32) -> Found
    where
        Self: Sized,
    {
        policy::stay(self, key, held)
    }
    /// [`destination::find`].
    #[inline(always)]
    fn find(&self, key: &Key) -> Found
    where
        Self: Sized,
    {
        destination::find(self, key)
    }
    /// [`policy::stands_back`]; out of line in the kernel, as [`Env::unusual`].
    fn stands_back<C: Caller>(&self, caller: &C, record: u32) -> u8
    where
        Self: Sized,
    {
        policy::stands_back(self, caller, record)
    }
    /// [`limit::take`] for the policy of a record; out of line in the kernel, as [`Env::unusual`].
    fn take(&self, record: u32) -> bool
    where
        Self: Sized,
    {
        policy::take(self, record)
    }
    /// [`affinity::recall`]; out of line in the kernel, as [`Env::unusual`].
    fn recall(&self, client: u64, record: u32) -> Ids
    where
        Self: Sized,
    {
        affinity::recall(self, client, record)
    }
    /// [`affinity::keep`]; out of line in the kernel, as [`Env::unusual`].
    fn keep(&self, client: u64, record: u32, backend: u32) -> Ids
    where
        Self: Sized,
    {
        affinity::keep(self, client, record, backend)
    }
}

/// Who asks.
pub trait Caller {
    /// Cookie of the network namespace of its socket: unique for the life of the machine.
    fn netns(&self) -> u64;
    /// Is it in an excluded cgroup, or below one?
    fn is_excluded(&self) -> bool;
    /// Is it in a cgroup, or below one, of the policy's own backends (P7)? The policy in halves.
    fn is_backend_of(&self, policy: [u32; 2]) -> bool;
}

/// The socket that asks, and where what is known of it is kept.
pub trait Socket: Caller {
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
    /// [`sockets::remember_stored`]; out of line in the kernel, as [`Env::unusual`].
    fn remember_stored(&self, words: &[u64; PAIR_WORDS]) -> Kept
    where
        Self: Sized,
    {
        sockets::remember_stored(self, words)
    }
    /// Is it connected now? (`connect()` to AF_UNSPEC undoes that without running a hook.)
    fn is_connected(&self) -> bool;
    /// Is it connected to this IPv4 address and port now, as the kernel sees it (the backend, not the VIP)?
    fn is_connected_to(&self, endpoint: &Endpoint) -> bool;
}
