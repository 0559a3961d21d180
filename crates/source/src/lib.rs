//! Where objects come from: a directory of manifests, or a cluster's API server, followed live; and what is written back to
//! such a server.
#![forbid(unsafe_code)]

mod error;
mod feed;
pub mod kubernetes;
pub mod manifests;
mod problem;
pub mod publish;
mod update;

pub use error::Error;
pub use feed::{Choice, Feed};
pub use problem::{Place, Problem, Severity};
pub use update::Update;
