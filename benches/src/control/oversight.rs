//! O1 to O5: what the controller takes to keep pods of a whole cluster in slices of policies, and how long a pod's change takes
//! until whoever watches slices has it, and until an agent's maps do.

use std::{
    collections::HashMap,
    fs::File,
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
        mpsc::{Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use apidouble::{Cluster, Login, Server};
use serde::Serialize;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    follower::Follower,
    objects,
    process::Process,
    seen::{Expected, latencies},
};
use crate::write_json;

/// How long it may take until all slices are there.
const PATIENCE: Duration = Duration::from_secs(600);
/// After that everything that was begun has ended.
const SETTLED: Duration = Duration::from_secs(5);
const SLICES: &str = "/apis/discovery.k8s.io/v1/endpointslices";

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The `balancing` to measure
    #[arg(long, value_name = "FILE")]
    program: PathBuf,
    /// BalancingPolicies, each of as many pods as the others
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=5_000))]
    policies: u32,
    /// Pods of the cluster
    #[arg(long, value_name = "N", default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(1..=200_000))]
    pods: u32,
    /// Changes of pods in a second
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=2_000))]
    rate: u32,
    /// For how long nothing happens, and for how long pods change
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// Also write everything to this file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// One figure.
#[derive(Serialize)]
struct Figure {
    figure: &'static str,
    what: String,
    value: f64,
    unit: &'static str,
}

#[derive(Default)]
struct Report(Vec<Figure>);

impl Report {
    fn add(&mut self, figure: &'static str, what: impl Into<String>, value: f64, unit: &'static str) {
        let what = what.into();
        println!("  {figure:<3} {what:<52} {value:>10.1} {unit}");
        self.0.push(Figure { figure, what, value, unit });
    }

    fn memory(&mut self, figure: &'static str, process: Process) -> Result<()> {
        let memory = process.memory()?;
        self.add(figure, "  memory", memory.resident as f64 / f64::from(1 << 20), "MiB");
        self.add(figure, "  at its peak", memory.peak as f64 / f64::from(1 << 20), "MiB");
        Ok(())
    }
}

