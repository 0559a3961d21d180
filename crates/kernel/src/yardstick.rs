//! Programs to measure ours against, on the same machine and in the same minute: one that does nothing, and one
//! that does nothing but look up a key.

use std::{
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::Path,
};

use crate::{
    Error,
    attach::HookPoint,
    code::{EXIT, add, call, clear_word, copy, set, set_map},
    sys,
};

/// What such a program does before it lets everything pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Nothing: what a run costs in itself, and what counting it costs.
    Nothing,
    /// Sets up so many look-ups, and makes none.
    Prepare(u32),
    /// Makes so many look-ups of one key that is there, in a hash whose keys have 8 bytes.
    LookUp(u32),
}

/// Such a program, attached until this is dropped: nothing is pinned.
#[derive(Debug)]
pub struct Yardstick {
    program_id: u32,
    _link: OwnedFd,
}

impl Yardstick {
    /// Attaches one to `cgroup`.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn attach(cgroup: &Path, hook: HookPoint, work: Work) -> Result<Self, Error> {
        let error = |call| move |source| Error::syscall(call, hook.name, source);
        let map = hash_of_one().map_err(error("BPF_MAP_CREATE"))?;
        // The program keeps the map.
        let program = sys::program_load(kind(hook), hook.attach_type, &code(work, map.as_raw_fd()))
            .map_err(error("BPF_PROG_LOAD"))?;
        let directory = std::fs::File::open(cgroup)
            .map_err(|source| Error::syscall("open", cgroup.display().to_string(), source))?;
        let link = sys::link_create(program.as_fd(), directory.as_fd(), hook.attach_type)
            .map_err(error("BPF_LINK_CREATE"))?;
        let info = sys::link_info(link.as_fd()).map_err(error("BPF_OBJ_GET_INFO_BY_FD"))?;
        Ok(Self { program_id: info.program_id, _link: link })
    }

    /// The kernel's id of the program.
    pub fn program_id(&self) -> u32 {
        self.program_id
    }
}

fn kind(hook: HookPoint) -> u32 {
    if hook.name == "sock_release" { sys::CGROUP_SOCK } else { sys::CGROUP_SOCK_ADDR }
}

/// A hash as our own are, preallocated, that holds the key 0.
fn hash_of_one() -> std::io::Result<OwnedFd> {
    let map =
        sys::map_create(sys::NewMap { kind: 1, key_size: 8, value_size: 8, max_entries: 64, flags: 0 })?;
    sys::update(map.as_fd(), &0u64, &0u64)?;
    Ok(map)
}

fn code(work: Work, map: i32) -> Vec<u64> {
    const MAP_LOOKUP_ELEM: u64 = call(1);
    // The key, on the stack.
    let mut code = vec![copy(6, 10), add(6, -8), clear_word(6)];
    let (count, look_up) = match work {
        Work::Nothing => (0, false),
        Work::Prepare(count) => (count, false),
        Work::LookUp(count) => (count, true),
    };
    for _ in 0..count {
        code.extend(set_map(1, map));
        code.push(copy(2, 6));
        code.extend(look_up.then_some(MAP_LOOKUP_ELEM));
    }
    code.extend([set(0, 1), EXIT]);
    code
}
