//! Counting who uses what.

use crate::{event, maps};
use abi::{
    Settings, feature, reason,
    usage::{backend, buckets, client, of_cgroup, of_namespace},
};
use aya_ebpf::{
    EbpfContext,
    helpers::{bpf_get_current_cgroup_id, bpf_get_netns_cookie},
    programs::SockAddrContext,
};
use datapath::Decision;

/// Counts a decision by client, and a chosen backend.
#[inline(always)]
pub fn count(ctx: &SockAddrContext, settings: &Settings, decision: &Decision) {
    let page = settings.usage_page;
    let who = who(ctx, settings);
    let service = if decision.mode != 0 { Some(decision.service) } else { None };
    add(page, client(who, service, decision.reason as u8));
    if decision.backend.port_be != 0 {
        add(page, backend(decision.ids.backend, decision.ids.generation));
    }
}

#[inline(always)]
fn who(ctx: &SockAddrContext, settings: &Settings) -> u64 {
    if settings.usage_by_netns != 0 {
        // SAFETY: the context is valid.
        let netns = unsafe { bpf_get_netns_cookie(ctx.as_ptr()) };
        if netns != settings.host_netns {
            return of_namespace(netns);
        }
    }
    // SAFETY: a helper without arguments.
    of_cgroup(if maps::features() & feature::CGROUP != 0 {
        unsafe { bpf_get_current_cgroup_id() }
    } else {
        0
    })
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
