//! Asking the addresses of policies whether they are well.
//!
//! On a thread of its own: nobody is asked later because the task that owns the tables is busy, and the other way round. That
//! task says whom to ask, hears who is not well, and writes it into the tables with a round. Both sides only ever see the latest
//! of each other, as a whole: nothing is lost between them, and nothing is left of a policy that is gone.
//!
//! Everything begins healthy: what an agent before has found ends with it.
//!
//! ```text
//! standing  what is known of one address, and when it is asked again
//! schedule  who is asked next, and what comes of the answers
//! question  one question over the network
//! ```

mod question;
mod schedule;
mod standing;

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{BuildHasher, RandomState},
    io,
    net::IpAddr,
    sync::Arc,
    thread,
    time::Instant,
};

use model::{ObjectId, Probed};
use observe::Metrics;
use tokio::{sync::watch, task::JoinSet};

use crate::health::Health;
use question::{Answer, Failure, ask};
use schedule::{Change, Question, Schedule};

/// Questions without an answer yet, at once, at most: each is an open file.
const AT_ONCE: u64 = 256;

/// Whom to ask, by policy.
pub(crate) type Wanted = BTreeMap<ObjectId, Probed>;

/// What has been found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// How many addresses are asked.
    pub(crate) targets: usize,
    /// Those that are not well.
    pub(crate) unhealthy: BTreeMap<ObjectId, BTreeSet<IpAddr>>,
    /// More questions a second are wanted than are asked: so many.
    pub(crate) too_many: Option<u32>,
}

impl Found {
    /// How many are not well.
    pub(crate) fn unhealthy(&self) -> usize {
        self.unhealthy.values().map(BTreeSet::len).sum()
    }

    /// What is to be known of it.
    pub(crate) fn notice(&self) -> Option<String> {
        self.too_many.map(|wanted| {
            format!(
                "healthChecks of policies want {wanted} questions a second, and an agent asks {} at most: unhealthy addresses \
                 are found later than intervalSeconds says; give greater ones",
                schedule::A_SECOND
            )
        })
    }
}

/// The side of the task that owns the tables.
pub(crate) struct Probing {
    wanted: watch::Sender<Wanted>,
    found: Arc<watch::Sender<Found>>,
    health: Arc<Health>,
    /// Questions at once.
    at_once: usize,
    /// It begins with the first who is to be asked.
    runs: bool,
}

impl Probing {
    /// And where to hear of what has been found. It may have so many `files` open.
    pub(crate) fn new(health: Arc<Health>, files: u64) -> (Self, watch::Receiver<Found>) {
        let (found, hearing) = watch::channel(Found::default());
        let at_once = files.clamp(1, AT_ONCE) as usize;
        let (wanted, found) = (watch::channel(Wanted::new()).0, Arc::new(found));
        (Self { wanted, found, health, at_once, runs: false }, hearing)
    }

    /// These are to be asked from now on.
    ///
    /// # Errors
    /// There can be no more threads, or files.
    pub(crate) fn want(&mut self, wanted: &Wanted) -> io::Result<()> {
        self.wanted.send_if_modified(|now| {
            let is_new = now != wanted;
            if is_new {
                now.clone_from(wanted);
            }
            is_new
        });
        if self.runs || wanted.is_empty() {
            return Ok(());
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        // What is wanted already is new to it.
        let mut wanted = self.wanted.subscribe();
        wanted.mark_changed();
        let (found, health, at_once) = (self.found.clone(), self.health.clone(), self.at_once);
        thread::Builder::new().name("probing".into()).spawn(move || {
            runtime.block_on(run(wanted, &found, &health.metrics, at_once));
        })?;
        self.runs = true;
        Ok(())
    }

    /// What has been found.
    pub(crate) fn found(&self) -> Found {
        self.found.borrow().clone()
    }
}

/// Asks, until nobody wants anything any more.
async fn run(
    mut wanted: watch::Receiver<Wanted>,
    found: &watch::Sender<Found>,
    metrics: &Metrics,
    at_once: usize,
) {
    let mut has_room = true;
    let mut schedule = Schedule::new(chance);
    let mut asking: JoinSet<(Question, Answer)> = JoinSet::new();
    loop {
        let next = schedule.next().filter(|_| asking.len() < at_once);
        let changed = tokio::select! {
            changed = wanted.changed() => {
                if changed.is_err() {
                    return;
                }
                schedule.want(&wanted.borrow_and_update(), Instant::now());
                true
            }
            Some(answer) = asking.join_next(), if !asking.is_empty() => {
                // A question that panicked has been printed, and is no answer.
                let Ok((question, answer)) = answer else { continue };
                metrics.probed(question::outcome(&answer));
                let had_room = std::mem::replace(&mut has_room, true);
                if let Err(Failure::Unasked(error)) = &answer {
                    has_room = false;
                    if had_room {
                        tracing::warn!("health check of {}: {error}", question.address);
                    }
                }
                let change = schedule.answered(&question, &answer);
                change.as_ref().inspect(|change| tell(change)).is_some()
            }
            () = tokio::time::sleep_until(next.unwrap_or_else(Instant::now).into()), if next.is_some() => {
                if let Some(question) = schedule.take(Instant::now()) {
                    asking.spawn(async move {
                        let answer = ask(&question).await;
                        (question, answer)
                    });
                }
                false
            }
        };
        if changed {
            let now = schedule.found();
            metrics.probe_targets(now.targets - now.unhealthy(), now.unhealthy());
            found.send_if_modified(|before| {
                let is_new = *before != now;
                *before = now;
                is_new
            });
        }
    }
}

fn tell(change: &Change) {
    let Change { policy, address, failure } = change;
    match failure {
        Some(failure) => tracing::info!("{policy}: {address} is unhealthy: {failure}"),
        None => tracing::info!("{policy}: {address} is healthy again"),
    }
}

/// 0 to 1, at random. std's own hash maps are seeded by the kernel's random numbers.
fn chance() -> f64 {
    RandomState::new().hash_one(0) as f64 / u64::MAX as f64
}
