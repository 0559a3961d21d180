//! Who asks how the agent is, and what kube-proxy would be asked: real requests to a real agent on a machine of its own.

#![allow(clippy::unwrap_used)]

mod agent;
mod conntrack;
mod machine;
mod proxy;
mod services;
