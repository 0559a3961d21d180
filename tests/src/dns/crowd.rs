//! Clients in the background, and what came of each of their questions.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{
    Habit, Resolver,
    resolver::{Reply, Trouble},
};
use crate::process::{Host, population::inside};

/// Between two questions of one client: machines that run tests have something else to do, too.
const PAUSE: Duration = Duration::from_micros(500);

/// What came of a question.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Who asked.
    pub habit: Habit,
    /// By sockets of IPv6?
    pub mapped: bool,
    /// When it began.
    pub begun: Instant,
    /// When it was over.
    pub ended: Instant,
    /// The answer.
    pub outcome: Result<Reply, [Trouble; 2]>,
}

impl Asked {
    /// Was it answered, by this server?
    pub fn is_by(&self, server: Ipv4Addr) -> bool {
        self.outcome.as_ref().is_ok_and(|reply| reply.server == server)
    }

    /// Was it a new connection, or the first datagram of a socket?
    pub fn is_fresh(&self) -> bool {
        self.outcome.as_ref().is_ok_and(|reply| reply.fresh)
    }

    /// Was it answered at the first attempt, or at the next after the agent had closed the socket (R8)?
    pub fn is_plain(&self) -> bool {
        self.outcome
            .as_ref()
            .is_ok_and(|reply| reply.retried.as_ref().is_none_or(|why| *why == Trouble::Closed))
    }
}

#[derive(Debug, Default)]
struct Shared {
    over: AtomicBool,
    /// How long an attempt may take, milliseconds.
    timeout: AtomicU64,
    asked: Mutex<Vec<Asked>>,
}

/// One client of each habit for IPv4 and for IPv4-mapped addresses; they end when dropped.
pub struct Crowd {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

impl Crowd {
    /// Clients of a name server inside of the host's cgroup and namespace.
    ///
    /// # Errors
    /// No threads can be had.
    pub fn start(host: &Host, server: SocketAddr, timeout: Duration) -> io::Result<Self> {
        let mut crowd = Self { shared: Arc::default(), clients: Vec::new() };
        crowd.set_timeout(timeout);
        for habit in Habit::ALL {
            let shared = Arc::clone(&crowd.shared);
            crowd.clients.push(inside(host, move || {
                let mut resolvers = [false, true].map(|mapped| Resolver::new(habit, server, mapped));
                while !shared.over.load(SeqCst) {
                    for (resolver, mapped) in resolvers.iter_mut().zip([false, true]) {
                        let timeout = Duration::from_millis(shared.timeout.load(SeqCst));
                        let begun = Instant::now();
                        let outcome = resolver.ask(timeout);
                        let asked = Asked { habit, mapped, begun, ended: Instant::now(), outcome };
                        shared.asked.lock().unwrap_or_else(PoisonError::into_inner).push(asked);
                        thread::sleep(PAUSE);
                    }
                }
            })?);
        }
        Ok(crowd)
    }

    /// How long an attempt may take from now on.
    pub fn set_timeout(&self, timeout: Duration) {
        self.shared.timeout.store(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX), SeqCst);
    }

    /// Waits until every client has had so many questions answered that it began after this.
    #[track_caller]
    pub fn goes_on(&self, each: usize) {
        let from = Instant::now();
        let seen = || {
            let asked = self.shared.asked.lock().unwrap_or_else(PoisonError::into_inner);
            let mut counts = Habit::ALL.map(|habit| (habit, 0));
            for one in asked.iter().rev().take_while(|one| one.ended > from).filter(|one| one.begun > from) {
                counts.iter_mut().filter(|(habit, _)| *habit == one.habit).for_each(|(_, count)| *count += 1);
            }
            counts
        };
        testkit::wait::until(Duration::from_secs(60), "questions of every kind", || {
            seen().iter().all(|(_, count)| *count >= 2 * each)
        });
    }

    /// How many questions there have been.
    pub fn count(&self) -> usize {
        self.shared.asked.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Ends them; all questions, in the order in which they were over.
    pub fn end(mut self) -> Vec<Asked> {
        self.stop();
        std::mem::take(&mut self.shared.asked.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn stop(&mut self) {
        self.shared.over.store(true, SeqCst);
        for client in self.clients.drain(..) {
            // Its panic has been printed; that its questions are missing is seen.
            let _ = client.join();
        }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.stop();
    }
}
