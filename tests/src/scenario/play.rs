//! Playing a scenario on a world.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use anyhow::{Context, Error, Result, bail, ensure};
use model::{NodePortAddresses, Protocol, View};
use testkit::Family;

use super::{Client, Connect, Expect, Listen, Scenario, Step, Use};
use crate::{
    feed::Feed,
    world::{Outcome, SocketId, World},
};

/// What sockets with a name talk IPv4 through. What has none is of every kind anyway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// IPv4 sockets.
    Plain,
    /// IPv6 sockets, by mapped addresses.
    Mapped,
}

impl Form {
    fn family(self, to: SocketAddr) -> Family {
        match self {
            _ if to.is_ipv6() => Family::V6,
            Self::Plain => Family::V4,
            Self::Mapped => Family::Mapped,
        }
    }
}

impl Scenario {
    /// In what forms it is played: both if sockets have names, since nothing else depends on the form.
    pub fn forms(&self) -> &'static [Form] {
        let named = self.steps.iter().any(|step| matches!(step, Step::Udp(_) | Step::Tcp(_)));
        if named { &[Form::Plain, Form::Mapped] } else { &[Form::Plain] }
    }

    /// Has every scenario played in each of its forms, tells of each how it went, and gives their number.
    ///
    /// # Errors
    /// Some could not be read, or did not go as they should; with their names.
    pub fn play_all(mut play: impl FnMut(&Self, Form) -> Result<()>) -> Result<usize> {
        let scenarios = Self::all()?;
        let mut failed = Vec::new();
        for scenario in &scenarios {
            match scenario.forms().iter().try_for_each(|form| play(scenario, *form)) {
                Ok(()) => println!("scenario {} ... ok", scenario.name),
                Err(error) => {
                    println!("scenario {} ... FAILED\n  {error:#}", scenario.name);
                    failed.push(scenario.name.as_str());
                }
            }
        }
        ensure!(failed.is_empty(), "failed: {failed:?}");
        Ok(scenarios.len())
    }

    /// The view of its node, who looks at the cluster.
    pub fn view(&self) -> View {
        let outside = self.outside.as_ref();
        View {
            node: self.node.clone(),
            proxy_name: self.proxy_name.clone(),
            resolve_selectors: true,
            redirect_limit: 0,
            outside: outside.map(|it| model::Outside { labels: it.labels.clone(), external: it.external }),
        }
    }
}

/// Plays `scenario` on a fresh `world` with the scenario's view, whose agent hears of objects by a fresh `feed`.
///
/// # Errors
/// The first step that did not go as expected.
pub fn play(world: &mut impl World, feed: &mut impl Feed, scenario: &Scenario, form: Form) -> Result<()> {
    for Listen(protocol, address) in &scenario.listen {
        world.listen(*protocol, *address)?;
    }
    let node_ports: Result<Vec<NodePortAddresses>, String> =
        scenario.node_ports.iter().map(|text| text.parse()).collect();
    world.own_addresses(&node_ports.map_err(Error::msg)?, &scenario.interfaces)?;
    world.client(&Client::default())?;
    let mut player = Player { world, feed, form, sockets: BTreeMap::new(), kept: BTreeMap::new() };
    player.world.change(player.feed.apply(&scenario.manifests)?)?;
    if scenario.synced {
        player.sync()?;
    }
    for (number, step) in scenario.steps.iter().enumerate() {
        player.step(step).with_context(|| format!("step {} ({form:?}): {step:?}", number + 1))?;
    }
    Ok(())
}

struct Player<'a, W, F> {
    world: &'a mut W,
    feed: &'a mut F,
    form: Form,
    sockets: BTreeMap<String, Named>,
    /// What clients keep (R23), by the word that steps have for it.
    kept: BTreeMap<String, SocketAddr>,
}

/// A socket that has a name.
struct Named {
    id: SocketId,
    connected: Option<SocketAddr>,
    /// The backend reached last by each destination.
    reached: BTreeMap<SocketAddr, SocketAddr>,
}

/// A manner of using a fresh socket.
#[derive(Clone, Copy, Debug)]
enum Manner {
    Connect,
    Send,
}

/// Enough tries that one of `backends` is missed once in 10^11 runs.
fn tries(backends: usize, manners: usize) -> usize {
    if backends > 1 { (26 * backends).div_ceil(manners) } else { 2 }
}

