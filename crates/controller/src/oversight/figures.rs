//! What is counted.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use model::Kind;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use source::publish::Failure;

/// All of it.
#[derive(Debug)]
pub struct Figures {
    leads: Gauge,
    policies: Family<OfKind, Gauge>,
    pods: Gauge,
    slices: Gauge,
    waiting: Gauge,
    writes: Family<Write, Counter>,
    latency: Histogram,
    started: Instant,
    /// When the overseer turned last, in milliseconds since the start.
    turned: AtomicU64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfKind {
    kind: String,
}

/// A write, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Write {
    resource: &'static str,
    outcome: &'static str,
}

impl Default for Figures {
    fn default() -> Self {
        // From 10 ms to 20 s, each half as long again or a little more.
        let buckets = [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.4, 0.6, 1.0, 1.5, 2.5, 5.0, 10.0, 20.0];
        Self {
            leads: Gauge::default(),
            policies: Family::default(),
            pods: Gauge::default(),
            slices: Gauge::default(),
            waiting: Gauge::default(),
            writes: Family::default(),
            latency: Histogram::new(buckets),
            started: Instant::now(),
            turned: AtomicU64::new(0),
        }
    }
}

fn set(gauge: &Gauge, count: usize) {
    gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
}

impl Figures {
    /// Makes them known.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "balancing_controller_leader",
            "1: this controller writes slices and statuses; 0: another one does, or nobody",
            self.leads.clone(),
        );
        registry.register("balancing_controller_policies", "Policies that there are", self.policies.clone());
        // There from the start, so that the first is one more than before.
        for kind in [Kind::LocalRedirectPolicy, Kind::BalancingPolicy] {
            self.policies(kind, 0);
        }
        for resource in ["slice", "status", "lease"] {
            for outcome in ["ok", "conflict", "refused", "failed"] {
                drop(self.writes.get_or_create(&Write { resource, outcome }));
            }
        }
        registry.register("balancing_controller_pods", "Pods that are followed", self.pods.clone());
        registry.register(
            "balancing_controller_slices",
            "EndpointSlices of policies that there are",
            self.slices.clone(),
        );
        registry.register(
            "balancing_controller_slices_waiting",
            "EndpointSlices that are not yet what they should be",
            self.waiting.clone(),
        );
        registry.register(
            "balancing_controller_writes",
            "Writes to the API server, and what came of them",
            self.writes.clone(),
        );
        registry.register(
            "balancing_controller_slice_latency_seconds",
            "From a change of a pod, as the controller heard of it, to the slice that says so being written",
            self.latency.clone(),
        );
    }

    /// For how long the overseer has not turned.
    pub fn silence(&self) -> Duration {
        self.started.elapsed().saturating_sub(Duration::from_millis(self.turned.load(Relaxed)))
    }

    pub(super) fn turned(&self) {
        self.turned.store(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX), Relaxed);
    }

    pub(super) fn leads(&self, leads: bool) {
        self.leads.set(leads.into());
    }

    pub(super) fn policies(&self, kind: Kind, count: usize) {
        set(&self.policies.get_or_create(&OfKind { kind: kind.to_string() }), count);
    }

    pub(super) fn pods(&self, count: usize) {
        set(&self.pods, count);
    }

    pub(super) fn slices(&self, count: usize, waiting: usize) {
        set(&self.slices, count);
        set(&self.waiting, waiting);
    }

    pub(super) fn wrote<T>(&self, resource: &'static str, outcome: &Result<T, Failure>) {
        let outcome = match outcome {
            Ok(_) => "ok",
            Err(Failure::Missing | Failure::Exists | Failure::Taken) => "conflict",
            Err(Failure::Forbidden(_) | Failure::Refused(_)) => "refused",
            Err(Failure::Later(..)) => "failed",
        };
        self.writes.get_or_create(&Write { resource, outcome }).inc();
    }

    pub(super) fn took(&self, time: Duration) {
        self.latency.observe(time.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text;

    use super::*;

    #[test]
    fn writes_are_told_apart_by_what_came_of_them() {
        let (figures, mut registry) = (Figures::default(), Registry::default());
        figures.register(&mut registry);
        figures.wrote("slice", &Ok(()));
        figures.wrote("status", &Err::<(), _>(Failure::Taken));
        figures.wrote("status", &Err::<(), _>(Failure::Refused(String::new())));
        figures.policies(Kind::BalancingPolicy, 3);
        let mut text = String::new();
        text::encode(&mut text, &registry).unwrap();
        for line in [
            "balancing_controller_writes_total{resource=\"slice\",outcome=\"ok\"} 1",
            "balancing_controller_writes_total{resource=\"status\",outcome=\"conflict\"} 1",
            "balancing_controller_writes_total{resource=\"status\",outcome=\"refused\"} 1",
            "balancing_controller_policies{kind=\"BalancingPolicy\"} 3",
            "balancing_controller_leader 0",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
    }
}
