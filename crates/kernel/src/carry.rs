//! Carrying sockets over to a new layout of `slots`, under traffic.
//!
//! While this runs, the attached programs look into the previous slots first and no longer change them, except
//! for giving one up (`datapath::sockets`). So each slot is copied between a look at its owner word and a
//! compare-and-swap of that word: if it fails, somebody gave the slot up or announced storage, and the copy is
//! taken back.

use std::os::fd::AsFd;

use abi::{
    Slot,
    slot::{Entry, Meta, SLOTS, owner, pair_state},
};

use crate::{
    Error, Pins,
    pins::MapName,
    sys::{self, Mapping},
};

/// What was carried over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// Sockets whose memory was copied.
    pub sockets: usize,
    /// Sockets whose new slot was taken by another: their peer address is lost.
    pub lost: usize,
}

/// Copies all slots of `layout` that are owned into the current layout's map.
///
/// # Errors
/// A map can't be opened or mapped.
pub(crate) fn carry(pins: &Pins, layout: u32) -> Result<Carried, Error> {
    let (previous, previous_size) = map(pins, layout)?;
    let (current, current_size) = map(pins, abi::layout::SLOTS)?;
    debug_assert_eq!(current_size, size_of::<Entry>());
    let mut carried = Carried::default();
    for index in 0..SLOTS as usize {
        if let Some(from) = previous.slot(index, previous_size)
            && let Some(to) = current.slot(index, current_size)
        {
            match copy(from, to) {
                Outcome::Free => {}
                Outcome::Copied => carried.sockets += 1,
                Outcome::Taken => carried.lost += 1,
            }
            // Also what a copier that was killed left behind.
            to.owner.keep(!owner::COPYING);
        }
    }
    Ok(carried)
}

fn map(pins: &Pins, layout: u32) -> Result<(Mapping, usize), Error> {
    let path = pins.map(MapName { name: "slots", layout });
    let object = path.display().to_string();
    let fd =
        sys::object_get(&path).map_err(|source| Error::syscall("BPF_OBJ_GET", object.clone(), source))?;
    let info = sys::map_info(fd.as_fd())
        .map_err(|source| Error::syscall("BPF_OBJ_GET_INFO_BY_FD", object.clone(), source))?;
    let size = info.value_size as usize;
    let mapping = Mapping::new(fd.as_fd(), size * info.max_entries as usize)
        .map_err(|source| Error::syscall("mmap", object, source))?;
    Ok((mapping, size))
}

enum Outcome {
    Free,
    Copied,
    Taken,
}

fn copy(from: &Slot, to: &Slot) -> Outcome {
    loop {
        let held = from.owner.load();
        let cookie = held & owner::COOKIE;
        if cookie == 0 {
            to.owner.set(held & owner::OVERFLOW);
            return Outcome::Free;
        }
        let target = to.owner.load();
        if target & owner::COOKIE != 0 && target & owner::COOKIE != cookie {
            return Outcome::Taken;
        }
        let claimed = cookie | owner::COPYING | (held & owner::MORE) | ((held | target) & owner::OVERFLOW);
        if !to.owner.replace(target, claimed) {
            continue;
        }
        let meta = from.pair.meta.load();
        match Meta::unpack(meta).state {
            // Half-written by a program of the previous version that still runs.
            pair_state::BUSY => {
                std::thread::yield_now();
                continue;
            }
            pair_state::VALID => {
                for (to, from) in to.pair.vip.iter().zip(&from.pair.vip) {
                    to.store(from.load());
                }
                for (to, from) in to.pair.backend.iter().zip(&from.pair.backend) {
                    to.store(from.load());
                }
                to.pair.ids.store(from.pair.ids.load());
                to.pair.service.store(from.pair.service.load());
                to.pair.meta.swap(meta);
            }
            _ => to.pair.meta.store(0),
        }
        if from.owner.replace(held, held & owner::OVERFLOW) {
            to.owner.keep(!owner::COPYING);
            return Outcome::Copied;
        }
        to.pair.meta.store(0);
        to.owner.keep(owner::OVERFLOW);
    }
}
