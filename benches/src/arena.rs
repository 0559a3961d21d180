//! Where it is measured: a namespace with real servers, and sibling cgroups, one of them with the programs.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use kernel::{Maps, Pins, Sizes};
use model::Protocol;
use testkit::{Bpffs, Cgroup};

use crate::{
    operation::{Case, Family, Operation, Path},
    site::Site,
    tables,
    worker::{Cpu, Worker},
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
        let site = Site::build("bench")?;

        let pins = Pins::new(bpffs.path().join("pins"));
        let begun = Instant::now();
        let loaded = tables::build(&pins, services, &[Protocol::Tcp, Protocol::Udp])?;
        let filled_in = begun.elapsed();
        kernel::install(loaded, &pins, &Sizes::default(), with.path())?;
        agent::set_level(&Maps::open(&pins)?, agent::EventLevel::Failures)?;

        // Workers inherit nothing but their namespace; the one who tells them what to do sits on the same CPU.
        let cpu = Cpu::last()?;
        cpu.take().context("a CPU of our own")?;
        let worker = |cgroup| site.worker(cgroup, cpu, services);
        Ok(Self {
            inside: worker(&with)?,
            outside: worker(&without)?,
            apart: worker(&apart)?,
            filled_in,
            pins,
            cgroups: [with, without, apart],
            _parent: parent,
            _bpffs: bpffs,
        })
    }

    /// How long `count` of `case` take, where they belong.
    pub(crate) fn run(&self, case: Case, count: u32) -> Result<Duration> {
        let worker = match case.path {
            Path::Direct => &self.outside,
            Path::Idle => &self.apart,
            Path::Hot | Path::Random | Path::NoService => &self.inside,
        };
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

    /// The cgroup of the programs, and the one beside it without any.
    pub(crate) fn with_and_without(&self) -> [&Arc<Cgroup>; 2] {
        let [with, without, _] = &self.cgroups;
        [with, without]
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
