//! Decisions of clients that are about to be known: a container may connect before the API server says what it is called.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use host::container::Place;
use observe::event::Decision;

/// How long one is held: kubelets tell of a new container within a second or two.
const PATIENCE: Duration = Duration::from_secs(3);
/// How many are held: all that the kernel's buffer has when an agent starts, which has not heard of any pod yet. The oldest goes as
/// it is when there are more.
const MOST: usize = 8192;
/// Clients that nobody told of in time, remembered so that they are not waited for again.
const HOPELESS: usize = 4096;

/// A decision that is held.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) decision: Decision,
    pub(crate) place: Option<Arc<Place>>,
    pub(crate) netns: Option<u64>,
    until: Instant,
}

/// Those that are held, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct Holding {
    held: VecDeque<Held>,
    /// What was known when they were last looked at.
    version: u64,
    hopeless: HashSet<(u64, Option<u64>)>,
}

impl Holding {
    /// Would it be in vain to hold a decision of this cgroup and namespace?
    pub(crate) fn is_hopeless(&self, cgroup: u64, netns: Option<u64>) -> bool {
        self.hopeless.contains(&(cgroup, netns))
    }

    /// Holds one. What there is no room for is given back: the oldest.
    pub(crate) fn hold(
        &mut self,
        decision: Decision,
        place: Option<Arc<Place>>,
        netns: Option<u64>,
        now: Instant,
    ) -> Option<Held> {
        self.held.push_back(Held { decision, place, netns, until: now + PATIENCE });
        (self.held.len() > MOST).then(|| self.held.pop_front()).flatten()
    }

    /// All of them, as they are.
    pub(crate) fn rest(&mut self) -> impl Iterator<Item = Decision> {
        self.held.drain(..).map(|held| held.decision)
    }

    /// Those that have been held long enough, and those that `known` gives a name now, if anything new is known.
    pub(crate) fn release(
        &mut self,
        version: u64,
        now: Instant,
        mut known: impl FnMut(&mut Held) -> bool,
    ) -> Vec<Held> {
        let news = version != self.version;
        if news {
            self.hopeless.clear();
            self.version = version;
        }
        let mut released = Vec::new();
        if news {
            let mut left = VecDeque::new();
            for mut held in self.held.drain(..) {
                if known(&mut held) { released.push(held) } else { left.push_back(held) }
            }
            self.held = left;
        }
        while self.held.front().is_some_and(|held| held.until <= now) {
            let Some(held) = self.held.pop_front() else { break };
            if self.hopeless.len() >= HOPELESS {
                self.hopeless.clear();
            }
            if let Some(cgroup) = held.decision.client.cgroup_id {
                self.hopeless.insert((cgroup, held.netns));
            }
            released.push(held);
        }
        released
    }
}
