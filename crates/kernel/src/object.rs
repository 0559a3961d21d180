//! The programs' object, built by `build.rs`, and the hooks that its programs are for.

/// The ELF object.
pub(crate) static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/balancing.bpf.o"));

/// A program and where it is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HookPoint {
    /// Name of the program, and of the link's pin.
    pub name: &'static str,
    /// `enum bpf_attach_type` (kernel 6.18 include/uapi/linux/bpf.h).
    pub(crate) attach_type: u32,
}

/// All hooks, in the order in which they are attached: first those that answer from what is remembered of a
/// socket, then those that remember, so that nothing is remembered that nobody can answer.
pub const HOOKS: [HookPoint; 9] = [
    HookPoint { name: "sock_release", attach_type: 34 },
    HookPoint { name: "recvmsg4", attach_type: 19 },
    HookPoint { name: "recvmsg6", attach_type: 20 },
    HookPoint { name: "getpeername4", attach_type: 29 },
    HookPoint { name: "getpeername6", attach_type: 30 },
    HookPoint { name: "sendmsg4", attach_type: 14 },
    HookPoint { name: "sendmsg6", attach_type: 15 },
    HookPoint { name: "connect4", attach_type: 10 },
    HookPoint { name: "connect6", attach_type: 11 },
];
