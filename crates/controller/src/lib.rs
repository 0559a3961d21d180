//! What a cluster needs once, beside the agents of its nodes: admission of policies, and the certificates that it takes.
//!
//! ```text
//! config       what it is told
//! run          its tasks
//! shared       what they share
//! oversight    slices of the pods that policies select, statuses, and who of several controllers writes them
//! policies     what the policies of the cluster claim, followed live
//! webhook      the answers to API servers
//! certificate  by which API servers know it
//! server       connections, with TLS or without
//! health       the answers to kubelets, and metrics
//! complaint    what goes wrong again and again, said once
//! ```
#![forbid(unsafe_code)]

mod certificate;
mod complaint;
mod config;
mod error;
mod health;
mod metrics;
pub mod oversight;
mod policies;
mod run;
mod server;
mod shared;
mod webhook;

pub use certificate::files::Files;
pub use config::{Certificate, Clock, Config};
pub use error::Error;
pub use run::run;
pub(crate) use shared::Shared;
pub use source::kubernetes::Access;
