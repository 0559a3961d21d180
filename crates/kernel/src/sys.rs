//! The bpf() commands that aya 0.14 lacks or wraps unfit for pinned, foreign-typed maps; an upgrade of aya may
//! delete this file. Numbers and layouts: kernel 6.18 include/uapi/linux/bpf.h.
#![allow(unsafe_code)]

use std::{
    ffi::{CStr, CString},
    io,
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use bytemuck::{Pod, Zeroable};

mod program;

pub(crate) use program::{maps_of_program, program_name, program_runs};

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

/// The beginning of `struct bpf_link_info`, for a cgroup link.
#[repr(C)]
#[derive(Clone, Copy, Debug, Zeroable)]
pub(crate) struct LinkInfo {
    pub(crate) kind: u32,
    pub(crate) id: u32,
    pub(crate) program_id: u32,
    pad: u32,
    /// 0 once the cgroup is gone or the link was detached.
    pub(crate) cgroup_id: u64,
    pub(crate) attach_type: u32,
    pad2: u32,
}

/// What a link is attached to.
pub(crate) fn link_info(fd: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    info(fd)
}

#[repr(C)]
struct LinkCreateAttribute {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
}

/// Attaches a program to a cgroup.
pub(crate) fn link_create(
    program: BorrowedFd<'_>,
    cgroup: BorrowedFd<'_>,
    attach_type: u32,
) -> io::Result<OwnedFd> {
    let mut attribute =
        LinkCreateAttribute { program: raw(program), target: raw(cgroup), attach_type, flags: 0 };
    bpf(command::LINK_CREATE, &mut attribute).map(owned)
}

#[repr(C)]
struct LinkUpdateAttribute {
    link: u32,
    program: u32,
    flags: u32,
    old_program: u32,
}

/// Puts another program in the place of a link's, atomically.
pub(crate) fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attribute =
        LinkUpdateAttribute { link: raw(link), program: raw(program), flags: 0, old_program: 0 };
    bpf(command::LINK_UPDATE, &mut attribute).map(drop)
}

/// Attaches a program to a tracepoint, until the link is gone.
pub(crate) fn raw_tracepoint(program: BorrowedFd<'_>, name: &CStr) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Attribute {
        name: u64,
        program: u32,
        pad: u32,
    }
    let mut attribute = Attribute { name: address(name.as_ptr()), program: raw(program), pad: 0 };
    bpf(command::RAW_TRACEPOINT_OPEN, &mut attribute).map(owned)
}

