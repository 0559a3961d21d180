//! Clients in the background while something goes wrong: sockets of all kinds and families, used once or for long.
//! None of their exchanges may fail.

use std::{
    io,
    sync::{Arc, atomic::Ordering::SeqCst},
    thread::{self, JoinHandle},
    time::Duration,
};

use testkit::{
    Exchange, Family, Kind,
    client::{Client, TIMEOUT},
    exchange,
    wait::until,
};

use super::{
    Host, PATIENCE,
    population::{Tally, inside},
    web,
};

/// Between two exchanges of one client: machines that run tests have something else to do, too.
const PAUSE: Duration = Duration::from_millis(1);
/// How often a socket that was closed is opened again at once: backends may change quickly.
const AGAIN: usize = 5;
/// Enough for each kind of socket to have had its turn several times.
const PROOF: u64 = 60;

/// A service of [`web`], and the backends that may answer for it.
#[derive(Clone, Debug)]
struct Asked {
    low: u8,
    backends: Vec<String>,
    /// Backends come and go: connected UDP sockets are closed when theirs does (R8), and opened again.
    changing: bool,
}

/// Clients in the background; they end when dropped.
pub struct Traffic {
    tally: Arc<Tally>,
    clients: Vec<JoinHandle<()>>,
}

impl Traffic {
    /// Clients of services of [`web`], each given by the last byte of its VIP and by its backends, which stay. They have all
    /// been answered when this returns.
    ///
    /// # Errors
    /// No threads can be had.
    #[track_caller]
    pub fn start(host: &Host, asked: &[(u8, &[u8])]) -> io::Result<Self> {
        Self::with(host, asked, &[])
    }

    /// The same, and of services whose backends change, each given with all that may answer.
    ///
    /// # Errors
    /// No threads can be had.
    #[track_caller]
    pub fn with(host: &Host, staying: &[(u8, &[u8])], changing: &[(u8, &[u8])]) -> io::Result<Self> {
        let of = |list: &[(u8, &[u8])], changing| -> Vec<Asked> {
            let name = |low: &u8| format!("b{low}");
            let asked = list.iter().map(|(low, backends)| (*low, backends.iter().map(name).collect()));
            asked.map(|(low, backends)| Asked { low, backends, changing }).collect()
        };
        let asked = [of(staying, false), of(changing, true)].concat();
        let tally = Arc::new(Tally::default());
        let traffic = Self {
            clients: vec![passers_by(host, &tally, asked.clone())?, lasting(host, &tally, asked)?],
            tally,
        };
        traffic.goes_on();
        Ok(traffic)
    }

    /// Waits until every kind of socket has been used again, and checks that none has failed so far.
    #[track_caller]
    pub fn goes_on(&self) {
        let counts = || (self.tally.exchanges.load(SeqCst), self.tally.lasting.load(SeqCst));
        let (all, lasting) = counts();
        until(PATIENCE, "exchanges to go on", || {
            let (now, now_lasting) = counts();
            (now >= all + 2 * PROOF && now_lasting >= lasting + PROOF) || !self.tally.failures().is_empty()
        });
        self.has_not_failed("");
    }

    /// Checks that none has failed so far; `log` is shown if one has.
    #[track_caller]
    pub fn has_not_failed(&self, log: &str) {
        let failures = self.tally.failures();
        assert!(failures.is_empty(), "{failures:#?}\n{log}");
    }

    /// Exchanges so far.
    pub fn exchanges(&self) -> u64 {
        self.tally.exchanges.load(SeqCst)
    }

    /// Has it gone on to the end, without a failure? How many exchanges that were.
    #[track_caller]
    pub fn end(self) -> u64 {
        self.goes_on();
        self.exchanges()
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.tally.over.store(true, SeqCst);
        for client in self.clients.drain(..) {
            // Its panic has been printed; what it means is known by the exchanges that are missing.
            let _ = client.join();
        }
    }
}

