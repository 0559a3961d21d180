//! The built program, run as operators run it: the agent as a process of its own, commands beside it.
//!
//! ```text
//! cluster     a cluster's API server, and agents that follow it
//! container   the agent in a container, as the chart's DaemonSet has it
//! limited     too little memory
//! question    questions over HTTP
//! roster      who is a backend of what, since when, until when, and who was reached when
//! population  sockets that are used once, and sockets that live long
//! rules       a machine with rules of others: hostPorts, network policies, kube-proxy's, routes, queues, sysctls
//! stand_in    answers on the agent's socket that a test makes up
//! turmoil     changes of manifests, and restarts of the agent
//! traffic     clients in the background, none of which may fail
//! web         a small service with backends
//! within      commands started by other commands
//! ```

pub mod cluster;
pub mod container;
pub mod controller;
pub mod limited;
pub mod pod;
pub mod population;
pub mod question;
pub mod roster;
pub mod rules;
pub mod stand_in;
pub mod traffic;
pub mod turmoil;
pub mod web;
pub mod within;

use std::{
    env,
    fmt::Display,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use agent::{Status, local};
use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use testkit::{Bpffs, Cgroup, Namespace, eventually};

/// How long anything that is to happen may take.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// The program under test.
pub fn program() -> PathBuf {
    binary("BALANCING_BIN", "target/debug/balancing")
}

/// The program with another layout of `slots`: what "the next release" would bring.
pub fn next_program() -> PathBuf {
    binary("BALANCING_NEXT_BIN", "target/next-layout/balancing")
}

#[track_caller]
fn binary(variable: &str, built: &str) -> PathBuf {
    let path = match env::var_os(variable) {
        Some(path) => PathBuf::from(path),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(built),
    };
    assert!(
        path.is_file(),
        "{} is not there: run `cargo xtask test`, or build it and set {variable}",
        path.display()
    );
    path
}

/// A machine of one's own: a namespace in which every address of 10.1.0.0/16 and fd00:1::/64 is local and
/// nothing else is reachable, a cgroup, a bpffs, a directory of manifests, a socket.
pub struct Host {
    namespace: Arc<Namespace>,
    cgroup: Arc<Cgroup>,
    bpffs: Bpffs,
    directory: TempDir,
    node: String,
    agents: AtomicU32,
}

impl Host {
    /// A fresh one; nothing is pinned or attached.
    ///
    /// # Errors
    /// No root, or no iproute2.
    pub fn new(name: &str) -> Result<Self> {
        testkit::require_root();
        let namespace = Arc::new(Namespace::create(name)?);
        namespace.ip("route add local 10.1.0.0/16 dev lo")?;
        namespace.ip("-6 route add local fd00:1::/64 dev lo")?;
        // A source address for IPv6, which else would be ::1.
        namespace.add_address("fd00:1::ffff".parse()?)?;
        namespace.run(|| {
            // IPv6 takes no address of a local route for one of its own.
            fs::write("/proc/sys/net/ipv6/ip_nonlocal_bind", "1").context("write ip_nonlocal_bind")
        })?;
        let host = Self {
            namespace,
            cgroup: Arc::new(Cgroup::create()?),
            bpffs: Bpffs::mount()?,
            directory: tempfile::tempdir().context("make a directory")?,
            node: "n1".to_owned(),
            agents: AtomicU32::new(0),
        };
        fs::create_dir(host.manifests()).context("make the manifests directory")?;
        Ok(host)
    }

    /// The same as another node than `n1`.
    pub fn called(self, node: &str) -> Self {
        Self { node: node.to_owned(), ..self }
    }

    /// The namespace.
    pub fn namespace(&self) -> &Arc<Namespace> {
        &self.namespace
    }

    /// The cgroup that the programs are attached to.
    pub fn cgroup(&self) -> &Arc<Cgroup> {
        &self.cgroup
    }

    /// Directory of the manifests.
    pub fn manifests(&self) -> PathBuf {
        self.directory.path().join("manifests")
    }

    /// The agent's socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("agent.sock")
    }

    /// Directory of the pins; made by the agent.
    pub fn pins(&self) -> PathBuf {
        self.bpffs.path().join("balancing")
    }

    /// Runs `work` on a thread inside of the cgroup and the namespace.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.namespace.run(|| self.cgroup.run(work))
    }

    /// Puts a manifest file in place, atomically.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn write(&self, file: &str, text: impl Display) -> Result<()> {
        // The source passes over names that begin with a dot.
        let draft = self.manifests().join(format!(".{file}"));
        fs::write(&draft, text.to_string()).with_context(|| format!("write {}", draft.display()))?;
        fs::rename(&draft, self.manifests().join(file)).with_context(|| format!("rename {}", draft.display()))
    }

    /// Removes a manifest file.
    ///
    /// # Errors
    /// It is not there.
    pub fn remove(&self, file: &str) -> Result<()> {
        fs::remove_file(self.manifests().join(file)).with_context(|| format!("remove {file}"))
    }

    /// `balancing` with these arguments and, where a verb takes them, this machine's places.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.args(arguments);
        self.place(&mut command);
        command
    }

    fn place(&self, command: &mut Command) {
        unconfigure(command);
        command.env("BALANCING_BPFFS", self.pins()).env("BALANCING_SOCKET", self.socket());
        // Agents run in the namespace of the tests, many at once.
        command.env("BALANCING_HEALTH_PORT", "0").env("BALANCING_METRICS_PORT", "0");
    }

    /// Runs a command to its end.
    ///
    /// # Errors
    /// It can't be started.
    pub fn balancing(&self, arguments: &[&str]) -> Result<Answer> {
        Answer::of(&mut self.command(arguments))
    }

    /// The agent's command line, by whichever program.
    pub fn agent_command(&self, program: &Path, arguments: &[&str]) -> Command {
        let manifests = self.manifests();
        self.agent_of("--manifests", &manifests, program, arguments)
    }

    /// The same, of an agent that follows what the file or directory says that `flag` is given.
    pub fn agent_of(&self, flag: &str, source: &Path, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(["agent", "--node-name", &self.node, flag]).arg(source);
        command.arg("--cgroup-root").arg(self.cgroup.path());
        command.args(arguments);
        self.place(&mut command);
        command
    }

    /// Starts an agent and waits until it has everything in force.
    ///
    /// # Errors
    /// It does not come up; with its log.
    pub fn agent(&self, arguments: &[&str]) -> Result<Agent> {
        let mut agent = self.start(&program(), arguments)?;
        agent.wait_ready()?;
        Ok(agent)
    }

    /// Starts an agent.
    ///
    /// # Errors
    /// It can't be started.
    pub fn start(&self, program: &Path, arguments: &[&str]) -> Result<Agent> {
        self.start_command(&mut self.agent_command(program, arguments))
    }

    /// Starts an agent inside of the namespace, so that its ports are this machine's, and waits until it has everything in force.
    ///
    /// # Errors
    /// It does not come up; with its log.
    pub fn agent_inside(&self, arguments: &[&str]) -> Result<Agent> {
        let mut command = self.agent_command(&program(), arguments);
        self.namespace.contain(&mut command)?;
        let mut agent = self.start_command(&mut command)?;
        agent.wait_ready()?;
        Ok(agent)
    }

    /// Starts an agent by a command of one's own, which says where this machine's places are.
    ///
    /// # Errors
    /// It can't be started.
    pub fn start_command(&self, command: &mut Command) -> Result<Agent> {
        let number = self.agents.fetch_add(1, Ordering::Relaxed);
        let log = self.directory.path().join(format!("agent-{number}.log"));
        let file = File::create(&log).context("make the agent's log")?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().context("dup")?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("start {command:?}"))?;
        Ok(Agent { child, log, socket: self.socket() })
    }
}

