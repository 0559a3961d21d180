//! Traffic of every kind: sockets that are used once, for a while, and to the end.

use std::{
    io::{self, BufRead, BufReader, ErrorKind},
    net::{SocketAddr, TcpStream},
    num::NonZeroU32,
    sync::{Arc, atomic::Ordering::SeqCst},
    thread::{self, JoinHandle},
    time::Duration,
};

use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with, sockopt};
use testkit::{
    Exchange, Family, Kind,
    client::{Client, TIMEOUT},
    exchange,
};

use super::{
    ledger::Ledger,
    services::{LASTING, SERVICES, STAYING, STEADY, Spec, Via, address, by_name},
};
use crate::process::{Dice, Host, population::inside};

/// Between two exchanges of one thread: others want to work, too.
const PAUSE: Duration = Duration::from_millis(2);
/// How often a connected UDP socket that was closed as its backend left (R8) is opened again at once.
const AGAIN: usize = 5;
/// Sockets that are open at a time and are closed at some time.
const MEDIUM: usize = 60;
/// Number of `IPPROTO_MPTCP`.
const MPTCP: NonZeroU32 = NonZeroU32::new(262).unwrap();

/// A service, and by which of its addresses it is asked.
#[derive(Clone, Copy, Debug)]
struct Target {
    number: usize,
    via: Via,
}

impl Target {
    fn is_steady(self) -> bool {
        self.number < STEADY
    }

    fn steady(number: usize, dice: &mut Dice) -> Self {
        let ways = Spec::first(number).ways();
        Self { number, via: ways[dice.below(ways.len())] }
    }

    /// Any one that such a socket can ask. Connections of one service last, and it is too dear for others.
    fn any(kind: Kind, dice: &mut Dice) -> Self {
        loop {
            let number = dice.below(SERVICES);
            if kind == Kind::Tcp && number == LASTING {
                continue;
            }
            if number < STEADY {
                return Self::steady(number, dice);
            }
            return Self { number, via: Via::ALL[dice.below(Via::ALL.len())] };
        }
    }

    fn address(self, family: Family) -> SocketAddr {
        address(self.number, self.via, family)
    }
}

/// Starts all threads.
///
/// # Errors
/// No thread can be had.
pub fn start(host: &Host, ledger: &Arc<Ledger>, seed: u64) -> io::Result<Vec<JoinHandle<()>>> {
    let mut threads = Vec::new();
    for (number, work) in [passers_by, passers_by, medium, lasting, many, multipath].into_iter().enumerate() {
        let ledger = Arc::clone(ledger);
        let dice = Dice::new(seed ^ (number as u64 + 1) << 32);
        threads.push(inside(host, move || work(&ledger, dice))?);
    }
    Ok(threads)
}

/// Which backend that was, if it is one of the right service that may answer, and the peer is right.
fn judge(
    ledger: &Ledger,
    target: Target,
    vip: SocketAddr,
    begun: u64,
    seen: &Exchange,
) -> Result<usize, String> {
    let place = judge_name(ledger, target, begun, &seen.backend)?;
    if seen.peer == vip { Ok(place) } else { Err(format!("another peer: {seen:?}")) }
}

fn judge_name(ledger: &Ledger, target: Target, begun: u64, name: &str) -> Result<usize, String> {
    match by_name(name) {
        Some((number, _)) if number != target.number => Err(format!("{name} is none of its backends")),
        Some((number, place)) if ledger.may_answer(number, place, begun) => Ok(place),
        _ => Err(format!("{name} has been removed, and yet it answers")),
    }
}

/// What a connected UDP socket says that somebody else has closed.
fn was_closed(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EDESTADDRREQ | libc::ECONNABORTED | libc::ENOTCONN))
}

