//! The last close of a socket: its slot is free.

use crate::{
    context::ALLOW,
    socket::{previous_slot_of, slot_of},
};
use aya_ebpf::{EbpfContext, helpers::bpf_get_socket_cookie, macros::cgroup_sock, programs::SockContext};

#[cgroup_sock(sock_release)]
pub fn sock_release(ctx: SockContext) -> i32 {
    // SAFETY: the hook's own context.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
    datapath::release(cookie, [previous_slot_of(cookie), slot_of(cookie)]);
    ALLOW
}
