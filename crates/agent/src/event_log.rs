//! The node's events: how many of them are told of, who remembers them, who follows them, and where they are written.
//!
//! ```text
//! suppression  which are too many to be told of one by one
//! follower     who gets each new line, and exactly how many it was too slow for
//! batch        lines on their way to where they are written
//! sink         files and standard output, written on threads of their own
//! file         a file that is rotated
//! rotation     when, and which files take whose place
//! socket       unix sockets, served on a thread of their own
//! otlp         a collector of OpenTelemetry (only with the feature `otel`)
//! ```

mod batch;
mod file;
mod follower;
#[cfg(feature = "otel")]
mod otlp;
mod rotation;
mod sink;
mod socket;
mod suppression;

use std::{
    collections::VecDeque,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use observe::{
    Destroyed, Pause, Suppressed,
    event::{Decision, Line, Lost, SCHEMA},
};
use tokio::sync::{broadcast, watch};

pub(crate) use follower::Follower;
use rotation::Rotation;
pub(crate) use sink::Standing;
use suppression::{Suppression, Told};

use crate::{Config, Error, config::EventSink, status};

/// Lines that a follower may be behind before it loses some, which it is told exactly.
const BEHIND: usize = 16_384;

/// How long the end of the agent waits for what is still to be written.
const END: Duration = Duration::from_secs(1);

/// The log.
pub struct EventLog {
    node: String,
    suppression: Suppression,
    recent: VecDeque<(Timestamp, Arc<str>)>,
    /// How many are remembered.
    memory: usize,
    /// Everything after this is remembered.
    since: Timestamp,
    followers: broadcast::Sender<Arc<str>>,
    sinks: Vec<Standing>,
    /// Whose end is waited for.
    ending: Vec<mpsc::Receiver<()>>,
    /// Ends the sockets.
    sockets: Option<watch::Sender<()>>,
    reported: u32,
}

/// What is remembered, and what comes.
pub(crate) struct Past {
    /// Everything after this is there.
    pub(crate) since: Timestamp,
    /// The lines.
    pub(crate) lines: Vec<Arc<str>>,
    /// New ones.
    pub(crate) coming: broadcast::Receiver<Arc<str>>,
}

impl EventLog {
    /// An empty log, which begins to be written where the configuration says; `reported` events that the ring buffer lost
    /// have been told of before (modulo 2^32).
    ///
    /// # Errors
    /// There can be no more threads, or files; or no certificates to check a collector's.
    pub fn new(config: &Config, reported: u32) -> Result<Self, Error> {
        let mut log = Self {
            node: config.node_name.clone(),
            suppression: Suppression::new(config.event_rate, config.event_burst.0),
            recent: VecDeque::new(),
            memory: config.event_memory.0 as usize,
            since: Timestamp::now(),
            followers: broadcast::channel(BEHIND).0,
            sinks: Vec::new(),
            ending: Vec::new(),
            sockets: None,
            reported,
        };
        let mut sockets = Vec::new();
        for (number, sink) in config.event_log.iter().enumerate() {
            // Twice at one place would be in each other's way.
            if config.event_log.iter().take(number).any(|earlier| earlier == sink) {
                continue;
            }
            let standing = Standing::new(sink);
            log.sinks.push(standing.clone());
            let follower = Follower::new(log.followers.subscribe(), &log.node, &sink.to_string());
            let ended = match sink {
                EventSink::Stdout => {
                    sink::Stdout::open().and_then(|out| sink::start(follower, out, standing))
                }
                EventSink::File(path) => {
                    let rotation = Rotation { size: config.event_log_size.0, keep: config.event_log_keep.0 };
                    sink::start(follower, file::RotatedFile::new(path.clone(), rotation), standing)
                }
                EventSink::Socket(path) => {
                    let mode = config.event_socket_mode.0;
                    sockets.push(socket::Socket::new(path.clone(), mode, standing));
                    continue;
                }
            };
            log.ending.push(ended.map_err(Error::Events)?);
        }
        #[cfg(feature = "otel")]
        if let Some(url) = &config.event_otlp {
            let standing = Standing::new(&url.0);
            log.sinks.push(standing.clone());
            let follower = Follower::new(log.followers.subscribe(), &log.node, &url.0);
            let otlp = otlp::Otlp::new(&url.0, &log.node);
            let otlp = otlp.map_err(|source| Error::Collector { url: url.0.clone(), source })?;
            log.ending.push(sink::start(follower, otlp, standing).map_err(Error::Events)?);
        }
        if !sockets.is_empty() {
            let started = socket::start(sockets, &log.followers.downgrade(), &log.node);
            let (end, ended) = started.map_err(Error::Events)?;
            log.sockets = Some(end);
            log.ending.push(ended);
        }
        Ok(log)
    }

    /// May a decision of this reason, `made` then and read now, be told of? Else it is counted, and [`tell_suppressed`](Self::tell_suppressed) tells how
    /// many there were.
    pub fn passes(&mut self, reason: u8, made: Instant, now: Instant) -> bool {
        self.suppression.passes(reason, made, now)
    }

    /// Tells how many decisions were not told of one by one, once a second, to `count` too; are there more to be told of?
    pub fn tell_suppressed(&mut self, now: Instant, count: impl Fn(&str, u64)) -> bool {
        for told in self.suppression.due(now) {
            count(abi::Reason::from_u8(told.reason).map_or("unknown", abi::Reason::name), told.count);
            self.push(&self.suppressed_line(told, now));
        }
        self.suppression.is_waiting()
    }

    fn suppressed_line(&self, told: Told, now: Instant) -> Line {
        // They all may be of the kernel's last tick.
        let millis = now.saturating_duration_since(told.since).as_millis().max(1);
        Line::Suppressed(Suppressed {
            schema: SCHEMA,
            time: Timestamp::now(),
            node: self.node.clone(),
            suppressed: told.count,
            reason: abi::Reason::from_u8(told.reason).map_or("unknown", abi::Reason::name).into(),
            seconds: millis as f64 / 1000.0,
        })
    }

    /// How many decisions were not told of one by one.
    pub fn suppressed(&self) -> u64 {
        self.suppression.total()
    }

    /// Where the log is written, and how that is.
    pub fn sinks(&self) -> Vec<status::EventSink> {
        self.sinks.iter().map(Standing::get).collect()
    }

    /// The same, as it goes on.
    pub(crate) fn standings(&self) -> &[Standing] {
        &self.sinks
    }

    /// Tells what is still to be told, ends who follows, and waits a moment for what is still to be written.
    pub fn end(&mut self) {
        let now = Instant::now();
        for told in self.suppression.rest(now) {
            self.push(&self.suppressed_line(told, now));
        }
        self.followers = broadcast::channel(1).0;
        self.sockets = None;
        for ended in self.ending.drain(..) {
            let left = END.saturating_sub(now.elapsed());
            if ended.recv_timeout(left) == Err(mpsc::RecvTimeoutError::Timeout) {
                tracing::warn!("events are not all written yet; those that still waited are lost");
            }
        }
    }

    /// Adds a decision.
    pub fn add(&mut self, decision: Decision) {
        self.push(&Line::Decision(Box::new(decision)));
    }

    /// Adds a socket whose connection was ended.
    pub fn add_destroyed(&mut self, socket: Destroyed) {
        self.push(&Line::Destroyed(Box::new(socket)));
    }

    /// Adds that all passes untranslated, or does so no longer.
    pub fn add_pause(&mut self, pause: Pause) {
        self.push(&Line::Pause(pause));
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
        if self.recent.len() == self.memory
            && let Some((time, _)) = self.recent.pop_front()
        {
            // Events of several CPUs are not quite in their order.
            self.since = self.since.max(time);
        }
        self.recent.push_back((line.time(), text.clone()));
        // No follower is no error.
        let _ = self.followers.send(text);
    }

    /// What is remembered, and what comes.
    pub(crate) fn follow(&self) -> Past {
        let lines = self.recent.iter().map(|(_, line)| line.clone()).collect();
        Past { since: self.since, lines, coming: self.followers.subscribe() }
    }
}

/// The line that says how many are missing.
pub fn lost_line(node: &str, lost: u64, at: &str) -> Line {
    Line::Lost(Lost { schema: SCHEMA, time: Timestamp::now(), node: node.into(), lost, at: at.into() })
}
