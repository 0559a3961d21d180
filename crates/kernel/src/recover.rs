//! Pins that somebody removed, put back: the maps live on, in the agent that has them open and in the programs that are
//! attached. Else an empty map would take the place of each, beside others that refer to what was in it.

use std::os::fd::{AsFd, BorrowedFd};

use crate::{
    Error, HOOKS, Maps, Pins,
    load::link_of,
    maps::PinnedMap,
    pins::{MAPS, MapName},
    sys,
};

/// Pins the maps that are open here and whose pins are gone; which. Not where the whole directory is gone: whoever
/// removed that meant it.
///
/// # Errors
/// A pin can't be read or made, or another map is in the place of one.
pub fn put_back(maps: &Maps, pins: &Pins) -> Result<Vec<&'static str>, Error> {
    if !pins.exist()? {
        return Ok(Vec::new());
    }
    let missing = missing(pins)?;
    let open = maps.all().into_iter();
    open.filter_map(|map| Some((missing.iter().find(|it| it.name == map.name())?, map.fd())))
        .map(|(name, map)| pin(pins, *name, map))
        .collect()
}

/// The same for the maps of the attached programs, where no agent was there to see it. Finding a map by its id takes
/// CAP_SYS_ADMIN; without it none is found.
///
/// # Errors
/// As [`put_back`].
pub(crate) fn put_back_from_programs(pins: &Pins) -> Result<Vec<&'static str>, Error> {
    let mut missing = missing(pins)?;
    // Where another layout is pinned nothing was removed: this is an upgrade, and what the programs have is of that
    // layout, whatever it looks like. They go on reading it until ours are in force.
    for place in (0..missing.len()).rev() {
        if !pins.layouts(missing[place].name)?.is_empty() {
            missing.swap_remove(place);
        }
    }
    let mut found = Vec::new();
    for hook in HOOKS {
        if missing.is_empty() {
            break;
        }
        let Some((_, info)) = link_of(pins, hook)? else { continue };
        for map in sys::maps_of_program(info.program_id).unwrap_or_default() {
            let is = |name: &MapName| sys::map_info(map.as_fd()).is_ok_and(|it| it.name() == name.name);
            if let Some(place) = missing.iter().position(is) {
                let name = missing.swap_remove(place);
                // One of another layout is not what is missing.
                if PinnedMap::is_like(name, map.as_fd()) {
                    found.push(pin(pins, name, map.as_fd())?);
                }
            }
        }
    }
    Ok(found)
}

fn missing(pins: &Pins) -> Result<Vec<MapName>, Error> {
    let mut missing = Vec::new();
    for map in MAPS {
        if PinnedMap::open(pins, map)?.is_none() {
            missing.push(map);
        }
    }
    Ok(missing)
}

fn pin(pins: &Pins, name: MapName, map: BorrowedFd<'_>) -> Result<&'static str, Error> {
    let path = pins.map(name);
    sys::object_pin(map, &path)
        .map_err(|source| Error::syscall("BPF_OBJ_PIN", path.display().to_string(), source))?;
    Ok(name.name)
}
