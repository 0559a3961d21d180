//! Where objects come from: a directory of manifests, followed live.
#![forbid(unsafe_code)]

mod error;
pub mod manifests;

pub use error::Error;
