//! Looking after sockets: begun here, done elsewhere, told of here.

use kernel::LiveTables;

use super::Agent;
use crate::sockets;

impl Agent {
    pub(super) fn search(&mut self) {
        // Just now, not when it was looked at last.
        let paused = self.reconciler.store().settings().is_ok_and(|settings| settings.paused != 0);
        self.sockets.begin(paused);
    }

    /// A search is over.
    pub(super) fn searched(&mut self, done: sockets::Done) {
        let before = (self.sockets.destroyed, self.sockets.freed);
        let all_closed = self.sockets.finish(done);
        let (destroyed, freed) = (self.sockets.destroyed - before.0, self.sockets.freed - before.1);
        self.contract.metrics().searched(destroyed, freed);
        for closed in all_closed {
            let tables = LiveTables::new(self.reconciler.store());
            self.log.add_destroyed(sockets::event(&self.config.node_name, &closed, &tables));
        }
        // Tables do not become larger during a search.
        if !self.refused.is_empty() {
            self.round();
        }
    }
}
