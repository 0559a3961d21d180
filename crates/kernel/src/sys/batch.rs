//! Many elements of a map in one call.

use std::{io, os::fd::BorrowedFd};

use bytemuck::Pod;

use super::{address, bpf, command, raw};

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
