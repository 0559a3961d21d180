//! Counting who uses what.

use crate::{event, maps};
use abi::{
    feature, reason,
    usage::{backend, buckets, client},
};
use aya_ebpf::helpers::bpf_get_current_cgroup_id;
use datapath::Decision;

/// Counts a decision by client, and a chosen backend.
#[inline(always)]
pub fn count(page: u32, decision: &Decision) {
    // SAFETY: a helper without arguments.
    let cgroup =
        if maps::features() & feature::CGROUP != 0 { unsafe { bpf_get_current_cgroup_id() } } else { 0 };
    let service = if decision.mode != 0 { Some(decision.service) } else { None };
    add(page, client(cgroup, service, decision.reason as u8));
    if decision.backend.port_be != 0 {
        add(page, backend(decision.ids.backend, decision.ids.generation));
    }
}

#[inline(always)]
fn add(page: u32, key: u64) {
    if key != 0 {
        for bucket in buckets(key, page) {
            if let Some(bucket) = maps::USAGE.get_ptr(bucket)
                // SAFETY: an element of this CPU's, made of words that are read and written in one instruction each.
                && datapath::usage::count(unsafe { &*bucket }, key)
            {
                return;
            }
        }
    }
    event::count(reason::COUNTER_UNATTRIBUTED);
}
