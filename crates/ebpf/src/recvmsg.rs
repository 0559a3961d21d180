//! `recvfrom()` and `recvmsg()` of UDP sockets: the source address that the application sees.

use crate::{
    context::{self, ALLOW, HookFamily},
    socket::HookSocket,
};
use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};

#[cgroup_sock_addr(recvmsg4)]
pub fn recvmsg4(ctx: SockAddrContext) -> i32 {
    recvmsg(&ctx, HookFamily::V4)
}

#[cgroup_sock_addr(recvmsg6)]
pub fn recvmsg6(ctx: SockAddrContext) -> i32 {
    recvmsg(&ctx, HookFamily::V6)
}

#[inline(always)]
fn recvmsg(ctx: &SockAddrContext, family: HookFamily) -> i32 {
    let from = context::endpoint(ctx, family);
    if let Some(vip) = datapath::source(&HookSocket::new(ctx), &from) {
        context::set_endpoint(ctx, family, &vip);
    }
    // The verifier demands 1 of this hook (kernel/bpf/verifier.c, `check_return_code`).
    ALLOW
}
