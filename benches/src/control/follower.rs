//! An agent that follows a cluster with nothing of its own in it, to see when its maps have what the cluster says.

use std::{
    fs::File,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::channel,
    thread,
    time::{Duration, Instant},
};

use agent::local;
use anyhow::{Context, Result, bail};
use tempfile::TempDir;
use testkit::{Bpffs, Cgroup};

use super::{
    process::Process,
    seen::{Expected, latencies},
};

/// How long it may take to start.
const PATIENCE: Duration = Duration::from_secs(120);

/// See the module; killed when dropped. The order of the fields is that of taking it down.
pub(super) struct Follower {
    child: Child,
    _cgroup: Cgroup,
    bpffs: Bpffs,
    _directory: TempDir,
}

impl Follower {
    /// Starts it, and waits until it has all that there is.
    pub(super) fn start(program: &Path, kubeconfig: &Path) -> Result<Self> {
        testkit::require_root();
        let (cgroup, bpffs) = (Cgroup::create()?, Bpffs::mount()?);
        let directory = tempfile::tempdir().context("make a directory")?;
        let socket = directory.path().join("agent.sock");
        let log = directory.path().join("agent.log");
        let file = File::create(&log).context("make the agent's log")?;
        let mut command = Command::new(program);
        command.env_clear().env("BALANCING_SOCKET", &socket).env("BALANCING_BPFFS", Self::pinned(&bpffs));
        command.args(["agent", "--node-name", "node-1", "--publish=false", "--kubeconfig"]).arg(kubeconfig);
        command.arg("--cgroup-root").arg(cgroup.path()).stdin(Stdio::null());
        command.stdout(file.try_clone().context("dup")?).stderr(file);
        let child = command.spawn().with_context(|| format!("start {}", program.display()))?;
        let follower = Self { child, _cgroup: cgroup, bpffs, _directory: directory };
        let begun = Instant::now();
        let is_ready = |status: agent::status::Status| {
            status.sources.iter().all(|source| source.synced)
                && status.hooks.iter().all(|hook| hook.program.is_some())
        };
        while !local::status(&socket).is_ok_and(is_ready) {
            if begun.elapsed() > PATIENCE {
                bail!("the agent does not come up:\n{}", std::fs::read_to_string(&log).unwrap_or_default());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(follower)
    }

    fn pinned(bpffs: &Bpffs) -> PathBuf {
        bpffs.path().join("balancing")
    }

    /// Where its maps are.
    pub(super) fn pins(&self) -> kernel::Pins {
        kernel::Pins::new(Self::pinned(&self.bpffs))
    }

    /// What the kernel knows it as.
    pub(super) fn process(&self) -> Process {
        Process(self.child.id())
    }

    /// Waits until an endpoint of a frontend is in its maps.
    pub(super) fn has(&self, vip: SocketAddr, endpoint: Ipv4Addr) -> Result<()> {
        let (sender, changes) = channel();
        let expected = Expected { since: Instant::now(), vip, endpoint, is_there: true };
        sender.send(expected).context("nobody listens")?;
        drop(sender);
        latencies(&self.pins(), &changes).map(drop)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        // What it has pinned goes with the bpffs.
    }
}
