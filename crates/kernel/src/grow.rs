//! Larger maps in the place of those that are full, while programs run.
//!
//! The kernel can't enlarge a map. So larger ones are made beside those that are pinned (`NAME_vLAYOUT_next`), filled with
//! what these hold at the same indexes, and programs loaded over them. These are put in the links' place like those of a new
//! agent ([`crate::install`]), and then each larger map is renamed over the smaller.
//!
//! Nobody else writes to the tables, so all of them say the same until that is done: whoever dies in between leaves pins of
//! which some are larger, and they fit together all the same. What waits is removed by the next who installs.

use abi::{
    Backend, Name, Record,
    client::SourceKey,
    space::{Use4, Use6},
};
use bytemuck::Pod;

use crate::{
    Error, Loaded, Maps, Pins, Sizes, TableStore,
    maps::PinnedMap,
    store::{put, read},
};

/// Makes maps of `sizes` where those of `maps` are smaller, filled like these, and loads programs over them: put them in
/// force by [`crate::install`], or the maps alone in their places by [`Loaded::settle`]; then write to the maps returned, no
/// longer to `maps`.
///
/// # Errors
/// There is no memory for them, or the kernel refuses; nothing has changed then.
pub fn grow(pins: &Pins, maps: &Maps, sizes: &Sizes) -> Result<(Loaded, Maps), Error> {
    // What one that died has left is not what `maps` hold now.
    pins.remove_next_maps()?;
    let made = Loaded::load_larger(pins, sizes).and_then(|loaded| {
        let mut larger = Maps::open_next(pins)?;
        fill(maps, &mut larger)?;
        Ok((loaded, larger))
    });
    if made.is_err() {
        // The error is what the caller has to know; a pin that stays is removed the next time.
        let _ = pins.remove_next_maps();
    }
    made
}

fn fill(from: &Maps, to: &mut Maps) -> Result<(), Error> {
    copy::<u32, Name>(&from.names, &to.names)?;
    copy::<u32, Backend>(&from.backends, &to.backends)?;
    copy::<u32, Backend>(&from.lists, &to.lists)?;
    copy::<u32, Record>(&from.records, &to.records)?;
    copy::<SourceKey, u32>(&from.sources, &to.sources)?;
    copy::<u32, Use4>(&from.addresses4, &to.addresses4)?;
    copy::<[u32; 4], Use6>(&from.addresses6, &to.addresses6)?;
    let grew4 = from.frontends4.id() != to.frontends4.id();
    let grew6 = from.frontends6.id() != to.frontends6.id();
    // They are elsewhere in a table with more lines.
    let (mut frontends, _) = from.frontends()?;
    frontends.retain(|(key, _)| if key.is_v4() { grew4 } else { grew6 });
    to.put_frontends(&frontends)
}

/// Copies all elements, those of arrays to the same indexes. Nothing where there is no larger one.
fn copy<K: Pod, V: Pod>(from: &PinnedMap, to: &PinnedMap) -> Result<(), Error> {
    if from.id() == to.id() {
        return Ok(());
    }
    put(to, read::<K, V>(from)?.into_iter())
}