/// Nothing in the environment configures this command.
pub fn unconfigure(command: &mut Command) {
    let variables = agent::config::SETTINGS.iter().map(agent::config::Setting::variable);
    for variable in
        variables.chain([agent::config::FILE_VARIABLE.into(), "BALANCING_LOG".into(), "COLUMNS".into()])
    {
        command.env_remove(variable);
    }
}

/// What a command said.
#[derive(Debug)]
pub struct Answer {
    /// Its exit code; `None` = a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Answer {
    /// Runs `command` to its end.
    ///
    /// # Errors
    /// It can't be started.
    pub fn of(command: &mut Command) -> Result<Self> {
        let Output { status, stdout, stderr } =
            command.stdin(Stdio::null()).output().with_context(|| format!("start {command:?}"))?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Self { code: status.code(), out: text(stdout), err: text(stderr) })
    }

    /// Checks that it said no: this exit code, and one line on standard error that has all of `words`.
    #[track_caller]
    pub fn fails(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        let errors: Vec<&str> = self.err.lines().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!(errors.len(), 1, "one line says what is wrong: {self:?}");
        for word in words {
            assert!(errors.iter().any(|line| line.contains(word)), "{word:?} is missing: {self:?}");
        }
    }

    /// Checks that it exited with 0; its output.
    #[track_caller]
    pub fn succeeds(&self) -> &str {
        assert_eq!(self.code, Some(0), "{self:?}");
        &self.out
    }
}

