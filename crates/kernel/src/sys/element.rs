//! One element of a map at a time.

use std::{io, os::fd::BorrowedFd};

use bytemuck::Pod;

use super::{address, bpf, command, raw};

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
