//! How much the maps hold, and how large to make them.

use std::fmt;

/// How many entries each map has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Service ports: `names`.
    pub services: u32,
    /// `backends`.
    pub backends: u32,
    /// `lists`.
    pub lists: u32,
    /// `records`.
    pub records: u32,
    /// `frontends4`.
    pub frontends4: u32,
    /// `frontends6`.
    pub frontends6: u32,
    /// `addresses4`.
    pub addresses4: u32,
    /// `addresses6`.
    pub addresses6: u32,
    /// `sources`.
    pub sources: u32,
}

/// How much of each map is in use, without what is in quarantine.
pub type Usage = Capacity;

/// What can be full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Room {
    /// Service ports: `names`.
    Services,
    /// `backends`.
    Backends,
    /// `lists`: no free range is long enough.
    Lists,
    /// `records`.
    Records,
    /// `frontends4`.
    Frontends4,
    /// `frontends6`.
    Frontends6,
    /// `addresses4`.
    Addresses4,
    /// `addresses6`.
    Addresses6,
    /// `sources`.
    Sources,
}

impl Room {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Frontends4,
        Self::Frontends6,
        Self::Records,
        Self::Lists,
        Self::Backends,
        Self::Services,
        Self::Addresses4,
        Self::Addresses6,
        Self::Sources,
    ];

    /// Name of the map.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Services => "names",
            Self::Backends => "backends",
            Self::Lists => "lists",
            Self::Records => "records",
            Self::Frontends4 => "frontends4",
            Self::Frontends6 => "frontends6",
            Self::Addresses4 => "addresses4",
            Self::Addresses6 => "addresses6",
            Self::Sources => "sources",
        }
    }
}

impl fmt::Display for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Capacity {
    /// What maps are made with, if they may become so large: good for 2,000 services with ten endpoints each.
    pub const FIRST: Self = Self::for_cluster(8192, 65_536);

    /// Of a cluster with so many service ports, over both families, and endpoints of them.
    pub const fn for_cluster(services: u32, backends: u32) -> Self {
        Self {
            services,
            backends,
            // The frontends of a service port share one, and what of it is on this node only is short; and room for
            // those that a change is about to replace.
            lists: backends.saturating_add(backends / 4),
            // Each frontend's, and room for those that a change is about to replace.
            records: services.saturating_mul(3),
            frontends4: services,
            frontends6: services,
            addresses4: services,
            addresses6: services,
            sources: services,
        }
    }

    /// What `of` says of each kind.
    pub fn new(of: impl Fn(Room) -> u32) -> Self {
        Self {
            services: of(Room::Services),
            backends: of(Room::Backends),
            lists: of(Room::Lists),
            records: of(Room::Records),
            frontends4: of(Room::Frontends4),
            frontends6: of(Room::Frontends6),
            addresses4: of(Room::Addresses4),
            addresses6: of(Room::Addresses6),
            sources: of(Room::Sources),
        }
    }

    /// How much there is of one kind.
    pub const fn of(&self, room: Room) -> u32 {
        match room {
            Room::Services => self.services,
            Room::Backends => self.backends,
            Room::Lists => self.lists,
            Room::Records => self.records,
            Room::Frontends4 => self.frontends4,
            Room::Frontends6 => self.frontends6,
            Room::Addresses4 => self.addresses4,
            Room::Addresses6 => self.addresses6,
            Room::Sources => self.sources,
        }
    }

    /// The greater of each kind.
    pub fn max(&self, other: &Self) -> Self {
        Self::new(|room| self.of(room).max(other.of(room)))
    }

    /// The lesser of each kind.
    pub fn min(&self, other: &Self) -> Self {
        Self::new(|room| self.of(room).min(other.of(room)))
    }

    /// What to make of maps that hold so much where there is `need`, and where `is_full` says that something found no
    /// room; at most `most`, and never less than there is. `None`: they can stay as they are.
    ///
    /// A quarter more than is needed, for what a change is about to replace, and a power of two, so that they seldom grow.
    pub fn grown(&self, need: &Usage, is_full: impl Fn(Room) -> bool, most: &Self) -> Option<Self> {
        let grown = Self::new(|room| {
            let (has, need) = (self.of(room), need.of(room));
            let full = if is_full(room) { has.saturating_add(1) } else { 0 };
            let wanted = need.saturating_add(need / 4).max(full);
            if wanted <= has {
                return has;
            }
            wanted.checked_next_power_of_two().unwrap_or(u32::MAX).min(most.of(room)).max(has)
        });
        (grown != *self).then_some(grown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(n: u32) -> Capacity {
        Capacity::new(|_| n)
    }

    #[test]
    fn r30_lists_and_records_have_room_for_what_a_change_is_about_to_replace() {
        let expected = Capacity { backends: 100, lists: 125, records: 30, ..all(10) };
        assert_eq!(Capacity::for_cluster(10, 100), expected);
    }

    #[test]
    fn r30_maps_grow_to_a_power_of_two_above_what_is_needed_and_a_quarter() {
        let need = Capacity { backends: 820, lists: 819, records: 4000, ..all(10) };
        let grown = all(1024).grown(&need, |_| false, &all(1 << 20)).unwrap();
        assert_eq!(grown, Capacity { backends: 2048, records: 8192, ..all(1024) });
        assert_eq!(all(1024).grown(&all(819), |_| false, &all(1 << 20)), None);
    }

    #[test]
    fn r30_what_is_full_grows_whatever_is_needed() {
        let grown = all(1024).grown(&all(10), |room| room == Room::Lists, &all(1 << 20)).unwrap();
        assert_eq!(grown, Capacity { lists: 2048, ..all(1024) });
    }

    #[test]
    fn r30_maps_grow_no_further_than_they_may_and_never_shrink() {
        let grown = all(1024).grown(&all(5000), |_| false, &all(3000)).unwrap();
        assert_eq!(grown, all(3000));
        assert_eq!(grown.grown(&all(5000), |_| true, &all(3000)), None);
        assert_eq!(grown.grown(&all(5000), |_| true, &all(100)), None);
        let most = Capacity::new(|_| u32::MAX);
        assert_eq!(all(7).grown(&all(u32::MAX), |_| true, &most), Some(most));
    }
}
