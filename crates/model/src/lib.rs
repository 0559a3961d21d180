//! Services, policies, endpoints, nodes and pods as Balancing sees them, and the rules that select backends.
//!
//! Everything here is a pure value: no Kubernetes types, no I/O, no clock. Objects arrive with the API
//! server's defaults already applied (crate `api`), as [`Change`]s, in any order, and make up a [`Cluster`].
//! From it [`candidates`] lists the endpoints of a service port, and [`select`] says which of them get traffic.
#![forbid(unsafe_code)]

mod annotation;
pub mod cluster;
pub mod endpoints;
pub mod health_check;
pub mod node_ports;
pub mod object;
pub mod policy;
pub mod resolve;
pub mod select;
pub mod selector;
mod service;
mod texts;

pub use annotation::{Annotation, NodeAnnotation, SOCKET_LB};
pub use cluster::{Absence, Cluster, Dirty, Outside, PolicyBackend, PolicySelection, Probed, View, WhyNot};
pub use endpoints::{Candidate, candidates};
pub use health_check::HealthCheck;
pub use node_ports::NodePortAddresses;
pub use object::*;
pub use policy::{
    AddressBackends, BackendPort, FrontendPort, PodBackends, Policy, PolicyBackends, PolicyFrontend, Probe,
    ProbeAction, Redirect, RedirectMode,
};
pub use resolve::{resolve, resolve_policy};
pub use select::{Here, Mode, Selection, Standing, Traffic, select, standings};
pub use selector::{Expression, Operator, Selector};
pub use texts::Texts;

#[cfg(test)]
mod sample;
