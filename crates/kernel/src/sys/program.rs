//! What the kernel says of loaded programs.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use bytemuck::Zeroable;

use super::{InfoAttribute, address, bpf, command, info, name_text, owned, raw};

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