/// Takes a link's program off, whoever else holds the link.
pub(crate) fn link_detach(link: BorrowedFd<'_>) -> io::Result<()> {
    bpf(command::LINK_DETACH, &mut raw(link)).map(drop)
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

/// `struct bpf_map_info` as far as the name.
fn name_text(name: [u8; 16]) -> String {
    let len = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    String::from_utf8_lossy(name.get(..len).unwrap_or_default()).into_owned()
}

#[repr(C)]
struct ElementAttribute {
    map: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

fn element<K, V>(map: BorrowedFd<'_>, key: *const K, value: *const V) -> ElementAttribute {
    ElementAttribute { map: raw(map), pad: 0, key: address(key), value: address(value), flags: 0 }
}

/// Reads one element. `V` must have the map's value size.
pub(crate) fn lookup<K: Pod, V: Pod>(map: BorrowedFd<'_>, key: &K) -> io::Result<Option<V>> {
    let mut value = V::zeroed();
    match bpf(command::MAP_LOOKUP_ELEM, &mut element(map, key, &raw mut value)) {
        Ok(_) => Ok(Some(value)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads one element of a per-CPU array of `u64`, a value for each possible CPU.
pub(crate) fn lookup_per_cpu(map: BorrowedFd<'_>, key: u32, cpus: usize) -> io::Result<Vec<u64>> {
    let mut values = vec![0u64; cpus];
    bpf(command::MAP_LOOKUP_ELEM, &mut element(map, &key, values.as_mut_ptr()))?;
    Ok(values)
}

/// Reads the first `count` elements of a per-CPU array of `u64` in one call, and adds up the CPUs' values of each.
pub(crate) fn sum_per_cpu(map: BorrowedFd<'_>, count: usize, cpus: usize) -> io::Result<Vec<u64>> {
    let (mut keys, mut values) = (vec![0u32; count], vec![0u64; count * cpus]);
    let mut next = 0u32;
    let mut attribute = batch(map, keys.as_mut_ptr(), values.as_mut_ptr(), count);
    attribute.out_batch = address(&raw mut next);
    match bpf(command::MAP_LOOKUP_BATCH, &mut attribute) {
        // There are no more than these.
        Err(error) if error.raw_os_error() != Some(libc::ENOENT) => return Err(error),
        _ => {}
    }
    // An array gives its elements in order.
    let read = values.chunks(cpus.max(1)).take(attribute.count as usize);
    Ok(read.map(|values| values.iter().sum()).collect())
}

/// Writes one element.
pub(crate) fn update<K: Pod, V: Pod>(map: BorrowedFd<'_>, key: &K, value: &V) -> io::Result<()> {
    bpf(command::MAP_UPDATE_ELEM, &mut element(map, key, value)).map(drop)
}

/// Removes one element; was it there?
pub(crate) fn delete<K: Pod>(map: BorrowedFd<'_>, key: &K) -> io::Result<bool> {
    match bpf(command::MAP_DELETE_ELEM, &mut element(map, key, std::ptr::null::<u8>())) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Reads and removes one element in one step (kernel 5.14 for hashes).
pub(crate) fn take<K: Pod, V: Pod>(map: BorrowedFd<'_>, key: &K) -> io::Result<Option<V>> {
    let mut value = V::zeroed();
    match bpf(command::MAP_LOOKUP_AND_DELETE_ELEM, &mut element(map, key, &raw mut value)) {
        Ok(_) => Ok(Some(value)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes one element unless there is one.
pub(crate) fn insert<K: Pod, V: Pod>(map: BorrowedFd<'_>, key: &K, value: &V) -> io::Result<()> {
    const NO_EXIST: u64 = 1;
    let mut attribute = ElementAttribute { flags: NO_EXIST, ..element(map, key, value) };
    match bpf(command::MAP_UPDATE_ELEM, &mut attribute) {
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        outcome => outcome.map(drop),
    }
}

#[repr(C)]
struct BatchAttribute {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

fn batch<K, V>(map: BorrowedFd<'_>, keys: *const K, values: *const V, count: usize) -> BatchAttribute {
    BatchAttribute {
        in_batch: 0,
        out_batch: 0,
        keys: address(keys),
        values: address(values),
        count: count as u32,
        map: raw(map),
        element_flags: 0,
        flags: 0,
    }
}

/// Writes many elements in one call.
pub(crate) fn update_batch<K: Pod, V: Pod>(map: BorrowedFd<'_>, keys: &[K], values: &[V]) -> io::Result<()> {
    debug_assert_eq!(keys.len(), values.len());
    let mut done = 0;
    while done < keys.len() {
        let (keys, values) = (keys.get(done..).unwrap_or_default(), values.get(done..).unwrap_or_default());
        let mut attribute = batch(map, keys.as_ptr(), values.as_ptr(), keys.len());
        bpf(command::MAP_UPDATE_BATCH, &mut attribute)?;
        done += (attribute.count as usize).max(1);
    }
    Ok(())
}

/// Reads `count` elements of an array from `first` on, in one call. Of a per-CPU array each is as many values as there are
/// possible CPUs, one after the other.
pub(crate) fn read_range<V: Pod>(
    map: BorrowedFd<'_>,
    first: u32,
    count: u32,
    values: &mut [V],
) -> io::Result<()> {
    let mut keys = vec![0u32; count as usize];
    let (before, mut last) = (first.wrapping_sub(1), 0u32);
    let mut attribute = batch(map, keys.as_mut_ptr(), values.as_mut_ptr(), count as usize);
    attribute.in_batch = if first == 0 { 0 } else { address(&raw const before) };
    attribute.out_batch = address(&raw mut last);
    match bpf(command::MAP_LOOKUP_BATCH, &mut attribute) {
        // The last one of the map was among them.
        Err(error) if error.raw_os_error() != Some(libc::ENOENT) => Err(error),
        _ if attribute.count == count => Ok(()),
        _ => Err(io::Error::other(format!("{} elements instead of {count}", attribute.count))),
    }
}

/// Writes many elements of a per-CPU array, each as many values as there are possible CPUs.
pub(crate) fn write_per_cpu<V: Pod>(map: BorrowedFd<'_>, keys: &[u32], values: &[V]) -> io::Result<()> {
    if keys.is_empty() {
        return Ok(());
    }
    let mut attribute = batch(map, keys.as_ptr(), values.as_ptr(), keys.len());
    bpf(command::MAP_UPDATE_BATCH, &mut attribute).map(drop)
}

/// Removes many elements. The kernel stops at the first one that is missing; we go on behind it.
pub(crate) fn delete_batch<K: Pod>(map: BorrowedFd<'_>, keys: &[K]) -> io::Result<()> {
    let mut rest = keys;
    while !rest.is_empty() {
        let mut attribute = batch(map, rest.as_ptr(), std::ptr::null::<u8>(), rest.len());
        let done = match bpf(command::MAP_DELETE_BATCH, &mut attribute) {
            Ok(_) => (attribute.count as usize).max(1),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => attribute.count as usize + 1,
            Err(error) => return Err(error),
        };
        rest = rest.get(done..).unwrap_or_default();
    }
    Ok(())
}

/// Shows all elements to `see`, reading `step` at a time and `limit` at most. A hash that changes meanwhile may show
/// an element twice or not at all.
pub(crate) fn for_each<K: Pod, V: Pod>(
    map: BorrowedFd<'_>,
    step: usize,
    limit: usize,
    mut see: impl FnMut(K, V),
) -> io::Result<()> {
    let mut step = step.clamp(1, limit.max(1));
    let (mut keys, mut values) = (vec![K::zeroed(); step], vec![V::zeroed(); step]);
    // A hash gives its bucket number here, an array its key: 4 bytes each.
    let (mut position, mut next) = (0u32, 0u32);
    let mut first = true;
    let mut left = limit;
    while left > 0 {
        let mut attribute = batch(map, keys.as_mut_ptr(), values.as_mut_ptr(), step.min(left));
        attribute.in_batch = if first { 0 } else { address(&raw const position) };
        attribute.out_batch = address(&raw mut next);
        let last = match bpf(command::MAP_LOOKUP_BATCH, &mut attribute) {
            Ok(_) => false,
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
            // One bucket of the hash holds more than a step.
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {
                step *= 2;
                left = left.max(step);
                keys.resize(step, K::zeroed());
                values.resize(step, V::zeroed());
                continue;
            }
            Err(error) => return Err(error),
        };
        let count = attribute.count as usize;
        for (key, value) in keys.iter().zip(&values).take(count) {
            see(*key, *value);
        }
        if last {
            break;
        }
        left = left.saturating_sub(count);
        (position, first) = (next, false);
    }
    Ok(())
}

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

/// An RCU grace period; `false` if there is no way to wait for one. MEMBARRIER_CMD_GLOBAL is synchronize_rcu on more
/// than one CPU, nothing on a single one, and refused with nohz_full (kernel 6.18 kernel/sched/membarrier.c).
pub(crate) fn synchronize_rcu() -> bool {
    // SAFETY: no pointers.
    let cpus = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
    // SAFETY: no pointers.
    cpus > 1 && unsafe { libc::syscall(libc::SYS_membarrier, libc::MEMBARRIER_CMD_GLOBAL, 0, 0) } == 0
}