/// What an application sees where nobody serves: refused, denied, or untranslated. A timeout is something else.
fn is_unserved(error: &io::Error) -> bool {
    let known = [libc::ECONNREFUSED, libc::ENETUNREACH, libc::EHOSTUNREACH, libc::EPERM, libc::EACCES];
    error.raw_os_error().is_some_and(|number| known.contains(&number))
}

/// Counts one exchange; `Err` = it failed and should not have.
fn count(ledger: &Ledger, target: Target, outcome: &Result<usize, Problem>) -> Result<(), String> {
    match outcome {
        Ok(_) => drop(ledger.exchanges.fetch_add(1, SeqCst)),
        Err(Problem::Io(error)) if !target.is_steady() && is_unserved(error) => {
            ledger.unserved.fetch_add(1, SeqCst);
        }
        Err(Problem::Io(error)) => return Err(error.to_string()),
        Err(Problem::Wrong(text)) => return Err(text.clone()),
    }
    Ok(())
}

enum Problem {
    Io(io::Error),
    Wrong(String),
}

/// Opens, uses and closes sockets.
fn passers_by(ledger: &Ledger, mut dice: Dice) {
    while !ledger.is_over() {
        let (kind, family) = (Kind::ALL[dice.below(3)], Family::ALL[dice.below(3)]);
        let target = Target::any(kind, &mut dice);
        let vip = target.address(family);
        let mut tries = 0;
        loop {
            let begun = ledger.now();
            let outcome = exchange(kind, family, vip)
                .map_err(Problem::Io)
                .and_then(|seen| judge(ledger, target, vip, begun, &seen).map_err(Problem::Wrong));
            tries += 1;
            if let Err(Problem::Io(error)) = &outcome
                && kind == Kind::ConnectedUdp
                && was_closed(error)
                && tries < AGAIN
            {
                ledger.closed.fetch_add(1, SeqCst);
                continue;
            }
            if let Err(text) = count(ledger, target, &outcome) {
                let took = Duration::from_micros(ledger.now() - begun);
                ledger.fail(format!("{kind:?} {family:?} {target:?} {vip}, in {took:?}: {text}"));
            }
            break;
        }
        thread::sleep(PAUSE);
    }
}

/// A socket that is used more than once.
struct Held {
    client: Client,
    kind: Kind,
    family: Family,
    target: Target,
    opened: u64,
    /// Its backend.
    place: Option<usize>,
}

impl Held {
    fn open(ledger: &Ledger, kind: Kind, family: Family, target: Target) -> io::Result<Self> {
        let opened = ledger.now();
        let mut client = Client::open(kind, family, target.address(family), TIMEOUT)?;
        let mut place = None;
        if kind == Kind::Tcp {
            // The greeting comes unasked.
            place = by_name(&client.ask()?.backend).map(|(_, place)| place);
        }
        Ok(Self { client, kind, family, target, opened, place })
    }

    /// One more exchange: `Ok(false)` = it must be opened again, and that is as it should be.
    fn again(&mut self, ledger: &Ledger) -> Result<bool, String> {
        let vip = self.target.address(self.family);
        // A TCP connection stays with its backend; whatever else is sent may go to those that are there now.
        let begun = if self.kind == Kind::Tcp { 0 } else { ledger.now() };
        let outcome = self
            .client
            .again()
            .map_err(Problem::Io)
            .and_then(|seen| judge(ledger, self.target, vip, begun, &seen).map_err(Problem::Wrong));
        if let (Ok(now), Some(before)) = (&outcome, self.place)
            && *now != before
        {
            let stays = ledger.stayed(self.target.number, before, self.opened);
            if self.kind != Kind::UnconnectedUdp || (stays && self.target.is_steady() && before < STAYING) {
                return Err(format!("left backend {before} for {now}"));
            }
        }
        if let Err(Problem::Io(error)) = &outcome
            && self.kind == Kind::ConnectedUdp
            && was_closed(error)
        {
            let stays = |place| self.target.is_steady() && place < STAYING;
            if self.place.is_some_and(stays) {
                return Err(format!("closed though backend {:?} stays: {error}", self.place));
            }
            ledger.closed.fetch_add(1, SeqCst);
            return Ok(false);
        }
        count(ledger, self.target, &outcome)?;
        if let Ok(place) = &outcome {
            self.place = Some(*place);
        }
        Ok(outcome.is_ok())
    }

