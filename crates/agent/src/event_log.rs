//! The node's recent events, and who follows them.

use std::{collections::VecDeque, sync::Arc};

use jiff::Timestamp;
use observe::{
    Destroyed,
    event::{Decision, Line, Lost, SCHEMA},
};
use tokio::sync::broadcast;

/// Events remembered for those who ask later.
const REMEMBERED: usize = 4096;

/// Lines that a follower may be behind before it loses some, which it is told exactly.
const BEHIND: usize = 16_384;

/// The log.
pub struct EventLog {
    node: String,
    recent: VecDeque<Arc<str>>,
    followers: broadcast::Sender<Arc<str>>,
    reported: u32,
}

impl EventLog {
    /// An empty log; `reported` events that the ring buffer lost have been told of before (modulo 2^32).
    pub fn new(node: &str, reported: u32) -> Self {
        let followers = broadcast::channel(BEHIND).0;
        Self { node: node.into(), recent: VecDeque::new(), followers, reported }
    }

    /// Adds a decision.
    pub fn add(&mut self, decision: Decision) {
        self.push(&Line::Decision(Box::new(decision)));
    }

    /// Adds a socket whose connection was ended.
    pub fn add_destroyed(&mut self, socket: Destroyed) {
        self.push(&Line::Destroyed(Box::new(socket)));
    }

    /// The ring buffer's count of lost events is `total` now; is that news?
    pub fn ring_lost(&mut self, total: u64) -> bool {
        let total = total as u32;
        let lost = total.wrapping_sub(self.reported);
        if lost > 0 {
            self.reported = total;
            self.push(&lost_line(&self.node, lost.into(), "ring"));
        }
        lost > 0
    }

    fn push(&mut self, line: &Line) {
        let Ok(text) = serde_json::to_string(line) else { return };
        let text: Arc<str> = text.into();
        if self.recent.len() == REMEMBERED {
            self.recent.pop_front();
        }
        self.recent.push_back(text.clone());
        // No follower is no error.
        let _ = self.followers.send(text);
    }

    /// What is remembered, and what comes.
    pub fn follow(&self) -> (Vec<Arc<str>>, broadcast::Receiver<Arc<str>>) {
        (self.recent.iter().cloned().collect(), self.followers.subscribe())
    }
}

/// The line that says how many are missing.
pub fn lost_line(node: &str, lost: u64, at: &str) -> Line {
    Line::Lost(Lost { schema: SCHEMA, time: Timestamp::now(), node: node.into(), lost, at: at.into() })
}
