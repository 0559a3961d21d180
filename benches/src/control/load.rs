//! What a busy cluster does: a thousand changes of slices a second, and a rolling restart.

use std::{
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};
use kernel::Pins;

use super::{
    api_server::ApiServer,
    feed::{APART, endpoint},
    objects::Endpoint,
    seen::{self, Expected},
    stage::{Agent, Stage},
};
use crate::tables::{ENDPOINTS, PORT, vip4};

/// Changes of slices in a second.
pub(super) const RATE: u32 = 1000;
/// Endpoints that are replaced by a rolling restart, and how many in a second.
pub(super) const RESTARTED: u32 = 5000;
const RESTARTED_A_SECOND: u32 = 250;
/// Writes for each of them: the new one is ready, the old one is terminating, the old one is gone.
const STEPS: u32 = 3;
/// What the agent still does because of changes that are in force.
const AFTER: Duration = Duration::from_secs(1);

/// What was found.
pub(super) struct Load {
    /// Slices that were written.
    pub(super) writes: u32,
    /// From the first until everything was in force, and a second.
    pub(super) lasted: Duration,
    /// From a write until the maps had it.
    pub(super) took: Vec<Duration>,
    /// CPU time of the agent.
    pub(super) cpu: Duration,
    /// Bytes that the server sent.
    pub(super) bytes: u64,
}

/// One write: the slice of a service as it is then, and what is to be seen of it.
struct Write {
    service: u32,
    endpoints: Vec<Endpoint>,
    /// An endpoint that is there then, or no longer; `None`: nothing changes for clients.
    seen: Option<(Endpoint, bool)>,
}

/// In each second a thousand slices of all services in turn get another endpoint in the place of one of theirs.
pub(super) fn storm(stage: &Stage<ApiServer>, agent: &Agent, services: u32, seconds: u32) -> Result<Load> {
    let others = services.saturating_sub(APART).max(1);
    let write = |number: u32| {
        let (service, turn) = (APART.min(services - 1) + number % others, number / others + 1);
        let endpoints: Vec<Endpoint> = (0..ENDPOINTS)
            .map(|slot| Endpoint::ready(endpoint(service, slot, (turn + ENDPOINTS - 1 - slot) / ENDPOINTS)))
            .collect();
        let replaced = endpoints[((turn - 1) % ENDPOINTS) as usize];
        Write { service, endpoints, seen: Some((replaced, true)) }
    };
    run(stage, agent, RATE, RATE * seconds, write)
}

/// All endpoints of as many services as have 5,000 are replaced, one after another, in all services side by side.
pub(super) fn rolling(stage: &Stage<ApiServer>, agent: &Agent, services: u32) -> Result<Load> {
    let count = (RESTARTED / ENDPOINTS).min(services);
    // Other turns than any before.
    let (old, new) = (6, 7);
    for service in 0..count {
        let endpoints = (0..ENDPOINTS).map(|slot| Endpoint::ready(endpoint(service, slot, old)));
        stage.feed().put_slice(service, endpoints)?;
    }
    thread::sleep(2 * AFTER);
    let write = |number: u32| {
        let (service, slot, step) = (number / STEPS % count, number / STEPS / count, number % STEPS);
        let at = |slot, turn| Endpoint::ready(endpoint(service, slot, turn));
        let mut endpoints: Vec<Endpoint> =
            (0..ENDPOINTS).map(|it| at(it, if it <= slot { new } else { old })).collect();
        let leaving = Endpoint { terminating: step == 1, ..at(slot, old) };
        if step < 2 {
            endpoints.push(leaving);
        }
        let seen = [Some((at(slot, new), true)), Some((leaving, false)), None][step as usize];
        Write { service, endpoints, seen }
    };
    run(stage, agent, RESTARTED_A_SECOND * STEPS, count * ENDPOINTS * STEPS, write)
}

/// `count` writes, `rate` of them in a second.
fn run(
    stage: &Stage<ApiServer>,
    agent: &Agent,
    rate: u32,
    count: u32,
    write: impl Fn(u32) -> Write,
) -> Result<Load> {
    let api = stage.feed();
    let pins = Pins::new(stage.pins());
    let (cpu, bytes) = (agent.process().cpu()?, api.bytes_sent());
    let begun = Instant::now();
    let took = thread::scope(|scope| {
        let (to, changes) = mpsc::channel();
        let seeing = scope.spawn(move || seen::latencies(&pins, &changes));
        for number in 0..count {
            let Write { service, endpoints, seen } = write(number);
            let due = begun + Duration::from_secs(1) * number / rate;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let since = Instant::now();
            api.put_slice(service, endpoints.into_iter())?;
            if let Some((Endpoint { address: endpoint, .. }, is_there)) = seen {
                let vip = (vip4(service), PORT).into();
                // Who no longer listens says why below.
                let _ = to.send(Expected { since, vip, endpoint, is_there });
            }
        }
        drop(to);
        seeing.join().map_err(|_| anyhow!("reading the maps panicked"))?
    })?;
    thread::sleep(AFTER);
    Ok(Load {
        writes: count,
        lasted: begun.elapsed(),
        took,
        cpu: agent.process().cpu()? - cpu,
        bytes: api.bytes_sent() - bytes,
    })
}
