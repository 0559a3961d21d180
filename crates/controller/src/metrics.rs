//! The controller's metrics: what they are called, and how they are written.
//!
//! A metric is a field of [`Metrics`] and is registered in [`Metrics::new`]; whoever knows of something calls a method here.

use std::sync::Arc;

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::{certificate::Validity, oversight::Figures};

/// All of them.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Request, Counter>,
    from: Gauge,
    to: Gauge,
    /// What is overseen.
    pub(crate) oversight: Arc<Figures>,
}

/// A request of an API server.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Request {
    /// `default` or `validate`.
    pub(crate) webhook: &'static str,
    /// `LocalRedirectPolicy`, `BalancingPolicy`, or empty.
    pub(crate) kind: &'static str,
    /// `CREATE`, `UPDATE`, or empty.
    pub(crate) operation: &'static str,
    /// `allowed`, `patched`, `refused`, `not-ready`.
    pub(crate) verdict: &'static str,
}

impl Metrics {
    /// All at nothing.
    pub(crate) fn new() -> Self {
        let mut registry = Registry::default();
        let (requests, from, to) = (Family::default(), Gauge::default(), Gauge::default());
        registry.register(
            "balancing_admission_requests",
            "Requests of API servers about policies, and what was answered",
            requests.clone(),
        );
        registry.register(
            "balancing_webhook_certificate_not_before_timestamp_seconds",
            "When the certificate of the webhooks begins to count; 0: there is none",
            from.clone(),
        );
        registry.register(
            "balancing_webhook_certificate_not_after_timestamp_seconds",
            "When the certificate of the webhooks ends; 0: there is none",
            to.clone(),
        );
        // There from the start, so that the first is one more than before.
        for (webhook, verdict) in [("default", "patched"), ("validate", "allowed"), ("validate", "refused")] {
            for kind in ["LocalRedirectPolicy", "BalancingPolicy"] {
                for operation in ["CREATE", "UPDATE"] {
                    drop(requests.get_or_create(&Request { webhook, kind, operation, verdict }));
                }
            }
        }
        let oversight = Arc::new(Figures::default());
        oversight.register(&mut registry);
        Self { registry, requests, from, to, oversight }
    }

    /// A request was answered.
    pub(crate) fn answered(&self, request: &Request) {
        self.requests.get_or_create(request).inc();
    }

    /// A certificate is in force.
    pub(crate) fn certificate(&self, valid: Option<Validity>) {
        self.from.set(valid.map_or(0, |valid| valid.from.as_second()));
        self.to.set(valid.map_or(0, |valid| valid.to.as_second()));
    }

    /// As text.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = text::encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_them_are_documented_and_no_others() {
        let metrics = Metrics::new();
        let documented =
            testkit::metrics::documented(include_str!("../../../docs/metrics.md"), "Controller").unwrap();
        assert_eq!(testkit::metrics::metrics(&metrics.text()).unwrap(), documented);
    }
}
