//! The context of the socket address hooks: what it asks for, and how it is answered.

use abi::{Address, Endpoint, Hook, Key, Reason, Verdict};
use aya_ebpf::{bindings::bpf_sock_addr, helpers::generated::bpf_set_retval, programs::SockAddrContext};
use core::ptr::{read_volatile, write_volatile};
use datapath::Decision;

/// The hook lets the call go on.
pub const ALLOW: i32 = 1;
const DENY: i32 = 0;

const EACCES: i32 = 13;
const EHOSTUNREACH: i32 = 113;
const ECONNREFUSED: i32 = 111;
const ENOBUFS: i32 = 105;

/// The IP family of a hook, which is not that of its address: IPv6 hooks see IPv4-mapped addresses.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum HookFamily {
    /// The `…4` hooks.
    V4,
    /// The `…6` hooks.
    V6,
}

/// The address in the context: destination in connect and sendmsg, source or peer in recvmsg and getpeername.
#[inline(always)]
pub fn endpoint(ctx: &SockAddrContext, family: HookFamily) -> Endpoint {
    let raw: *const bpf_sock_addr = ctx.sock_addr;
    // SAFETY: the kernel's context, aligned words. Volatile: the verifier allows words only, and LLVM would
    // join them.
    unsafe {
        let address = match family {
            HookFamily::V4 => Address::v4(read_volatile(&raw const (*raw).user_ip4)),
            HookFamily::V6 => {
                let half = |first: u32, second: u32| u64::from(first) | u64::from(second) << 32;
                Address::from_halves([
                    half(
                        read_volatile(&raw const (*raw).user_ip6[0]),
                        read_volatile(&raw const (*raw).user_ip6[1]),
                    ),
                    half(
                        read_volatile(&raw const (*raw).user_ip6[2]),
                        read_volatile(&raw const (*raw).user_ip6[3]),
                    ),
                ])
            }
        };
        Endpoint { address, port_be: read_volatile(&raw const (*raw).user_port) as u16 }
    }
}

/// Puts an address into the context.
#[inline(always)]
pub fn set_endpoint(ctx: &SockAddrContext, family: HookFamily, endpoint: &Endpoint) {
    let raw: *mut bpf_sock_addr = ctx.sock_addr;
    let [a, b, c, d] = endpoint.address.0;
    // SAFETY: as in `endpoint`; address and port are writable in every hook that we attach to.
    unsafe {
        match family {
            HookFamily::V4 => write_volatile(&raw mut (*raw).user_ip4, d),
            HookFamily::V6 => {
                write_volatile(&raw mut (*raw).user_ip6[0], a);
                write_volatile(&raw mut (*raw).user_ip6[1], b);
                write_volatile(&raw mut (*raw).user_ip6[2], c);
                write_volatile(&raw mut (*raw).user_ip6[3], d);
            }
        }
        write_volatile(&raw mut (*raw).user_port, u32::from(endpoint.port_be));
    }
}

/// What is asked for, if it is TCP or UDP.
#[inline(always)]
pub fn key(ctx: &SockAddrContext, family: HookFamily) -> Option<Key> {
    let raw: *const bpf_sock_addr = ctx.sock_addr;
    // SAFETY: as in `endpoint`.
    let protocol = unsafe { read_volatile(&raw const (*raw).protocol) };
    if protocol != u32::from(abi::TCP) && protocol != u32::from(abi::UDP) {
        return None;
    }
    Some(Key { endpoint: endpoint(ctx, family), protocol: protocol as u8 })
}

/// Carries a decision out; the value is the program's.
#[inline(always)]
pub fn obey(ctx: &SockAddrContext, family: HookFamily, hook: Hook, key: &Key, decision: &Decision) -> i32 {
    crate::event::record(ctx, hook, key, decision);
    match decision.reason.verdict() {
        Verdict::Translated => {
            set_endpoint(ctx, family, &decision.backend);
            ALLOW
        }
        Verdict::Passed => ALLOW,
        Verdict::Unreachable => fail(EHOSTUNREACH),
        Verdict::Denied => fail(EACCES),
        Verdict::Refused if decision.reason as u8 == Reason::NoMemory as u8 => fail(ENOBUFS),
        Verdict::Refused => fail(ECONNREFUSED),
    }
}

/// The call fails with `errno`; with EPERM, which a 0 alone means, where the kernel has no `bpf_set_retval`.
#[inline(always)]
fn fail(errno: i32) -> i32 {
    if crate::maps::features() & abi::feature::SET_RETVAL != 0 {
        // SAFETY: a helper without pointers.
        unsafe { bpf_set_retval(-errno) };
    }
    DENY
}