impl<W: World, F: Feed> Player<'_, W, F> {
    fn step(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Connect(connect) => self.connect(connect),
            Step::Udp(usage) => self.named(Protocol::Udp, usage),
            Step::Tcp(usage) => self.named(Protocol::Tcp, usage),
            Step::Apply(manifests) => self.world.change(self.feed.apply(manifests)?),
            Step::Delete(names) => self.world.change(self.feed.delete(names)?),
            Step::Client(client) => self.world.client(client),
            Step::Wait(seconds) => self.world.wait(*seconds),
            Step::Sync => self.sync(),
            Step::Restart => {
                self.feed.restart()?;
                self.world.restart()
            }
        }
    }

    fn sync(&mut self) -> Result<()> {
        let changes = self.feed.sync()?;
        self.world.change(changes)?;
        self.world.sync()
    }

    fn connect(&mut self, Connect { to, protocol, expect, kept, anew }: &Connect) -> Result<()> {
        let families = if to.is_ipv6() { &[Family::V6][..] } else { &[Family::V4, Family::Mapped] };
        let manners = match protocol {
            Protocol::Tcp => &[Manner::Connect][..],
            Protocol::Udp => &[Manner::Connect, Manner::Send],
        };
        let backends = if let Expect::Backends(backends) = expect { backends.as_slice() } else { &[] };
        let mut missing: BTreeSet<SocketAddr> = backends.iter().copied().collect();
        let combined = families.len() * manners.len();
        if *anew && let Some(word) = kept {
            self.kept.remove(word);
        }
        for _ in 0..tries(backends.len(), combined) {
            for family in families {
                for manner in manners {
                    let socket = self.world.open(*protocol, *family)?;
                    let outcome = match manner {
                        Manner::Connect => self.world.connect(socket, *to),
                        Manner::Send => self.world.ask(socket, Some(*to)),
                    };
                    self.world.close(socket);
                    let about = || format!("{manner:?} from a {family:?} socket");
                    let reached = judge(outcome.with_context(about)?, expect, *to).with_context(about)?;
                    let Some(backend) = reached else { continue };
                    missing.remove(&backend);
                    if let Some(word) = kept {
                        let now = *self.kept.entry(word.clone()).or_insert(backend);
                        ensure!(now == backend, "reached {backend}, not {now}, which this client keeps");
                        missing.clear();
                    }
                }
            }
        }
        ensure!(missing.is_empty(), "never reached: {missing:?}");
        Ok(())
    }

    fn named(&mut self, protocol: Protocol, usage: &Use) -> Result<()> {
        if let Some(destination) = usage.connect.or(usage.send)
            && !self.sockets.contains_key(&usage.socket)
        {
            let id = self.world.open(protocol, self.form.family(destination))?;
            let named = Named { id, connected: None, reached: BTreeMap::new() };
            self.sockets.insert(usage.socket.clone(), named);
        }
        let named = self.sockets.get_mut(&usage.socket).context("this socket is not open")?;
        if usage.close {
            self.world.close(named.id);
            self.sockets.remove(&usage.socket);
            return Ok(());
        }
        if usage.hang_up {
            named.connected = None;
            return self.world.hang_up(named.id);
        }
        let Some(expect) = &usage.expect else { bail!("`expect` is missing") };
        let mut missing = BTreeSet::new();
        if let (Expect::Backends(backends), true) = (expect, usage.all) {
            missing.extend(backends.iter().copied());
        }
        for turn in 0..usage.times.unwrap_or(1) {
            let (destination, outcome) = match (usage.connect, usage.send) {
                (Some(to), _) => (to, self.world.connect(named.id, to)),
                (_, Some(to)) => (to, self.world.ask(named.id, Some(to))),
                _ => {
                    let to = named.connected.context("`ask` needs a connection")?;
                    (to, self.world.ask(named.id, None))
                }
            };
            let about = || format!("time {}", turn + 1);
            let shown = usage.shown.unwrap_or(destination);
            let reached = judge(outcome.with_context(about)?, expect, shown).with_context(about)?;
            let Some(backend) = reached else { continue };
            if usage.connect.is_some() {
                named.connected = Some(destination);
            }
            missing.remove(&backend);
            if usage.same {
                let last = named.reached.get(&destination);
                ensure!(last == Some(&backend), "reached {backend}, and the time before {last:?}");
            }
            for other in &usage.apart_from {
                ensure!(named.reached.get(other) != Some(&backend), "reached {backend}, as by {other}");
            }
            named.reached.insert(destination, backend);
        }
        ensure!(missing.is_empty(), "never reached: {missing:?}");
        Ok(())
    }
}

/// The backend that was reached, if one was expected.
fn judge(outcome: Outcome, expect: &Expect, address: SocketAddr) -> Result<Option<SocketAddr>> {
    match (outcome, expect) {
        (Outcome::Answered { backend, shown }, Expect::Backends(backends)) => {
            ensure!(backends.contains(&backend), "reached {backend}");
            ensure!(shown == address, "{backend} answered as {shown}");
            Ok(Some(backend))
        }
        (Outcome::Refused, Expect::Refused)
        | (Outcome::Unreachable, Expect::Unreachable)
        | (Outcome::Denied, Expect::Denied)
        | (Outcome::Nobody, Expect::Passed) => Ok(None),
        (outcome, _) => bail!("{outcome:?}"),
    }
}
