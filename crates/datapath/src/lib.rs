//! Every decision about a connection, in one place: the kernel's hooks, the tests and `balancing why` run
//! this very code over different look-ups ([`Env`]).
//!
//! Kernel side rules: everything on the hot path is inlined; no indexing that can panic, no division by what
//! may be zero, no formatting, loops bounded by constants; 512 bytes of stack.
#![no_std]
#![forbid(unsafe_code)]

pub mod affinity;
pub mod connect;
pub mod decision;
pub mod destination;
pub mod env;
pub mod frontends;
pub mod limit;
#[cfg(feature = "memory")]
pub mod memory;
pub mod policy;
pub mod reply;
pub mod sendmsg;
pub mod sockets;
pub mod usage;

pub use connect::connect;
pub use decision::{Decision, choose};
pub use destination::{Found, look_up, resolve};
pub use env::{Caller, Env, Socket};
pub use reply::{peer, release, source};
pub use sendmsg::sendmsg;

// The tests name this crate as others do: the fuzz target runs one of their files.
#[cfg(test)]
extern crate self as datapath;
#[cfg(test)]
mod tests;
