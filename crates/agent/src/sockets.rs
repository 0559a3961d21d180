//! Sockets that outlive their backends, and slots that outlive their sockets: when they are looked for, and what came
//! of it. Looking itself is [`search`]'s.
//!
//! Level-triggered: what is looked at is the slots against `backends`, so it does not matter what changed or who was
//! there to see it (R27). After a change that took a backend away it is done at once, and again a little later: a
//! `connect()` that was in its hook when the backend went writes its slot a moment after.

pub(crate) mod search;

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use abi::Name;
use jiff::Timestamp;
use kernel::{LiveTables, Pins};
use observe::{
    Destroyed,
    event::{SCHEMA, Service, protocol},
};
use tokio::sync::mpsc;

use search::{Closed, Outcome, Search, Task};

/// When it is looked for stale sockets after a backend went. The last one is late enough for [`search::GIVE_UP`].
const LOOKS: [Duration; 3] = [Duration::ZERO, Duration::from_millis(100), Duration::from_millis(500)];

/// Looks that are due at almost the same time are one.
const TOGETHER: Duration = Duration::from_millis(20);

/// How long it waits while `balancing pause` is in force.
const PAUSED: Duration = Duration::from_secs(1);

/// With the first audit of the tables and every so many after it the slots are audited too: that takes a list of all
/// sockets of the machine. Also with the audit after one that has found suspects.
const AUDITS: u32 = 4;

/// A search that is over, and what came of it.
pub(crate) type Done = (Option<Box<Search>>, Outcome);

/// See the module.
pub(crate) struct Sockets {
    pins: Pins,
    reset_tcp: bool,
    due: BTreeSet<Instant>,
    /// Backends have gone since the last look, so that sockets may be stale of which only their storage tells.
    storage: bool,
    /// The slots are to be audited.
    slots: bool,
    audits: u32,
    /// The last audit of the slots has found some that may have no socket.
    suspects: bool,
    /// Not while it searches: never two at a time.
    idle: bool,
    search: Option<Box<Search>>,
    /// Not sooner: searching takes no more than a third of a CPU.
    rest_until: Instant,
    done: mpsc::Sender<Done>,
    /// Sockets whose connection was ended.
    pub(crate) destroyed: u64,
    /// Slots of sockets that had gone without a word.
    pub(crate) freed: u64,
    /// What went wrong the last time.
    pub(crate) problem: Option<String>,
}

impl Sockets {
    /// None is due; what comes of searches comes through the channel.
    pub(crate) fn new(pins: Pins, reset_tcp: bool) -> (Self, mpsc::Receiver<Done>) {
        let (done, searches) = mpsc::channel(1);
        let sockets = Self {
            pins,
            reset_tcp,
            due: BTreeSet::new(),
            storage: false,
            slots: false,
            audits: 0,
            suspects: false,
            idle: true,
            search: None,
            rest_until: Instant::now(),
            done,
            destroyed: 0,
            freed: 0,
            problem: None,
        };
        (sockets, searches)
    }

    /// Backends may have gone.
    pub(crate) fn backends_lost(&mut self) {
        let now = Instant::now();
        self.storage = true;
        for at in LOOKS.map(|after| now + after) {
            if self.due.range(at..at + TOGETHER).next().is_none() {
                self.due.insert(at);
            }
        }
    }

    /// The tables are being audited.
    pub(crate) fn audit(&mut self) {
        self.slots |= self.suspects || self.audits.is_multiple_of(AUDITS);
        self.audits += 1;
        self.due.insert(Instant::now());
    }

    /// No search is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.idle
    }

    /// When [`Sockets::begin`] is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.due.first().filter(|_| self.idle).map(|due| (*due).max(self.rest_until))
    }

    /// Begins what is due, elsewhere.
    pub(crate) fn begin(&mut self, paused: bool) {
        let now = Instant::now();
        if paused {
            self.due = BTreeSet::from([now + PAUSED]);
            return;
        }
        self.due.retain(|due| *due > now);
        let task = Task {
            // With each look after a change, up to the last.
            storage: if self.due.is_empty() { std::mem::take(&mut self.storage) } else { self.storage },
            slots: std::mem::take(&mut self.slots),
        };
        self.idle = false;
        let (search, pins, done) = (self.search.take(), self.pins.clone(), self.done.clone());
        let reset_tcp = self.reset_tcp;
        tokio::task::spawn_blocking(move || {
            let search = search.map_or_else(|| Search::open(&pins, reset_tcp).map(Box::new), Ok);
            let result = match search {
                Ok(mut search) => {
                    let outcome = search.run(task);
                    (Some(search), outcome)
                }
                Err(error) => (None, Outcome { problem: Some(error.to_string()), ..Outcome::default() }),
            };
            let _ = done.blocking_send(result);
        });
    }

    /// Takes in what came of it; the connections that were ended.
    pub(crate) fn finish(&mut self, (search, outcome): Done) -> Vec<Closed> {
        (self.idle, self.search, self.suspects) = (true, search, outcome.suspects);
        self.rest_until = Instant::now() + 2 * outcome.took;
        if outcome.problem != self.problem {
            match &outcome.problem {
                Some(problem) => tracing::warn!("looking after sockets: {problem}"),
                None => tracing::info!("looking after sockets works again"),
            }
        }
        self.problem = outcome.problem;
        if !outcome.closed.is_empty() {
            tracing::info!("{} sockets were on backends that are gone: destroyed", outcome.closed.len());
        }
        if outcome.not_found > 0 {
            tracing::debug!(
                count = outcome.not_found,
                "sockets on backends that are gone are nowhere to be found"
            );
        }
        if outcome.freed > 0 {
            tracing::info!("{} slots of sockets that are gone: freed", outcome.freed);
        }
        self.destroyed += outcome.closed.len() as u64;
        self.freed += outcome.freed as u64;
        outcome.closed
    }
}

/// The event of a connection that was ended.
pub(crate) fn event(node: &str, closed: &Closed, tables: &LiveTables<'_>) -> Destroyed {
    let service = tables.name(closed.connection.service).map(|name| Service {
        namespace: Name::text(&name.namespace).into(),
        name: Name::text(&name.service).into(),
        port: Name::text(&name.port).into(),
    });
    Destroyed {
        schema: SCHEMA,
        time: Timestamp::now(),
        node: node.into(),
        destroyed: Destroyed::BACKEND_GONE.into(),
        protocol: protocol(closed.connection.protocol).into(),
        cookie: closed.connection.cookie,
        netns: closed.netns,
        local: abi::Endpoint::from(closed.local).into(),
        original: closed.connection.vip.into(),
        backend: closed.connection.backend.into(),
        service,
    }
}
