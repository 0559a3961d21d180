//! The socket of a hook, and where what is known of it is kept.

use crate::{maps, rare};
use abi::{Endpoint, Pairs, Slot, feature, policy::whole, slot};
use aya_ebpf::{
    EbpfContext,
    bindings::bpf_sock,
    helpers::{bpf_get_netns_cookie, bpf_get_socket_cookie},
    programs::SockAddrContext,
};
use core::ptr::read_volatile;
use datapath::{
    Caller, Socket,
    sockets::{Kept, PAIR_WORDS},
};

/// UDP: connected (include/net/tcp_states.h; udp.c sets it in `connect()` and `udp_disconnect` undoes it).
const TCP_ESTABLISHED: u32 = 1;

/// The slot of a cookie, whoever owns it.
#[inline(always)]
pub fn slot_of(cookie: u64) -> Option<&'static Slot> {
    maps::SLOTS.get(cookie as u32 & (slot::SLOTS - 1)).map(|entry| &entry.slot)
}

/// The slot of the previous layout, while sockets are carried over.
#[inline(always)]
pub fn previous_slot_of(cookie: u64) -> Option<&'static Slot> {
    if !maps::carrying() {
        return None;
    }
    maps::SLOTS_PREVIOUS.get(cookie as u32 & (slot::SLOTS - 1))
}

/// The socket of a socket address hook.
pub struct HookSocket<'a> {
    ctx: &'a SockAddrContext,
    cookie: u64,
}

impl<'a> HookSocket<'a> {
    /// The socket that the hook runs for.
    #[inline(always)]
    pub fn new(ctx: &'a SockAddrContext) -> Self {
        // SAFETY: the hook's own context.
        Self { ctx, cookie: unsafe { bpf_get_socket_cookie(ctx.as_ptr()) } }
    }
}

impl Caller for HookSocket<'_> {
    #[inline(always)]
    fn netns(&self) -> u64 {
        // SAFETY: the hook's own context.
        unsafe { bpf_get_netns_cookie(self.ctx.as_ptr()) }
    }

    #[inline(always)]
    fn is_excluded(&self) -> bool {
        if maps::features() & feature::ANCESTOR == 0 {
            return false;
        }
        rare::is_excluded() != 0
    }

    #[inline(always)]
    fn is_backend_of(&self, policy: [u32; 2]) -> bool {
        if maps::features() & feature::ANCESTOR == 0 {
            return false;
        }
        rare::is_backend_of(whole(policy)) != 0
    }
}

impl Socket for HookSocket<'_> {
    #[inline(always)]
    fn cookie(&self) -> u64 {
        self.cookie
    }

    #[inline(always)]
    fn slot(&self) -> Option<&Slot> {
        slot_of(self.cookie)
    }

    #[inline(always)]
    fn previous_slot(&self) -> Option<&Slot> {
        previous_slot_of(self.cookie)
    }

    #[inline(always)]
    fn stored(&self) -> Option<&Pairs> {
        // SAFETY: the context has a socket; the value lives as long as the socket, and is atomics.
        unsafe { maps::PAIRS.get_ptr_mut(self.ctx).as_ref() }
    }

    #[inline(always)]
    fn store(&self) -> Option<&Pairs> {
        // SAFETY: as in `stored`; a new value is zeroes, which is empty.
        unsafe { maps::PAIRS.get_or_insert_ptr_mut(self.ctx, None).as_ref() }
    }

    #[inline(always)]
    fn remember_stored(&self, words: &[u64; PAIR_WORDS]) -> Kept {
        match rare::remember_stored(self.ctx.sock_addr, words) {
            rare::YES => Kept::Yes,
            rare::EVICTING => Kept::Evicting,
            _ => Kept::No,
        }
    }

    #[inline(always)]
    fn is_connected(&self) -> bool {
        // SAFETY: `sk` of this context is never null (kernel net/core/filter.c: PTR_TO_SOCKET), and `state` is
        // readable.
        unsafe {
            let sk: *const bpf_sock = (*self.ctx.sock_addr).__bindgen_anon_1.sk;
            read_volatile(&raw const (*sk).state) == TCP_ESTABLISHED
        }
    }

    #[inline(always)]
    fn is_connected_to(&self, endpoint: &Endpoint) -> bool {
        let Some(address) = endpoint.address.as_v4() else { return false };
        // SAFETY: as in `is_connected`; `dst_port` is 16 bits in network byte order (kernel 5.17 on), `dst_ip4` is set
        // for IPv4-mapped connections too (net/ipv6/datagram.c hands them to `__ip4_datagram_connect`).
        unsafe {
            let sk: *const bpf_sock = (*self.ctx.sock_addr).__bindgen_anon_1.sk;
            read_volatile(&raw const (*sk).state) == TCP_ESTABLISHED
                && read_volatile(&raw const (*sk).dst_ip4) == address
                && read_volatile(&raw const (*sk).dst_port) == endpoint.port_be
        }
    }
}
