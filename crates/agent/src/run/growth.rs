//! Tables that are made larger when something has no room in them (R30).

use std::{
    fmt,
    time::{Duration, Instant},
};

use host::limit;
use kernel::Maps;
use plan::{Capacity, Refusal};

use super::{Agent, RETRY};
use crate::{
    Error,
    growth::{capacity, growth, sizes},
};

/// It could not be done.
pub(super) struct Failing {
    error: String,
    /// When it is tried again: each attempt loads all programs.
    pub(super) again_at: Instant,
    pause: Duration,
}

impl fmt::Display for Failing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "making the tables larger: {}", self.error)
    }
}

impl Agent {
    /// Makes room for what is desired, and for what was `refused`, if tables may become so large; whether it did.
    pub(super) fn make_room(&mut self, refused: &[Refusal]) -> bool {
        let Some(larger) = self.reconciler.larger(refused, &self.config.most()) else {
            self.growing = None;
            return false;
        };
        if self.growing.as_ref().is_some_and(|growing| Instant::now() < growing.again_at) {
            return false;
        }
        // It would go on in the smaller ones. There is another round when it is over.
        if !self.sockets.is_idle() {
            if let Some(growing) = &mut self.growing {
                growing.again_at = Instant::now() + growing.pause;
            }
            return false;
        }
        match self.grow(&larger) {
            Ok(()) => {
                self.growing = None;
                true
            }
            Err(error) => {
                self.could_not_grow(&error);
                false
            }
        }
    }

    fn could_not_grow(&mut self, error: &Error) {
        let pause = self.growing.as_ref().map_or(RETRY.0, |growing| (growing.pause * 2).min(RETRY.1));
        let failing = Failing { error: error.to_string(), again_at: Instant::now() + pause, pause };
        if self.growing.as_ref().is_none_or(|growing| growing.error != failing.error) {
            tracing::error!("{failing}");
        }
        self.growing = Some(failing);
    }

    fn grow(&mut self, larger: &Capacity) -> Result<(), Error> {
        let begun = Instant::now();
        let pins = &self.config.bpffs;
        let (mut loaded, maps) = kernel::grow(pins, self.reconciler.store(), &sizes(larger))?;
        if self.in_force {
            if let Err(error) = self.install(loaded) {
                // Some hooks may have the new programs, and some pins be of the larger maps. All say the same so far: what is
                // pinned is what counts, and the next round puts programs over it in force before it writes.
                self.in_force = false;
                self.move_to(Maps::open(&self.config.bpffs)?);
                return Err(error.into());
            }
        } else {
            loaded.settle(pins)?;
            self.loaded = Some(loaded);
        }
        let (before, after) = (self.reconciler.table().capacity(), capacity(&maps));
        tracing::info!(took = ?begun.elapsed(), "tables are larger: {}", growth(&before, &after));
        self.move_to(maps);
        limit::trim_heap();
        Ok(())
    }

    fn move_to(&mut self, maps: Maps) {
        let capacity = capacity(&maps);
        self.reconciler.move_to(maps, capacity);
    }
}
