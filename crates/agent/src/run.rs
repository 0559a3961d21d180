//! The agent's life: start, the one task that owns the tables, stop.
//!
//! Start: take the lock, load the programs over the pinned maps, take over what these hold, follow the sources.
//! Until all have synced the previous agent's programs go on with the previous tables. Then: put the new programs in force
//! and make the tables right. Tables that nobody looks into yet, the first or those of a new layout, are filled before that.
//! Nothing is deleted before that. Stop: nothing; programs and maps stay.

mod clients;
mod contract;
mod events;
mod exclusion;
mod growth;
mod look;
mod measure;
mod pace;
mod pause;
mod policies;
mod probing;
mod report;
mod round;
mod search;
mod tell;
mod usage;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    pin::pin,
    time::{Duration, Instant},
};

use host::{Addresses, Capabilities, Capability, CgroupRoot, NetworkNamespace, bpffs, bpffs::Mounted, limit};
use kernel::{Events, Loaded, Maps, Stranger};
use observe::{Clock, log::Memory};
use plan::{Capacity, Deletes, Refusal};
use source::{Choice, Feed, Problem, Severity, Update};
use tokio::{
    sync::{mpsc, watch},
    time::{MissedTickBehavior, interval},
};

use contract::Contract;

use crate::{
    Config, Error, GracePeriod, Reconciler,
    answer::{self, ClusterIps, Followers, Question, Still},
    cgroups::Cgroups,
    config::{Effective, EventLevel},
    event_log::EventLog,
    growth::{capacity, sizes},
    identity::{Identities, held::Holding},
    lock::Lock,
    probing::{Found, Probing},
    sockets::{self, Sockets},
};

