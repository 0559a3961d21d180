//! Policies, seen to by one controller of all that run: which pods each selects, as EndpointSlices for the agents (P10), and
//! what is said of each in its status.
//!
//! ```text
//! packing   endpoints of a policy, a hundred to a slice
//! slice     a slice as the API has it
//! slices    what there is, what there should be, and what is to be written
//! claims    who has a frontend that several ask for
//! status    what is said of a policy
//! statuses  what was said, and what is to be said when
//! lease     who of several controllers writes
//! leader    holds the lease
//! pace      how much is written at once
//! figures   what is counted
//! policy    a policy as a server sends it, and its status as it is written
//! overseer  the one task that knows all this
//! ```
//!
//! Followers are as well informed as the leader, and only don't write: whoever takes over begins at once.

mod claims;
mod figures;
mod leader;
mod lease;
mod overseer;
mod pace;
mod packing;
mod policy;
mod slice;
mod slices;
mod status;
mod statuses;

use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
    thread,
};

pub use figures::Figures;
pub use lease::Times;
use source::{
    Error,
    kubernetes::{Access, Kubernetes},
};
use tokio::{
    runtime,
    sync::{mpsc, oneshot},
};

/// Objects and updates that wait to be taken.
const WAITING: usize = 64;

/// What oversight is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// How the API server is reached.
    pub access: Access,
    /// Where slices are, and the Lease.
    pub namespace: String,
    /// The name of the Lease.
    pub lease: String,
    /// How long things take around it.
    pub times: Times,
}

/// Oversees until `stop` comes to its end: on a thread of its own, so that webhooks are answered while all pods are listed.
///
/// # Errors
/// What says where the API server is can't be used, or there can be no thread.
pub async fn run(config: Config, figures: Arc<Figures>, stop: oneshot::Receiver<()>) -> Result<(), Error> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Thread)?;
    let (ended, outcome) = oneshot::channel();
    let oversee = async move {
        let identity = identity();
        let (as_sent, sent) = mpsc::channel(WAITING);
        let source = match Kubernetes::for_controller(config.access.clone(), &identity, as_sent).await {
            Ok(source) => source,
            Err(error) => return drop(ended.send(Err(error))),
        };
        overseer::oversee(&config, &identity, source, sent, figures, stop).await;
        // Whoever no longer listens wants no answer.
        let _ = ended.send(Ok(()));
    };
    let thread = thread::Builder::new().name("oversight".into());
    thread.spawn(move || runtime.block_on(oversee)).map_err(Error::Thread)?;
    outcome.await.unwrap_or_else(|_| Err(Error::Thread(std::io::Error::other("it ended without a word"))))
}

/// Who this process is: nobody else, and not the one before it.
fn identity() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}_{:016x}", host.trim(), random())
}

/// std's own hash maps are seeded by the kernel's random numbers.
fn random() -> u64 {
    RandomState::new().hash_one(0)
}

#[cfg(test)]
mod sample;
