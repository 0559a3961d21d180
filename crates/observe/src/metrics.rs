//! The agent's metrics: what they are called, and how they are written. docs/metrics.md has them all, and a test compares.
//!
//! Whoever knows of something calls a method of [`Metrics`]; what can be read when somebody asks is a [`Reading`].
//!
//! ```text
//! label    what tells the series of one metric apart
//! sync     how what is known reaches the kernel
//! traffic  what services and policies get
//! reading  what is read when somebody asks
//! ```

mod label;
mod reading;
mod sync;
mod traffic;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use model::Family;
use prometheus_client::{
    encoding::text,
    metrics::{counter::Counter, family::Family as Labelled, gauge::Gauge, info::Info},
    registry::Registry,
};

use crate::Usage;
use label::{ForReason, InState, OfKind, OfVersion, WithOutcome};
pub use reading::{Kernel, MapUse, Process, Program, Reading, Sink, Source};
pub use traffic::Fallen;

/// All of them.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    sync: sync::Sync,
    traffic: Arc<traffic::Traffic>,
    source_problems: Gauge,
    probe_targets: Labelled<InState, Gauge>,
    probes: Labelled<WithOutcome, Counter>,
    problems: Gauge,
    objects: Labelled<OfKind, Gauge>,
    destroyed: Counter,
    freed: Counter,
    suppressed: Labelled<ForReason, Counter>,
    left_out: Counter,
}

/// What can come of asking an address whether it is well.
const OUTCOMES: [&str; 7] = ["good", "refused", "timeout", "unreachable", "status", "not-http", "unasked"];

/// What the text of metrics is, for HTTP.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

impl Metrics {
    /// All at nothing; so many service ports, and so many policies, have series of their own.
    pub fn new(services: usize) -> Self {
        let mut registry = Registry::default();
        let metrics = Self {
            sync: sync::Sync::new(&mut registry),
            traffic: Arc::new(traffic::Traffic::new(services)),
            source_problems: Gauge::default(),
            probe_targets: Labelled::default(),
            probes: Labelled::default(),
            problems: Gauge::default(),
            objects: Labelled::default(),
            destroyed: Counter::default(),
            freed: Counter::default(),
            suppressed: Labelled::default(),
            left_out: Counter::default(),
            registry,
        };
        metrics.registered()
    }

    fn registered(mut self) -> Self {
        let registry = &mut self.registry;
        registry.register_collector(Box::new(self.traffic.clone()));
        registry.register(
            "balancing_build",
            "The version that runs",
            Info::new(OfVersion { version: env!("CARGO_PKG_VERSION") }),
        );
        registry.register(
            "balancing_source_problems",
            "Objects and servers of the source that are not understood or do not answer, now: `balancing status` names them",
            self.source_problems.clone(),
        );
        registry.register(
            "balancing_problems",
            "What is wrong, as of the last quarter of a minute: `balancing status` says what it is",
            self.problems.clone(),
        );
        registry.register(
            "balancing_objects",
            "Objects that are known, by kind, as of the last quarter of a minute",
            self.objects.clone(),
        );
        registry.register(
            "balancing_probe_targets",
            "Addresses of policies with a healthCheck that this node asks, now",
            self.probe_targets.clone(),
        );
        registry.register(
            "balancing_probes",
            "Questions that such addresses were asked, by what came of them",
            self.probes.clone(),
        );
        registry.register(
            "balancing_sockets_destroyed",
            "Sockets whose connection was ended because their backend had gone",
            self.destroyed.clone(),
        );
        registry.register(
            "balancing_slots_freed",
            "Slots freed because their socket had gone without a word",
            self.freed.clone(),
        );
        registry.register(
            "balancing_events_suppressed",
            "Events that were read and not told, by the reason of the decision",
            self.suppressed.clone(),
        );
        registry.register(
            "balancing_usage_left_out",
            "Decisions that were counted by client or backend, and that the agent had no room for, or could not say whose they were",
            self.left_out.clone(),
        );
        self.probe_targets(0, 0);
        // There from the start, so that the first is one more than before.
        for outcome in OUTCOMES {
            drop(self.probes.get_or_create(&WithOutcome { outcome }));
        }
        for reason in abi::Reason::ALL {
            self.events_suppressed(reason.name(), 0);
        }
        self
    }

    /// So many objects, files and servers of the source have something wrong with them now.
    pub fn source_problems(&self, count: usize) {
        set(&self.source_problems, count);
    }

    /// So much is wrong now, and so many objects of each kind are known.
    pub fn known(&self, problems: usize, objects: &[(String, usize)]) {
        set(&self.problems, problems);
        for (kind, count) in objects {
            set(&self.objects.get_or_create(&OfKind { kind: kind.clone() }), *count);
        }
    }

    /// So many addresses are asked whether they are well, and are or are not.
    pub fn probe_targets(&self, healthy: usize, unhealthy: usize) {
        for (state, count) in [("healthy", healthy), ("unhealthy", unhealthy)] {
            set(&self.probe_targets.get_or_create(&InState { state }), count);
        }
    }

    /// An address was asked.
    pub fn probed(&self, outcome: &'static str) {
        self.probes.get_or_create(&WithOutcome { outcome }).inc();
    }

    /// The agent has heard of a change.
    pub fn queued(&self, now: Timestamp) {
        self.sync.queued(now);
    }

    /// A round has brought what is desired into the maps, by so many writes.
    pub fn round(&self, took: Duration, writes: usize) {
        self.sync.round(took, writes);
    }

    /// A round has failed; there will be another.
    pub fn round_failed(&self) {
        self.sync.failed();
    }

    /// Everything is in force; the oldest change has waited so long for that.
    pub fn synced(&self, now: Timestamp, waited: Option<Duration>) {
        self.sync.synced(now, waited);
    }

    /// A change of endpoints is in force, `took` after it happened (R25).
    pub fn programmed(&self, family: Family, took: Duration) {
        self.sync.programmed(family, took);
    }

    /// An audit has found so many differences.
    pub fn audited(&self, differences: usize) {
        self.sync.audited(differences);
    }

    /// So many sockets were destroyed, and so many slots freed.
    pub fn searched(&self, destroyed: u64, freed: u64) {
        self.destroyed.inc_by(destroyed);
        self.freed.inc_by(freed);
    }

    /// So many events of decisions with this reason were not told.
    pub fn events_suppressed(&self, reason: &str, count: u64) {
        self.suppressed.get_or_create(&ForReason { reason: reason.to_owned() }).inc_by(count);
    }

    /// Adds what clients and backends have had since the reading before. Call it once for each reading.
    pub fn used(&self, usage: &Usage) {
        self.traffic.add(usage);
    }

    /// So many decisions were counted that nobody can be said to have made.
    pub fn left_out(&self, decisions: u64) {
        self.left_out.inc_by(decisions);
    }

    /// Takes in what policies have not taken so far, all of them.
    pub fn fell(&self, all: &[Fallen], now: Timestamp) {
        self.traffic.fell(all, now);
    }

    /// How they are now, as [`CONTENT_TYPE`] says.
    pub fn text(&self, reading: Reading) -> String {
        let mut now = Registry::default();
        now.register_collector(Box::new(reading));
        let mut text = String::new();
        // A String takes everything.
        let _ = text::encode_registry(&mut text, &self.registry)
            .and_then(|()| text::encode_registry(&mut text, &now))
            .and_then(|()| text::encode_eof(&mut text));
        text
    }
}

fn set(gauge: &Gauge, count: usize) {
    gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
}

#[cfg(test)]
mod tests;
