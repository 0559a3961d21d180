//! Cgroups that were made, so that a client's is known also when it is gone.

use bytemuck::{Pod, Zeroable};

/// Room for a cgroup's path. One of a pod, on a node that is itself a container, has some 330 bytes.
pub const PATH: usize = 512;

/// Value of `cgroups`, whose key is the cgroup's id.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct CgroupPath {
    /// From the root of the hierarchy, zero-terminated; what does not fit is cut off.
    pub bytes: [u8; PATH],
}

/// Where the kernel keeps what `cgroup_mkdir` needs, in bytes: kernels differ, and say so in their BTF.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Offsets {
    /// `struct cgroup`: `kn`, a pointer.
    pub node: u32,
    /// `struct kernfs_node`: `id`, 64 bits.
    pub id: u32,
    /// `struct cgroup`: `root`, a pointer.
    pub root: u32,
    /// `struct cgroup_root`: `hierarchy_id`, 32 bits; 0 = cgroup2.
    pub hierarchy: u32,
}