/// Measures, and prints the table.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let Arguments { policies, pods, rate, seconds, .. } = *arguments;
    println!("{policies} policies, {pods} pods, an API server with TLS");
    let place = Place::fill(policies, pods)?;
    let mut report = Report::default();

    let begun = Instant::now();
    let controller = place.start(&arguments.program)?;
    place.wait(pods as usize)?;
    report.add("O1", "from the start until all slices are written", begun.elapsed().as_secs_f64(), "s");
    thread::sleep(SETTLED);
    let cpu = controller.process().cpu()?;
    report.add("O1", "  CPU for that", cpu.as_secs_f64(), "s");
    report.memory("O1", controller.process())?;

    let (before, lasts) = (controller.process().cpu()?, Duration::from_secs(seconds.into()));
    thread::sleep(lasts);
    let share = (controller.process().cpu()? - before).as_secs_f64() / lasts.as_secs_f64();
    report.add("O2", "CPU while nothing happens", share * 100.0, "% of one");

    let (before, written) = (controller.process().cpu()?, place.seen.changes.load(Relaxed));
    let begun = Instant::now();
    place.change(rate, lasts)?;
    let lasted = begun.elapsed().as_secs_f64();
    thread::sleep(SETTLED);
    let share = (controller.process().cpu()? - before).as_secs_f64() / lasted;
    let took = place.seen.took();
    let ms = |share: f64| took[((took.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    report.add(
        "O3",
        format!("{} changes of pods: until a watcher has it, median", took.len()),
        ms(0.5),
        "ms",
    );
    report.add("O3", "  p99", ms(0.99), "ms");
    report.add("O3", "  the longest", ms(1.0), "ms");
    report.add("O3", "  CPU", share * 100.0, "% of one");
    let writes = (place.seen.changes.load(Relaxed) - written) as f64 / lasted;
    report.add("O3", "  slices written", writes, "a second");
    report.memory("O3", controller.process())?;

    place.measure_maps(&mut report, &arguments.program, rate, lasts)?;

    drop(controller);
    let written = place.seen.changes.load(Relaxed);
    let begun = Instant::now();
    let controller = place.start(&arguments.program)?;
    place.change_one(0)?;
    place.seen.wait()?;
    report.add("O4", "the next one: until it has taken over", begun.elapsed().as_secs_f64(), "s");
    thread::sleep(SETTLED);
    report.add("O4", "  CPU for that", controller.process().cpu()?.as_secs_f64(), "s");
    let needless = place.seen.changes.load(Relaxed) - written - 1;
    report.add("O4", "  slices written that were right", needless as f64, "");
    write_json(arguments.json.as_deref(), &report.0)
}

/// A cluster, and who watches its slices.
struct Place {
    cluster: Cluster,
    /// The controller's, and the watcher's.
    _servers: [Server; 2],
    seen: Arc<Seen>,
    directory: TempDir,
    /// Whether each pod is ready.
    pods: Mutex<Vec<bool>>,
    policies: u32,
    /// Who is told of changes that maps are to have.
    maps: Mutex<Option<Sender<Expected>>>,
}

impl Place {
    fn fill(policies: u32, pods: u32) -> Result<Self> {
        let cluster = Cluster::new();
        cluster.keep(100_000);
        for crd in api::policy::crds() {
            cluster.put(serde_json::to_value(crd)?)?;
        }
        cluster.put_all((0..1000).map(objects::node))?;
        cluster.put_all((0..policies).map(policy))?;
        cluster.put_all((0..pods).map(|number| objects::labelled_pod(number, number % policies, true)))?;
        let (server, watched) = (Server::tls(&cluster)?, Server::plain(&cluster)?);
        let directory = tempfile::tempdir().context("make a directory")?;
        std::fs::write(directory.path().join("kubeconfig"), server.kubeconfig(&Login::Anonymous)?)
            .context("write a kubeconfig")?;
        let seen = Arc::new(Seen::default());
        watch(&watched, seen.clone())?;
        let pods = Mutex::new(vec![true; pods as usize]);
        let maps = Mutex::default();
        Ok(Self { cluster, _servers: [server, watched], seen, directory, pods, policies, maps })
    }

    fn start(&self, program: &Path) -> Result<Controller> {
        let log = File::create(self.directory.path().join("controller.log")).context("make a log")?;
        let mut command = Command::new(program);
        command
            .env_clear()
            .args(["controller", "--kubeconfig"])
            .arg(self.directory.path().join("kubeconfig"));
        command.args(["--namespace", "kube-system"]).stdin(Stdio::null());
        command.stdout(log.try_clone().context("dup")?).stderr(log);
        Ok(Controller(command.spawn().with_context(|| format!("start {}", program.display()))?))
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("controller.log")).unwrap_or_default()
    }

    /// Until so many endpoints are in slices.
    fn wait(&self, endpoints: usize) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while self.seen.endpoints() != endpoints {
            ensure!(
                Instant::now() < end,
                "{} endpoints after {PATIENCE:?}: {}",
                self.seen.endpoints(),
                self.log()
            );
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Changes pods for some time, at a steady rate.
    fn change(&self, rate: u32, lasts: Duration) -> Result<()> {
        let begun = Instant::now();
        let (count, pods) = (lasts.as_secs() as u32 * rate, lock(&self.pods).len());
        for turn in 0..count {
            let due = begun + Duration::from_secs(1) * turn / rate;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            // Any order will do in which neighbours are of different policies, and none comes again soon.
            self.change_one((turn as usize * 7919) % pods)?;
        }
        self.seen.wait()
    }

    /// O5: the same changes, until the maps of an agent have them.
    fn measure_maps(&self, report: &mut Report, program: &Path, rate: u32, lasts: Duration) -> Result<()> {
        let agent = Follower::start(program, &self.directory.path().join("kubeconfig"))?;
        let last = self.policies - 1;
        agent.has(vip(last), address(&objects::labelled_pod(last, last, true))?)?;
        let (sender, changes) = channel();
        let pins = agent.pins();
        let watcher = thread::spawn(move || latencies(&pins, &changes));
        *lock(&self.maps) = Some(sender);
        let (before, begun) = (agent.process().cpu()?, Instant::now());
        self.change(rate, lasts)?;
        let share = (agent.process().cpu()? - before).as_secs_f64() / begun.elapsed().as_secs_f64();
        lock(&self.maps).take();
        let mut took = watcher.join().map_err(|_| anyhow!("who looked at the maps has panicked"))??;
        took.sort();
        let ms = |share: f64| took[((took.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
        let what = format!("{} changes of pods: until an agent's maps have it, median", took.len());
        report.add("O5", what, ms(0.5), "ms");
        report.add("O5", "  p99", ms(0.99), "ms");
        report.add("O5", "  the longest", ms(1.0), "ms");
        report.add("O5", "  CPU of the agent", share * 100.0, "% of one");
        report.memory("O5", agent.process())
    }

    /// Has a pod become ready, or no longer be.
    fn change_one(&self, index: usize) -> Result<()> {
        let ready = {
            let ready = &mut lock(&self.pods)[index];
            *ready = !*ready;
            *ready
        };
        let number = index as u32;
        let policy = number % self.policies;
        let pod = objects::labelled_pod(number, policy, ready);
        if let Some(sender) = &*lock(&self.maps) {
            let endpoint = address(&pod)?;
            let expected = Expected { since: Instant::now(), vip: vip(policy), endpoint, is_there: ready };
            sender.send(expected).context("nobody looks at the maps any more")?;
        }
        let name = pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        self.seen.expected().insert(name, (Instant::now(), ready));
        self.cluster.put(pod).map(drop)
    }
}

/// The frontend of a policy.
fn vip(number: u32) -> SocketAddr {
    let [high, low] = [number / 250, number % 250 + 1].map(|it| it as u8);
    SocketAddr::new([169, 254, high, low].into(), 80)
}

fn address(pod: &Value) -> Result<Ipv4Addr> {
    let text = pod["status"]["podIPs"][0]["ip"].as_str().or(pod["status"]["podIP"].as_str());
    text.unwrap_or_default().parse().context("a pod without an address")
}

fn policy(number: u32) -> Value {
    json!({
        "apiVersion": "balancing.elf.io/v1beta1", "kind": "BalancingPolicy", "metadata": {"name": format!("policy-{number}")},
        "spec": {
            "frontend": {"addressMatcher": {"ip": vip(number).ip().to_string(),
                "toPorts": [{"port": "80", "protocol": "TCP", "name": "web"}]}},
            "backend": {"serviceEndpoint": {
                "endpointSelector": {"matchLabels": {"app.kubernetes.io/name": format!("web-{number}")}},
                "toPorts": [{"port": "8080", "protocol": "TCP", "name": "web"}]}},
        },
    })
}

struct Controller(Child);

impl Controller {
    fn process(&self) -> Process {
        Process(self.0.id())
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a watcher of slices has seen.
#[derive(Default)]
struct Seen {
    /// Endpoints of each slice.
    slices: Mutex<HashMap<String, usize>>,
    changes: AtomicUsize,
    /// By pod: since when, and whether it is to be ready.
    expected: Mutex<HashMap<String, (Instant, bool)>>,
    took: Mutex<Vec<Duration>>,
}

fn lock<T>(it: &Mutex<T>) -> MutexGuard<'_, T> {
    it.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Seen {
    fn endpoints(&self) -> usize {
        lock(&self.slices).values().sum()
    }

    fn expected(&self) -> MutexGuard<'_, HashMap<String, (Instant, bool)>> {
        lock(&self.expected)
    }

    fn took(&self) -> Vec<Duration> {
        let mut took = lock(&self.took).clone();
        took.sort();
        took
    }

    /// Until everything that is expected has been seen.
    fn wait(&self) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while !self.expected().is_empty() {
            ensure!(
                Instant::now() < end,
                "{} changes are not seen after {PATIENCE:?}",
                self.expected().len()
            );
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn take(&self, event: &Value) {
        let slice = &event["object"];
        let name = slice["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let none = Vec::new();
        let endpoints = slice["endpoints"].as_array().unwrap_or(&none);
        let is_there = event["type"] != "DELETED";
        lock(&self.slices).insert(name, if is_there { endpoints.len() } else { 0 });
        self.changes.fetch_add(1, Relaxed);
        let mut expected = self.expected();
        for endpoint in endpoints {
            let pod = endpoint["targetRef"]["name"].as_str().unwrap_or_default();
            let ready = endpoint["conditions"]["ready"] == true;
            if let Some((since, _)) = expected.get(pod).copied().filter(|(_, wanted)| *wanted == ready) {
                lock(&self.took).push(since.elapsed());
                expected.remove(pod);
            }
        }
    }
}

/// Watches slices for as long as the server is there.
fn watch(server: &Server, seen: Arc<Seen>) -> Result<()> {
    let mut stream = TcpStream::connect(server.address()).context("connect to the API server")?;
    // Answers to HTTP/1.0 are not cut into chunks.
    write!(stream, "GET {SLICES}?watch=true HTTP/1.0\r\nHost: here\r\n\r\n").context("ask for slices")?;
    let lines = BufReader::new(stream).lines().map_while(Result::ok);
    thread::spawn(move || {
        for line in lines.filter(|line| line.starts_with('{')) {
            if let Ok(event) = serde_json::from_str(&line) {
                seen.take(&event);
            }
        }
    });
    Ok(())
}
