//! Where it is measured: a namespace with real servers, and sibling cgroups, one of them with the programs.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use kernel::{Maps, Pins, Sizes};
use model::Protocol;
use testkit::{Bpffs, Cgroup, Namespace};

use crate::{
    operation::{Case, Family, Operation, Path, Server},
    tables::{self, ENDPOINTS, endpoint4, endpoint6},
    worker::{Worker, take_cpu},
};

/// See the module. The order of the fields is that of taking it down.
pub(crate) struct Arena {
    inside: Worker,
    outside: Worker,
    /// Where there is nothing, until somebody puts programs there that ours are measured against.
    apart: Worker,
    /// How long the tables took.
    pub(crate) filled_in: Duration,
    /// Where the programs are.
    pub(crate) pins: Pins,
    // Children before their parent.
    cgroups: [Arc<Cgroup>; 3],
    _parent: Cgroup,
    _bpffs: Bpffs,
}

impl Arena {
    /// Builds it: all hooks attached as the agent does, tables for `services`.
    pub(crate) fn build(services: u32) -> Result<Self> {
        testkit::require_root();
        let bpffs = Bpffs::mount()?;
        let parent = Cgroup::create()?;
        let child = |name| parent.child(name).map(Arc::new);
        let (with, without, apart) = (child("with")?, child("without")?, child("apart")?);
        let namespace = Arc::new(Namespace::create("bench")?);
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

        let pins = Pins::new(bpffs.path().join("pins"));
        let begun = Instant::now();
        let loaded = tables::build(&pins, services, &[Protocol::Tcp, Protocol::Udp])?;
        let filled_in = begun.elapsed();
        kernel::install(loaded, &pins, &Sizes::default(), with.path())?;
        agent::set_level(&Maps::open(&pins)?, agent::EventLevel::Failures)?;

        // Workers inherit nothing but their namespace; the one who tells them what to do sits on the same CPU.
        take_cpu().context("a CPU of our own")?;
        let inside = Worker::start(&with, &namespace, &server, services)?;
        let outside = Worker::start(&without, &namespace, &server, services)?;
        Ok(Self {
            inside,
            outside,
            apart: Worker::start(&apart, &namespace, &server, services)?,
            filled_in,
            pins,
            cgroups: [with, without, apart],
            _parent: parent,
            _bpffs: bpffs,
        })
    }

    /// How long `count` of `case` take, where they belong.
    pub(crate) fn run(&self, case: Case, count: u32) -> Result<Duration> {
        let worker = if case.path.has_programs() { &self.inside } else { &self.outside };
        worker.run(case, count)
    }

    /// How long `count` of the same to an endpoint take, in the cgroup that [`Arena::apart`] names.
    pub(crate) fn run_apart(&self, operation: Operation, family: Family, count: u32) -> Result<Duration> {
        self.apart.run(Case { operation, family, path: Path::Direct }, count)
    }

    /// A cgroup without programs of ours, for others.
    pub(crate) fn apart(&self) -> &std::path::Path {
        let [_, _, apart] = &self.cgroups;
        apart.path()
    }

    /// Fails unless the programs are where they should be, and only there.
    pub(crate) fn verify(&self) -> Result<()> {
        self.inside.verify(true)?;
        self.outside.verify(false)
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // What a failure here leaves goes with the cgroup and the bpffs.
        let _ = kernel::clean(&self.pins);
    }
}
