//! Cgroups as they are made: the program that notes them, and what it has noted.
//!
//! Whoever connects and is gone at once, with its cgroup, could not be found by the cgroup's id any more.

use std::{
    fs,
    os::fd::{AsFd, BorrowedFd},
};

use abi::cgroup::CgroupPath;

use crate::{Error, Maps, Pins, sys};

/// Name of the program, and of its link's pin.
pub(crate) const WATCH: &str = "cgroup_mkdir";

/// Where its link is pinned until it takes the earlier one's place.
const BESIDE: &str = "cgroup_mkdir_next";

/// Attaches the program, and then lets go of the earlier one.
pub(crate) fn watch(program: BorrowedFd<'_>, pins: &Pins) -> Result<(), Error> {
    let link = sys::raw_tracepoint(program, c"cgroup_mkdir")
        .map_err(|source| Error::syscall("BPF_RAW_TRACEPOINT_OPEN", WATCH, source))?;
    // Of whoever died at this point.
    pins.remove_link(BESIDE)?;
    sys::object_pin(link.as_fd(), &pins.link(BESIDE))
        .map_err(|source| Error::syscall("BPF_OBJ_PIN", BESIDE, source))?;
    fs::rename(pins.link(BESIDE), pins.link(WATCH)).map_err(|source| Error::syscall("rename", BESIDE, source))
}

/// Is the program attached? Its link can't be detached, only let go of: by removing the pin.
pub fn watches_cgroups(pins: &Pins) -> bool {
    pins.link(WATCH).exists()
}

impl Maps {
    /// The path of a cgroup, from the root of the hierarchy, as it was when it was made; `None` if it was made before anybody
    /// watched, or long ago.
    ///
    /// # Errors
    /// The map can't be read.
    pub fn cgroup_path(&self, id: u64) -> Result<Option<String>, Error> {
        let found: Option<CgroupPath> =
            sys::lookup(self.cgroups.fd(), &id).map_err(self.cgroups.error("BPF_MAP_LOOKUP_ELEM"))?;
        Ok(found.map(|path| {
            let text = path.bytes.split(|byte| *byte == 0).next().unwrap_or_default();
            String::from_utf8_lossy(text).into_owned()
        }))
    }
}
