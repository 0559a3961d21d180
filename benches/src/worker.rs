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
}

/// A thread that waits for its turn.
pub(crate) struct Worker {
    jobs: Sender<Job>,
    results: Receiver<Result<Duration>>,
}

impl Worker {
    /// Starts one, in `cgroup` and `namespace`, with sockets of its own.
    pub(crate) fn start(
        cgroup: &Arc<Cgroup>,
        namespace: &Arc<Namespace>,
        server: &Arc<Server>,
        services: u32,
    ) -> Result<Self> {
        let (jobs, work) = channel();
        let (done, results) = channel();
        let (cgroup, namespace, server) = (Arc::clone(cgroup), Arc::clone(namespace), Arc::clone(server));
        thread::Builder::new().name("worker".into()).spawn(move || {
            let opened = cgroup
                .enter_thread()
                .and_then(|()| namespace.enter_thread())
                .and_then(|()| take_cpu())
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

    fn ask(&self, job: Job) -> Result<Duration> {
        // A worker that could not start has said why, and is gone.
        let _ = self.jobs.send(job);
        self.results.recv().map_err(|_| anyhow!("a worker has ended"))?
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
    }
}

/// Keeps the calling thread on the last CPU, before all others there.
pub(crate) fn take_cpu() -> Result<()> {
    let allowed = rustix::thread::sched_getaffinity(None).context("sched_getaffinity")?;
    let last = (0..rustix::thread::CpuSet::MAX_CPU).rev().find(|cpu| allowed.is_set(*cpu));
    let mut only = rustix::thread::CpuSet::new();
    only.set(last.context("no CPU")?);
    rustix::thread::sched_setaffinity(None, &only).context("sched_setaffinity")?;
    rustix::process::setpriority_process(None, -20).context("setpriority")
}
