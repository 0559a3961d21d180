//! The node agent: source -> model -> plan -> kernel, and its local API.
#![forbid(unsafe_code)]

mod answer;
pub mod bundle;
mod cgroups;
pub mod check;
pub mod client;
pub mod config;
pub mod doctor;
pub mod dry_run;
mod error;
pub mod event_log;
mod exempt;
pub mod explain;
mod growth;
mod health;
mod identity;
pub mod local;
mod lock;
mod opt_out;
mod pod_cgroups;
mod probing;
pub mod reconcile;
mod room;
mod run;
mod sockets;
pub mod status;
mod triggers;
mod usage;

pub use config::{Config, EventLevel};
pub use error::Error;
pub use growth::{capacity, sizes};
pub use lock::is_owned;
pub use reconcile::{GracePeriod, Reconciler, Round};
pub use run::{run, set_level};
pub use status::Status;
