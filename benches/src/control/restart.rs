//! C5: what clients see while the agent is restarted.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use anyhow::Result;
use rustix::process::Signal;
use testkit::{
    Exchange, Family, Kind,
    client::{Client, TIMEOUT},
};

use super::{
    feed::Feed,
    stage::{Agent, Stage},
};

/// Between two exchanges.
const PACE: Duration = Duration::from_micros(500);
/// Without an agent.
const AWAY: Duration = Duration::from_millis(300);

/// What was found.
pub(super) struct Restarts {
    /// How many.
    pub(super) count: u32,
    pub(super) exchanges: u64,
    /// Exchanges that failed, or with somebody else than asked.
    pub(super) failed: u64,
}

/// Restarts the agent, each second time by SIGKILL, while clients go on.
pub(super) fn measure<F: Feed>(stage: &Stage<F>, agent: Agent, count: u32) -> Result<Restarts> {
    let tally = Tally::default();
    let outcome = thread::scope(|scope| {
        let client = scope.spawn(|| stage.inside(|| clients(stage, &tally)));
        let outcome = restarts(stage, agent, count);
        tally.over.store(true, SeqCst);
        client.join().map_err(|_| anyhow::anyhow!("the clients panicked"))??;
        outcome
    });
    outcome?;
    if let Some(first) = tally.first.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
        eprintln!("the first exchange that failed during restarts: {first}");
    }
    Ok(Restarts { count, exchanges: tally.exchanges.load(SeqCst), failed: tally.failed.load(SeqCst) })
}

fn restarts<F: Feed>(stage: &Stage<F>, mut agent: Agent, count: u32) -> Result<()> {
    for number in 0..count {
        thread::sleep(AWAY);
        agent.end(if number % 2 == 0 { Signal::TERM } else { Signal::KILL })?;
        thread::sleep(AWAY);
        agent = stage.agent()?;
    }
    thread::sleep(AWAY);
    agent.end(Signal::TERM)
}

#[derive(Default)]
struct Tally {
    over: AtomicBool,
    exchanges: AtomicU64,
    failed: AtomicU64,
    first: Mutex<Option<String>>,
}

/// New sockets of each kind in turn, and two that stay.
fn clients<F: Feed>(stage: &Stage<F>, tally: &Tally) -> Result<()> {
    let open = |kind| Client::open(kind, Family::V4, stage.vip(), TIMEOUT);
    let mut lasting = [open(Kind::ConnectedUdp)?, open(Kind::UnconnectedUdp)?];
    let set = stage.ask(Kind::Tcp)?.backend.chars().next();
    let backend = lasting[0].ask()?.backend;
    while !tally.over.load(SeqCst) {
        for kind in Kind::ALL {
            let is_right = |seen: &Exchange| seen.peer == stage.vip() && seen.backend.chars().next() == set;
            tally.count(stage.ask(kind), is_right);
            thread::sleep(PACE);
        }
        for client in &mut lasting {
            let is_right = |seen: &Exchange| seen.peer == stage.vip() && seen.backend.chars().next() == set;
            tally.count(client.ask().map_err(Into::into), is_right);
        }
        // A connected socket stays with its backend.
        tally.count(lasting[0].ask().map_err(Into::into), |seen| seen.backend == backend);
    }
    Ok(())
}

impl Tally {
    fn count(&self, outcome: Result<Exchange>, is_right: impl FnOnce(&Exchange) -> bool) {
        self.exchanges.fetch_add(1, SeqCst);
        let problem = match outcome {
            Ok(seen) if is_right(&seen) => return,
            Ok(seen) => format!("with somebody else: {seen:?}"),
            Err(error) => format!("{error:#}"),
        };
        self.failed.fetch_add(1, SeqCst);
        self.first.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(problem);
    }
}
