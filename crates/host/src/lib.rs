//! What the machine has: the cgroup2 mount and its cgroups, bpffs, namespaces with their sockets and addresses,
//! capabilities, its name, its connection tracking, and programs that would do our work a second time.
//!
//! Parsers are separate from what reads the machine, so that machines unlike this one can be tested.

// A few questions have no safe interface: the cookie of a namespace, the namespace of a socket, a cgroup by its id.
#![allow(unsafe_code)]

pub mod address;
pub mod bpffs;
pub mod capability;
pub mod cgroup;
pub mod clock;
pub mod conflict;
pub mod conntrack;
pub mod container;
pub mod descriptor;
mod error;
pub mod kube_proxy;
pub mod limit;
pub mod mount;
pub mod name;
pub mod namespace;
pub mod netfilter;
mod netlink;
mod pod_cgroup;
pub mod process;
pub mod sock_diag;

pub use address::Addresses;
pub use capability::{Capabilities, Capability};
pub use cgroup::CgroupRoot;
pub use conflict::Conflict;
pub use conntrack::Conntrack;
pub use error::{Error, Result};
pub use kube_proxy::KubeProxy;
pub use namespace::{NetworkNamespace, OpenNamespace};
pub use process::Process;
pub use sock_diag::{InetSocket, SockDiag, Transport};
