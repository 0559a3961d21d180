//! The node agent: source -> model -> plan -> kernel, and its local API.
#![forbid(unsafe_code)]

pub mod reconcile;

pub use reconcile::{Reconciler, Round};
