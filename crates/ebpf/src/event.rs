//! Counters and events.

use crate::{maps, tables::Tables, usage};
use abi::{Hook, Key, Word, feature, reason, settings::level};
use aya_ebpf::{
    EbpfContext,
    bindings::BPF_RB_NO_WAKEUP,
    helpers::{
        bpf_get_current_cgroup_id, bpf_get_current_pid_tgid, bpf_get_current_uid_gid, bpf_get_netns_cookie,
        bpf_get_socket_cookie, generated::bpf_get_current_comm, generated::bpf_ktime_get_coarse_ns,
    },
    programs::SockAddrContext,
};
use datapath::{Decision, Env};

/// Counts a decision, and tells of it if the level wants that.
#[inline(always)]
pub fn record(ctx: &SockAddrContext, hook: Hook, key: &Key, decision: &Decision) {
    let v6 = key.endpoint.address.as_v4().is_none();
    count(reason::counter(hook, v6, decision.reason));
    let Some(settings) = maps::SETTINGS.get(0) else { return };
    let notable = decision.reason.is_notable();
    // A datagram that stays where the last one went is no connection, and counting it would cost it a third more.
    if (notable || decision.mode != 0) && decision.reason as u8 != abi::Reason::Sticky as u8 {
        usage::count(ctx, settings, decision);
    }
    let wanted = match settings.events {
        level::OFF => false,
        level::FAILURES => notable,
        level::SAMPLED => {
            notable
                || decision.reason.is_told()
                    && (u64::from(Tables.random()) * u64::from(settings.sample)) >> 32 == 0
        }
        _ => decision.reason.is_told(),
    };
    if wanted {
        emit(ctx, hook, key, decision);
    }
}

#[inline(always)]
pub fn count(index: u32) {
    if let Some(counter) = maps::COUNTERS.get_ptr_mut(index) {
        // SAFETY: this CPU's own counter. Not atomic, which would cost ten times as much: a run that is preempted here
        // by another on its CPU loses what that one counted.
        unsafe { *counter += 1 };
    }
}

/// Unlike [`count`] exact, also where a program is preempted by another on its CPU: what is missing in the log is
/// told to the last event.
#[inline(always)]
fn count_lost() {
    if let Some(counter) = maps::COUNTERS.get_ptr_mut(reason::COUNTER_LOST) {
        // SAFETY: a valid, aligned word of the map; one atomic instruction.
        unsafe { &*counter.cast::<Word>() }.add(1);
    }
}

// A subprogram of its own: rare at the default level, and large.
#[inline(never)]
fn emit(ctx: &SockAddrContext, hook: Hook, key: &Key, decision: &Decision) {
    let Some(mut entry) = maps::EVENTS.reserve(0) else {
        count_lost();
        return;
    };
    let features = maps::features();
    let event = entry.as_mut_ptr();
    // Field by field into the ring: built on the stack first, it would not fit beside the caller's frame.
    // SAFETY: the entry is ours until it is submitted, of this size and aligned; every field is written.
    unsafe {
        (*event).time = bpf_ktime_get_coarse_ns();
        (*event).cgroup = if features & feature::CGROUP != 0 { bpf_get_current_cgroup_id() } else { 0 };
        (*event).netns = bpf_get_netns_cookie(ctx.as_ptr());
        (*event).cookie = bpf_get_socket_cookie(ctx.as_ptr());
        let pid_tgid = if features & feature::PID != 0 { bpf_get_current_pid_tgid() } else { 0 };
        (*event).pid = (pid_tgid >> 32) as u32;
        (*event).tid = pid_tgid as u32;
        (*event).uid = if features & feature::UID != 0 { bpf_get_current_uid_gid() as u32 } else { 0 };
        (*event).service = decision.service;
        (*event).original = key.endpoint.address;
        (*event).backend = decision.backend.address;
        (*event).original_port_be = key.endpoint.port_be;
        (*event).backend_port_be = decision.backend.port_be;
        (*event).protocol = key.protocol;
        (*event).hook = hook as u8;
        (*event).reason = decision.reason as u8;
        (*event).mode = decision.mode;
        (*event).comm = [0; 16];
        if features & feature::COMM != 0 {
            bpf_get_current_comm((&raw mut (*event).comm).cast(), 16);
        }
        let backend =
            if decision.backend.port_be == 0 { None } else { maps::BACKENDS.get(decision.ids.backend) };
        (*event).backend_flags = backend.map_or(0, |backend| u32::from(backend.flags));
        (*event).known = features;
        (*event).fallen = u32::from(decision.fallen);
        (*event).pad = 0;
        (*event).pad2 = 0;
    }
    // Nobody is woken: that would cost the client as much as twenty connects. The agent comes by itself.
    entry.submit(u64::from(BPF_RB_NO_WAKEUP));
}
