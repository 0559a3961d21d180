//! Clients that never pause, and the tally of who answered them.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow};
use testkit::{Cgroup, Family, Kind, Namespace};

/// The pods that answer.
pub(crate) const PODS: [&str; 3] = ["web-1", "web-2", "web-3"];

/// Between two exchanges of one lane: many enough to see, few enough to leave the machine to others.
const PAUSE: Duration = Duration::from_micros(700);

/// Failures that are told; all are counted.
const TOLD: usize = 5;

/// A protocol and family, and the kinds of sockets that take turns in it.
struct Lane {
    kinds: [Kind; 2],
    families: [Family; 2],
}

/// In the order of the table's columns. An IPv4 address is also reached from IPv6 sockets, by `::ffff:a.b.c.d`.
const LANES: [Lane; 4] = [
    Lane { kinds: [Kind::Tcp; 2], families: [Family::V4, Family::Mapped] },
    Lane { kinds: [Kind::ConnectedUdp, Kind::UnconnectedUdp], families: [Family::V4, Family::Mapped] },
    Lane { kinds: [Kind::Tcp; 2], families: [Family::V6; 2] },
    Lane { kinds: [Kind::ConnectedUdp, Kind::UnconnectedUdp], families: [Family::V6; 2] },
];

/// How many exchanges each pod has answered, by lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// By pod, as in [`PODS`], and lane.
    pub(crate) answered: [[u64; LANES.len()]; PODS.len()],
    /// Exchanges that failed.
    pub(crate) failed: u64,
}

impl Tally {
    /// All answers of one pod.
    pub(crate) fn of_pod(&self, pod: usize) -> u64 {
        self.answered.get(pod).map_or(0, |lanes| lanes.iter().sum())
    }

    /// All answers.
    pub(crate) fn answers(&self) -> u64 {
        self.answered.iter().flatten().sum()
    }
}

/// What the clients and the story share.
struct Shared {
    stop: AtomicBool,
    started: Instant,
    answered: [[AtomicU64; LANES.len()]; PODS.len()],
    /// When the last exchange that each pod answered was begun, in microseconds since `started`.
    begun: [AtomicU64; PODS.len()],
    failed: AtomicU64,
    failures: Mutex<Vec<String>>,
}

/// Clients at work; they stop when this is dropped.
pub(crate) struct Traffic {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Traffic {
    /// Starts one client for each lane, in `namespace` and `cgroup`, to the address of its family.
    pub(crate) fn start(
        namespace: &Arc<Namespace>,
        cgroup: &Arc<Cgroup>,
        vips: [SocketAddr; 2],
        client: [IpAddr; 2],
    ) -> Result<Self> {
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            started: Instant::now(),
            answered: Default::default(),
            begun: Default::default(),
            failed: AtomicU64::new(0),
            failures: Mutex::default(),
        });
        let mut traffic = Self { shared: Arc::clone(&shared), threads: Vec::new() };
        for (index, lane) in LANES.iter().enumerate() {
            let is_v6 = usize::from(index >= 2);
            let (Some(&vip), Some(&client)) = (vips.get(is_v6), client.get(is_v6)) else { continue };
            let (shared, namespace, cgroup) =
                (Arc::clone(&shared), Arc::clone(namespace), Arc::clone(cgroup));
            let work = move || {
                // Sockets belong to the cgroup and namespace that their creator is in.
                match cgroup.enter_thread().and_then(|()| namespace.enter_thread()) {
                    Ok(()) => shared.exchange_on(index, lane, vip, client),
                    Err(error) => shared.fail(format!("a client did not start: {error:#}")),
                }
            };
            let thread = thread::Builder::new().name("client".into()).spawn(work);
            traffic.threads.push(thread.context("cannot start a client")?);
        }
        Ok(traffic)
    }

    /// What happened so far.
    pub(crate) fn tally(&self) -> Tally {
        self.shared.tally()
    }

    /// How long after `moment` the last exchange that `pod` answered was begun; zero if before.
    pub(crate) fn last_begun_after(&self, pod: usize, moment: Instant) -> Duration {
        let begun = self.shared.begun.get(pod).map_or(0, |begun| begun.load(Ordering::SeqCst));
        (self.shared.started + Duration::from_micros(begun)).saturating_duration_since(moment)
    }

    /// Fails if any exchange has failed, and says which.
    pub(crate) fn check(&self) -> Result<()> {
        let failed = self.shared.failed.load(Ordering::SeqCst);
        if failed == 0 {
            return Ok(());
        }
        let told = self.shared.failures.lock().map(|told| told.join("\n  ")).unwrap_or_default();
        Err(anyhow!("{failed} exchanges failed:\n  {told}"))
    }

    /// Lets every client finish what it is at; the last tally.
    pub(crate) fn stop(&mut self) -> Tally {
        self.shared.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                self.shared.fail("a client panicked".to_owned());
            }
        }
        self.tally()
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn exchange_on(&self, index: usize, lane: &Lane, vip: SocketAddr, client: IpAddr) {
        let turns = lane.kinds.into_iter().zip(lane.families).cycle();
        for (kind, family) in turns {
            if self.stop.load(Ordering::SeqCst) {
                return;
            }
            let begun = self.started.elapsed();
            match exchange(kind, family, vip, client) {
                Ok(pod) => {
                    if let Some(lanes) = self.answered.get(pod)
                        && let Some(count) = lanes.get(index)
                        && let Some(last) = self.begun.get(pod)
                    {
                        last.fetch_max(begun.as_micros() as u64, Ordering::SeqCst);
                        count.fetch_add(1, Ordering::SeqCst);
                    }
                }
                Err(error) => self.fail(format!("{kind:?} from a {family:?} socket to {vip}: {error:#}")),
            }
            thread::sleep(PAUSE);
        }
    }

    fn fail(&self, what: String) {
        self.failed.fetch_add(1, Ordering::SeqCst);
        if let Ok(mut failures) = self.failures.lock()
            && failures.len() < TOLD
        {
            failures.push(what);
        }
    }

    fn tally(&self) -> Tally {
        let mut tally = Tally { failed: self.failed.load(Ordering::SeqCst), ..Tally::default() };
        for (lanes, counts) in tally.answered.iter_mut().zip(&self.answered) {
            for (lane, count) in lanes.iter_mut().zip(counts) {
                *lane = count.load(Ordering::SeqCst);
            }
        }
        tally
    }
}

/// One exchange from a fresh socket: the pod that answered, after everything that can be checked was.
fn exchange(kind: Kind, family: Family, vip: SocketAddr, client: IpAddr) -> Result<usize> {
    let answer = testkit::exchange(kind, family, vip)?;
    let pod = PODS.iter().position(|pod| *pod == answer.backend);
    let pod = pod.with_context(|| format!("a stranger answered: {}", answer.backend))?;
    if answer.peer != vip {
        return Err(anyhow!("{} answered, and the client was shown {}", answer.backend, answer.peer));
    }
    if answer.client.ip() != client {
        return Err(anyhow!("{} saw the client as {}", answer.backend, answer.client));
    }
    Ok(pod)
}
