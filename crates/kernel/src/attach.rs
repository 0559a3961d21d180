//! Attaching to a cgroup, replacing atomically, detaching.

use std::{os::fd::AsFd, path::Path};

pub use crate::object::{HOOKS, HookPoint};
use crate::{Error, Loaded, Maps, Pins, Sizes, carry, load::link_of, sys};

/// Where one hook's program is attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Name of the hook.
    pub hook: &'static str,
    /// The kernel's id of the program; `None` = not attached.
    pub program_id: Option<u32>,
    /// Id of the cgroup.
    pub cgroup_id: u64,
}

/// Puts `loaded` in force on `cgroup`: attaches what is not attached yet and replaces what is, without a moment
/// without a program; then puts larger maps in their places ([`crate::grow()`]), carries over the sockets of an earlier slot layout, and removes the pins of maps
/// that nobody uses any more.
///
/// # Errors
/// The kernel refuses; what is attached by then stays so.
pub fn install(mut loaded: Loaded, pins: &Pins, sizes: &Sizes, cgroup: &Path) -> Result<Installed, Error> {
    if let Some(layout) = loaded.carries_from() {
        carry::settle(pins, layout)?;
    }
    put_in_force(&loaded, pins, cgroup)?;
    note_tables(&loaded, pins)?;
    if loaded.has_larger_maps() {
        // A program that was replaced may still run. What is written from now on may lead to where its maps end.
        crate::wait_for_readers();
        loaded.settle(pins)?;
    }
    let mut carried = None;
    if let Some(layout) = loaded.carries_from() {
        // A program that was replaced may still run, and take an earlier slot that has been looked at already.
        crate::wait_for_readers();
        carried = Some(carry::carry(pins, layout)?);
        pins.remove_outdated_maps()?;
        // Once more, without the look into the earlier slots.
        loaded = Loaded::load(pins, sizes)?;
        put_in_force(&loaded, pins, cgroup)?;
    }
    let unwatched = loaded.watch_cgroups(pins).err();
    Ok(Installed { removed: pins.remove_outdated_maps()?, carried, unwatched })
}

/// Do the attached programs look into the tables that are pinned in the layout of this version? Then whatever is written there
/// is seen by them. Not into those of a version with another layout, nor into tables that were made anew because the pins
/// of others had been removed.
///
/// # Errors
/// A pin can't be read.
pub fn is_shared(pins: &Pins) -> Result<bool, Error> {
    let has_programs = attached(pins)?.iter().any(|it| it.program_id.is_some());
    let maps = Maps::open_read_only(pins)?;
    Ok(has_programs && maps.newest_table() <= maps.settings()?.tables)
}

/// Notes which tables the programs look into that are in force now, for [`is_shared`]. Before larger maps are in their
/// places: whoever dies in between has neither these nor the smaller ones for new.
fn note_tables(loaded: &Loaded, pins: &Pins) -> Result<(), Error> {
    let maps = if loaded.has_larger_maps() { Maps::open_next(pins)? } else { Maps::open(pins)? };
    maps.change_settings(|settings| settings.tables = maps.newest_table())
}

/// What [`install`] did besides attaching.
#[derive(Debug)]
pub struct Installed {
    /// Pins of maps of other layouts that were removed.
    pub removed: Vec<String>,
    /// Sockets carried over from an earlier slot layout.
    pub carried: Option<carry::Carried>,
    /// Why cgroups are not noted as they are made: clients whose cgroup is gone are not known.
    pub unwatched: Option<Error>,
}

fn put_in_force(loaded: &Loaded, pins: &Pins, cgroup: &Path) -> Result<(), Error> {
    let name = cgroup.display().to_string();
    let directory =
        std::fs::File::open(cgroup).map_err(|source| Error::syscall("open", name.clone(), source))?;
    let facts = rustix::fs::fstat(&directory)
        .map_err(|source| Error::syscall("fstat", name.clone(), source.into()))?;
    for hook in HOOKS {
        if let Some((link, info)) = link_of(pins, hook)? {
            if info.cgroup_id == facts.st_ino && info.attach_type == hook.attach_type {
                loaded.with_program(hook, |program| sys::link_update(link.as_fd(), program))?;
                continue;
            }
            // Of another cgroup, or of one that is gone.
            detach_link(&link, hook)?;
            pins.remove_link(hook.name)?;
        }
        let link = loaded
            .with_program(hook, |program| sys::link_create(program, directory.as_fd(), hook.attach_type))?;
        sys::object_pin(link.as_fd(), &pins.link(hook.name))
            .map_err(|source| Error::syscall("BPF_OBJ_PIN", hook.name, source))?;
    }
    Ok(())
}

