//! Programs: loading them, and what the kernel says of those that are loaded.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use bytemuck::Zeroable;

use super::{InfoAttribute, address, bpf, command, info, name_text, owned, raw};

/// Type of the programs that see socket addresses (`enum bpf_prog_type`).
pub(crate) const CGROUP_SOCK_ADDR: u32 = 18;
/// Type of those that run at tracepoints.
pub(crate) const RAW_TRACEPOINT: u32 = 17;
/// Type of those that see sockets come and go.
#[cfg(feature = "yardstick")]
pub(crate) const CGROUP_SOCK: u32 = 9;

#[repr(C)]
struct ProgramAttribute {
    kind: u32,
    instructions: u32,
    code: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    attach_type: u32,
}

/// Loads a program of raw instructions.
pub(crate) fn program_load(kind: u32, attach_type: u32, code: &[u64]) -> io::Result<OwnedFd> {
    let mut attribute = ProgramAttribute {
        kind,
        instructions: code.len() as u32,
        code: address(code.as_ptr()),
        license: address(c"GPL".as_ptr()),
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
        name: [0; 16],
        interface: 0,
        attach_type,
    };
    bpf(command::PROG_LOAD, &mut attribute).map(owned)
}

/// The beginning of `struct bpf_prog_info`, as far as how often it ran (kernel 5.1); the rest is not asked for.
#[repr(C)]
#[derive(Clone, Copy, Debug, Zeroable)]
struct ProgramInfo {
    kind: u32,
    id: u32,
    tag: [u8; 8],
    lengths: [u32; 2],
    instructions: [u64; 2],
    load_time: u64,
    user: u32,
    maps: u32,
    map_ids: u64,
    name: [u8; 16],
    interface: [u32; 2],
    netns: [u64; 2],
    symbols: [u32; 2],
    symbol_addresses: [u64; 2],
    types: [u32; 2],
    functions: u64,
    lines: [u32; 2],
    line_addresses: [u64; 2],
    line_sizes: [u32; 4],
    tags: u64,
    run_time_ns: u64,
    runs: u64,
}

const _: () = assert!(size_of::<ProgramInfo>() == 208);

fn open(id: u32) -> io::Result<OwnedFd> {
    bpf(command::PROG_GET_FD_BY_ID, &mut [id, 0, 0]).map(owned)
}

/// Name of a loaded program. Takes CAP_SYS_ADMIN.
pub(crate) fn program_name(id: u32) -> io::Result<String> {
    Ok(name_text(info::<ProgramInfo>(open(id)?.as_fd())?.name))
}

/// The maps that a loaded program uses. Takes CAP_SYS_ADMIN.
pub(crate) fn maps_of_program(id: u32) -> io::Result<Vec<OwnedFd>> {
    let fd = open(id)?;
    let mut ids = [0u32; 64];
    let mut info =
        ProgramInfo { maps: ids.len() as u32, map_ids: address(ids.as_mut_ptr()), ..Zeroable::zeroed() };
    let len = std::mem::size_of::<ProgramInfo>() as u32;
    let mut attribute = InfoAttribute { fd: raw(fd.as_fd()), len, info: address(&raw mut info) };
    bpf(command::OBJ_GET_INFO_BY_FD, &mut attribute)?;
    ids.iter()
        .take(info.maps as usize)
        .map(|id| bpf(command::MAP_GET_FD_BY_ID, &mut [*id, 0, 0]).map(owned))
        .collect()
}

/// For how many nanoseconds a loaded program has run, and how often: 0 unless the sysctl kernel.bpf_stats_enabled is 1. Takes
/// CAP_SYS_ADMIN.
pub(crate) fn program_runs(id: u32) -> io::Result<(u64, u64)> {
    let info = info::<ProgramInfo>(open(id)?.as_fd())?;
    Ok((info.run_time_ns, info.runs))
}

#[repr(C)]
struct QueryAttribute {
    target: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    programs: u64,
    count: u32,
    pad: u32,
}

/// Ids of the programs that are attached to this very cgroup, by whomever. (The kernel allows 64.)
pub(crate) fn programs_of_cgroup(cgroup: BorrowedFd<'_>, attach_type: u32) -> io::Result<Vec<u32>> {
    let mut ids = [0u32; 64];
    let mut attribute = QueryAttribute {
        target: raw(cgroup),
        attach_type,
        query_flags: 0,
        attach_flags: 0,
        programs: address(ids.as_mut_ptr()),
        count: ids.len() as u32,
        pad: 0,
    };
    bpf(command::PROG_QUERY, &mut attribute)?;
    Ok(ids.iter().copied().take(attribute.count as usize).collect())
}
