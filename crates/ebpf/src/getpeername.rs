//! `getpeername()`.

use crate::{
    context::{self, ALLOW, HookFamily},
    socket::HookSocket,
};
use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};

#[cgroup_sock_addr(getpeername4)]
pub fn getpeername4(ctx: SockAddrContext) -> i32 {
    getpeername(&ctx, HookFamily::V4)
}

#[cgroup_sock_addr(getpeername6)]
pub fn getpeername6(ctx: SockAddrContext) -> i32 {
    getpeername(&ctx, HookFamily::V6)
}

#[inline(always)]
fn getpeername(ctx: &SockAddrContext, family: HookFamily) -> i32 {
    let backend = context::endpoint(ctx, family);
    if let Some(vip) = datapath::peer(&HookSocket::new(ctx), &backend) {
        context::set_endpoint(ctx, family, &vip);
    }
    // The verifier demands 1 of this hook (kernel/bpf/verifier.c, `check_return_code`).
    ALLOW
}
