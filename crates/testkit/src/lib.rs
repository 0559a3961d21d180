//! Test hosts: a cgroup to attach to, network namespaces as machines, a private bpffs, backends that say who
//! they are, clients of every kind of socket, and Kubernetes objects in few words.
//!
//! Names are unique, so tests run side by side. Everything is removed when dropped, also by a panic; what a
//! killed test run left behind is removed by the next one.
// Entering namespaces and cgroups between fork and exec has no safe interface.
#![allow(unsafe_code)]

pub mod backend;
pub mod bpffs;
pub mod cgroup;
pub mod client;
pub mod leftover;
pub mod metrics;
pub mod netns;
pub mod object;
pub mod wait;

pub use backend::Backend;
pub use bpffs::Bpffs;
pub use cgroup::Cgroup;
pub use client::{Exchange, Family, Kind, exchange};
pub use netns::{Namespace, veth};
pub use wait::eventually;

/// Fails with one clear line where this process is not root: such a test must not pass by skipping.
#[track_caller]
pub fn require_root() {
    assert!(
        rustix::process::geteuid().is_root(),
        "this test needs root (it makes namespaces and cgroups): run `cargo xtask test`"
    );
}
