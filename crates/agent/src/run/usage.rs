//! Reading the programs' counts of who uses what.

use std::{
    collections::{BTreeSet, HashMap},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use abi::{
    Endpoint,
    usage::{Client, Key},
};
use host::container::{self, Place};
use jiff::{Timestamp, Unit};
use model::{Kind, ObjectId};
use observe::{Usage, usage::Locality};
use tokio::sync::{mpsc, oneshot};

use super::Agent;
use crate::{
    answer::{self, Backends},
    usage::{Ledger, Meaning, Owner, Whereabouts},
};

/// How often counts are read while nobody asks: a page must not run full, and a minute is counted in parts of 5 s.
const EVERY: Duration = Duration::from_secs(2);
/// And no more often than this while services come and go fast.
const LEAST: Duration = Duration::from_millis(200);
/// How often pods' cgroups are looked for until some are found.
const LOOK: Duration = Duration::from_secs(5);
/// What can fail.
const COUNTING: &str = "choosing by what clients are counted";
const READING: &str = "reading who uses what";

type Reply = oneshot::Sender<Box<Usage>>;

/// Reading, and what came of it.
pub(super) struct Reading {
    ledger: Ledger,
    /// The page that nobody counts in any more, once readers have been waited for; `None` = no reading is under way.
    page: Option<u32>,
    /// Ids of services that were gone when it began can be others' once what bears them was read.
    rest: Option<plan::Reading>,
    /// The counts were; events that were told until then, on the programs' clock, are to be.
    unread: Option<(u64, plan::Reading)>,
    done: mpsc::Sender<()>,
    begun: Instant,
    due: Instant,
    /// Who asked, before the reading that is under way began and after.
    asked: [Vec<Reply>; 2],
    /// When it is looked at next whether pods have cgroups of cgroup2; `None` once that is known.
    look_due: Option<Instant>,
    /// What the programs had no room for before this agent started.
    before: u64,
}

impl Reading {
    /// And where it is told that readers have been waited for.
    pub(super) fn new(before: u64) -> (Self, mpsc::Receiver<()>) {
        let (done, waited) = mpsc::channel(1);
        let ledger = Ledger::default();
        let begun = Instant::now();
        let due = begun + EVERY;
        let asked = Default::default();
        (
            Self {
                ledger,
                page: None,
                rest: None,
                unread: None,
                done,
                begun,
                due,
                asked,
                look_due: Some(begun),
                before,
            },
            waited,
        )
    }

    /// When the next reading is due, if none is under way.
    pub(super) fn next(&self) -> Option<Instant> {
        self.page.is_none().then_some(self.due)
    }
}

/// Numbers, as the agent knows them.
struct Numbers<'a> {
    agent: &'a mut Agent,
    owners: HashMap<u32, Option<Arc<Owner>>>,
}

impl Meaning for Numbers<'_> {
    fn owner(&mut self, service: u32) -> Option<Arc<Owner>> {
        let table = self.agent.reconciler.table();
        let look = || table.name(service).map(|name| Arc::new(Owner::from(name)));
        self.owners.entry(service).or_insert_with(look).clone()
    }

    fn backend(&mut self, index: u32, generation: u32) -> Option<(Arc<Owner>, SocketAddr)> {
        let found = *self.agent.reconciler.table().backend(index)?;
        let is = found.generation & (u32::MAX >> 1) == generation;
        let endpoint = Endpoint { address: found.address, port_be: found.port_be };
        let owner = is.then(|| self.owner(found.service)).flatten()?;
        Some((owner, endpoint.socket_addr()))
    }

    fn is_there(&mut self, owner: &Owner) -> bool {
        let (cluster, id) = (self.agent.reconciler.cluster(), owner.id());
        match id.kind {
            Kind::Service => cluster.service(&id.name).is_some(),
            _ => cluster.policy(&id).is_some(),
        }
    }

    fn place(&mut self, client: Client) -> Option<Arc<Place>> {
        match client {
            Client::Cgroup(id) => self.agent.place(id),
            Client::Namespace(_) => {
                self.agent.namespaces_wanted = true;
                None
            }
        }
    }
}

impl Agent {
    /// Somebody asks who uses what: he gets what was counted until now.
    pub(super) fn tell_usage(&mut self, reply: Reply) {
        self.reading.asked[1].push(reply);
        self.reading.due = Instant::now();
    }

    /// Reads what was counted before this agent started, while the tables are what they were then.
    pub(super) fn read_before(&mut self) {
        match self.reconciler.store().take_all_usage() {
            Ok(counted) => self.enter(counted),
            Err(error) => self.failed(READING, &error),
        }
    }

