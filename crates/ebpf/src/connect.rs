//! `connect()` of TCP and UDP sockets.

use crate::{
    context::{self, ALLOW, HookFamily},
    socket::HookSocket,
    tables::Tables,
};
use abi::Hook;
use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};

#[cgroup_sock_addr(connect4)]
pub fn connect4(ctx: SockAddrContext) -> i32 {
    connect(&ctx, HookFamily::V4)
}

// Also IPv4-mapped destinations (kernel 6.18, net/ipv4/tcp_ipv4.c and net/ipv6/tcp_ipv6.c: the socket's family
// decides).
#[cgroup_sock_addr(connect6)]
pub fn connect6(ctx: SockAddrContext) -> i32 {
    connect(&ctx, HookFamily::V6)
}

#[inline(always)]
fn connect(ctx: &SockAddrContext, family: HookFamily) -> i32 {
    let Some(key) = context::key(ctx, family) else { return ALLOW };
    let decision = datapath::connect(&Tables, &HookSocket::new(ctx), &key);
    context::obey(ctx, family, Hook::Connect, &key, &decision)
}
