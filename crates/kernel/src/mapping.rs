//! Arrays of the programs, mapped into this process.
#![allow(unsafe_code)]

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    ptr,
};

/// A mapping of a whole BPF_F_MMAPABLE array, as words that the programs change at the same time.
pub(crate) struct Mapping {
    start: *mut libc::c_void,
    len: usize,
}

// SAFETY: the mapping belongs to nobody's thread, and what is in it is atomics.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `len` bytes of `map`, writable.
    pub(crate) fn new(map: BorrowedFd<'_>, len: usize) -> io::Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                map.as_fd().as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(Self { start, len }) }
    }

    /// Where a `T` is at the beginning of entry `index` of `size` bytes each; `None` past the end.
    fn place<T>(&self, index: usize, size: usize) -> Option<*const T> {
        let offset = index.checked_mul(size)?;
        if offset.checked_add(size_of::<T>())? > self.len || !offset.is_multiple_of(align_of::<T>()) {
            return None;
        }
        // SAFETY: in bounds, as just checked.
        Some(unsafe { self.start.cast::<u8>().add(offset) }.cast())
    }

    /// The slot at the beginning of entry `index` of `size` bytes each; `None` past the end.
    pub(crate) fn slot(&self, index: usize, size: usize) -> Option<&abi::Slot> {
        // SAFETY: in bounds and aligned, since the start is on a page; a Slot is atomics, for which any bits are valid
        // and which may change under us.
        self.place(index, size).map(|slot| unsafe { &*slot })
    }

    /// Line `index`; `None` past the end.
    pub(crate) fn line(&self, index: usize) -> Option<&abi::lines::Line> {
        // SAFETY: as in `slot`: a Line is atomics too.
        self.place(index, size_of::<abi::lines::Line>()).map(|line| unsafe { &*line })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: our own mapping, no reference into which outlives us.
        unsafe { libc::munmap(self.start, self.len) };
    }
}
