//! Sockets that are used once, and sockets that live long; all inside of a host's cgroup and namespace.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use testkit::{
    Exchange, Family, Kind,
    client::{Client, TIMEOUT},
    exchange,
};

use super::{
    Dice, Host,
    roster::{Member, Roster},
};

/// How many failures are kept; after that many everything stops.
const FAILURES: usize = 20;

/// What all threads share.
#[derive(Debug, Default)]
pub struct Tally {
    /// Set when all shall end.
    pub over: AtomicBool,
    /// Exchanges that were right, in all.
    pub exchanges: AtomicU64,
    /// Of these, those by sockets that live long.
    pub lasting: AtomicU64,
    /// How often an unconnected socket was moved to another backend since its own was removed.
    pub moved: AtomicU64,
    failures: Mutex<Vec<String>>,
}

impl Tally {
    /// What went wrong.
    pub fn failures(&self) -> Vec<String> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn fail(&self, text: String) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.push(text);
        if failures.len() >= FAILURES {
            self.over.store(true, SeqCst);
        }
    }
}

/// Services: the first is the one whose first backends stay and whose TCP connections last.
pub struct Population {
    /// What all threads share.
    pub tally: Arc<Tally>,
    /// Who is a backend of what.
    pub roster: Arc<Roster>,
    /// How many services there are.
    pub services: usize,
}

impl Population {
    /// Starts a thread that opens, uses and closes sockets without pause.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn passers_by(&self, host: &Host, seed: u64) -> io::Result<JoinHandle<()>> {
        let (tally, roster, services) = (self.tally.clone(), self.roster.clone(), self.services);
        inside(host, move || {
            let mut dice = Dice::new(seed);
            while !tally.over.load(SeqCst) {
                let kind = Kind::ALL[dice.below(3)];
                let family = Family::ALL[dice.below(3)];
                // The first service's connections last: too dear for this.
                let service =
                    if kind == Kind::Tcp { 1 + dice.below(services - 1) } else { dice.below(services) };
                let vip = Roster::vip(service, family == Family::V6);
                let begun = roster.now();
                let outcome = exchange(kind, family, vip).map_err(|error| error.to_string());
                match outcome.and_then(|seen| check(&roster, service, family, begun, &seen)) {
                    Ok(_) => drop(tally.exchanges.fetch_add(1, SeqCst)),
                    Err(error) => {
                        let now = roster.now();
                        tally.fail(format!(
                            "{kind:?} {family:?} service {service}, {begun}..{now} µs: {error}"
                        ));
                    }
                }
            }
        })
    }

    /// Starts a thread with connected sockets of both protocols and all families, which stay open and are used
    /// in turn.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn connected(&self, host: &Host, each: usize) -> io::Result<JoinHandle<()>> {
        let (tally, roster) = (self.tally.clone(), self.roster.clone());
        inside(host, move || {
            let mut open = Vec::new();
            for (kind, family) in [Kind::Tcp, Kind::ConnectedUdp]
                .into_iter()
                .flat_map(|kind| Family::ALL.map(|family| (kind, family)))
            {
                for _ in 0..each {
                    let vip = Roster::vip(0, family == Family::V6);
                    let begun = roster.now();
                    let opened = Client::open(kind, family, vip, TIMEOUT).and_then(|mut client| {
                        let seen = client.ask()?;
                        Ok((client, seen))
                    });
                    match opened {
                        Ok((client, seen)) => open.push((client, family, seen, begun)),
                        Err(error) => tally.fail(format!("opening {kind:?} {family:?}: {error}")),
                    }
                }
            }
            'all: loop {
                for (client, family, first, begun) in &mut open {
                    if tally.over.load(SeqCst) {
                        break 'all;
                    }
                    let outcome = client.again().map_err(|error| error.to_string()).and_then(|seen| {
                        check(&roster, 0, *family, *begun, &seen)?;
                        if seen == *first { Ok(()) } else { Err(format!("{seen:?} after {first:?}")) }
                    });
                    if let Err(error) = outcome {
                        tally.fail(format!("{client:?} at {} µs: {error}", roster.now()));
                    }
                    tally.exchanges.fetch_add(1, SeqCst);
                    tally.lasting.fetch_add(1, SeqCst);
                }
                thread::sleep(Duration::from_millis(2));
            }
        })
    }

    /// Starts a thread with unconnected UDP sockets of all families, which use one VIP, two, and so on up to
    /// eight; each (socket, VIP) stays on its backend while that is there.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn unconnected(&self, host: &Host, seed: u64) -> io::Result<JoinHandle<()>> {
        let (tally, roster, services) = (self.tally.clone(), self.roster.clone(), self.services);
        inside(host, move || {
            let mut dice = Dice::new(seed);
            let mut open = Vec::new();
            for (vips, family) in
                (1..=8).flat_map(|vips| Family::ALL.map(|family| (services.min(vips), family)))
            {
                let vip = Roster::vip(0, family == Family::V6);
                match Client::open(Kind::UnconnectedUdp, family, vip, TIMEOUT) {
                    Ok(client) => open.push((client, family, vips, BTreeMap::<usize, Arc<Member>>::new())),
                    Err(error) => tally.fail(format!("opening unconnected {family:?}: {error}")),
                }
            }
            'all: loop {
                for (client, family, vips, members) in &mut open {
                    if tally.over.load(SeqCst) {
                        break 'all;
                    }
                    // Those with one VIP get the first service, whose first backends stay, and so on.
                    let service = dice.below(*vips);
                    client.redirect(Roster::vip(service, *family == Family::V6));
                    let begun = roster.now();
                    let outcome = client.ask().map_err(|error| error.to_string()).and_then(|seen| {
                        let member = check(&roster, service, *family, begun, &seen)?;
                        let before = members.insert(service, Arc::clone(&member));
                        match before {
                            Some(before) if before.name != member.name && !before.is_leaving() => {
                                Err(format!("left {} for {} though it stays", before.name, member.name))
                            }
                            Some(before) if before.name != member.name => {
                                tally.moved.fetch_add(1, SeqCst);
                                Ok(())
                            }
                            _ => Ok(()),
                        }
                    });
                    if let Err(error) = outcome {
                        let now = roster.now();
                        tally.fail(format!("{client:?}, {vips} VIPs, {begun}..{now} µs: {error}"));
                    }
                    tally.exchanges.fetch_add(1, SeqCst);
                    tally.lasting.fetch_add(1, SeqCst);
                }
                thread::sleep(Duration::from_millis(2));
            }
        })
    }
}

/// The right backend, and the right peer address.
fn check(
    roster: &Roster,
    service: usize,
    family: Family,
    begun: u64,
    seen: &Exchange,
) -> Result<Arc<Member>, String> {
    let vip = Roster::vip(service, family == Family::V6);
    if seen.peer != vip {
        return Err(format!("peer {} in place of {vip}: {seen:?}", seen.peer));
    }
    roster.answered(service, &seen.backend, begun)
}

/// A thread inside of the host's cgroup and namespace.
pub(crate) fn inside(host: &Host, work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    let (cgroup, namespace) = (host.cgroup().clone(), host.namespace().clone());
    thread::Builder::new().name("client".into()).spawn(move || {
        let entered = cgroup.enter_thread().and_then(|()| namespace.enter_thread());
        // The host removes the cgroup when it goes; not this thread, which is inside.
        drop(cgroup);
        match entered {
            Ok(()) => work(),
            Err(error) => panic!("{error:#}"),
        }
    })
}
