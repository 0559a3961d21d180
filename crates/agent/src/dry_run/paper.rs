//! Tables on paper: they can be read as they were, and what would be written to them is taken down.

use std::{collections::BTreeSet, net::IpAddr};

use abi::{Backend, Key, Name, Record, Space, client::SourceKey, frontend::backend_flag, policy::LimitKey};
use kernel::{Contents, Error, TableStore, policies::Kept};
use plan::Phase;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Paper {
    contents: Contents,
    /// It is a picture of maps that are there.
    pub(super) was_read: bool,
    /// What was written, in its order.
    pub(super) phases: Vec<Phase>,
}

impl Paper {
    /// A picture of maps.
    pub(super) fn of(contents: Contents) -> Self {
        Self { contents, was_read: true, phases: Vec::new() }
    }

    fn take_down(&mut self, phase: Phase) -> Result<(), Error> {
        if !phase.is_empty() {
            self.phases.push(phase);
        }
        Ok(())
    }
}

impl TableStore for Paper {
    fn put_names(&mut self, names: &[(u32, Name)]) -> Result<(), Error> {
        self.take_down(Phase::Names(names.to_vec()))
    }

    fn put_backends(&mut self, backends: &[(u32, Backend)]) -> Result<(), Error> {
        let retired = backends.iter().all(|(_, backend)| backend.flags & backend_flag::LIVE == 0);
        let writes = backends.to_vec();
        self.take_down(if retired { Phase::RetireBackends(writes) } else { Phase::Backends(writes) })
    }

    fn put_lists(&mut self, lists: &[(u32, Backend)]) -> Result<(), Error> {
        self.take_down(Phase::Lists(lists.to_vec()))
    }

    fn put_records(&mut self, records: &[(u32, Record)]) -> Result<(), Error> {
        self.take_down(Phase::Records(records.to_vec()))
    }

    fn put_frontends(&mut self, frontends: &[(Key, u32)]) -> Result<(), Error> {
        self.take_down(Phase::Frontends(frontends.to_vec()))
    }

    fn delete_frontends(&mut self, keys: &[Key]) -> Result<(), Error> {
        self.take_down(Phase::DeleteFrontends(keys.to_vec()))
    }

    /// Serves nobody, so that nothing changes for anyone.
    fn sweep(&mut self) -> Result<usize, Error> {
        Ok(0)
    }

    fn delete_names(&mut self, ids: &[u32]) -> Result<(), Error> {
        self.take_down(Phase::DeleteNames(ids.to_vec()))
    }

    fn put_sources(&mut self, sources: &[SourceKey]) -> Result<(), Error> {
        self.take_down(Phase::Sources(sources.to_vec()))
    }

    fn delete_sources(&mut self, sources: &[SourceKey]) -> Result<(), Error> {
        self.take_down(Phase::DeleteSources(sources.to_vec()))
    }

    fn put_addresses(&mut self, addresses: &[(IpAddr, u32)]) -> Result<(), Error> {
        self.take_down(Phase::Addresses(addresses.to_vec()))
    }

    fn delete_addresses(&mut self, addresses: &[IpAddr]) -> Result<(), Error> {
        self.take_down(Phase::DeleteAddresses(addresses.to_vec()))
    }

    fn put_space(&mut self, space: &Space) -> Result<(), Error> {
        self.take_down(Phase::Space(Box::new(*space)))
    }

    /// What is counted is no table.
    fn set_policies(
        &mut self,
        _policies: &BTreeSet<[u32; 2]>,
        _limits: &BTreeSet<LimitKey>,
        _gone: bool,
    ) -> Result<Kept, Error> {
        Ok(Kept::default())
    }

    fn wait_for_readers(&self) {}

    fn read(&self) -> Result<Contents, Error> {
        Ok(self.contents.clone())
    }
}
