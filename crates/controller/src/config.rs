//! What a controller is told.

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use jiff::Timestamp;
use source::kubernetes::Access;

use crate::{Files, oversight::Times};

/// See the flags of `balancing controller`, where the defaults are.
#[derive(Clone, Debug)]
pub struct Config {
    /// How the API server is reached.
    pub access: Access,
    /// Where webhooks are answered.
    pub webhook: SocketAddr,
    /// Where health and metrics are told of; both at each.
    pub health: Vec<SocketAddr>,
    /// The namespace of the controller's Service, and of its Secret.
    pub namespace: String,
    /// The Service by which API servers find the webhooks.
    pub service: String,
    /// The name of the MutatingWebhookConfiguration and of the ValidatingWebhookConfiguration.
    pub configuration: String,
    /// The Lease that says which controller writes slices and statuses.
    pub lease: String,
    /// How long things take around that.
    pub times: Times,
    /// By what API servers know it.
    pub certificate: Certificate,
    /// After it was told to stop: for how long it goes on answering, for API servers go on asking until they have heard of it.
    pub linger: Duration,
    /// What time it is.
    pub clock: Clock,
    /// How often the clock is looked at for what is due.
    pub every: Duration,
}

/// By what API servers know the controller.
#[derive(Clone, Debug)]
pub enum Certificate {
    /// What it makes itself, in a Secret.
    Own {
        /// The Secret's name.
        secret: String,
        /// Names and addresses of the webhooks beside those of the Service.
        names: Vec<String>,
    },
    /// What it is given.
    Given(Files),
}

/// What time it is. Certificates depend on it; how long things take does not.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Clock {
    /// Whatever this says.
    pub fn new(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    pub(crate) fn now(&self) -> Timestamp {
        (self.0)()
    }
}

/// The system's.
impl Default for Clock {
    fn default() -> Self {
        Self::new(Timestamp::now)
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clock").field(&self.now()).finish()
    }
}
