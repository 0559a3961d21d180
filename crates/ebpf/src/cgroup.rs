//! Cgroups as they are made: a client that connects and is gone at once, with its cgroup, is known all the same.

use crate::maps;
use abi::cgroup::PATH;
use aya_ebpf::{
    helpers::{bpf_probe_read_kernel, generated::bpf_probe_read_kernel_str},
    macros::raw_tracepoint,
    programs::RawTracePointContext,
};

/// `TP_PROTO(struct cgroup *cgrp, const char *path)` (kernel 6.18 include/trace/events/cgroup.h). Runs before anybody can be
/// in the cgroup, and cannot be preempted: the path is in a buffer of the kernel's that a spin lock guards.
#[raw_tracepoint(tracepoint = "cgroup_mkdir")]
pub fn cgroup_mkdir(ctx: RawTracePointContext) -> i32 {
    remember(&ctx);
    0
}

#[inline(always)]
fn remember(ctx: &RawTracePointContext) -> Option<()> {
    let offsets = maps::offsets();
    let cgroup: *const u8 = ctx.arg(0);
    let text: *const u8 = ctx.arg(1);
    let root: *const u8 = read(cgroup, offsets.root)?;
    // Other hierarchies have ids of their own.
    if read::<u32>(root, offsets.hierarchy)? != 0 {
        return None;
    }
    let node: *const u8 = read(cgroup, offsets.node)?;
    let id: u64 = read(node, offsets.id)?;
    let path = maps::CGROUP_PATH.get_ptr_mut(0)?;
    // SAFETY: this CPU's own element; nothing else runs here on this CPU meanwhile. The helper reads what the kernel gave,
    // and fails where it can't. What is behind the zero is of an earlier path, and nobody reads it.
    unsafe {
        if bpf_probe_read_kernel_str((&raw mut (*path).bytes).cast(), PATH as u32, text.cast()) < 0 {
            return None;
        }
        maps::CGROUPS.insert(id, &*path, 0).ok()
    }
}

/// A field of a structure of the kernel's.
#[inline(always)]
fn read<T>(structure: *const u8, offset: u32) -> Option<T> {
    // SAFETY: the helper reads from any address, and fails where there is nothing.
    unsafe { bpf_probe_read_kernel(structure.wrapping_add(offset as usize).cast()).ok() }
}
