//! Writing to the API: what a node's agent says of its node, and of objects, to those who look at them with kubectl.
//!
//! ```text
//! notice       something to tell of an object
//! event        a notice as an Event
//! ledger       what is to be told when, and how often it was
//! allowance    how much may be said
//! recorder     writes Events
//! annotations  what this node's annotations are to be
//! nodes        the nodes, as far as that needs them
//! annotator    writes the annotations
//! write        one request, and what came of it
//! back_off     how long until the next attempt
//! voice        what is said of writing itself
//! hash         the same on every node
//! ```
//!
//! Only an agent on a node writes: one whose Node is in the cluster. Nothing waits for it: tables are right, and traffic goes
//! on, whatever becomes of what is written here.

mod allowance;
mod annotations;
mod annotator;
mod back_off;
mod event;
mod hash;
mod ledger;
mod nodes;
mod notice;
mod recorder;
mod voice;
mod write;

use std::{sync::Arc, time::Duration};

use tokio::{sync::mpsc::Sender, task::JoinSet};

use self::{annotator::Annotator, ledger::COUNTED, recorder::Recorder, voice::Voice};
pub(crate) use self::{nodes::Nodes, notice::Taken};
pub use self::{
    notice::{Notice, Notices, Regarding, Scope, Severity, Told},
    write::{Failure, Writer},
};
use crate::kubernetes::{News, Servers};

/// How often something is tried that we may not do.
const RARELY: Duration = Duration::from_secs(600);

/// How many places for problems of its own a publisher needs.
pub(crate) const VOICES: usize = 2;

/// What writes.
#[derive(Debug)]
pub(crate) struct Publisher {
    /// Which agent or controller.
    name: String,
    is_controller: bool,
    notices: Notices,
    taken: Taken,
}

impl Publisher {
    /// For the node of this name.
    pub(crate) fn new(node: &str) -> Self {
        let (notices, taken) = Notices::new();
        Self { name: node.to_owned(), is_controller: false, notices, taken }
    }

    /// For a controller, which is no node and writes Events only.
    pub(crate) fn of_controller(identity: &str) -> Self {
        Self { is_controller: true, ..Self::new(identity) }
    }

    /// Where notices are given.
    pub(crate) fn notices(&self) -> Notices {
        self.notices.clone()
    }

    /// Begins; what is known of nodes goes into what this gives. Problems are told at [`VOICES`] places from `index` on.
    pub(crate) fn start(
        self,
        servers: &Arc<Servers>,
        news: &Sender<(usize, News)>,
        index: usize,
        tasks: &mut JoinSet<()>,
    ) -> Option<Nodes> {
        let url = servers.urls().into_iter().next().unwrap_or_default();
        let voice = |index| Voice::new(index, news.clone(), &url);
        let recorder = Recorder::new(&self.name, servers.clone(), self.taken, voice(index + 1), COUNTED);
        if self.is_controller {
            tasks.spawn(recorder.run());
            return None;
        }
        let (nodes, here) = Nodes::new(&self.name);
        let annotator = Annotator::new(servers.clone(), here.clone(), self.notices, voice(index));
        tasks.spawn(annotator.run());
        tasks.spawn(recorder.of_node(here).run());
        Some(nodes)
    }
}
