//! Decisions of the programs, read from the ring buffer and given names.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use abi::{Event, Name};
use host::container::{Place, v1_path};
use jiff::Timestamp;
use kernel::Events;
use observe::event::{Clock, Decision, Names};

use super::{Agent, pace::Found};
use crate::{
    answer::{self, Backends},
    usage::Owner,
};

/// How long events are read in one go, so that tables don't wait for them.
const EVENTS_AT_ONCE: Duration = Duration::from_millis(10);

/// How long they are read when the agent ends.
const EVENTS_AT_END: Duration = Duration::from_secs(1);

/// What the events of one go have in common.
struct Shared {
    /// When it began, by each clock.
    begun: Instant,
    monotonic: u64,
    clock: Clock,
    services: HashMap<u32, Option<(Name, Backends)>>,
}

impl Shared {
    fn begin(earlier: Option<Clock>) -> Self {
        let now = clock();
        Self {
            begun: Instant::now(),
            monotonic: now.monotonic,
            clock: earlier.map_or(now, |earlier| now.steady(earlier)),
            services: HashMap::new(),
        }
    }

    /// When this moment of the programs' clock was, which is that of [`Instant`].
    fn instant(&self, monotonic: u64) -> Instant {
        let ago = Duration::from_nanos(self.monotonic.saturating_sub(monotonic));
        self.begun.checked_sub(ago).unwrap_or(self.begun)
    }
}

impl Agent {
    /// Reads what there is, for as long as others can wait.
    pub(super) fn read_events(&mut self, ring: &mut Events) -> Found {
        let (mut found, mut last) = (Found::Nothing, 0);
        let mut shared = Shared::begin(self.clock);
        self.clock = Some(shared.clock);
        loop {
            if shared.begun.elapsed() >= EVENTS_AT_ONCE {
                found = Found::Part;
                break;
            }
            let Some(event) = ring.next_event() else { break };
            found = Found::All;
            last = event.time;
            self.read_event(&event, &mut shared);
        }
        self.has_read_events((found == Found::Part).then_some(last));
        self.release_held();
        // Where there was nothing to read there was room.
        if found != Found::Nothing {
            self.report_lost();
        }
        // What is still to be told of does not wait until this is looked at less often.
        let metrics = self.contract.metrics();
        let more = self
            .log
            .tell_suppressed(Instant::now(), |reason, count| metrics.events_suppressed(reason, count));
        if more && found == Found::Nothing { Found::All } else { found }
    }

    fn read_event(&mut self, event: &Event, shared: &mut Shared) {
        if event.reason == abi::Reason::UnknownClient as u8 {
            self.look_for_clients_now();
        }
        if !self.log.passes(event.reason, shared.instant(event.time), Instant::now()) {
            return;
        }
        let found = self.cgroups.find(event.cgroup, self.reconciler.store());
        let netns = Some(event.netns).filter(|netns| *netns != self.host_netns);
        let place = found.as_ref().map(|(_, place)| &**place);
        let named = self.identities.who(place, netns, || v1_place(event.pid));
        let clock = shared.clock;
        let service = (event.mode != 0).then(|| self.service(event.service, shared)).flatten();
        let to = abi::Endpoint { address: event.backend, port_be: event.backend_port_be }.socket_addr();
        let backend = service.and_then(|(_, backends)| backends.get(&to));
        let (pod, node) = backend.map_or((None, None), |(pod, node)| (pod.as_ref(), node.as_deref()));
        let names = Names {
            node: &self.config.node_name,
            clock,
            service: service.map(|(name, _)| name),
            cgroup: found.as_ref().map(|(path, _)| &**path),
            who: named.who,
            backend: (pod, node),
        };
        let mut decision = Decision::new(event, &names);
        if event.reason == abi::Reason::UnknownPort as u8 {
            // No service port has it; the service whose address it is is known all the same.
            let owner = self.cluster_ips.service(self.reconciler.cluster(), decision.original.ip);
            decision.service = owner.map(|it| observe::event::Service {
                namespace: it.namespace.to_string(),
                name: it.name.clone(),
                port: String::new(),
            });
        }
        if named.sure || self.holding.is_hopeless(event.cgroup, netns) {
            return self.log.add(decision);
        }
        self.namespaces_wanted |= place.is_none_or(|place| place.pods.is_empty());
        let place = found.map(|(_, place)| place);
        if let Some(oldest) = self.holding.hold(decision, place, netns, Instant::now()) {
            self.log.add(oldest.decision);
        }
    }

    /// Tells all that is known when the agent ends, and lets it be written. What is in the ring by then the next agent would find,
    /// but there may be none for long.
    pub(super) fn end_events(&mut self, ring: &mut Events) {
        let begun = Instant::now();
        while self.read_events(ring) == Found::Part && begun.elapsed() < EVENTS_AT_END {}
        for decision in self.holding.rest() {
            self.log.add(decision);
        }
        self.log.end();
    }

    /// Decisions whose client is known by now, or will not be.
    fn release_held(&mut self) {
        let identities = &self.identities;
        let released = self.holding.release(identities.version(), Instant::now(), |held| {
            let pid = held.decision.client.pid.unwrap_or_default();
            let named = identities.who(held.place.as_deref(), held.netns, || v1_place(pid));
            held.decision.client.who = named.who;
            named.sure
        });
        for held in released {
            // Its namespace may have gone before anybody saw it.
            held.netns.into_iter().for_each(|netns| self.identities.give_up_namespace(netns));
            self.log.add(held.decision);
        }
    }

    /// Name and backends of a service port, for all events of one go.
    fn service<'a>(&self, id: u32, shared: &'a mut Shared) -> Option<&'a (Name, Backends)> {
        let look = || {
            let name = *self.reconciler.table().name(id)?;
            Some((name, answer::backends(self.reconciler.cluster(), &Owner::from(&name).id())))
        };
        shared.services.entry(id).or_insert_with(look).as_ref()
    }

    /// Whose processes a cgroup has.
    pub(super) fn place(&mut self, cgroup: u64) -> Option<Arc<Place>> {
        self.cgroups.find(cgroup, self.reconciler.store()).map(|(_, place)| place)
    }

    pub(super) fn report_lost(&mut self) {
        if let Ok(total) = self.reconciler.store().events_lost()
            && self.log.ring_lost(total)
        {
            let store = self.reconciler.store();
            let noted = store.change_settings(|it| it.reported_lost = total as u32);
            if let Err(error) = noted {
                tracing::warn!("noting how many lost events were reported: {error}");
            }
        }
    }
}

/// What the process's other cgroups say.
fn v1_place(pid: u32) -> Option<Place> {
    v1_path(pid).map(|path| Place::of(&path))
}

fn clock() -> Clock {
    Clock { monotonic: host::clock::monotonic(), world: Timestamp::now() }
}
