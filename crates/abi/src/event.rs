//! The record that the programs put into the ring buffer.

use crate::Address;
use bytemuck::{Pod, Zeroable};

/// One decision. 128 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Event {
    /// Nanoseconds of CLOCK_MONOTONIC.
    pub time: u64,
    /// Id of the client's cgroup (cgroup2).
    pub cgroup: u64,
    /// Cookie of the client's network namespace.
    pub netns: u64,
    /// Socket cookie.
    pub cookie: u64,
    /// Process (what user space calls pid).
    pub pid: u32,
    /// Thread.
    pub tid: u32,
    /// User.
    pub uid: u32,
    /// Service port id; meaningful unless `mode` is 0.
    pub service: u32,
    /// What the application asked for.
    pub original: Address,
    /// Where it went; zero where it went nowhere else.
    pub backend: Address,
    /// Port asked for, network byte order.
    pub original_port_be: u16,
    /// Port it went to, network byte order.
    pub backend_port_be: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// [`crate::Hook`].
    pub hook: u8,
    /// [`crate::Reason`].
    pub reason: u8,
    /// [`crate::frontend::mode`]; 0 = no service.
    pub mode: u8,
    /// Name of the thread, zero-terminated.
    pub comm: [u8; 16],
    /// Bits of [`crate::frontend::backend_flag`] of the chosen backend.
    pub backend_flags: u32,
    /// Bits of [`crate::feature`]: which of `pid` and `tid`, `comm`, `uid`, `cgroup` this kernel could give.
    pub known: u32,
    /// One of [`crate::reason::fallen`]: why the first policy of the frontend did not decide.
    pub fallen: u32,
    /// Always 0.
    pub pad: u32,
    /// Always 0.
    pub pad2: u64,
}

const _: () = assert!(size_of::<Event>() == 128);
