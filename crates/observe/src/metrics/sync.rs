//! How what is known reaches the kernel: how long it takes, how much is written, and what audits find.

use std::time::Duration;

use jiff::Timestamp;
use model::Family;
use prometheus_client::{
    metrics::{
        counter::Counter,
        family::{Family as Labelled, MetricConstructor},
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

use super::label::{OfFamily, WithOutcome};

/// All of it.
#[derive(Debug)]
pub(super) struct Sync {
    programming: Labelled<OfFamily, Histogram, Programming>,
    latency: Histogram,
    rounds: Labelled<WithOutcome, Counter>,
    took: Labelled<OfFamily, Histogram, Round>,
    queued: Labelled<OfFamily, Seconds>,
    synced: Labelled<OfFamily, Seconds>,
    writes: Counter,
    audits: Counter,
    differences: Counter,
}

type Seconds = Gauge<f64, std::sync::atomic::AtomicU64>;

#[derive(Clone, Copy, Debug)]
struct Programming;

impl MetricConstructor<Histogram> for Programming {
    fn new_metric(&self) -> Histogram {
        Histogram::new(programming_buckets())
    }
}

/// Those of kubernetes 1.36 pkg/proxy/metrics/metrics.go, so that what is asked of them everywhere has an answer here: 0, then
/// every quarter, second, five seconds, half minute.
fn programming_buckets() -> impl Iterator<Item = f64> {
    let seconds = (1..60).map(f64::from);
    let fives = (60..120).step_by(5).map(f64::from);
    let halves = (120..=300).step_by(30).map(f64::from);
    [0.0, 0.25, 0.5].into_iter().chain(seconds).chain(fives).chain(halves)
}

#[derive(Clone, Copy, Debug)]
struct Round;

impl MetricConstructor<Histogram> for Round {
    /// Those of kube-proxy, from the same file.
    fn new_metric(&self) -> Histogram {
        Histogram::new(exponential_buckets(0.001, 2.0, 15))
    }
}

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

impl Sync {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let sync = Self {
            programming: Labelled::new_with_constructor(Programming),
            // From a millisecond to half a minute.
            latency: Histogram::new(exponential_buckets(0.001, 2.0, 16)),
            rounds: Labelled::default(),
            took: Labelled::new_with_constructor(Round),
            queued: Labelled::default(),
            synced: Labelled::default(),
            writes: Counter::default(),
            audits: Counter::default(),
            differences: Counter::default(),
        };
        registry.register(
            "kubeproxy_network_programming_duration_seconds",
            "From a change of a service's pods to its being in force on this node",
            sync.programming.clone(),
        );
        registry.register(
            "kubeproxy_sync_proxy_rules_duration_seconds",
            "How long a round took that brings changes into the kernel; both families go together",
            sync.took.clone(),
        );
        registry.register(
            "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds",
            "When the agent last heard of a change, in seconds since 1970; 0: never",
            sync.queued.clone(),
        );
        registry.register(
            "kubeproxy_sync_proxy_rules_last_timestamp_seconds",
            "When everything was last in force, in seconds since 1970; 0: never",
            sync.synced.clone(),
        );
        registry.register(
            "balancing_sync_latency_seconds",
            "From the agent's hearing of a change to its being in force",
            sync.latency.clone(),
        );
        registry.register("balancing_rounds", "Rounds, by what came of them", sync.rounds.clone());
        registry.register("balancing_writes", "Entries of maps written by rounds", sync.writes.clone());
        registry.register(
            "balancing_audits",
            "How often everything was compared with what the kernel holds",
            sync.audits.clone(),
        );
        registry.register(
            "balancing_audit_differences",
            "Differences that audits have found; none unless somebody else writes our maps",
            sync.differences.clone(),
        );
        // There from the start, so that the first change is a change of something.
        for family in FAMILIES {
            drop(sync.programming.get_or_create(&family.into()));
            drop(sync.took.get_or_create(&family.into()));
            drop(sync.queued.get_or_create(&family.into()));
            drop(sync.synced.get_or_create(&family.into()));
        }
        for outcome in ["written", "nothing", "failed"] {
            drop(sync.rounds.get_or_create(&WithOutcome { outcome }));
        }
        sync
    }

    pub(super) fn programmed(&self, family: Family, took: Duration) {
        self.programming.get_or_create(&family.into()).observe(took.as_secs_f64());
    }

    pub(super) fn queued(&self, now: Timestamp) {
        set(&self.queued, now);
    }

    pub(super) fn synced(&self, now: Timestamp, waited: Option<Duration>) {
        set(&self.synced, now);
        if let Some(waited) = waited {
            self.latency.observe(waited.as_secs_f64());
        }
    }

    pub(super) fn round(&self, took: Duration, writes: usize) {
        for family in FAMILIES {
            self.took.get_or_create(&family.into()).observe(took.as_secs_f64());
        }
        self.writes.inc_by(writes as u64);
        self.count(if writes > 0 { "written" } else { "nothing" });
    }

    pub(super) fn failed(&self) {
        self.count("failed");
    }

    fn count(&self, outcome: &'static str) {
        self.rounds.get_or_create(&WithOutcome { outcome }).inc();
    }

    pub(super) fn audited(&self, differences: usize) {
        self.audits.inc();
        self.differences.inc_by(differences as u64);
    }
}

fn set(gauge: &Labelled<OfFamily, Seconds>, time: Timestamp) {
    for family in FAMILIES {
        gauge.get_or_create(&family.into()).set(time.as_nanosecond() as f64 / 1e9);
    }
}