    fn fail(&self, ledger: &Ledger, text: &str) {
        let age = Duration::from_micros(ledger.now() - self.opened);
        ledger.fail(format!("{:?} {:?} {:?} open for {age:?}: {text}", self.kind, self.family, self.target));
    }
}

/// Sockets that are open for a while.
fn medium(ledger: &Ledger, mut dice: Dice) {
    let mut open: Vec<Held> = Vec::new();
    while !ledger.is_over() {
        thread::sleep(PAUSE);
        if dice.below(20) == 0 && !open.is_empty() {
            open.swap_remove(dice.below(open.len()));
        }
        if open.len() < MEDIUM && dice.below(8) == 0 {
            let (kind, family) = (Kind::ALL[dice.below(3)], Family::ALL[dice.below(3)]);
            // Its backends keep what connections they had until the end, so there are not many.
            let target = if kind == Kind::Tcp && dice.below(60) == 0 {
                Target { number: LASTING, via: Via::Cluster }
            } else if kind == Kind::Tcp {
                continue;
            } else {
                Target::any(kind, &mut dice)
            };
            match Held::open(ledger, kind, family, target) {
                Ok(held) => open.push(held),
                Err(error) if !target.is_steady() && is_unserved(&error) => {}
                Err(error) => ledger.fail(format!("opening {kind:?} {family:?} {target:?}: {error}")),
            }
        }
        let index = dice.below(open.len());
        if let Some(held) = open.get_mut(index) {
            match held.again(ledger) {
                Ok(true) => {}
                Ok(false) => drop(open.swap_remove(index)),
                Err(text) => {
                    held.fail(ledger, &text);
                    open.swap_remove(index);
                }
            }
        }
    }
}

/// Sockets to steady services that are open to the end, or as long as their backend is there.
fn lasting(ledger: &Ledger, mut dice: Dice) {
    let mut open: Vec<Held> = Vec::new();
    let mut plan = Vec::new();
    for family in Family::ALL {
        plan.extend([(Kind::Tcp, family, Target { number: LASTING, via: Via::Cluster }); 4]);
        for kind in [Kind::ConnectedUdp, Kind::UnconnectedUdp] {
            for number in 0..STEADY {
                let ways = Spec::first(number).ways();
                plan.extend(ways.into_iter().map(|via| (kind, family, Target { number, via })));
            }
        }
    }
    let reopen = |(kind, family, target): (Kind, Family, Target)| {
        let opened = Held::open(ledger, kind, family, target);
        if let Err(error) = &opened {
            ledger.fail(format!("opening {kind:?} {family:?} {target:?}: {error}"));
        }
        opened.ok()
    };
    open.extend(plan.into_iter().filter_map(reopen));
    while !ledger.is_over() && !open.is_empty() {
        thread::sleep(PAUSE);
        let index = dice.below(open.len());
        let held = &mut open[index];
        let outcome = held.again(ledger);
        if let Err(text) = &outcome {
            held.fail(ledger, text);
        }
        if !matches!(outcome, Ok(true)) {
            let again = (held.kind, held.family, held.target);
            open.swap_remove(index);
            open.extend(reopen(again));
        }
    }
}

