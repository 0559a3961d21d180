//! Tables that are made larger when something has no room in them (R30).

use std::time::Instant;

use plan::{Capacity, Refusal};

use super::{Agent, GROWING};
use crate::{
    Error,
    growth::{capacity, growth, sizes},
};

impl Agent {
    /// Makes room for what is desired, and for what was `refused`, if tables may become so large; whether it did.
    pub(super) fn make_room(&mut self, refused: &[Refusal]) -> bool {
        let Some(larger) = self.reconciler.larger(refused, &self.config.most()) else { return false };
        match self.grow(&larger) {
            Ok(()) => {
                self.failures.remove(GROWING);
                true
            }
            Err(error) => {
                self.failed(GROWING, &error);
                false
            }
        }
    }

    fn grow(&mut self, larger: &Capacity) -> Result<(), Error> {
        let begun = Instant::now();
        let pins = &self.config.bpffs;
        let (mut loaded, maps) = kernel::grow(pins, self.reconciler.store(), &sizes(larger))?;
        if self.in_force {
            if let Err(error) = self.install(loaded) {
                // Some of the hooks may have the new programs, which know nothing of the maps that we go on with.
                self.in_force = false;
                return Err(error.into());
            }
        } else {
            loaded.settle(pins)?;
            self.loaded = Some(loaded);
        }
        let (before, after) = (self.reconciler.table().capacity(), capacity(&maps));
        tracing::info!(took = ?begun.elapsed(), "tables are larger: {}", growth(&before, &after));
        self.reconciler.move_to(maps, after);
        Ok(())
    }
}
