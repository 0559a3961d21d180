//! The rare parts of a decision, as functions of their own.
//!
//! They are global functions in the verifier's sense (kernel Documentation/bpf/verifier.rst; kernel 5.6): each is checked
//! once, by itself, with arguments of which nothing is known, and callers are checked with a result of which nothing is
//! known. Inlined, their ways would multiply with all that follows. Only numbers go in and out.

use crate::{maps, socket::HookSocket, tables::Tables};
use abi::{Address, Endpoint, Key, Reason, feature, settings::DEEPEST_EXCLUDED};
use aya_ebpf::{
    bindings::bpf_sock_addr, helpers::generated::bpf_get_current_ancestor_cgroup_id,
    programs::SockAddrContext,
};
use core::mem::transmute;
use datapath::{
    Found, affinity, destination, frontends,
    sockets::{self, Kept, PAIR_WORDS},
};

/// A key: two words of the address, then port and protocol.
#[inline(always)]
fn key(high: u64, low: u64, port_protocol: u64) -> Key {
    let address = Address([high as u32, (high >> 32) as u32, low as u32, (low >> 32) as u32]);
    let endpoint = Endpoint { address, port_be: port_protocol as u16 };
    Key { endpoint, protocol: (port_protocol >> 16) as u8 }
}

/// The numbers of a [`key`].
#[inline(always)]
fn numbers(key: &Key) -> [u64; 3] {
    let [a, b, c, d] = key.endpoint.address.0;
    let port_protocol = u64::from(key.endpoint.port_be) | u64::from(key.protocol) << 16;
    [u64::from(a) | u64::from(b) << 32, u64::from(c) | u64::from(d) << 32, port_protocol]
}

/// [`destination::unusual`] for a [`key`]; out: reason, and record.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn unusual(netns: u64, high: u64, low: u64, port_protocol: u64) -> u64 {
    let found = destination::unusual(&Tables, netns, &key(high, low, port_protocol));
    found.reason as u64 | u64::from(found.record) << 32
}

/// Calls [`unusual`].
#[inline(always)]
pub fn call_unusual(netns: u64, key: &Key) -> Found {
    let [high, low, port_protocol] = numbers(key);
    let word = unusual(netns, high, low, port_protocol);
    let last = Reason::ALL.len() as u8 - 1;
    // SAFETY: reasons are numbered from 0 without a gap. Not by comparing: the verifier would follow each outcome to the
    // end.
    let reason = unsafe { transmute::<u8, Reason>((word as u8).min(last)) };
    Found { reason, record: (word >> 32) as u32 }
}

/// [`frontends::look_further`] for a [`key`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn look_further(high: u64, low: u64, port_protocol: u64) -> u64 {
    u64::from(frontends::look_further(&Tables, &key(high, low, port_protocol)))
}

/// Calls [`look_further`].
#[inline(always)]
pub fn call_look_further(key: &Key) -> u32 {
    let [high, low, port_protocol] = numbers(key);
    look_further(high, low, port_protocol) as u32
}

/// [`affinity::recall`]; out: [`Ids`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn recall(client: u64, record: u64) -> u64 {
    affinity::recall(&Tables, client, record as u32).pack()
}

/// [`affinity::keep`]; out: [`Ids`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn keep(client: u64, record: u64, backend: u64) -> u64 {
    affinity::keep(&Tables, client, record as u32, backend as u32).pack()
}

/// What [`remember_stored`] gives for [`Kept::Yes`].
pub const YES: u64 = 1;
/// What [`remember_stored`] gives for [`Kept::Evicting`].
pub const EVICTING: u64 = 2;

/// [`sockets::remember_stored`], with the context and the words in memory; out: [`YES`], [`EVICTING`], or neither.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn remember_stored(ctx: *mut bpf_sock_addr, words: *const [u64; PAIR_WORDS]) -> u64 {
    // SAFETY: memory of the caller, which the verifier has seen to be that long; it may be null for all that it knows
    // here.
    let Some(words) = (unsafe { words.as_ref() }) else { return 0 };
    let ctx = SockAddrContext::new(ctx);
    match sockets::remember_stored(&HookSocket::new(&ctx), words) {
        Kept::Yes => YES,
        Kept::Evicting => EVICTING,
        Kept::No => 0,
    }
}

/// Is the current process in an excluded cgroup? Its cgroup's ancestors are asked for, since what is excluded is a
/// cgroup and all below it, also those that are made later. 0: no.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn is_excluded() -> u64 {
    // For the verifier, which in this function does not know that the caller has asked.
    if maps::features() & feature::ANCESTOR == 0 {
        return 0;
    }
    for level in 0..=DEEPEST_EXCLUDED {
        // SAFETY: a helper with a number; 0 where the current cgroup is not that deep.
        let cgroup = unsafe { bpf_get_current_ancestor_cgroup_id(level as i32) };
        if cgroup == 0 {
            break;
        }
        if maps::EXCLUDED.get_ptr(cgroup).is_some() {
            return 1;
        }
    }
    0
}