/// What is attached now.
///
/// # Errors
/// A pinned link can't be read.
pub fn attached(pins: &Pins) -> Result<Vec<Attached>, Error> {
    HOOKS
        .into_iter()
        .map(|hook| {
            let link = link_of(pins, hook)?.filter(|(_, info)| info.cgroup_id != 0);
            Ok(Attached {
                hook: hook.name,
                program_id: link.as_ref().map(|(_, info)| info.program_id),
                cgroup_id: link.map_or(0, |(_, info)| info.cgroup_id),
            })
        })
        .collect()
}

impl Attached {
    /// For how many nanoseconds its program has run, and how often. `None` where the kernel does not say: it takes
    /// CAP_SYS_ADMIN, and the sysctl kernel.bpf_stats_enabled.
    pub fn runs(&self) -> Option<(u64, u64)> {
        sys::program_runs(self.program_id?).ok().filter(|(_, runs)| *runs > 0)
    }
}

/// A program that others have attached to the same cgroup and hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stranger {
    /// Name of the hook.
    pub hook: &'static str,
    /// The kernel's id of the program.
    pub program_id: u32,
    /// Its name; `None` where that may not be looked at (it takes CAP_SYS_ADMIN).
    pub name: Option<String>,
}

impl Stranger {
    /// Is it a program of ours, under other pins? All that are attached to a cgroup run, one after the other: service
    /// addresses would be translated twice, by tables of which one is followed by nobody.
    pub fn is_ours(&self) -> bool {
        self.name.as_deref() == Some(self.hook)
    }
}

/// Programs on `cgroup`, at the hooks that are ours, which are not `own`.
///
/// # Errors
/// The cgroup can't be read.
pub fn strangers(own: &[Attached], cgroup: &Path) -> Result<Vec<Stranger>, Error> {
    let name = cgroup.display().to_string();
    let directory =
        std::fs::File::open(cgroup).map_err(|source| Error::syscall("open", name.clone(), source))?;
    let own: Vec<u32> = own.iter().filter_map(|it| it.program_id).collect();
    let mut strangers = Vec::new();
    for hook in HOOKS {
        let programs = sys::programs_of_cgroup(directory.as_fd(), hook.attach_type)
            .map_err(|source| Error::syscall("BPF_PROG_QUERY", format!("{} of {name}", hook.name), source))?;
        strangers.extend(programs.into_iter().filter(|id| !own.contains(id)).map(|program_id| Stranger {
            hook: hook.name,
            program_id,
            name: sys::program_name(program_id).ok(),
        }));
    }
    Ok(strangers)
}

/// Detaches everything and removes every pin.
///
/// # Errors
/// Something can't be detached or removed; what was by then stays so, and calling again goes on.
pub fn clean(pins: &Pins) -> Result<(), Error> {
    // First those that choose, then those that give the answer back, so that no socket sees half.
    for hook in HOOKS.into_iter().rev() {
        if let Some((link, info)) = link_of(pins, hook)?
            && info.cgroup_id != 0
        {
            detach_link(&link, hook)?;
        }
        pins.remove_link(hook.name)?;
    }
    pins.remove_all()
}

fn detach_link(link: &std::os::fd::OwnedFd, hook: HookPoint) -> Result<(), Error> {
    match sys::link_detach(link.as_fd()) {
        // ENOLINK: detached already.
        Err(source) if source.raw_os_error() != Some(libc::ENOLINK) => {
            Err(Error::syscall("BPF_LINK_DETACH", hook.name, source))
        }
        _ => Ok(()),
    }
}