/// A running agent; killed when dropped.
pub struct Agent {
    child: Child,
    log: PathBuf,
    socket: PathBuf,
}

impl Agent {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Its status.
    ///
    /// # Errors
    /// It does not answer.
    pub fn status(&self) -> Result<Status> {
        let status = local::status(&self.socket)?;
        if status.pid != self.pid() {
            bail!("process {} answers in place of {}", status.pid, self.pid());
        }
        Ok(status)
    }

    /// Waits until it has read everything and put everything in force.
    ///
    /// # Errors
    /// It does not within [`PATIENCE`], or ends; with its log.
    pub fn wait_ready(&mut self) -> Result<Status> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // Before it listens there is nobody to ask.
            match self.status() {
                Ok(status) if is_ready(&status) => return Ok(status),
                _ => {}
            }
            let ended = self.child.try_wait().context("wait for the agent")?;
            if ended.is_some() || Instant::now() > deadline {
                bail!("the agent does not come up ({ended:?}):\n{}", self.log());
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until its status is as `wanted`.
    ///
    /// # Errors
    /// It is not within [`PATIENCE`]: the last status.
    pub fn wait_status(&self, what: &str, wanted: impl Fn(&Status) -> bool) -> Result<Status> {
        eventually(PATIENCE, || {
            let status = self.status()?;
            if wanted(&status) { Ok(status) } else { bail!("status does not show {what}: {status:#?}") }
        })
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// It has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).context("no such pid")?;
        kill_process(pid, signal).with_context(|| format!("kill({signal:?})"))
    }

    /// SIGKILL; returns when it is gone.
    ///
    /// # Errors
    /// It can't be waited for.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill().context("kill the agent")?;
        self.child.wait().context("wait for the agent").map(drop)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It does not end within [`PATIENCE`].
    pub fn wait(&mut self) -> Result<ExitStatus> {
        eventually(PATIENCE, || self.child.try_wait()?.context("the agent goes on"))
    }
}

fn is_ready(status: &Status) -> bool {
    status.sources.iter().all(|source| source.synced)
        && status.hooks.iter().all(|hook| hook.program.is_some())
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.kill();
    }
}

/// Pseudo-random numbers (splitmix64): a given seed gives a given sequence.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((x ^ (x >> 31)) % end.max(1) as u64).unwrap_or_default()
    }

    /// A duration between two numbers of milliseconds.
    pub fn millis(&mut self, from: usize, to: usize) -> Duration {
        Duration::from_millis((from + self.below(to - from + 1)) as u64)
    }
}
