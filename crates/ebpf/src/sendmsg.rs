//! `sendto()` and `sendmsg()` of UDP sockets with a destination.

use crate::{
    context::{self, ALLOW, HookFamily},
    socket::HookSocket,
    tables::Tables,
};
use abi::Hook;
use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};

// Also IPv4-mapped destinations of IPv6 sockets, and their send() without a destination (kernel 6.18,
// net/ipv6/udp.c `udpv6_sendmsg` hands both to `udp_sendmsg`).
#[cgroup_sock_addr(sendmsg4)]
pub fn sendmsg4(ctx: SockAddrContext) -> i32 {
    sendmsg(&ctx, HookFamily::V4)
}

#[cgroup_sock_addr(sendmsg6)]
pub fn sendmsg6(ctx: SockAddrContext) -> i32 {
    sendmsg(&ctx, HookFamily::V6)
}

#[inline(always)]
fn sendmsg(ctx: &SockAddrContext, family: HookFamily) -> i32 {
    let Some(key) = context::key(ctx, family) else { return ALLOW };
    let decision = datapath::sendmsg(&Tables, &HookSocket::new(ctx), &key);
    context::obey(ctx, family, Hook::Sendmsg, &key, &decision)
}
