//! Hours of everything at once, and then: is anything left, and has anything grown? `cargo xtask soak`.
//!
//! ```text
//! services   the services: addresses, specifications, manifests
//! editor     edits of the manifests, which a seed repeats
//! agents     the agent, its restarts, what it takes
//! clients    traffic of every kind
//! ledger     who may answer, what was counted, what went wrong
//! progress   a line now and then
//! leftovers  what is in the maps when nothing should be
//! ```
//!
//! The agent is restarted in the first quarter; the one that is there then stays to the end, so that what it takes can be
//! compared. Edits and traffic go on all the time, except at the quiet moments when it is measured.

pub mod agents;
pub mod clients;
pub mod editor;
pub mod ledger;
pub mod leftovers;
mod progress;
pub mod services;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use kernel::{Loaded, Pins};
use plan::Capacity;
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use testkit::{Backend, Family};

use self::{
    agents::{Agents, Footprint},
    editor::Editor,
    ledger::Ledger,
    progress::Progress,
    services::{AFFINITY, CLIENTS, LASTING, PLACES, SERVICES, backend, name},
};
use crate::process::{Dice, Host, population::inside};

/// Between two edits, on average.
const PACE: usize = 150;
/// By how much the agent's memory may grow: percent, and KiB.
const GROWTH: (u64, u64) = (10, 4096);

/// How to run it.
#[derive(Clone, Debug)]
pub struct Options {
    /// For how long, without the checks at the end.
    pub duration: Duration,
    /// Repeats edits and restarts.
    pub seed: u64,
    /// The agent's audit interval; slots are audited the first time and every fourth.
    pub audit: Duration,
    /// Between two lines of progress.
    pub progress: Duration,
    /// Compare the agent's memory: needs minutes.
    pub compare_memory: bool,
    /// Set when the checks at the end shall come now.
    pub interrupted: Arc<AtomicBool>,
}

/// What came of it.
#[derive(Debug)]
pub struct Report {
    /// In a few lines.
    pub summary: String,
    /// What is wrong; empty = nothing.
    pub complaints: Vec<String>,
    /// What the last agent has logged.
    pub log: String,
}

/// Runs it.
///
/// # Errors
/// It can't go on, for instance as an agent does not come up.
pub fn run(options: &Options) -> Result<Report> {
    raise_limit()?;
    let host = Host::new("soak")?;
    host.namespace().add_address(CLIENTS[0].parse()?)?;
    let _backends = serve(&host)?;
    // Small ones, so that they become larger in the course of it.
    drop(Loaded::load(&Pins::new(host.pins()), &agent::sizes(&Capacity::for_cluster(8, 16)))?);
    let ledger = Arc::new(Ledger::default());
    let mut dice = Dice::new(options.seed);
    let mut editor = Editor::new(&host, &ledger, options.seed ^ 1)?;
    let mut agents = Agents::new(&host, &ledger, options.seed ^ 2, options.audit)?;
    agents.come_up(true)?;
    let resident = reside(&host, &ledger)?;
    // Until the agent knows the namespace of the clients, VIPs with source ranges are nobody's (R22).
    wait_for_clients(&host)?;
    let mut progress = Progress::new(options.progress);
    progress.say("traffic, edits and restarts begin");
    let mut clients = clients::start(&host, &ledger, options.seed).context("start the clients")?;
    clients.push(resident);

    let began = Instant::now();
    let at = |percent: u32| began + options.duration * percent / 100;
    let quiet = (options.duration / 20).min(Duration::from_secs(3));
    let measure = |agents: &mut Agents<'_>, editor: &mut Editor<'_>| -> Result<Footprint> {
        editor.repair()?;
        agents.come_up(true)?;
        // What changes have caused is over by then.
        thread::sleep(quiet);
        agents.least_footprint(quiet)
    };
    let (mut third, mut two_thirds) = (None, None);
    while Instant::now() < at(100) && !options.interrupted.load(SeqCst) && !ledger.is_over() {
        if third.is_none() && Instant::now() >= at(33) {
            third = Some(measure(&mut agents, &mut editor)?);
            progress.say("measured; the same agent stays to the end");
        }
        if two_thirds.is_none() && Instant::now() >= at(66) {
            two_thirds = Some(measure(&mut agents, &mut editor)?);
        }
        editor.edit()?;
        let next = Instant::now() + dice.millis(0, 2 * PACE);
        while Instant::now() < next {
            agents.step(Instant::now() < at(25), editor.is_whole())?;
            thread::sleep(Duration::from_millis(10));
        }
        progress.step(&ledger, &agents, editor.edits);
    }

    progress.say("the end: everything is measured, closed, deleted, and looked for");
    let end = measure(&mut agents, &mut editor)?;
    ledger.over.store(true, SeqCst);
    let mut complaints = Vec::new();
    for client in clients {
        if client.join().is_err() {
            complaints.push("a client panicked".to_owned());
        }
    }
    let failed = ledger.failed.load(SeqCst);
    if failed > 0 {
        complaints.push(format!("{failed} exchanges failed:\n    {}", ledger.failures().join("\n    ")));
    }
    complaints.extend(compare(options.compare_memory, third, two_thirds, end));
    complaints.extend(clear(options, &host, &mut editor, &mut agents));
    agents.inspect();
    complaints.append(&mut agents.complaints);
    let log = agents.log();
    // What is not left must not come back, and an agent goes when told.
    if let Err(error) = agents
        .restart(Signal::TERM)
        .and_then(|()| leftovers::wait(&host, &agents, Duration::from_secs(10), |_| true))
    {
        complaints.push(format!("after one more restart: {error:#}"));
    }
    let kib = |it: Option<Footprint>| {
        it.map_or("-".to_owned(), |it| format!("{} KiB ({} its own) {} files", it.rss, it.own, it.files))
    };
    let summary = format!(
        "{} exchanges, {failed} failed; {} found no service, {} sockets closed as their backend left, {} over multipath \
         TCP\n{} edits, {} restarts, slowest start {:?}\nthe agent after a third: {}, after two: {}, at the end: {}",
        ledger.exchanges.load(SeqCst),
        ledger.unserved.load(SeqCst),
        ledger.closed.load(SeqCst),
        ledger.multipath.load(SeqCst),
        editor.edits,
        agents.restarts,
        agents.slowest,
        kib(third),
        kib(two_thirds),
        kib(Some(end)),
    );
    Ok(Report { summary, complaints, log })
}

