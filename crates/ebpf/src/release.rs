//! The last close of a socket: its slot is free.

use crate::{context::ALLOW, socket::DyingSocket};
use aya_ebpf::{macros::cgroup_sock, programs::SockContext};

#[cgroup_sock(sock_release)]
pub fn sock_release(ctx: SockContext) -> i32 {
    datapath::release(&DyingSocket::new(&ctx));
    ALLOW
}
