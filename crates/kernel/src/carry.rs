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

use crate::{Error, Pins, mapping::Mapping, pins::MapName, sys};

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

/// Before sockets are carried from `layout`: makes good what a carrying in the other direction left there when it
/// was killed, as when an upgrade fails halfway and is taken back.
///
/// # Errors
/// A map can't be opened or mapped.
pub(crate) fn settle(pins: &Pins, layout: u32) -> Result<(), Error> {
    let (previous, previous_size) = map(pins, layout)?;
    let (current, current_size) = map(pins, abi::layout::SLOTS)?;
    for index in 0..SLOTS as usize {
        if let Some(from) = previous.slot(index, previous_size)
            && let Some(to) = current.slot(index, current_size)
        {
            settle_slot(from, to);
        }
    }
    Ok(())
}

/// A slot that was being copied into: complete if where it was copied from has been given up, else nothing.
fn settle_slot(from: &Slot, to: &Slot) {
    loop {
        let held = from.owner.load();
        if held & owner::COPYING == 0 {
            return;
        }
        let cookie = held & owner::COOKIE;
        let settled = if cookie != 0 && to.owner.load() & owner::COOKIE != cookie {
            held & !owner::COPYING
        } else {
            held & owner::OVERFLOW
        };
        if from.owner.replace(held, settled) {
            return;
        }
    }
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
                // Not claimed meanwhile: by then the slot may be another's.
                to.owner.keep(owner::OVERFLOW);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(held: u64) -> Slot {
        let slot = Slot::default();
        slot.owner.store(held);
        slot
    }

    #[test]
    fn a_copy_that_was_never_finished_is_none() {
        let (from, to) = (owned(7 | owner::COPYING | owner::MORE), owned(7 | owner::MORE));
        settle_slot(&from, &to);
        assert_eq!((from.owner.load(), to.owner.load()), (0, 7 | owner::MORE));
    }

    #[test]
    fn a_copy_whose_original_was_given_up_counts() {
        for other in [0, 8, owner::OVERFLOW] {
            let (from, to) = (owned(7 | owner::COPYING | owner::MORE), owned(other));
            settle_slot(&from, &to);
            assert_eq!((from.owner.load(), to.owner.load()), (7 | owner::MORE, other));
        }
    }

    #[test]
    fn what_nobody_copied_into_stays() {
        for held in [0, 7, 7 | owner::MORE, owner::OVERFLOW] {
            let from = owned(held);
            settle_slot(&from, &owned(7));
            assert_eq!(from.owner.load(), held);
        }
    }

    #[test]
    fn a_slot_that_was_given_up_while_it_was_copied_into_is_free() {
        let from = owned(owner::COPYING | owner::OVERFLOW);
        settle_slot(&from, &owned(0));
        assert_eq!(from.owner.load(), owner::OVERFLOW);
    }

    #[test]
    fn a_copied_slot_says_the_same() {
        let (from, to) = (owned(7 | owner::MORE), owned(owner::OVERFLOW));
        from.pair.ids.store(5);
        let meta = Meta { state: pair_state::VALID, vip_port_be: 80, ..Meta::default() }.pack();
        from.pair.meta.store(meta);
        assert!(matches!(copy(&from, &to), Outcome::Copied));
        assert_eq!(from.owner.load(), 0);
        assert_eq!(to.owner.load(), 7 | owner::MORE | owner::OVERFLOW);
        assert_eq!((to.pair.ids.load(), to.pair.meta.load()), (5, meta));
        assert!(matches!(copy(&owned(9), &to), Outcome::Taken));
    }
}
