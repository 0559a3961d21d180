//! How full maps are.

use kernel::Maps;
use plan::{Capacity, Room, Usage};

use crate::status::MapUse;

/// The tables, as their owner knows them.
pub(crate) fn of_tables(usage: &Usage, capacity: &Capacity, most: &Capacity) -> Vec<MapUse> {
    let most = capacity.max(most);
    let of = |room: Room| MapUse {
        name: room.name().into(),
        used: usage.of(room).into(),
        capacity: capacity.of(room).into(),
        most: most.of(room).into(),
    };
    Room::ALL.into_iter().map(of).collect()
}

/// What the programs and the agent keep besides, read from the maps. These stay as large as they are.
pub(crate) fn of_others(maps: &Maps) -> Vec<MapUse> {
    let fixed = |name: &str, used: usize, capacity: u32| {
        let (used, capacity) = (used as u64, capacity.into());
        MapUse { name: name.into(), used, capacity, most: capacity }
    };
    let capacity =
        |name| maps.all().into_iter().find(|map| map.name() == name).map_or(0, |map| map.capacity());
    let clients = maps.client_uses().unwrap_or_default();
    let mut uses: Vec<MapUse> =
        clients.into_iter().map(|(name, used)| fixed(name, used, capacity(name))).collect();
    uses.push(fixed("slots", maps.slots_used().unwrap_or_default(), abi::slot::SLOTS));
    uses
}
