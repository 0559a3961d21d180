//! What holds programs where they are attached.

use std::{
    ffi::CStr,
    io,
    os::fd::{BorrowedFd, OwnedFd},
};

use bytemuck::Zeroable;

use super::{address, bpf, command, info, owned, raw};

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
