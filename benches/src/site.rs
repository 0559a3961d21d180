//! A network namespace with real servers at the addresses of all endpoints.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use testkit::{Cgroup, Namespace};

use crate::{
    operation::Server,
    tables::{ENDPOINTS, endpoint4, endpoint6},
    worker::{Cpu, Worker},
};

/// See the module.
pub(crate) struct Site {
    pub(crate) namespace: Arc<Namespace>,
    server: Arc<Server>,
}

impl Site {
    /// Makes one; `name` is for messages.
    pub(crate) fn build(name: &str) -> Result<Self> {
        let namespace = Arc::new(Namespace::create(name)?);
        for index in 0..ENDPOINTS {
            namespace.add_address(endpoint4(index).into())?;
            let v6 = endpoint6(index);
            namespace.add_address(v6.into())?;
            // With a source of its own: else IPv6 walks all addresses to find one, and an endpoint's cost would
            // depend on when its address was added.
            // The kernel's own route appears a moment after the address.
            testkit::eventually(Duration::from_secs(2), || {
                namespace.ip(&format!("-6 route del local {v6} dev lo table local"))
            })?;
            namespace.ip(&format!("-6 route add local {v6} dev lo table local src {v6} metric 1"))?;
        }
        let server = Arc::new(namespace.run(Server::open)?);
        Ok(Self { namespace, server })
    }

    /// A worker here.
    pub(crate) fn worker(&self, cgroup: &Arc<Cgroup>, cpu: Cpu, services: u32) -> Result<Worker> {
        Worker::start(cgroup, &self.namespace, &self.server, cpu, services)
    }
}
