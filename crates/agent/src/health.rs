//! Saying over HTTP how the agent is: to kubelets, to load balancers that ask about one service (R24), to whoever asks
//! kube-proxy (R25), and its metrics.
//!
//! All of it is answered on a thread of its own, so that an answer comes, and says what is wrong, while the task that owns the
//! tables is busy or stuck. What that task knows it says here; nobody asks it.
//!
//! ```text
//! condition  what the task knows, and what that means for each question
//! answer     from a path to a status, headers and a body
//! listeners  sockets that are wanted, and those that are there
//! scrape     what metrics are read from
//! trouble    what can't be served
//! ```

mod answer;
mod condition;
mod listeners;
mod scrape;
mod trouble;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

pub(crate) use answer::Face;
pub(crate) use condition::Condition;
use jiff::Timestamp;
use kernel::Pins;
pub(crate) use listeners::Wanted;
use observe::Metrics;
use tokio::sync::watch;
pub(crate) use trouble::Trouble;

/// What both sides share: the task that owns the tables writes it, HTTP reads it.
pub(crate) struct Health {
    started: Instant,
    /// When the task turned last, in milliseconds since the start.
    turned: AtomicU64,
    condition: Mutex<Condition>,
    wanted: watch::Sender<Wanted>,
    /// What can't be listened on.
    troubles: Mutex<BTreeMap<SocketAddr, Trouble>>,
    pins: Pins,
    pub(crate) metrics: Metrics,
}

impl Health {
    /// Begins to answer; nothing is listened on yet. So many service ports have metrics of their own.
    ///
    /// # Errors
    /// There can be no more threads, or files.
    pub(crate) fn start(pins: Pins, services: usize) -> std::io::Result<Arc<Self>> {
        let (wanted, listening) = watch::channel(Wanted::default());
        let health = Arc::new(Self {
            started: Instant::now(),
            turned: AtomicU64::new(0),
            condition: Mutex::default(),
            wanted,
            troubles: Mutex::default(),
            pins,
            metrics: Metrics::new(services),
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let shared = health.clone();
        thread::Builder::new().name("health".into()).spawn(move || {
            runtime.block_on(listeners::serve(&shared, listening));
        })?;
        Ok(health)
    }

    /// The task turns.
    pub(crate) fn turned(&self) {
        self.turned.store(self.started.elapsed().as_millis() as u64, Relaxed);
    }

    /// A change waits to be written, since then or longer. What can't be written before the sources have synced need not be.
    pub(crate) fn waits(&self, since: Instant) {
        let condition = &mut *lock(&self.condition);
        if condition.synced {
            condition.waiting.get_or_insert(since);
        }
    }

    /// The task says how things are.
    pub(crate) fn say(&self, condition: Condition) {
        *lock(&self.condition) = condition;
    }

    /// What is to be listened on from now on.
    pub(crate) fn want(&self, wanted: Wanted) {
        self.wanted.send_if_modified(|now| {
            let is_new = *now != wanted;
            *now = wanted;
            is_new
        });
    }

    /// What can't be served now.
    pub(crate) fn troubles(&self) -> Vec<Trouble> {
        let unheard = lock(&self.troubles).values().cloned().collect::<Vec<_>>();
        self.wanted.borrow().clashes().iter().cloned().chain(unheard).collect()
    }

    fn answer(&self, face: &Face, path: &str) -> answer::Answer {
        let silent = self.started.elapsed().saturating_sub(Duration::from_millis(self.turned.load(Relaxed)));
        // Taken out of the lock: metrics are long.
        let condition = lock(&self.condition).clone();
        answer::answer(
            face,
            path,
            &condition,
            || self.metrics.text(scrape::read(&self.pins, &condition, silent)),
            &answer::Clock { silent, now: Timestamp::now() },
        )
    }
}

/// Whoever panicked left nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_waits_from_when_it_is_heard_of_even_if_the_task_says_nothing_more() {
        let health = Health::start(Pins::new("/nowhere"), 0).unwrap();
        let is_served = || health.answer(&Face::Agent, "/healthz").status == 200;
        let [long_ago, now] =
            [61, 0].map(|ago| Instant::now().checked_sub(Duration::from_secs(ago)).unwrap());
        // What is not known completely is not to be written yet.
        health.waits(long_ago);
        assert!(is_served());
        health.say(Condition { synced: true, ..Condition::default() });
        health.waits(now);
        assert!(is_served());
        health.say(Condition { synced: true, ..Condition::default() });
        health.waits(long_ago);
        health.waits(now);
        assert!(!is_served());
        let metrics = health.answer(&Face::Metrics, "/metrics").body;
        assert!(metrics.contains("balancing_sync_waiting_seconds 61."), "{metrics}");
        assert!(metrics.contains("balancing_kernel_readable 0"), "{metrics}");
    }
}
