//! Services, endpoints, nodes and pods as Balancing sees them, and the rules that select backends.
//!
//! Everything here is a pure value: no Kubernetes types, no I/O, no clock. Objects arrive with the API
//! server's defaults already applied (crate `api`), as [`Change`]s, in any order.
#![forbid(unsafe_code)]

pub mod object;

pub use object::*;
