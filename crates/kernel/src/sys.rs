//! The bpf() commands that aya 0.14 lacks or wraps unfit for pinned, foreign-typed maps; an upgrade of aya may
//! delete this module. Numbers and layouts: kernel 6.18 include/uapi/linux/bpf.h.
#![allow(unsafe_code)]

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use bytemuck::Zeroable;

mod batch;
mod element;
mod link;
mod program;

pub(crate) use batch::{delete_batch, for_each, read_range, sum_per_cpu, update_batch, write_per_cpu};
pub(crate) use element::{delete, insert, lookup, lookup_per_cpu, take, update};
pub(crate) use link::{LinkInfo, link_create, link_detach, link_info, link_update, raw_tracepoint};
#[cfg(feature = "yardstick")]
pub(crate) use program::CGROUP_SOCK;
pub(crate) use program::{
    CGROUP_SOCK_ADDR, RAW_TRACEPOINT, maps_of_program, program_load, program_name, program_runs,
    programs_of_cgroup,
};

mod command {
    #[cfg(feature = "yardstick")]
    pub(super) const MAP_CREATE: i32 = 0;
    pub(super) const MAP_LOOKUP_ELEM: i32 = 1;
    pub(super) const MAP_UPDATE_ELEM: i32 = 2;
    pub(super) const MAP_DELETE_ELEM: i32 = 3;
    pub(super) const PROG_LOAD: i32 = 5;
    pub(super) const OBJ_PIN: i32 = 6;
    pub(super) const OBJ_GET: i32 = 7;
    pub(super) const PROG_GET_FD_BY_ID: i32 = 13;
    pub(super) const MAP_GET_FD_BY_ID: i32 = 14;
    pub(super) const OBJ_GET_INFO_BY_FD: i32 = 15;
    pub(super) const PROG_QUERY: i32 = 16;
    pub(super) const RAW_TRACEPOINT_OPEN: i32 = 17;
    pub(super) const MAP_LOOKUP_AND_DELETE_ELEM: i32 = 21;
    pub(super) const MAP_LOOKUP_BATCH: i32 = 24;
    pub(super) const MAP_UPDATE_BATCH: i32 = 26;
    pub(super) const MAP_DELETE_BATCH: i32 = 27;
    pub(super) const LINK_CREATE: i32 = 28;
    pub(super) const LINK_UPDATE: i32 = 29;
    pub(super) const LINK_DETACH: i32 = 34;
}

/// One attribute of bpf(): the fields of one command, the rest of the union left out (the kernel takes the
/// missing part as zero).
fn bpf<T>(command: i32, attribute: &mut T) -> io::Result<i32> {
    // SAFETY: `attribute` is a plain struct of the size given; pointers in it are valid for the call, which the
    // callers below see to.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attribute), std::mem::size_of::<T>())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}

fn owned(fd: i32) -> OwnedFd {
    // SAFETY: the kernel just made this descriptor for us.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn raw(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd() as u32
}

fn address<T>(value: *const T) -> u64 {
    value as u64
}

#[repr(C)]
struct ObjectAttribute {
    path: u64,
    fd: u32,
    flags: u32,
}

fn path_text(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)
}

/// Opens what is pinned at `path`.
pub(crate) fn object_get(path: &Path) -> io::Result<OwnedFd> {
    object_get_with(path, 0)
}

/// Opens the map that is pinned at `path` for reading only: whoever may read the file may do that.
pub(crate) fn object_get_read_only(path: &Path) -> io::Result<OwnedFd> {
    const BPF_F_RDONLY: u32 = 1 << 3;
    object_get_with(path, BPF_F_RDONLY)
}

fn object_get_with(path: &Path, flags: u32) -> io::Result<OwnedFd> {
    let path = path_text(path)?;
    bpf(command::OBJ_GET, &mut ObjectAttribute { path: address(path.as_ptr()), fd: 0, flags }).map(owned)
}

/// Pins a map, program or link at `path`.
pub(crate) fn object_pin(fd: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = path_text(path)?;
    let mut attribute = ObjectAttribute { path: address(path.as_ptr()), fd: raw(fd), flags: 0 };
    bpf(command::OBJ_PIN, &mut attribute).map(drop)
}

#[repr(C)]
struct InfoAttribute {
    fd: u32,
    len: u32,
    info: u64,
}

fn info<T: Zeroable>(fd: BorrowedFd<'_>) -> io::Result<T> {
    let mut info = T::zeroed();
    let len = std::mem::size_of::<T>() as u32;
    let mut attribute = InfoAttribute { fd: raw(fd), len, info: address(&raw mut info) };
    bpf(command::OBJ_GET_INFO_BY_FD, &mut attribute)?;
    Ok(info)
}

/// What a map shall be: the beginning of BPF_MAP_CREATE's attribute.
#[cfg(feature = "yardstick")]
#[repr(C)]
pub(crate) struct NewMap {
    pub(crate) kind: u32,
    pub(crate) key_size: u32,
    pub(crate) value_size: u32,
    pub(crate) max_entries: u32,
    pub(crate) flags: u32,
}

/// Makes a map.
#[cfg(feature = "yardstick")]
pub(crate) fn map_create(mut map: NewMap) -> io::Result<OwnedFd> {
    bpf(command::MAP_CREATE, &mut map).map(owned)
}

/// The beginning of `struct bpf_map_info`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Zeroable)]
pub(crate) struct MapInfo {
    pub(crate) kind: u32,
    pub(crate) id: u32,
    pub(crate) key_size: u32,
    pub(crate) value_size: u32,
    pub(crate) max_entries: u32,
    pub(crate) flags: u32,
    name: [u8; 16],
}

impl MapInfo {
    /// The map's name.
    pub(crate) fn name(&self) -> String {
        name_text(self.name)
    }
}

/// Shape and name of a map.
pub(crate) fn map_info(fd: BorrowedFd<'_>) -> io::Result<MapInfo> {
    info(fd)
}

/// A name without the zeros behind it.
fn name_text(name: [u8; 16]) -> String {
    let len = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    String::from_utf8_lossy(name.get(..len).unwrap_or_default()).into_owned()
}

/// An RCU grace period; `false` if there is no way to wait for one. MEMBARRIER_CMD_GLOBAL is synchronize_rcu on more
/// than one CPU, nothing on a single one, and refused with nohz_full (kernel 6.18 kernel/sched/membarrier.c).
pub(crate) fn synchronize_rcu() -> bool {
    // SAFETY: no pointers.
    let cpus = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
    // SAFETY: no pointers.
    cpus > 1 && unsafe { libc::syscall(libc::SYS_membarrier, libc::MEMBARRIER_CMD_GLOBAL, 0, 0) } == 0
}