/// Deletes all services and looks for what is left of them, and of the sockets.
fn clear(options: &Options, host: &Host, editor: &mut Editor<'_>, agents: &mut Agents<'_>) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut check = |what: &str, outcome: Result<()>| {
        complaints.extend(outcome.err().map(|error| format!("{what}: {error:#}")));
    };
    // Until the next audit of the slots, and the one after it that decides.
    let audits = 5 * options.audit + Duration::from_secs(5);
    check(
        "sockets are gone, slots are not",
        leftovers::wait(host, agents, audits, |map| map.starts_with("slots")),
    );
    check("deleting all", editor.clear());
    let tables = |map: &str| !map.starts_with("slots") && !map.starts_with("affinity");
    check("services are gone", leftovers::wait(host, agents, Duration::from_secs(15), tables));
    let expiry = Duration::from_secs(AFFINITY.into()) + 2 * options.audit;
    check("affinity", leftovers::wait(host, agents, expiry, |map| map.starts_with("affinity")));
    match agents.status() {
        None => complaints.push("the agent does not answer".to_owned()),
        Some(status) => complaints.extend(status.problems.iter().map(|problem| format!("status: {problem}"))),
    }
    complaints
}

/// What has grown that should not have.
fn compare(
    memory: bool,
    third: Option<Footprint>,
    two_thirds: Option<Footprint>,
    end: Footprint,
) -> Vec<String> {
    let mut complaints = Vec::new();
    if let Some(before) = two_thirds
        && end.files > before.files
    {
        complaints.push(format!("open files: {} after two thirds, {} at the end", before.files, end.files));
    }
    if let Some(before) = third.filter(|_| memory) {
        let growth = end.rss.saturating_sub(before.rss);
        if growth > GROWTH.1 || growth * 100 > GROWTH.0 * before.rss {
            complaints.push(format!("memory: {} KiB after a third, {} KiB at the end", before.rss, end.rss));
        }
    }
    complaints
}

/// Backends at every place of every service, all the time: who may answer is what the manifests say.
fn serve(host: &Host) -> Result<Vec<Backend>> {
    let mut backends = Vec::new();
    for (number, place) in (0..SERVICES).flat_map(|number| (0..PLACES).map(move |place| (number, place))) {
        for family in [Family::V4, Family::V6] {
            let (name, at) = (name(number, place), backend(number, place, family));
            let tcp = if number == LASTING { Backend::tcp_lasting } else { Backend::tcp };
            backends.push(tcp(host.namespace(), &name, at)?);
            backends.push(Backend::udp(host.namespace(), &name, at)?);
        }
    }
    Ok(backends)
}

/// Somebody is in the clients' namespace: the agent finds namespaces by those who are inside.
fn reside(host: &Host, ledger: &Arc<Ledger>) -> Result<JoinHandle<()>> {
    let ledger = Arc::clone(ledger);
    let wait = move || {
        while !ledger.is_over() {
            thread::sleep(Duration::from_millis(50));
        }
    };
    inside(host, wait).context("start a thread")
}

/// Waits until a VIP with source ranges serves in both families.
fn wait_for_clients(host: &Host) -> Result<()> {
    use testkit::{Kind, eventually, exchange};
    for family in [Family::V4, Family::V6] {
        let vip = services::address(5, services::Via::LoadBalancer, family);
        eventually(Duration::from_secs(15), || host.run(|| exchange(Kind::ConnectedUdp, family, vip)))
            .with_context(|| format!("{vip} with source ranges that admit the clients does not serve"))?;
    }
    Ok(())
}

/// Backends of connections that last keep a descriptor of each until they close.
fn raise_limit() -> Result<()> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).context("raise the limit of open files")
}
