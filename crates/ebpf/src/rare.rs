//! The rare parts of a decision, as functions of their own.
//!
//! They are global functions in the verifier's sense (kernel Documentation/bpf/verifier.rst; kernel 5.6): each is checked
//! once, by itself, with arguments of which nothing is known, and callers are checked with a result of which nothing is
//! known. Inlined, their ways would multiply with all that follows. Only numbers go in and out.

use crate::{maps, socket::HookSocket, tables::Tables};
use abi::{
    Address, Endpoint, Key, Reason, feature,
    policy::{ExemptKey, halves, whole},
    settings::DEEPEST_EXCLUDED,
};
use aya_ebpf::{
    bindings::bpf_sock_addr, helpers::generated::bpf_get_current_ancestor_cgroup_id,
    programs::SockAddrContext,
};
use core::mem::transmute;
use datapath::{
    Caller, Env, Found, affinity, destination, frontends, policy,
    sockets::{self, Kept, PAIR_WORDS},
};

/// A key: two words of the address, then port and protocol.
#[inline(always)]
fn key(high: u64, low: u64, port_protocol: u64) -> Key {
    let address = Address::from_halves([high, low]);
    let endpoint = Endpoint { address, port_be: port_protocol as u16 };
    Key { endpoint, protocol: (port_protocol >> 16) as u8 }
}

/// The numbers of a [`key`].
#[inline(always)]
fn numbers(key: &Key) -> [u64; 3] {
    let [high, low] = key.endpoint.address.halves();
    [high, low, u64::from(key.endpoint.port_be) | u64::from(key.protocol) << 16]
}

/// As a number: reason, why a policy did not decide, and record.
#[inline(always)]
fn pack(found: &Found) -> u64 {
    found.reason as u64 | u64::from(found.fallen) << 8 | u64::from(found.record) << 32
}

/// From a number that [`pack`] has made.
#[inline(always)]
fn unpack(word: u64) -> Found {
    let last = Reason::ALL.len() as u8 - 1;
    // SAFETY: reasons are numbered from 0 without a gap. Not by comparing: the verifier would follow each outcome to the
    // end.
    let reason = unsafe { transmute::<u8, Reason>((word as u8).min(last)) };
    Found { reason, record: (word >> 32) as u32, fallen: (word >> 8) as u8 }
}

/// [`destination::unusual`] for a [`key`]; out: [`pack`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn unusual(netns: u64, high: u64, low: u64, port_protocol: u64) -> u64 {
    pack(&destination::unusual(&Tables, netns, &key(high, low, port_protocol)))
}

/// Calls [`unusual`].
#[inline(always)]
pub fn call_unusual(netns: u64, key: &Key) -> Found {
    let [high, low, port_protocol] = numbers(key);
    unpack(unusual(netns, high, low, port_protocol))
}

/// Who asks, where no context is at hand.
struct Client {
    netns: u64,
}

impl Caller for Client {
    #[inline(always)]
    fn netns(&self) -> u64 {
        self.netns
    }

    /// Whoever is does not get this far.
    #[inline(always)]
    fn is_excluded(&self) -> bool {
        false
    }

    #[inline(always)]
    fn is_backend_of(&self, policy: [u32; 2]) -> bool {
        is_backend_of(whole(policy)) != 0
    }
}

/// [`policy::redirect`] for a [`key`]; out: [`pack`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn redirect(netns: u64, high: u64, low: u64, port_protocol: u64) -> u64 {
    pack(&policy::redirect(&Tables, &Client { netns }, &key(high, low, port_protocol)))
}

/// Calls [`redirect`].
#[inline(always)]
pub fn call_redirect(netns: u64, key: &Key) -> Found {
    let [high, low, port_protocol] = numbers(key);
    unpack(redirect(netns, high, low, port_protocol))
}

/// [`policy::stay`] for a [`key`]; out: [`pack`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn stay(high: u64, low: u64, port_protocol: u64, held: u64) -> u64 {
    pack(&policy::stay(&Tables, &key(high, low, port_protocol), held as u32))
}

/// Calls [`stay`].
#[inline(always)]
pub fn call_stay(key: &Key, held: u32) -> Found {
    let [high, low, port_protocol] = numbers(key);
    unpack(stay(high, low, port_protocol, u64::from(held)))
}

/// [`policy::stands_back`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn stands_back(netns: u64, record: u64) -> u64 {
    u64::from(policy::stands_back(&Tables, &Client { netns }, record as u32))
}

/// [`policy::take`]; 0: there is none left.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn take(record: u64) -> u64 {
    u64::from(policy::take(&Tables, record as u32))
}

/// Is the current process in a cgroup of the policy's own backends, or below one? 0: no.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn is_backend_of(policy: u64) -> u64 {
    u64::from(is_in(|cgroup| Tables.exempts(halves(policy), cgroup | ExemptKey::CGROUP)))
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
    u64::from(is_in(|cgroup| maps::EXCLUDED.get_ptr(cgroup).is_some()))
}

/// Is the current process in a cgroup of which `test` holds, or below one?
#[inline(always)]
fn is_in(test: impl Fn(u64) -> bool) -> bool {
    // For the verifier, which in functions of their own does not know that the caller has asked.
    if maps::features() & feature::ANCESTOR == 0 {
        return false;
    }
    for level in 0..=DEEPEST_EXCLUDED {
        // SAFETY: a helper with a number; 0 where the current cgroup is not that deep.
        let cgroup = unsafe { bpf_get_current_ancestor_cgroup_id(level as i32) };
        if cgroup == 0 {
            break;
        }
        if test(cgroup) {
            return true;
        }
    }
    false
}
