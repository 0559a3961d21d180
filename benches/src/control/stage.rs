//! Where it is measured: a namespace with real servers, a cgroup, a bpffs, and agents in it.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use agent::local;
use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use testkit::{Backend, Bpffs, Cgroup, Exchange, Family, Kind, Namespace};

use super::{
    feed::{Feed, addresses},
    process::Process,
};
use crate::tables::{PORT, TARGET, vip4};

/// How long an agent may take to start, at any size and on any machine.
const PATIENCE: Duration = Duration::from_secs(300);
/// Between two looks at an agent that starts, at least, and as a part of the time so far: an answer takes it 2 ms.
const LOOK: Duration = Duration::from_millis(5);
const LOOK_SHARE: u32 = 50;
/// Where the endpoints of the service are that is asked, in two sets of which one is in force.
const SETS: [(char, Ipv4Addr); 2] = [('a', Ipv4Addr::new(10, 1, 0, 1)), ('b', Ipv4Addr::new(10, 1, 0, 101))];

/// See the module. The order of the fields is that of taking it down.
pub(super) struct Stage<F> {
    _backends: Vec<Backend>,
    namespace: Arc<Namespace>,
    cgroup: Cgroup,
    bpffs: Bpffs,
    directory: TempDir,
    program: PathBuf,
    feed: F,
    vip: SocketAddr,
    metrics_port: u16,
}

impl<F: Feed> Stage<F> {
    /// Builds it; no agent has run. `feed` is given the address of the service that is asked, and its first endpoint.
    pub(super) fn build(
        program: &Path,
        services: u32,
        feed: impl FnOnce(Ipv4Addr, Ipv4Addr) -> Result<F>,
    ) -> Result<Self> {
        let namespace = Arc::new(Namespace::create("control")?);
        namespace.ip("route add local 10.1.0.0/16 dev lo")?;
        let mut backends = Vec::new();
        for (set, first) in SETS {
            for (index, ip) in addresses(first).enumerate() {
                let (name, address) = (format!("{set}{index}"), SocketAddr::new(ip.into(), TARGET));
                backends.push(Backend::tcp(&namespace, &name, address)?);
                backends.push(Backend::udp(&namespace, &name, address)?);
            }
        }
        let vip = vip4(services);
        Ok(Self {
            _backends: backends,
            namespace,
            cgroup: Cgroup::create()?,
            bpffs: Bpffs::mount()?,
            directory: tempfile::tempdir().context("make a directory")?,
            program: program.to_owned(),
            feed: feed(vip, SETS[0].1)?,
            vip: SocketAddr::new(vip.into(), PORT),
            metrics_port: free_port()?,
        })
    }

    pub(super) fn sets(&self) -> [(char, Ipv4Addr); 2] {
        SETS
    }

    /// What gives the agent services.
    pub(super) fn feed(&self) -> &F {
        &self.feed
    }

    /// Where the agent's metrics are, on the machine's loopback.
    pub(super) fn metrics_port(&self) -> u16 {
        self.metrics_port
    }

    /// Where the agent answers.
    pub(super) fn socket(&self) -> PathBuf {
        self.directory.path().join("agent.sock")
    }

    /// Where maps are pinned.
    pub(super) fn pins(&self) -> PathBuf {
        self.bpffs.path().join("balancing")
    }

    /// Runs `work` where the programs are.
    pub(super) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.namespace.run(|| self.cgroup.run(work))
    }

    /// The VIP that is asked.
    pub(super) fn vip(&self) -> SocketAddr {
        self.vip
    }

    /// One exchange with the service that is asked, over a new connection. To be called inside.
    pub(super) fn ask(&self, kind: Kind) -> Result<Exchange> {
        testkit::exchange(kind, Family::V4, self.vip).with_context(|| format!("{kind:?} to {}", self.vip))
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(&self.program);
        // Nothing in the environment configures it.
        command.env_clear().env("BALANCING_BPFFS", self.pins()).env("BALANCING_SOCKET", self.socket());
        // It is in the machine's own network namespace, where others may be.
        command
            .env("BALANCING_HEALTH_PORT", "0")
            .env("BALANCING_METRICS_PORT", self.metrics_port.to_string());
        command.arg(verb).stdin(Stdio::null());
        command
    }

    /// Removes programs and tables, as if no agent had ever run.
    pub(super) fn clean(&self) -> Result<()> {
        if !self.pins().exists() {
            return Ok(());
        }
        let output = self.command("clean").output().context("run `balancing clean`")?;
        if !output.status.success() {
            bail!("balancing clean: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }

    /// Starts an agent, over what is pinned, and waits until everything is in force.
    pub(super) fn agent(&self) -> Result<Agent> {
        let log = self.directory.path().join("agent.log");
        let file = File::create(&log).context("make the agent's log")?;
        let mut command = self.command("agent");
        command.args(["--node-name", "node-1"]).args(self.feed.arguments());
        command.arg("--cgroup-root").arg(self.cgroup.path());
        command.stdout(file.try_clone().context("dup")?).stderr(file);
        let begun = Instant::now();
        let child = command.spawn().with_context(|| format!("start {}", self.program.display()))?;
        let mut agent = Agent { child, ready_after: Duration::ZERO };
        while !agent.is_ready(&self.socket()) {
            let ended = agent.child.try_wait().context("wait for the agent")?;
            if ended.is_some() || begun.elapsed() > PATIENCE {
                bail!(
                    "the agent does not come up ({ended:?}):\n{}",
                    fs::read_to_string(&log).unwrap_or_default()
                );
            }
            thread::sleep(LOOK.max(begun.elapsed() / LOOK_SHARE));
        }
        agent.ready_after = begun.elapsed();
        for kind in Kind::ALL {
            let seen = self.inside(|| self.ask(kind))?;
            if seen.peer != self.vip {
                bail!("{kind:?}: the peer's name is {}, not {}", seen.peer, self.vip);
            }
        }
        Ok(agent)
    }
}

/// A port that nobody has.
fn free_port() -> Result<u16> {
    let listener = std::net::TcpListener::bind("[::]:0").context("look for a free port")?;
    Ok(listener.local_addr().context("getsockname")?.port())
}

/// A running agent; killed when dropped.
pub(super) struct Agent {
    child: Child,
    /// From its start until it had everything in force.
    pub(super) ready_after: Duration,
}

impl Agent {
    /// What the kernel knows it as.
    pub(super) fn process(&self) -> Process {
        Process(self.child.id())
    }

    /// Whether it says that all is read, written and attached. It says so only between two rounds.
    fn is_ready(&self, socket: &Path) -> bool {
        local::status(socket).is_ok_and(|status| {
            status.pid == self.child.id()
                && status.sources.iter().all(|source| source.synced)
                && status.hooks.iter().all(|hook| hook.program.is_some())
        })
    }

    /// Ends it, and waits until it is gone.
    pub(super) fn end(&mut self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("no such pid")?;
        kill_process(pid, signal).with_context(|| format!("kill({signal:?})"))?;
        self.child.wait().context("wait for the agent").map(drop)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
