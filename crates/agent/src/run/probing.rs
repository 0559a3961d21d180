//! Addresses of policies that are asked whether they are well: who is to be asked, and what comes of it.

use std::net::SocketAddr;

use abi::{Endpoint, Key};

use super::Agent;
use crate::probing::Found;

/// What can fail.
const STARTING: &str = "starting the health checks of policies";

impl Agent {
    /// Has those asked that policies want asked, as of the last round.
    pub(super) fn probe(&mut self) {
        match self.probing.want(self.reconciler.probed()) {
            Ok(()) => drop(self.failures.remove(STARTING)),
            Err(error) => self.failed(STARTING, &error),
        }
    }

    /// Something is known of them that was not.
    pub(super) fn probed(&mut self, found: Found) {
        if self.reconciler.set_unhealthy(found.unhealthy) {
            self.round_apart();
        }
    }

    /// Those that are asked where something else answers: the agent is a client as all others.
    pub(super) fn probed_frontends(&self) -> impl Iterator<Item = String> {
        let targets = self.reconciler.probed().iter().flat_map(|(policy, probed)| {
            probed.addresses.iter().map(move |ip| (policy, SocketAddr::new(*ip, probed.probe.port)))
        });
        targets.filter_map(|(policy, address)| {
            let key = Key { endpoint: Endpoint::from(address), protocol: abi::TCP };
            self.reconciler.table().record(&key)?;
            Some(format!(
                "{policy}: {address} is an address of a service or policy itself, so its healthCheck asks whoever is behind that"
            ))
        })
    }
}