/// How often the small things are looked at: is it paused, are the programs still attached.
const LOOK: Duration = Duration::from_secs(1);
/// Files that it takes: about 50 of its own, as many again while it opens the maps anew, those of somebody who reads metrics, and
/// conversations.
const OPEN_FILES: u64 = 180;
/// Activities that can fail.
const ROUND: &str = "writing the tables";
const AUDIT_OF_TABLES: &str = "auditing the tables";
const LOOKING: &str = "looking after the programs";
/// First and longest pause before a failed round is tried again.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// Runs the agent until `stop` is done; then everything stays as it is, in force. `log` is what [`observe::log::start`]
/// gave.
///
/// # Errors
/// It can't start, or the source ended.
pub async fn run(
    config: Effective,
    choice: &Choice,
    log: Memory,
    stop: impl Future<Output = ()>,
) -> Result<(), Error> {
    limit::use_heap_sparingly();
    // What needs no rights and leaves nothing behind first.
    let mut stop = pin!(stop);
    let node = (!config.config.outside_cluster).then(|| config.config.node_name.clone());
    let feed = tokio::select! {
        feed = Feed::start(choice.clone(), node, config.config.publish) => feed?,
        () = &mut stop => return Ok(()),
    };
    let (node, followers) = (config.config.node_name.clone(), Followers::default());
    let still = Still { node, settings: config.shown(), log, followers };
    let (mut agent, mut inputs) = Agent::start(config.config, feed, still)?;
    let mut events_pause = pace::EVENTS;
    let mut events_due = interval(events_pause);
    let mut audit_due = interval(pace::until_audit(agent.config.audit_interval, Duration::ZERO));
    let mut look_due = interval(LOOK);
    for due in [&mut events_due, &mut audit_due, &mut look_due] {
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    }
    audit_due.reset();
    loop {
        agent.contract.turned();
        let growth = agent.growing.as_ref().map(|growing| growing.again_at);
        let (retry, sockets) = (agent.retry_at.into_iter().chain(growth).min(), agent.sockets.next());
        let reading = agent.reading.next();
        let exclusion = agent.exclusion.due();
        tokio::select! {
            biased;
            () = &mut stop => {
                tracing::info!("stopping; programs and tables stay in force");
                agent.end_events(&mut inputs.events);
                return Ok(());
            }
            Some(error) = agent.fatal() => return Err(error),
            update = inputs.updates.recv() => {
                let Some(update) = update else { return Err(Error::SourceEnded) };
                agent.take(update);
                // What is there already goes into the same round.
                while let Ok(update) = inputs.updates.try_recv() {
                    agent.take(update);
                }
                agent.exclude_changed();
                agent.round_apart();
            }
            () = sleep_until(retry), if retry.is_some() => agent.round(),
            Some(question) = inputs.questions.recv() => agent.answer(question),
            Some(()) = inputs.graces.recv() => agent.grace_passed(),
            Some(found) = inputs.clients.recv() => agent.clients_found(found),
            Ok(()) = inputs.probing.changed() => {
                let found = inputs.probing.borrow_and_update().clone();
                agent.probed(found);
            }
            Some(done) = inputs.sockets.recv() => agent.searched(done),
            () = sleep_until(sockets), if sockets.is_some() => agent.search(),
            Some(()) = inputs.readers.recv() => agent.end_reading(),
            () = sleep_until(exclusion), if exclusion.is_some() => agent.look_at_excluded(),
            () = sleep_until(reading), if reading.is_some() => agent.begin_reading(),
            _ = audit_due.tick() => {
                let begun = pace::cpu();
                agent.audit();
                let took = pace::cpu().saturating_sub(begun);
                audit_due.reset_after(pace::until_audit(agent.config.audit_interval, took));
            }
            _ = look_due.tick() => agent.look(),
            _ = events_due.tick() => {
                events_pause = pace::until_events(events_pause, agent.read_events(&mut inputs.events));
                events_due.reset_after(events_pause);
            }
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    if let Some(at) = at {
        tokio::time::sleep_until(at.into()).await;
    }
}

/// What comes in.
struct Inputs {
    updates: mpsc::Receiver<Update>,
    questions: mpsc::Receiver<Question>,
    graces: mpsc::Receiver<()>,
    clients: mpsc::Receiver<clients::Seen>,
    probing: watch::Receiver<Found>,
    sockets: mpsc::Receiver<sockets::Done>,
    events: Events,
    readers: mpsc::Receiver<()>,
}

/// Everything that the one task owns.
struct Agent {
    config: Config,
    cgroup: PathBuf,
    reconciler: Reconciler<Maps>,
    /// Loaded and not yet in force.
    loaded: Option<Loaded>,
    /// The programs of this agent are attached.
    in_force: bool,
    /// What the source is.
    source: String,
    synced: bool,
    /// Deletes are held back until the source is sure of what is not there (R6).
    deletes: Deletes,
    pins_gone: bool,
    /// When the last round ended.
    round_at: Option<Instant>,
    retry_at: Option<Instant>,
    retry_pause: Duration,
    /// Tables could not be made larger.
    growing: Option<growth::Failing>,
    grace: Option<GracePeriod>,
    graces: mpsc::Sender<()>,
    finding: clients::Finding,
    exemptions: policies::Exemptions,
    exclusion: exclusion::Exclusion,
    sockets: Sockets,
    contract: Contract,
    probing: Probing,
    measuring: measure::Due,
    /// Whose cluster IP it is that has no such port.
    cluster_ips: ClusterIps,
    log: EventLog,
    followers: Followers,
    cgroups: Cgroups,
    identities: Identities,
    holding: Holding,
    /// What turns the programs' clock into the world's, as read last.
    clock: Option<Clock>,
    /// Somebody's network namespace is to be known.
    namespaces_wanted: bool,
    /// Cookie of the host's.
    host_netns: u64,
    reading: usage::Reading,
    /// Why cgroups are not noted as they are made.
    unwatched: Option<String>,
    paused: bool,
    /// What the event log was told of that.
    pause_told: pause::Told,
    sources: Vec<Problem>,
    refused: Vec<Refusal>,
    telling: tell::Telling,
    /// What fails now, by activity.
    failures: BTreeMap<&'static str, String>,
    /// Programs of others at the same place.
    strangers: Vec<Stranger>,
    rounds: u64,
    audit_differences: u64,
    started: Instant,
    _lock: Lock,
}

impl Agent {
    fn start(config: Config, feed: Feed, still: Still) -> Result<(Self, Inputs), Error> {
        let files = limit::raise_open_files(OPEN_FILES)? - OPEN_FILES;
        let missing = Capabilities::effective()?.missing(&Capability::NEEDED);
        if !missing.is_empty() {
            return Err(Error::Rights(
                missing.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and "),
            ));
        }
        if config.bpffs.directory().starts_with(bpffs::DEFAULT) {
            let default = Path::new(bpffs::DEFAULT);
            if bpffs::ensure(default)? == Mounted::Now {
                tracing::warn!(
                    "mounted a bpf file system at {}: there was none. If this is a container, pins end with it, and \
                     service addresses with them: mount the host's there",
                    default.display()
                );
            }
        }
        let lock = Lock::take(&config.socket, &config.bpffs)?;
        let root = CgroupRoot::discover(None)?;
        let served = match &config.cgroup_root {
            Some(chosen) => CgroupRoot::discover(Some(chosen))?,
            None => root.clone(),
        };
        let cgroup = served.path().to_owned();
        let strangers = kernel::strangers(&kernel::attached(&config.bpffs)?, &cgroup)?;
        if let Some(program) = strangers.iter().find(|it| it.is_ours()).map(|it| it.program_id) {
            return Err(Error::Twice { cgroup, program });
        }
        let loaded = Loaded::load(&config.bpffs, &sizes(&Capacity::FIRST.min(&config.most())))?;
        if !loaded.put_back().is_empty() {
            tracing::warn!("pins of maps had been removed; put back: {}", loaded.put_back().join(", "));
        }
        let maps = Maps::open(&config.bpffs)?;
        set_level(&maps, config.events)?;
        // The agent is in the host's network namespace.
        let host_netns = NetworkNamespace::own()?.cookie.unwrap_or_default();
        maps.change_settings(|settings| settings.host_netns = host_netns)?;
        let settings = maps.settings()?;
        let paused = settings.paused != 0;
        let log = EventLog::new(&config, settings.reported_lost)?;
        // The agent before may have written until a moment ago; what it freed is reused from here on.
        kernel::wait_for_readers();
        let view = config.view(feed.has_selectors);
        let capacity = capacity(&maps);
        let reconciler = Reconciler::new(maps, capacity, view)?;
        for inconsistency in reconciler.inconsistencies() {
            tracing::warn!("pinned tables, to be repaired: {inconsistency}");
        }
        let events = Events::open(&config.bpffs)?;
        let telling = tell::Telling::new(feed.notices);
        let followers = still.followers.clone();
        let questions = answer::serve(&config.socket, still)?;
        let (graces, passed) = mpsc::channel(1);
        let (finding, found) = clients::Finding::new();
        let (sockets, searches) = Sockets::new(config.bpffs.clone(), config.reset_tcp);
        let contract = Contract::start(&config)?;
        let (probing, probed) = Probing::new(contract.health(), files);
        let (reading, readers) = usage::Reading::new(reconciler.store().unattributed()?);
        tracing::info!(
            node = config.node_name,
            source = feed.name,
            cgroup = %cgroup.display(),
            pins = %config.bpffs.directory().display(),
            "started"
        );
        let mut agent = Self {
            config,
            cgroup,
            reconciler,
            loaded: Some(loaded),
            in_force: false,
            source: feed.name,
            synced: false,
            deletes: Deletes::Held,
            pins_gone: false,
            round_at: None,
            retry_at: None,
            retry_pause: RETRY.0,
            growing: None,
            grace: None,
            graces,
            finding,
            exemptions: policies::Exemptions::below(served.clone()),
            exclusion: exclusion::Exclusion::below(served),
            sockets,
            contract,
            probing,
            measuring: measure::Due::now(),
            cluster_ips: ClusterIps::default(),
            log,
            followers,
            cgroups: Cgroups::new(root),
            identities: Identities::default(),
            holding: Holding::default(),
            clock: None,
            namespaces_wanted: false,
            host_netns,
            reading,
            unwatched: None,
            paused,
            pause_told: pause::Told::default(),
            sources: Vec::new(),
            refused: Vec::new(),
            telling,
            failures: BTreeMap::new(),
            // The first look tells of them.
            strangers: Vec::new(),
            rounds: 0,
            audit_differences: 0,
            started: Instant::now(),
            _lock: lock,
        };
        agent.set_own_addresses(Addresses::own().map(Addresses::all));
        agent.read_before();
        agent.look_at_excluded();
        agent.look_at_contract(&kernel::attached(&agent.config.bpffs)?);
        let graces = passed;
        let updates = feed.updates;
        let inputs = Inputs {
            updates,
            questions,
            graces,
            clients: found,
            probing: probed,
            sockets: searches,
            events,
            readers,
        };
        Ok((agent, inputs))
    }

    fn take(&mut self, update: Update) {
        match update {
            Update::Changes(changes) => {
                tracing::debug!(count = changes.len(), "changes");
                self.cluster_ips.forget();
                self.contract.see(self.reconciler.cluster(), &changes);
                self.identities.see(&changes);
                self.exclusion.see(&changes);
                self.reconciler.apply(changes);
            }
            Update::Synced => {
                self.synced = true;
                self.identities.synced();
            }
            Update::Complete => {
                self.deletes = Deletes::Allowed;
                self.exclusion.complete();
                self.reconciler.complete();
            }
            Update::Problems(problems) => {
                for problem in problems.iter().filter(|problem| !self.sources.contains(problem)) {
                    match problem.severity {
                        Severity::Error => tracing::warn!("{problem}"),
                        Severity::Notice => tracing::info!("{problem}"),
                    }
                }
                for problem in self.sources.iter().filter(|problem| !problems.contains(problem)) {
                    if problem.severity == Severity::Error {
                        tracing::info!("no longer: {problem}");
                    }
                }
                self.sources = problems;
            }
        }
    }

    /// What cannot be made good while running.
    fn fatal(&self) -> impl Future<Output = Option<Error>> + use<> {
        let gone = self.pins_gone.then(|| Error::PinsGone(self.config.bpffs.directory().to_owned()));
        std::future::ready(gone)
    }

    fn answer(&mut self, question: Question) {
        // Who no longer listens is no error.
        match question {
            Question::Status(reply) => drop(reply.send(Box::new(self.status()))),
            Question::Endpoints(only, traffic, reply) => {
                let endpoints = answer::endpoints(self.reconciler.cluster(), only.as_ref(), traffic);
                drop(reply.send(endpoints));
            }
            Question::Address(ip, reply) => {
                drop(reply.send(self.cluster_ips.holder(self.reconciler.cluster(), ip)));
            }
            Question::Pod(name, reply) => {
                drop(reply.send(answer::pod(self.reconciler.cluster(), &name)));
            }
            Question::OptedOut(uid, reply) => self.tell_opted_out(&uid, reply),
            Question::Usage(reply) => self.tell_usage(reply),
            Question::Nodes(reply) => drop(reply.send(answer::nodes(self.reconciler.cluster()))),
            Question::Events(reply) => drop(reply.send(self.log.follow())),
        }
    }
}

/// Sets the level of events and leaves the rest of the settings as they are.
///
/// # Errors
/// The map can't be read or written.
pub fn set_level(maps: &Maps, level: EventLevel) -> Result<(), kernel::Error> {
    let (events, sample) = level.words();
    maps.change_settings(|settings| (settings.events, settings.sample) = (events, sample))
}
