//! What the story plays on: pods as namespaces, a cgroup, pins, a directory of manifests, and the agent.

use std::{
    env,
    ffi::OsString,
    fs::{self, File},
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use testkit::{Backend, Bpffs, Cgroup, Namespace, leftover, netns::End, veth};

use crate::{interrupt::Interrupt, traffic::PODS};

/// Where pods listen.
const TARGET: u16 = 8080;
/// How this run's own directories are shown: their real names differ from run to run.
const SHOWN_DIRECTORY: &str = "/tmp/demo";
const SHOWN_CGROUP: &str = "/sys/fs/cgroup/demo";
const SHOWN_NAME: &str = "demo";
const SHOWN_PINS: &str = "/sys/fs/bpf/demo";

/// How long the agent may take for anything.
const PATIENCE: Duration = Duration::from_secs(30);

/// Everything that has to be there. Dropping it leaves the machine as it was.
pub(crate) struct Stage {
    /// The client's pod.
    pub(crate) client: Arc<Namespace>,
    /// Where the programs are attached, and the clients are.
    pub(crate) cgroup: Arc<Cgroup>,
    agent: Option<Child>,
    /// A process in the client's pod, for questions about one: clients are threads of this one, which is not inside.
    resident: Child,
    pods: Vec<Pod>,
    directory: PathBuf,
    pins: PathBuf,
    path: OsString,
    // Dropped after what is pinned in it was detached.
    _bpffs: Bpffs,
    _node: Namespace,
}

/// A pod that serves.
struct Pod {
    namespace: Namespace,
    name: &'static str,
    ips: [IpAddr; 2],
    servers: Vec<Backend>,
}

/// Addresses of the client's pod, by family.
pub(crate) fn client_ips() -> [IpAddr; 2] {
    pod_ips(9)
}

/// Addresses of pod number `number`, by family.
fn pod_ips(number: u8) -> [IpAddr; 2] {
    [[10, 1, number, 2].into(), [0xfd00, 0x10, 1, number.into(), 0, 0, 0, 2].into()]
}

impl Stage {
    /// Builds it.
    pub(crate) fn build(balancing: &Path) -> Result<Self> {
        let balancing =
            balancing.canonicalize().with_context(|| format!("no program {}", balancing.display()))?;
        if !rustix::process::geteuid().is_root() {
            bail!("the demo makes namespaces and a cgroup, and needs root for that: `cargo xtask demo`");
        }
        remove_orphans();
        let node = namespace("node")?;
        node.forward()?;
        let client = namespace("client")?;
        plug(&node, &client, "client", 9)?;
        let mut pods = Vec::new();
        for (name, number) in PODS.into_iter().zip(1..) {
            let namespace = namespace(name)?;
            plug(&node, &namespace, name, number)?;
            pods.push(Pod { namespace, name, ips: pod_ips(number), servers: Vec::new() });
        }
        let bpffs = Bpffs::mount()?;
        let cgroup = Arc::new(Cgroup::create()?);
        let directory = env::temp_dir().join(leftover::unique_name());
        fs::create_dir(&directory).with_context(|| format!("mkdir {}", directory.display()))?;
        let mut path = balancing.parent().unwrap_or(&balancing).as_os_str().to_owned();
        path.push(":");
        path.push(env::var_os("PATH").unwrap_or_default());
        let mut sleep = Command::new("sleep");
        client.contain(&mut sleep)?;
        let resident = cgroup.spawn(sleep.arg("infinity").stdin(Stdio::null()))?;
        let mut stage = Self {
            client: Arc::new(client),
            cgroup,
            resident,
            agent: None,
            pods,
            directory,
            pins: bpffs.path().join("pins"),
            path,
            _bpffs: bpffs,
            _node: node,
        };
        fs::create_dir(stage.directory.join("manifests")).context("mkdir manifests")?;
        (0..PODS.len()).try_for_each(|pod| stage.open(pod))?;
        Ok(stage)
    }

    /// Makes pod number `pod` serve TCP and UDP in both families.
    pub(crate) fn open(&mut self, pod: usize) -> Result<()> {
        let Some(pod) = self.pods.get_mut(pod) else { return Ok(()) };
        for ip in pod.ips {
            let address = SocketAddr::new(ip, TARGET);
            pod.servers.push(Backend::tcp(&pod.namespace, pod.name, address)?);
            pod.servers.push(Backend::udp(&pod.namespace, pod.name, address)?);
        }
        Ok(())
    }

    /// Ends what pod number `pod` serves: whoever still comes is refused.
    pub(crate) fn close(&mut self, pod: usize) {
        if let Some(pod) = self.pods.get_mut(pod) {
            pod.servers.clear();
        }
    }

    /// Writes a manifest as an editor does: whole or not at all.
    pub(crate) fn write(&self, file: &str, text: &str) -> Result<()> {
        let path = self.directory.join("manifests").join(file);
        let fresh = self.directory.join(file);
        fs::write(&fresh, text).with_context(|| format!("write {}", fresh.display()))?;
        fs::rename(&fresh, &path).with_context(|| format!("rename to {}", path.display()))
    }

    /// The manifest of pod number `pod`, ready.
    pub(crate) fn pod_manifest(&self, pod: usize) -> String {
        let Some(Pod { name, ips: [v4, v6], .. }) = self.pods.get(pod) else { return String::new() };
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: demo, labels: {{app: web}}}}\n\
             spec: {{nodeName: demo, containers: [{{name: web, image: none}}]}}\n\
             status:\n  phase: Running\n  podIPs: [{{ip: \"{v4}\"}}, {{ip: \"{v6}\"}}]\n  \
             conditions: [{{type: Ready, status: \"True\"}}]\n"
        )
    }

    /// A shell command as a user of this stage would type it.
    fn shell(&self, command: &str) -> Command {
        let mut shell = Command::new("sh");
        shell.args(["-c", command]).current_dir(&self.directory).stdin(Stdio::null());
        shell.env("PATH", &self.path);
        shell.env("BALANCING_BPFFS", &self.pins).env("BALANCING_SOCKET", self.directory.join("agent.sock"));
        shell.env("BALANCING_NODE_NAME", "demo").env("BALANCING_CGROUP_ROOT", self.cgroup.path());
        shell
    }

    /// A command as it is shown, with the real names in it.
    pub(crate) fn real(&self, command: &str) -> String {
        command.replace(SHOWN_DIRECTORY, &self.directory.to_string_lossy())
    }

    /// Runs a command; whether it succeeded, and what it printed, with this run's directories by their shown names.
    pub(crate) fn run(&self, command: &str) -> Result<(bool, String)> {
        self.finish(self.shell(command), command)
    }

    /// Runs a command in the client's pod.
    pub(crate) fn run_in_client(&self, command: &str) -> Result<(bool, String)> {
        let mut shell = self.shell(command);
        self.client.contain(&mut shell)?;
        self.finish(shell, command)
    }

    fn finish(&self, mut shell: Command, command: &str) -> Result<(bool, String)> {
        let output = shell.output().with_context(|| format!("cannot run {command}"))?;
        let printed = [output.stdout, output.stderr].concat();
        Ok((output.status.success(), self.shown(&String::from_utf8_lossy(&printed))))
    }

    fn shown(&self, text: &str) -> String {
        let names = [
            (self.directory.as_path(), SHOWN_DIRECTORY),
            (self.pins.as_path(), SHOWN_PINS),
            (self.cgroup.path(), SHOWN_CGROUP),
            // Whose processes they are, in events: the whole path has been replaced before.
            (Path::new(self.cgroup.path().file_name().unwrap_or_default()), SHOWN_NAME),
        ];
        names
            .into_iter()
            .fold(text.to_owned(), |text, (real, shown)| text.replace(real.to_string_lossy().as_ref(), shown))
    }

    /// Starts the agent, and waits until it is healthy.
    pub(crate) fn start_agent(&mut self, command: &str, interrupt: &Interrupt) -> Result<Duration> {
        let log = self.directory.join("agent.log");
        let log = File::create(&log).with_context(|| format!("create {}", log.display()))?;
        // `exec`: the child is the agent itself, so that killing it kills no shell. A group of its own: Ctrl-C
        // is for the demo.
        use std::os::unix::process::CommandExt;
        let mut shell = self.shell(&format!("exec {command}"));
        shell.process_group(0).stdout(log.try_clone().context("dup")?).stderr(log);
        let begun = Instant::now();
        self.agent = Some(shell.spawn().context("cannot start the agent")?);
        loop {
            interrupt.sleep(Duration::from_millis(10))?;
            if self.run("balancing status")?.0 {
                return Ok(begun.elapsed());
            }
            let ended = match &mut self.agent {
                Some(agent) => agent.try_wait().context("wait for the agent")?.is_some(),
                None => true,
            };
            if ended || begun.elapsed() > PATIENCE {
                let what = if ended { "has ended" } else { "is not healthy after half a minute" };
                let log = fs::read_to_string(self.directory.join("agent.log")).unwrap_or_default();
                bail!("the agent {what}; its log:\n{}", self.shown(&log));
            }
        }
    }

    /// The agent's process id; 0 if there is none.
    pub(crate) fn agent_pid(&self) -> u32 {
        self.agent.as_ref().map_or(0, Child::id)
    }

    /// Id of a process in the client's pod.
    pub(crate) fn client_pid(&self) -> u32 {
        self.resident.id()
    }

    /// Makes sure that the agent is dead: SIGKILL.
    pub(crate) fn kill_agent(&mut self) -> Result<()> {
        let Some(mut agent) = self.agent.take() else { return Ok(()) };
        agent.kill().context("kill the agent")?;
        agent.wait().context("wait for the agent").map(drop)
    }

    /// Whether anything is left of what `balancing clean` shall remove.
    pub(crate) fn is_clean(&self) -> bool {
        !self.pins.exists()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // Also after an error or Ctrl-C in the middle: programs outlive an agent unless they are detached.
        let _ = self.kill_agent();
        let _ = self.resident.kill();
        let _ = self.resident.wait();
        if !self.is_clean() {
            let _ = self.run("balancing clean");
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// A namespace whose interfaces can be used at once: IPv6 would hold their link addresses back for a second, to see
/// whether somebody else has them, and could not find its neighbours until then.
fn namespace(name: &str) -> Result<Namespace> {
    let namespace = Namespace::create(name)?;
    namespace.run(|| {
        ["all", "default"].into_iter().try_for_each(|which| {
            let file = format!("/proc/sys/net/ipv6/conf/{which}/accept_dad");
            fs::write(&file, "0").with_context(|| format!("write {file}"))
        })
    })?;
    Ok(namespace)
}

/// Connects pod number `number` to the node, which routes.
fn plug(node: &Namespace, pod: &Namespace, name: &str, number: u8) -> Result<()> {
    let gateway: [IpAddr; 2] =
        [[10, 1, number, 1].into(), [0xfd00, 0x10, 1, number.into(), 0, 0, 0, 1].into()];
    let with_length = |[v4, v6]: [IpAddr; 2]| [format!("{v4}/24"), format!("{v6}/64")];
    let (node_ips, ips) = (with_length(gateway), with_length(pod_ips(number)));
    let [node_v4, node_v6] = &node_ips;
    let [v4, v6] = &ips;
    veth(
        End { namespace: node, interface: name, addresses: &[node_v4, node_v6] },
        End { namespace: pod, interface: "eth0", addresses: &[v4, v6] },
    )?;
    let [v4, v6] = gateway;
    pod.add_route("10.1.0.0/16", v4)?;
    pod.add_route("fd00:10:1::/48", v6)
}

/// Removes directories of demos that were killed.
fn remove_orphans() {
    for orphan in leftover::orphans(&env::temp_dir()) {
        if orphan.join("manifests").is_dir() {
            let _ = fs::remove_dir_all(orphan);
        }
    }
}
