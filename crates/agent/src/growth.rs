//! How large the tables are, and are made.

use kernel::{Maps, Sizes};
use plan::{Capacity, Room};

/// How much the maps hold.
pub fn capacity(maps: &Maps) -> Capacity {
    let all = maps.all();
    Capacity::new(|room| all.iter().find(|map| map.name() == room.name()).map_or(0, |map| map.capacity()))
}

/// The sizes of maps that hold so much.
pub fn sizes(capacity: &Capacity) -> Sizes {
    Sizes::new(Room::ALL.map(|room| (room.name(), capacity.of(room))))
}

/// Which maps become larger, in words.
pub(crate) fn growth(from: &Capacity, to: &Capacity) -> String {
    let grown = Room::ALL.into_iter().filter(|room| from.of(*room) != to.of(*room));
    let texts: Vec<String> =
        grown.map(|room| format!("{room} {} -> {}", from.of(room), to.of(room))).collect();
    texts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_told_map_by_map() {
        let from = Capacity::for_cluster(10, 100);
        let to = Capacity { backends: 200, lists: 250, ..from };
        assert_eq!(growth(&from, &to), "lists 125 -> 250, backends 100 -> 200");
    }
}
