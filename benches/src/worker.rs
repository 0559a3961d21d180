//! Threads that take turns on one CPU: one inside of the cgroup that the programs are attached to, one outside.

use std::{
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use testkit::{Cgroup, Namespace};

use crate::operation::{Case, Client, Server};

/// What a worker is asked for.
#[derive(Clone, Copy)]
enum Job {
    /// So many times, after a few that don't count.
    Run(Case, u32),
    Verify(bool),
    HangUp,
}

/// A thread that waits for its turn.
pub(crate) struct Worker {
    jobs: Sender<Job>,
    results: Receiver<Result<Duration>>,
}

impl Worker {
    /// Starts one on `cpu`, in `cgroup` and `namespace`, with sockets of its own.
    pub(crate) fn start(
        cgroup: &Arc<Cgroup>,
        namespace: &Arc<Namespace>,
        server: &Arc<Server>,
        cpu: Cpu,
        services: u32,
    ) -> Result<Self> {
        let (jobs, work) = channel();
        let (done, results) = channel();
        let (cgroup, namespace, server) = (Arc::clone(cgroup), Arc::clone(namespace), Arc::clone(server));
        thread::Builder::new().name("worker".into()).spawn(move || {
            let opened = cgroup
                .enter_thread()
                .and_then(|()| namespace.enter_thread())
                .and_then(|()| cpu.take())
                .and_then(|()| Client::open(services));
            // The cgroup is removed by its owner, not here, where its removal would move this very thread.
            drop(cgroup);
            match opened {
                Ok(mut client) => {
                    for job in work {
                        if done.send(perform(&mut client, &server, job)).is_err() {
                            return;
                        }
                    }
                }
                Err(error) => drop(done.send(Err(error))),
            }
        })?;
        Ok(Self { jobs, results })
    }

    /// How long `count` of `case` take.
    pub(crate) fn run(&self, case: Case, count: u32) -> Result<Duration> {
        self.ask(Job::Run(case, count))
    }

    /// Fails unless the programs are here, or are not.
    pub(crate) fn verify(&self, has_programs: bool) -> Result<()> {
        self.ask(Job::Verify(has_programs)).map(drop)
    }

    /// Ends its connections that stay.
    pub(crate) fn hang_up(&self) -> Result<()> {
        self.ask(Job::HangUp).map(drop)
    }

    /// Tells it to do `count` of `case`; [`Worker::wait`] says how long they took.
    pub(crate) fn begin(&self, case: Case, count: u32) {
        self.tell(Job::Run(case, count));
    }

    /// Waits for what it was told to do.
    pub(crate) fn wait(&self) -> Result<Duration> {
        self.results.recv().map_err(|_| anyhow!("a worker has ended"))?
    }

    fn tell(&self, job: Job) {
        // A worker that could not start says why when its result is asked for.
        let _ = self.jobs.send(job);
    }

    fn ask(&self, job: Job) -> Result<Duration> {
        self.tell(job);
        self.wait()
    }
}

fn perform(client: &mut Client, server: &Server, job: Job) -> Result<Duration> {
    match job {
        Job::Run(case, count) => {
            // The turn before was another's: caches are to be as they are in a long run of this.
            client.run(server, case, count / 4 + 4)?;
            client.run(server, case, count)
        }
        Job::Verify(has_programs) => {
            client.verify(server, has_programs)?;
            Ok(Duration::ZERO)
        }
        Job::HangUp => {
            client.hang_up();
            Ok(Duration::ZERO)
        }
    }
}

/// A CPU that a thread can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cpu(usize);

impl Cpu {
    /// All that the calling thread may run on.
    pub(crate) fn all() -> Result<Vec<Self>> {
        let allowed = rustix::thread::sched_getaffinity(None).context("sched_getaffinity")?;
        Ok((0..rustix::thread::CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).map(Self).collect())
    }

    /// The last of them.
    pub(crate) fn last() -> Result<Self> {
        Self::all()?.pop().context("no CPU")
    }

    /// Keeps the calling thread there, before all others.
    pub(crate) fn take(self) -> Result<()> {
        let mut only = rustix::thread::CpuSet::new();
        only.set(self.0);
        rustix::thread::sched_setaffinity(None, &only).context("sched_setaffinity")?;
        rustix::process::setpriority_process(None, -20).context("setpriority")
    }
}