    /// Where pods have no cgroups of cgroup2 (hybrid hosts) all of them would be one client, whatever cgroup their runtime is in:
    /// there they are counted by network namespace.
    pub(super) fn look_for_pods_cgroups(&mut self) {
        if self.reading.look_due.is_none_or(|due| Instant::now() < due) {
            return;
        }
        // Those that have a sandbox.
        let pods = self.reconciler.cluster().own_pods();
        let pods = pods.filter(|pod| !pod.host_network && !pod.finished && !pod.ips.is_empty());
        let uids: BTreeSet<String> = pods.map(|pod| pod.uid.clone()).collect();
        if uids.is_empty() {
            return;
        }
        self.reading.look_due = Some(Instant::now() + LOOK);
        let by_netns = if self.cgroups.root().pods().keys().any(|uid| uids.contains(uid)) {
            0
        } else if !container::pods_in_v1().is_disjoint(&uids) {
            1
        } else {
            return;
        };
        let store = self.reconciler.store();
        let chosen = store.settings().and_then(|settings| {
            if settings.usage_by_netns != by_netns {
                tracing::info!(by_netns, "by what clients are counted: do pods have cgroups of cgroup2?");
                store.change_settings(|settings| settings.usage_by_netns = by_netns)?;
            }
            Ok(())
        });
        match chosen {
            Ok(()) => {
                self.reading.look_due = None;
                self.failures.remove(COUNTING);
            }
            Err(error) => self.failed(COUNTING, &error),
        }
    }

    /// Services go faster than they are read of: that is done sooner, so that there are ids for those that come.
    pub(super) fn hasten_reading(&mut self) {
        let table = self.reconciler.table();
        if table.resting() > table.capacity().services as usize / 8 {
            let soon = self.reading.begun + LEAST;
            self.reading.due = self.reading.due.min(soon);
        }
    }

    /// Events have been read, all of them or until one of this time.
    pub(super) fn has_read_events(&mut self, until: Option<u64>) {
        if let Some((_, rest)) = self.reading.unread.take_if(|(at, _)| until.is_none_or(|until| until > *at))
        {
            self.reconciler.has_read(rest);
            if !self.refused.is_empty() {
                // There may be room now.
                self.round();
            }
        }
    }

    /// Lets the programs count elsewhere, and waits for those that still do here.
    pub(super) fn begin_reading(&mut self) {
        self.reading.begun = Instant::now();
        self.reading.due = self.reading.begun + EVERY;
        let rest = self.reconciler.begin_reading();
        match self.reconciler.store().turn_usage_page() {
            Ok(page) => {
                (self.reading.page, self.reading.rest) = (Some(page), Some(rest));
                let asked = std::mem::take(&mut self.reading.asked[1]);
                self.reading.asked[0].extend(asked);
                let done = self.reading.done.clone();
                tokio::task::spawn_blocking(move || {
                    kernel::wait_for_readers();
                    let _ = done.blocking_send(());
                });
            }
            Err(error) => {
                self.failed(READING, &error);
                self.reading.asked = Default::default();
            }
        }
    }

    /// Readers have been waited for.
    pub(super) fn end_reading(&mut self) {
        let Some(page) = self.reading.page.take() else { return };
        match self.reconciler.store().take_usage(page) {
            Ok(counted) => {
                self.failures.remove(READING);
                self.enter(counted);
                for reply in std::mem::take(&mut self.reading.asked[0]) {
                    // Who no longer listens is no error.
                    let _ = reply.send(Box::new(self.usage(false)));
                }
            }
            Err(error) => {
                self.failed(READING, &error);
                self.reading.asked[0].clear();
            }
        }
        // What could not be read names nobody. Where events of an earlier reading are yet to be read, the next one is good for both.
        if let Some(rest) = self.reading.rest.take() {
            self.reading.unread.get_or_insert((host::clock::monotonic(), rest));
        }
    }

    /// Takes in what was counted.
    fn enter(&mut self, counted: HashMap<Key, u64>) {
        let mut ledger = std::mem::take(&mut self.reading.ledger);
        let now = self.started.elapsed();
        let mut numbers = Numbers { agent: self, owners: HashMap::new() };
        let time = Timestamp::now();
        // As people read it.
        let time = time.round(Unit::Millisecond).unwrap_or(time);
        let left_out = ledger.add(counted, &mut numbers, now, time);
        self.reading.ledger = ledger;
        self.contract.metrics().left_out(left_out);
        if self.config.metrics_services > 0 {
            self.contract.metrics().used(&self.usage(true));
        }
    }

    fn usage(&self, recent: bool) -> Usage {
        let unattributed = self.reconciler.store().unattributed().unwrap_or_default();
        let unattributed = unattributed.saturating_sub(self.reading.before);
        let who = |client, place: Option<&Place>| {
            let netns = match client {
                Client::Cgroup(_) => None,
                Client::Namespace(cookie) => Some(cookie),
            };
            self.identities.who(place, netns, || None).who
        };
        let cluster = self.reconciler.cluster();
        let here = cluster.here();
        let zone = |node: &str| cluster.node(node).and_then(|node| node.zone().map(str::to_owned));
        let mut known: HashMap<ObjectId, Backends> = HashMap::new();
        let whereabouts = |owner: &Owner, address: SocketAddr| {
            let id = owner.id();
            let backends = known.entry(id.clone()).or_insert_with(|| answer::backends(cluster, &id));
            let (pod, node) = backends.get(&address).cloned().unwrap_or_default();
            let locality = match &node {
                None => Locality::Unknown,
                Some(node) if **node == *here.node => Locality::Node,
                Some(node) if here.zone.is_some() && zone(node) == here.zone => Locality::Zone,
                Some(_) => Locality::Other,
            };
            let pod = pod.map(|pod| (pod.namespace.to_string(), pod.name.clone()));
            Whereabouts { pod, node: node.map(|node| node.to_string()), locality }
        };
        self.reading.ledger.usage(recent, unattributed, who, whereabouts)
    }
}
