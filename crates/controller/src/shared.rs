//! What the tasks of a controller share.

use std::sync::Arc;

use kube::Client;
use tokio::sync::watch;

use crate::{
    certificate::{Pair, Served},
    config::Clock,
    metrics::Metrics,
    policies::Policies,
};

/// Who has written a field.
pub(crate) const FIELD_MANAGER: &str = "balancing-controller";

/// See the module. A task writes what it knows and reads what others do; none waits for another.
pub(crate) struct Shared {
    pub(crate) client: Client,
    pub(crate) clock: Clock,
    pub(crate) metrics: Metrics,
    /// What the policies of the cluster claim.
    pub(crate) policies: Policies,
    /// The certificate in force here.
    pub(crate) served: Arc<Served>,
    /// Whom API servers are to trust, PEM; none: nobody said so.
    pub(crate) trusted: watch::Sender<Option<String>>,
    /// What both webhook configurations say of that; none: something else.
    pub(crate) told: watch::Sender<Option<String>>,
}

impl Shared {
    pub(crate) fn new(client: Client, clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            client,
            clock,
            metrics: Metrics::new(),
            policies: Policies::default(),
            served: Arc::default(),
            trusted: watch::Sender::default(),
            told: watch::Sender::default(),
        })
    }

    /// A certificate is in force from now on.
    pub(crate) fn serve(&self, pair: &Pair) {
        self.served.serve(pair);
        self.metrics.certificate(self.served.validity());
    }

    /// API servers are to trust these from now on.
    pub(crate) fn trust(&self, bundle: String) {
        self.trusted.send_if_modified(|trusted| {
            let is_new = trusted.as_ref() != Some(&bundle);
            *trusted = Some(bundle);
            is_new
        });
    }
}
