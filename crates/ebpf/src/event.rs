//! Counters and events.

use crate::{maps, tables::Tables};
use abi::{Address, Event, Hook, Key, reason, settings::level};
use aya_ebpf::{
    EbpfContext,
    bindings::BPF_RB_NO_WAKEUP,
    helpers::{
        bpf_get_current_cgroup_id, bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_uid_gid,
        bpf_get_netns_cookie, bpf_get_socket_cookie, generated::bpf_ktime_get_coarse_ns,
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
    let failure = decision.reason.verdict().is_failure();
    let wanted = match settings.events {
        level::OFF => false,
        level::FAILURES => failure,
        level::SAMPLED => {
            failure
                || decision.mode != 0 && (u64::from(Tables.random()) * u64::from(settings.sample)) >> 32 == 0
        }
        _ => failure || decision.mode != 0,
    };
    if wanted {
        emit(ctx, hook, key, decision);
    }
}

#[inline(always)]
fn count(index: u32) {
    if let Some(counter) = maps::COUNTERS.get_ptr_mut(index) {
        // SAFETY: this CPU's own counter; programs of one CPU don't interrupt each other here
        // (migration is off, and a preempted run loses at most a count of statistics).
        unsafe { *counter += 1 };
    }
}

// A subprogram of its own: rare at the default level, and large.
#[inline(never)]
fn emit(ctx: &SockAddrContext, hook: Hook, key: &Key, decision: &Decision) {
    let Some(mut entry) = maps::EVENTS.reserve(0) else {
        count(reason::COUNTER_LOST);
        return;
    };
    let pid_tgid = bpf_get_current_pid_tgid();
    // SAFETY: helpers over the hook's own context.
    let (time, cgroup, netns, cookie) = unsafe {
        (
            bpf_ktime_get_coarse_ns(),
            bpf_get_current_cgroup_id(),
            bpf_get_netns_cookie(ctx.as_ptr()),
            bpf_get_socket_cookie(ctx.as_ptr()),
        )
    };
    entry.write(Event {
        time,
        cgroup,
        netns,
        cookie,
        pid: (pid_tgid >> 32) as u32,
        tid: pid_tgid as u32,
        uid: bpf_get_current_uid_gid() as u32,
        service: decision.service,
        original: key.endpoint.address,
        backend: if decision.backend.port_be == 0 { Address::default() } else { decision.backend.address },
        original_port_be: key.endpoint.port_be,
        backend_port_be: decision.backend.port_be,
        protocol: key.protocol,
        hook: hook as u8,
        reason: decision.reason as u8,
        mode: decision.mode,
        comm: bpf_get_current_comm().unwrap_or_default(),
        backend_flags: u32::from(decision.backend_flags),
        pad: 0,
        pad2: [0; 2],
    });
    // Nobody is woken: that would cost the client as much as twenty connects. The agent comes by itself.
    entry.submit(u64::from(BPF_RB_NO_WAKEUP));
}
