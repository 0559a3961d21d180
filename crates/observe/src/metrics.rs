//! The agent's metrics: what they are called, and how they are written.
//!
//! A metric is a field of [`Metrics`] and is registered in [`Metrics::new`]; whoever knows of something calls a method here.

use std::time::Duration;

use model::Family;
use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{
        counter::Counter,
        family::{Family as Labelled, MetricConstructor},
        gauge::Gauge,
        histogram::Histogram,
    },
    registry::Registry,
};

/// All of them.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    programming: Labelled<OfFamily, Histogram, Programming>,
    problems: Gauge,
    probe_targets: Labelled<InState, Gauge>,
    probes: Labelled<WithOutcome, Counter>,
}

/// The label that kube-proxy's metrics have.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfFamily {
    ip_family: &'static str,
}

impl From<Family> for OfFamily {
    fn from(family: Family) -> Self {
        let ip_family = match family {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        };
        Self { ip_family }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InState {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WithOutcome {
    outcome: &'static str,
}

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

/// What the text of metrics is, for HTTP.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All at nothing.
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let programming = Labelled::new_with_constructor(Programming);
        registry.register(
            "kubeproxy_network_programming_duration_seconds",
            "From a change of a service's pods to its being in force on this node",
            programming.clone(),
        );
        // There from the start, so that the first change is a change of something.
        for family in [Family::V4, Family::V6] {
            drop(programming.get_or_create(&OfFamily::from(family)));
        }
        let problems = Gauge::default();
        registry.register(
            "balancing_source_problems",
            "Objects and servers of the source that are not understood or do not answer, now: `balancing status` names them",
            problems.clone(),
        );
        let probe_targets = Labelled::default();
        registry.register(
            "balancing_probe_targets",
            "Addresses of policies with a healthCheck that this node asks, now",
            probe_targets.clone(),
        );
        let probes = Labelled::default();
        registry.register(
            "balancing_probes",
            "Questions that such addresses were asked, by what came of them",
            probes.clone(),
        );
        let metrics = Self { registry, programming, problems, probe_targets, probes };
        metrics.probe_targets(0, 0);
        metrics
    }

    /// So many objects, files and servers of the source have something wrong with them now.
    pub fn source_problems(&self, count: usize) {
        self.problems.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// So many addresses are asked whether they are well, and are or are not.
    pub fn probe_targets(&self, healthy: usize, unhealthy: usize) {
        for (state, count) in [("healthy", healthy), ("unhealthy", unhealthy)] {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.probe_targets.get_or_create(&InState { state }).set(count);
        }
    }

    /// An address was asked.
    pub fn probed(&self, outcome: &'static str) {
        self.probes.get_or_create(&WithOutcome { outcome }).inc();
    }

    /// A change of endpoints is in force, `took` after it happened (R25).
    pub fn programmed(&self, family: Family, took: Duration) {
        self.programming.get_or_create(&family.into()).observe(took.as_secs_f64());
    }

    /// How they are now, as [`CONTENT_TYPE`] says.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // A String takes everything.
        let _ = text::encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(metrics: &Metrics) -> Vec<String> {
        metrics.text().lines().map(str::to_owned).collect()
    }

    #[test]
    fn problems_of_the_source_are_those_of_now() {
        let metrics = Metrics::new();
        for count in [0, 3, 1] {
            metrics.source_problems(count);
            let line = format!("balancing_source_problems {count}");
            assert!(lines(&metrics).contains(&line), "{}", metrics.text());
        }
    }

    #[test]
    fn probes_are_counted_by_what_came_of_them_and_their_targets_as_they_are() {
        let metrics = Metrics::new();
        assert!(lines(&metrics).contains(&"balancing_probe_targets{state=\"healthy\"} 0".into()));
        metrics.probe_targets(3, 2);
        metrics.probe_targets(4, 1);
        for outcome in ["good", "timeout", "good"] {
            metrics.probed(outcome);
        }
        let lines = lines(&metrics);
        for line in [
            "balancing_probe_targets{state=\"healthy\"} 4",
            "balancing_probe_targets{state=\"unhealthy\"} 1",
            "balancing_probes_total{outcome=\"good\"} 2",
            "balancing_probes_total{outcome=\"timeout\"} 1",
        ] {
            assert!(lines.contains(&line.to_owned()), "{line} is missing: {lines:#?}");
        }
    }

    #[test]
    fn r25_programming_is_counted_by_family_in_kube_proxys_buckets() {
        let metrics = Metrics::new();
        let name = "kubeproxy_network_programming_duration_seconds";
        for family in ["IPv4", "IPv6"] {
            let none = format!("{name}_count{{ip_family=\"{family}\"}} 0");
            assert!(lines(&metrics).contains(&none), "{}", metrics.text());
        }
        metrics.programmed(Family::V4, Duration::from_millis(300));
        metrics.programmed(Family::V4, Duration::from_millis(700));
        metrics.programmed(Family::V6, Duration::from_secs(301));
        let lines = lines(&metrics);
        for line in [
            format!("# TYPE {name} histogram"),
            format!("{name}_count{{ip_family=\"IPv4\"}} 2"),
            format!("{name}_sum{{ip_family=\"IPv4\"}} 1.0"),
            format!("{name}_bucket{{le=\"0.25\",ip_family=\"IPv4\"}} 0"),
            format!("{name}_bucket{{le=\"0.5\",ip_family=\"IPv4\"}} 1"),
            format!("{name}_bucket{{le=\"1.0\",ip_family=\"IPv4\"}} 2"),
            format!("{name}_bucket{{le=\"300.0\",ip_family=\"IPv6\"}} 0"),
            format!("{name}_bucket{{le=\"+Inf\",ip_family=\"IPv6\"}} 1"),
            "# EOF".into(),
        ] {
            assert!(lines.contains(&line), "{line} is missing: {lines:#?}");
        }
        // 0, two quarters, 59 seconds, 12 fives, 7 halves, and the rest.
        assert_eq!(lines.iter().filter(|it| it.contains("_bucket{") && it.contains("IPv4")).count(), 82);
    }
}
