//! Where it is measured: a namespace with real servers, a cgroup, a bpffs, a directory of manifests; and agents in it.

use std::{
    fs::{self, File},
    net::{IpAddr, Ipv4Addr, SocketAddr},
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
    manifests::{IN_ONE_FILE, Style, addresses},
    process::Process,
};
use crate::tables::{ENDPOINTS, PORT, TARGET, vip4};

/// How long an agent may take to start, at any size and on any machine.
const PATIENCE: Duration = Duration::from_secs(300);
/// Between two looks at an agent that starts, at least, and as a part of the time so far: an answer takes it 2 ms.
const LOOK: Duration = Duration::from_millis(5);
const LOOK_SHARE: u32 = 50;
/// The service that is asked.
const ASKED: &str = "asked";
/// Its file; that of its endpoints is another, so that a change of them is one small file.
const ASKED_FILE: &str = "asked.yaml";
/// Where its endpoints are, in two sets of which one is in force.
const SETS: [(char, Ipv4Addr); 2] = [('a', Ipv4Addr::new(10, 1, 0, 1)), ('b', Ipv4Addr::new(10, 1, 0, 101))];
/// Endpoints of all others: nobody asks them.
const OTHERS: Ipv4Addr = Ipv4Addr::new(10, 128, 0, 0);
/// Services, besides the one that is asked, whose slices are in files of their own.
pub(super) const APART: u32 = 100;

/// See the module. The order of the fields is that of taking it down.
pub(super) struct Stage {
    _backends: Vec<Backend>,
    namespace: Arc<Namespace>,
    cgroup: Cgroup,
    bpffs: Bpffs,
    directory: TempDir,
    program: PathBuf,
    style: Style,
    vip: SocketAddr,
}

impl Stage {
    /// Builds it; no agent has run.
    pub(super) fn build(program: &Path, services: u32, full: bool) -> Result<Self> {
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
        let stage = Self {
            _backends: backends,
            namespace,
            cgroup: Cgroup::create()?,
            bpffs: Bpffs::mount()?,
            directory: tempfile::tempdir().context("make a directory")?,
            program: program.to_owned(),
            style: Style { full },
            vip: SocketAddr::new(IpAddr::from(vip4(services)), PORT),
        };
        fs::create_dir(stage.manifests()).context("make the manifests directory")?;
        stage.write(services)?;
        Ok(stage)
    }

    /// All manifests.
    fn write(&self, services: u32) -> Result<()> {
        const PROTOCOLS: [&str; 1] = ["TCP"];
        for from in (0..services).step_by(IN_ONE_FILE as usize) {
            let mut text = String::new();
            for index in from..services.min(from + IN_ONE_FILE) {
                let name = format!("service-{index}");
                text += &self.style.service(&name, vip4(index), &PROTOCOLS);
                if index >= APART {
                    text += &self.style.slice(&name, endpoints(index, 0), &PROTOCOLS);
                }
            }
            self.put(&format!("services-{from:05}.yaml"), &text)?;
        }
        for index in 0..APART {
            self.put(&slice_file(index), &self.other_slice(index, 0))?;
        }
        let IpAddr::V4(vip) = self.vip.ip() else { bail!("{} is no IPv4 address", self.vip) };
        self.put("asked-service.yaml", &self.style.service(ASKED, vip, &["TCP", "UDP"]))?;
        self.prepare(SETS[0])?;
        self.change()
    }

    /// Puts a file in place, atomically.
    fn put(&self, file: &str, text: &str) -> Result<()> {
        fs::write(self.draft(file), text).with_context(|| format!("write {}", self.draft(file).display()))?;
        self.rename(file)
    }

    /// A file before it is in place. The source passes over names that begin with a dot.
    fn draft(&self, file: &str) -> PathBuf {
        self.manifests().join(format!(".{file}"))
    }

    fn rename(&self, file: &str) -> Result<()> {
        let draft = self.draft(file);
        fs::rename(&draft, self.manifests().join(file)).with_context(|| format!("rename {}", draft.display()))
    }

    /// Writes endpoints of one set for the service that is asked, beside those that it has.
    pub(super) fn prepare(&self, (_, first): (char, Ipv4Addr)) -> Result<()> {
        let text = self.style.slice(ASKED, first, &["TCP", "UDP"]);
        fs::write(self.draft(ASKED_FILE), text).context("write the endpoints")
    }

    /// Puts them in the place of those that it has.
    pub(super) fn change(&self) -> Result<()> {
        self.rename(ASKED_FILE)
    }

    /// The sets of endpoints that it may have; the first is that of the beginning. Backends' names begin with the letter.
    pub(super) fn sets(&self) -> [(char, Ipv4Addr); 2] {
        SETS
    }

    fn other_slice(&self, index: u32, turn: u32) -> String {
        self.style.slice(&format!("service-{index}"), endpoints(index, turn), &["TCP"])
    }

    /// Changes the endpoints of a hundred services, as fast as files can be renamed.
    pub(super) fn change_hundred(&self, turn: u32) -> Result<()> {
        let texts: Vec<String> = (0..APART).map(|index| self.other_slice(index, turn)).collect();
        for (index, text) in (0..).zip(&texts) {
            self.put(&slice_file(index), text)?;
        }
        Ok(())
    }

    fn manifests(&self) -> PathBuf {
        self.directory.path().join("manifests")
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("agent.sock")
    }

    fn pins(&self) -> PathBuf {
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
        command.args(["--node-name", "node-1", "--manifests"]).arg(self.manifests());
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

/// Ten endpoints that no other service has, and that were not those of the turn before.
fn endpoints(index: u32, turn: u32) -> Ipv4Addr {
    let odd = if turn.is_multiple_of(2) { 0 } else { 1 << 20 };
    Ipv4Addr::from(u32::from(OTHERS) + odd + index * ENDPOINTS)
}

fn slice_file(index: u32) -> String {
    format!("slice-{index:03}.yaml")
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
