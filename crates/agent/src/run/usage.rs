//! Reading the programs' counts of who uses what.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use abi::Endpoint;
use host::container::Place;
use jiff::{Timestamp, Unit};
use kernel::LiveTables;
use model::ObjectId;
use observe::{Usage, usage::Locality};
use tokio::sync::{mpsc, oneshot};

use super::Agent;
use crate::{
    answer::{self, Backends},
    usage::{Ledger, Meaning, Owner, Whereabouts},
};

/// How often counts are read while nobody asks: a page must not run full, and a minute is counted in parts of 5 s.
const EVERY: Duration = Duration::from_secs(2);
/// What can fail.
const READING: &str = "reading who uses what";

type Reply = oneshot::Sender<Box<Usage>>;

/// Reading, and what came of it.
pub(super) struct Reading {
    ledger: Ledger,
    /// The page that nobody counts in any more, once readers have been waited for; `None` = no reading is under way.
    page: Option<u32>,
    done: mpsc::Sender<()>,
    due: Instant,
    /// Who asked, before the reading that is under way began and after.
    asked: [Vec<Reply>; 2],
    /// What the programs had no room for before this agent started.
    before: u64,
}

impl Reading {
    /// And where it is told that readers have been waited for.
    pub(super) fn new(before: u64) -> (Self, mpsc::Receiver<()>) {
        let (done, waited) = mpsc::channel(1);
        let ledger = Ledger::default();
        (Self { ledger, page: None, done, due: Instant::now(), asked: Default::default(), before }, waited)
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
        let store = self.agent.reconciler.store();
        let look = || LiveTables::new(store).name(service).as_ref().map(|name| Arc::new(Owner::from(name)));
        self.owners.entry(service).or_insert_with(look).clone()
    }

    fn backend(&mut self, index: u32, generation: u32) -> Option<(Arc<Owner>, SocketAddr)> {
        let found = *self.agent.reconciler.table().backend(index)?;
        let is = found.generation & (u32::MAX >> 1) == generation;
        let endpoint = Endpoint { address: found.address, port_be: found.port_be };
        let owner = is.then(|| self.owner(found.service)).flatten()?;
        Some((owner, endpoint.socket_addr()))
    }

    fn place(&mut self, cgroup: u64) -> Option<Arc<Place>> {
        self.agent.place(cgroup)
    }
}

impl Agent {
    /// Somebody asks who uses what: he gets what was counted until now.
    pub(super) fn tell_usage(&mut self, reply: Reply) {
        self.reading.asked[1].push(reply);
        self.reading.due = Instant::now();
    }

    /// Lets the programs count elsewhere, and waits for those that still do here.
    pub(super) fn begin_reading(&mut self) {
        self.reading.due = Instant::now() + EVERY;
        match self.reconciler.store().turn_usage_page() {
            Ok(page) => {
                self.reading.page = Some(page);
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
        let counted = match self.reconciler.store().take_usage(page) {
            Ok(counted) => counted,
            Err(error) => {
                self.failed(READING, &error);
                self.reading.asked[0].clear();
                return;
            }
        };
        self.failures.remove(READING);
        let mut ledger = std::mem::take(&mut self.reading.ledger);
        let now = self.started.elapsed();
        let mut numbers = Numbers { agent: self, owners: HashMap::new() };
        let time = Timestamp::now();
        // As people read it.
        let time = time.round(Unit::Millisecond).unwrap_or(time);
        ledger.add(counted, &mut numbers, now, time);
        self.reading.ledger = ledger;
        if self.config.metrics_services > 0 {
            self.contract.metrics().used(&self.usage(true));
        }
        for reply in std::mem::take(&mut self.reading.asked[0]) {
            // Who no longer listens is no error.
            let _ = reply.send(Box::new(self.usage(false)));
        }
    }

    fn usage(&self, recent: bool) -> Usage {
        let unattributed = self.reconciler.store().unattributed().unwrap_or_default();
        let unattributed = unattributed.saturating_sub(self.reading.before);
        let who = |place: Option<&Place>| self.identities.who(place, None, || None).who;
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
