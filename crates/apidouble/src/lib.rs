//! A Kubernetes API server in memory, for tests: real HTTP, plain or TLS, as clients of a real one see it.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! let cluster = apidouble::Cluster::new();
//! let server = apidouble::Server::tls(&cluster)?;
//! cluster.put(serde_json::json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "one"}}))?;
//! std::fs::write("kubeconfig", server.kubeconfig(&apidouble::Login::Anonymous)?)?;
//! server.faults().times(3, apidouble::Filter::resource("nodes"), apidouble::Fault::TooManyRequests(1));
//! # Ok(())
//! # }
//! ```
//!
//! A [`Cluster`] is the objects, a [`Server`] is a port at which they are served; [`Real`] is a real API server in its place. `tests/contract.rs` runs against this
//! and, where `KUBEBUILDER_ASSETS` names one, against a real API server, so that both stay the same. What is not
//! here: schemas (any fields are accepted, no defaults are set), conversion between versions but for the name,
//! garbage collection, YAML bodies, tables, protobuf, HTTP/2.
#![forbid(unsafe_code)]

mod admission;
mod apply;
mod auth;
mod body;
mod cluster;
mod connection;
mod control;
mod discovery;
mod event;
mod fault;
mod fields;
mod kind;
mod list;
mod managed;
mod object;
mod patch;
mod real;
mod record;
mod request;
mod respond;
mod selector;
mod server;
mod status;
mod store;
mod tls;
mod verb;
mod watch;
mod webhook;
mod write;

pub use self::{
    auth::{Access, Accounts, User},
    cluster::Cluster,
    control::Ending,
    fault::{Fault, FaultId, Faults, Filter},
    kind::Kind,
    real::Real,
    record::{Record, Request, Resource},
    request::Verb,
    server::{Login, Server},
    store::Snapshot,
    tls::Identity,
};
