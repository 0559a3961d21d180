//! Paths of cgroups by their ids: as they were noted when they were made, else as they are.

use std::{collections::HashMap, sync::Arc};

use host::{CgroupRoot, container::Place};
use kernel::Maps;

/// Cgroups that are remembered; all are looked for again when there are more.
const REMEMBERED: usize = 8192;

/// A cgroup's path below the mount, and whose it is.
pub(crate) type Found = (Arc<str>, Arc<Place>);

/// See the module.
#[derive(Debug)]
pub(crate) struct Cgroups {
    root: CgroupRoot,
    /// `None` = nobody knows it; ids are never used again.
    known: HashMap<u64, Option<Found>>,
}

impl Cgroups {
    /// Of the hierarchy that is mounted at `root`.
    pub(crate) fn new(root: CgroupRoot) -> Self {
        Self { root, known: HashMap::new() }
    }

    /// Where the hierarchy is mounted.
    pub(crate) fn root(&self) -> &CgroupRoot {
        &self.root
    }

    /// The cgroup with this id, if it is known.
    pub(crate) fn find(&mut self, id: u64, maps: &Maps) -> Option<Found> {
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        let root = &self.root;
        let look = || {
            // A map that can't be read is told of by those who write it.
            let noted = maps.cgroup_path(id).ok().flatten();
            let path = noted.or_else(|| {
                let path = root.find_by_id(id).ok().flatten()?;
                let below = path.strip_prefix(root.path()).ok()?;
                Some(format!("/{}", below.display()))
            })?;
            let place = Arc::new(Place::of(&path));
            Some((Arc::from(path), place))
        };
        self.known.entry(id).or_insert_with(look).clone()
    }
}