/// Unconnected sockets that ask several services, up to all the steady ones, in turn.
fn many(ledger: &Ledger, mut dice: Dice) {
    struct Socket {
        client: Client,
        family: Family,
        opened: u64,
        targets: Vec<(Target, Option<usize>)>,
    }
    let open = |family: Family, count: usize, dice: &mut Dice| {
        let targets: Vec<_> = (0..count).map(|number| (Target::steady(number, dice), None)).collect();
        let client = Client::open(Kind::UnconnectedUdp, family, targets[0].0.address(family), TIMEOUT)?;
        Ok::<_, io::Error>(Socket { client, family, opened: ledger.now(), targets })
    };
    let mut sockets: Vec<Socket> = Vec::new();
    while !ledger.is_over() {
        thread::sleep(PAUSE);
        if sockets.len() > 20 && dice.below(100) == 0 {
            sockets.swap_remove(dice.below(sockets.len()));
        }
        if sockets.len() < 25 {
            match open(Family::ALL[dice.below(3)], 1 + dice.below(STEADY), &mut dice) {
                Ok(socket) => sockets.push(socket),
                Err(error) => ledger.fail(format!("opening an unconnected socket: {error}")),
            }
        }
        let index = dice.below(sockets.len());
        let Some(Socket { client, family, opened, targets }) = sockets.get_mut(index) else { continue };
        let count_of = targets.len();
        let (target, before) = &mut targets[dice.below(count_of)];
        let vip = target.address(*family);
        client.redirect(vip);
        let begun = ledger.now();
        let outcome = client
            .ask()
            .map_err(Problem::Io)
            .and_then(|seen| judge(ledger, *target, vip, begun, &seen).map_err(Problem::Wrong));
        let mut result = count(ledger, *target, &outcome);
        if let Ok(now) = outcome
            && let Some(before) = before.replace(now)
            && before != now
            && before < STAYING
            && ledger.stayed(target.number, before, *opened)
        {
            result = Err(format!("left backend {before} for {now}"));
        }
        if let Err(text) = result {
            let age = Duration::from_micros(ledger.now() - *opened);
            ledger.fail(format!(
                "{family:?} with {count_of} VIPs, open for {age:?}, {target:?} {vip}, got {:?}: {text}",
                client.local()
            ));
        }
    }
}

/// Multipath TCP, a few a second: each leaves a slot behind for the audit (R9).
fn multipath(ledger: &Ledger, mut dice: Dice) {
    while !ledger.is_over() {
        let family = Family::ALL[dice.below(3)];
        let target = Target::steady(1 + dice.below(STEADY - 1), &mut dice);
        let begun = ledger.now();
        let outcome = ask_multipath(family, target.address(family)).map_err(Problem::Io);
        if let Err(Problem::Io(error)) = &outcome
            && error.raw_os_error() == Some(libc::EPROTONOSUPPORT)
        {
            return;
        }
        let outcome =
            outcome.and_then(|name| judge_name(ledger, target, begun, &name).map_err(Problem::Wrong));
        ledger.multipath.fetch_add(1, SeqCst);
        if let Err(text) = count(ledger, target, &outcome) {
            ledger.fail(format!("multipath TCP {family:?} {target:?}: {text}"));
        }
        thread::sleep(dice.millis(200, 600));
    }
}

fn ask_multipath(family: Family, to: SocketAddr) -> io::Result<String> {
    let domain = if family == Family::V4 { AddressFamily::INET } else { AddressFamily::INET6 };
    let to = match to {
        SocketAddr::V4(v4) if family == Family::Mapped => (v4.ip().to_ipv6_mapped(), v4.port()).into(),
        to => to,
    };
    let protocol = rustix::net::Protocol::from_raw(MPTCP);
    let socket = socket_with(domain, SocketType::STREAM, SocketFlags::CLOEXEC, Some(protocol))?;
    for which in [sockopt::Timeout::Recv, sockopt::Timeout::Send] {
        sockopt::set_socket_timeout(&socket, which, Some(TIMEOUT))?;
    }
    connect(&socket, &to)?;
    let mut line = String::new();
    BufReader::new(TcpStream::from(socket)).read_line(&mut line)?;
    let name = line.split_whitespace().next();
    name.map(str::to_owned).ok_or_else(|| io::Error::new(ErrorKind::UnexpectedEof, "closed without a word"))
}
