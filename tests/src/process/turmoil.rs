//! Changes of manifests under traffic, and restarts of the agent at random instants.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use testkit::{
    Backend, eventually,
    object::{documents, service, slice},
};

use super::{
    Agent, Dice, Host, PATIENCE,
    roster::{Member, Roster},
};

/// Port that all backends listen on.
const PORT: u16 = 8080;
/// Addresses that the backends of one service may have.
const PLACES: usize = 100;
/// Fewest and most backends of a service.
const BACKENDS: (usize, usize) = (2, 6);

/// One service's backends.
struct Place {
    place: usize,
    member: Arc<Member>,
    stays: bool,
    _servers: Vec<Backend>,
}

/// The services, as the manifests have them, and the backends that run.
pub struct Services<'a> {
    host: &'a Host,
    roster: &'a Roster,
    /// By service.
    members: Vec<Vec<Place>>,
    /// Removed, and still open.
    closing: Vec<Place>,
    /// Changes made.
    pub changes: usize,
}

impl<'a> Services<'a> {
    /// `count` services with a few backends each. Those of the first one stay.
    ///
    /// # Errors
    /// A backend can't be started, or a file not be written.
    pub fn new(host: &'a Host, roster: &'a Roster, count: usize) -> Result<Self> {
        let mut services = Self {
            host,
            roster,
            members: (0..count).map(|_| Vec::new()).collect(),
            closing: Vec::new(),
            changes: 0,
        };
        for number in 0..count {
            for place in 0..BACKENDS.0 + 1 {
                let member = services.open(number, place, number == 0)?;
                services.members.get_mut(number).context("no such service")?.push(member);
            }
            services.publish(number)?;
        }
        Ok(services)
    }

    fn open(&self, number: usize, place: usize, stays: bool) -> Result<Place> {
        let ips = Roster::address(number, place);
        let member = self.roster.add(number, ips);
        let mut servers = Vec::new();
        for ip in ips {
            let (namespace, at) = (self.host.namespace(), SocketAddr::new(ip, PORT));
            servers.push(if number == 0 {
                Backend::tcp_lasting(namespace, &member.name, at)?
            } else {
                Backend::tcp(namespace, &member.name, at)?
            });
            servers.push(Backend::udp(namespace, &member.name, at)?);
        }
        Ok(Place { place, member, stays, _servers: servers })
    }

    /// Writes a service's file.
    fn publish(&self, number: usize) -> Result<()> {
        let name = format!("s{number}");
        let mut object = service(&name);
        for v6 in [false, true] {
            object = object.cluster_ip(Roster::vip(number, v6).ip());
        }
        let object = object
            .field("ipFamilies", "[IPv4, IPv6]")
            .field("ipFamilyPolicy", "RequireDualStack")
            .port("stream:80/TCP")
            .port("datagram:80/UDP");
        let mut slices = ["v4", "v6"].map(|family| {
            slice(&format!("{name}-{family}"), &name)
                .port(&format!("stream:{PORT}/TCP"))
                .port(&format!("datagram:{PORT}/UDP"))
        });
        for place in self.members.get(number).into_iter().flatten() {
            let [v4, v6] = place.member.ips;
            let [first, second] = slices;
            slices = [first.endpoint(v4), second.endpoint(v6)];
        }
        let [v4, v6] = slices;
        self.host.write(&format!("{name}.yaml"), documents(&[&object, &v4, &v6]))
    }

    /// Adds a backend to some service, or removes one.
    ///
    /// # Errors
    /// A backend can't be started, or a file not be written.
    pub fn change(&mut self, dice: &mut Dice) -> Result<()> {
        let number = dice.below(self.members.len());
        let (fewest, most) = if number == 0 { (BACKENDS.0 + 1, BACKENDS.1) } else { BACKENDS };
        let count = self.members.get(number).map_or(0, Vec::len);
        let grow = count <= fewest || (count < most && dice.below(2) == 0);
        if grow {
            let busy: BTreeSet<usize> = self.members[number]
                .iter()
                .chain(self.closing.iter().filter(|place| place.member.service == number))
                .map(|place| place.place)
                .collect();
            let free: Vec<usize> = (0..PLACES).filter(|place| !busy.contains(place)).collect();
            let place = *free.get(dice.below(free.len())).context("no address is free")?;
            let added = self.open(number, place, false)?;
            let member = Arc::clone(&added.member);
            self.members[number].push(added);
            self.publish(number)?;
            self.roster.added(&member);
        } else {
            let leaving: Vec<usize> =
                (0..count).filter(|index| !self.members[number][*index].stays).collect();
            let index = *leaving.get(dice.below(leaving.len())).context("all stay")?;
            let removed = self.members[number].remove(index);
            removed.member.leave();
            self.publish(number)?;
            self.roster.removed(&removed.member);
            self.closing.push(removed);
        }
        self.changes += 1;
        Ok(())
    }

    /// Closes the backends whose time has come.
    pub fn close(&mut self) {
        self.closing.retain(|place| !self.roster.may_close(&place.member));
    }
}

/// One restart.
#[derive(Clone, Debug)]
pub struct Restart {
    /// By which program.
    pub program: PathBuf,
    /// How long after the last agent had come as far as was waited for.
    pub after: Duration,
    /// How long there is no agent.
    pub down: Duration,
    /// How far the new one is let come before the next restart.
    pub until: Until,
}

/// How far an agent has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// It has begun to load the programs.
    Loading,
    /// It is about to put programs in force, and to carry sockets over if need be.
    Installing,
    /// Everything is in force.
    Ready,
}

/// What came of the restarts.
pub struct Restarted {
    /// The last agent.
    pub agent: Agent,
    /// The longest that one took to have everything in force.
    pub slowest: Duration,
    /// Sockets carried to another layout of slots, and how many of them were lost, each time.
    pub carried: Vec<(usize, usize)>,
}

/// Restarts `agent` as told, by SIGKILL; no more once it is `over`.
///
/// # Errors
/// An agent does not come up.
pub fn restart(
    host: &Host,
    roster: &Roster,
    over: &AtomicBool,
    agent: Agent,
    restarts: &[Restart],
) -> Result<Restarted> {
    let mut restarted = Restarted { agent, slowest: Duration::ZERO, carried: Vec::new() };
    for (number, restart) in restarts.iter().enumerate() {
        if over.load(SeqCst) {
            break;
        }
        thread::sleep(restart.after);
        roster.down();
        restarted.agent.kill()?;
        thread::sleep(restart.down);
        let started = Instant::now();
        restarted.agent = host.start(&restart.program, &[])?;
        if restart.until == Until::Installing {
            eventually(PATIENCE, || {
                let log = restarted.agent.log();
                if log.contains(" started ") { Ok(()) } else { bail!("it does not start:\n{log}") }
            })?;
        }
        if restart.until == Until::Ready {
            restarted.agent.wait_ready().with_context(|| format!("restart {number}: {restart:?}"))?;
            roster.up();
            restarted.slowest = restarted.slowest.max(started.elapsed());
            restarted.carried.extend(carried(&restarted.agent.log()));
        }
    }
    Ok(restarted)
}

/// What an agent says of carrying sockets over.
fn carried(log: &str) -> Option<(usize, usize)> {
    let line = log.lines().find(|line| line.contains("sockets carried to a new layout"))?;
    let count = |name: &str| line.split_whitespace().find_map(|word| word.strip_prefix(name)?.parse().ok());
    Some((count("sockets=")?, count("lost=")?))
}