fn kinds() -> impl Iterator<Item = (Kind, Family)> {
    Kind::ALL.into_iter().flat_map(|kind| Family::ALL.map(|family| (kind, family)))
}

/// Opens, uses and closes sockets.
fn passers_by(host: &Host, tally: &Arc<Tally>, asked: Vec<Asked>) -> io::Result<JoinHandle<()>> {
    let tally = Arc::clone(tally);
    inside(host, move || {
        'all: loop {
            for ((kind, family), asked) in
                kinds().flat_map(|kind| asked.iter().map(move |asked| (kind, asked)))
            {
                if tally.over.load(SeqCst) {
                    break 'all;
                }
                let mut outcome = exchange(kind, family, web::vip(kind, family, asked.low));
                for _ in 0..AGAIN {
                    if asked.changing && outcome.as_ref().is_err_and(was_closed) {
                        outcome = exchange(kind, family, web::vip(kind, family, asked.low));
                    }
                }
                count(&tally, "new", (kind, family), asked, outcome, None);
                thread::sleep(PAUSE);
            }
        }
    })
}

/// UDP sockets, connected and not, that stay open.
fn lasting(host: &Host, tally: &Arc<Tally>, asked: Vec<Asked>) -> io::Result<JoinHandle<()>> {
    let tally = Arc::clone(tally);
    inside(host, move || {
        let mut open = Vec::new();
        for (kind, family) in kinds().filter(|(kind, _)| *kind != Kind::Tcp) {
            for asked in &asked {
                let opened = Client::open(kind, family, web::vip(kind, family, asked.low), TIMEOUT);
                match opened {
                    Ok(client) => open.push((client, (kind, family), asked, None)),
                    Err(error) => tally.fail(format!("opening {kind:?} {family:?}: {error}")),
                }
            }
        }
        'all: loop {
            for (client, kind, asked, first) in &mut open {
                if tally.over.load(SeqCst) {
                    break 'all;
                }
                let mut answer = client.ask();
                for _ in 0..AGAIN {
                    if asked.changing && answer.as_ref().is_err_and(was_closed) {
                        let vip = web::vip(kind.0, kind.1, asked.low);
                        answer = Client::open(kind.0, kind.1, vip, TIMEOUT).and_then(|opened| {
                            (*client, *first) = (opened, None);
                            client.ask()
                        });
                    }
                }
                let seen = count(&tally, "lasting", *kind, asked, answer, first.as_ref());
                tally.lasting.fetch_add(1, SeqCst);
                // A connected socket keeps its backend, whatever happens.
                if kind.0 == Kind::ConnectedUdp && first.is_none() {
                    *first = seen;
                }
                thread::sleep(PAUSE);
            }
        }
    })
}

/// Is that what a connected UDP socket says that somebody else has closed?
fn was_closed(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EDESTADDRREQ | libc::ECONNABORTED | libc::ENOTCONN))
}

/// Was it the right backend, that of before if there was one, and the right peer address?
fn count(
    tally: &Tally,
    which: &str,
    (kind, family): (Kind, Family),
    asked: &Asked,
    outcome: io::Result<Exchange>,
    first: Option<&Exchange>,
) -> Option<Exchange> {
    let vip = web::vip(kind, family, asked.low);
    tally.exchanges.fetch_add(1, SeqCst);
    let problem = match &outcome {
        Err(error) => error.to_string(),
        Ok(seen) if seen.peer != vip => format!("another peer: {seen:?}"),
        Ok(seen) if !asked.backends.contains(&seen.backend) => format!("no backend of this one: {seen:?}"),
        Ok(seen) if first.is_some_and(|first| first != seen) => format!("{seen:?} after {first:?}"),
        Ok(_) => return outcome.ok(),
    };
    tally.fail(format!("{which} {kind:?} {family:?} {vip}: {problem}"));
    None
}
