//! What the agent tells the programs while they run.

use bytemuck::{Pod, Zeroable};

/// The only entry of the array `settings`. Each word is read on its own.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Settings {
    /// Not 0: everything passes untranslated (`balancing pause`). What was translated keeps its peer address.
    pub paused: u32,
    /// One of [`level`].
    pub events: u32,
    /// At level [`level::SAMPLED`]: one decision of so many, at random; at least 1.
    pub sample: u32,
    /// Events that the ring buffer had no room for and that the log has reported, modulo 2^32: the agent's own note, so
    /// that what was lost while none ran is reported too.
    pub reported_lost: u32,
    /// Which element of `spaces` counts: the other one is written before it does.
    pub space: u32,
    /// Not 0: some cgroup is in `excluded`.
    pub excluded: u32,
    /// Cookie of the host's network namespace: its sockets reach node ports by loopback addresses (R14).
    pub host_netns: u64,
    /// The highest id of the tables' maps that programs in force look into; 0 = there were none. The agent's own note: maps
    /// with higher ids were made later, and nobody looks into them yet. (The kernel counts ids up to 2^31: kernel 6.18
    /// kernel/bpf/syscall.c `bpf_map_alloc_id`.)
    pub tables: u32,
    /// Not 0: some policy has backends on the host's network, so that clients' cgroups are looked at (P7).
    pub exempt_cgroups: u32,
    /// Which page of `usage` the programs count in.
    pub usage_page: u32,
    /// Not 0: `usage` counts clients outside of the host's network namespace by theirs. Pods have no cgroups of cgroup2 here.
    pub usage_by_netns: u32,
}

/// Deepest level of a cgroup that can be excluded; the root's is 0.
pub const DEEPEST_EXCLUDED: u32 = 31;

/// Values of [`Settings::events`].
pub mod level {
    /// No events.
    pub const OFF: u32 = 0;
    /// Only what fails, and what could not be remembered as it should ([`crate::Reason::is_notable`]).
    pub const FAILURES: u32 = 1;
    /// What fails, and one in so many of the rest ([`crate::Reason::is_told`]).
    pub const SAMPLED: u32 = 2;
    /// Every decision ([`crate::Reason::is_told`]).
    pub const ALL: u32 = 3;
}

const _: () = assert!(size_of::<Settings>() == 48);
