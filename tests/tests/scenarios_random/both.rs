//! The kernel and the memory side by side: what happens, happens in both, and sockets of both go to the same destinations.

use std::{collections::BTreeMap, net::SocketAddr};

use abi::Reason;
use agent::explain::{self, Asker};
use anyhow::{Context, Result, ensure};
use balancing_tests::{
    random::Random,
    scenario::{deletion, upserts},
    world::{Candidates, KernelWorld, MemoryWorld, Outcome, SocketId, World, key},
};
use model::{Change, Protocol};
use testkit::Family;

use super::{
    agree::{agree, check, kind, meets, verdict},
    destinations::destinations,
    events::Event,
    known::{Expected, Known, PORTS, vip},
};

/// Destinations of each kind that sockets use each time: ports of cluster IPs, what else is for a service, the rest.
const USED: [usize; 3] = [3, 4, 3];

/// The two worlds, and a socket of each kind that lives as long as the scenario.
pub(super) struct Both<'a> {
    kernel: &'a mut KernelWorld,
    memory: &'a mut MemoryWorld,
    netns: u64,
    lasting: BTreeMap<&'static str, [SocketId; 2]>,
    /// What those of the kernel and of memory reached last by each address.
    reached: [BTreeMap<(&'static str, SocketAddr), SocketAddr>; 2],
    /// R23: what this client keeps since the last change, by service, protocol and IPv6.
    kept: [BTreeMap<(u64, Protocol, bool), SocketAddr>; 2],
    pub exchanges: u64,
    /// How many destinations that sockets used were decided for each reason.
    pub met: BTreeMap<&'static str, u64>,
}

/// A destination, and what the rules and the tables say of it.
struct Target {
    protocol: Protocol,
    to: SocketAddr,
    candidates: Candidates,
    /// R23: the service whose clients keep their backend.
    affinity: Option<u64>,
}

impl<'a> Both<'a> {
    /// Worlds that know nothing yet; `met` is what earlier ones met.
    pub(super) fn new(
        kernel: &'a mut KernelWorld,
        memory: &'a mut MemoryWorld,
        netns: u64,
        met: BTreeMap<&'static str, u64>,
    ) -> Self {
        Self {
            kernel,
            memory,
            netns,
            lasting: BTreeMap::new(),
            reached: Default::default(),
            kept: Default::default(),
            exchanges: 0,
            met,
        }
    }

    /// One after the other, or all objects at once, as at the start of an agent.
    pub(super) fn apply_all(&mut self, events: &[Event], is_single: bool) -> Result<()> {
        if is_single {
            return events.iter().try_for_each(|event| self.apply(event));
        }
        let mut changes = Vec::new();
        for event in events {
            match event {
                Event::Apply(manifest) => changes.extend(upserts(manifest)?),
                Event::Delete(name) => changes.push(deletion(name)?),
                Event::Client(_) | Event::Own(..) => self.apply(event)?,
            }
        }
        self.kernel.change(changes.clone())?;
        self.memory.change(changes)
    }

    /// R6, R27: a new agent finds out again what has been `played`, and at no time is anything else served.
    pub(super) fn restart(&mut self, played: &[Event], known: &Known, random: &mut Random) -> Result<()> {
        let mut objects = BTreeMap::new();
        for event in played {
            let changes = match event {
                Event::Apply(manifest) => upserts(manifest)?,
                Event::Delete(name) => vec![deletion(name)?],
                Event::Client(_) | Event::Own(..) => continue,
            };
            for change in changes {
                match change {
                    Change::Upsert(object) => objects.insert(object.id(), object),
                    Change::Delete(id) => objects.remove(&id),
                };
            }
        }
        self.kernel.restart()?;
        self.memory.restart()?;
        self.compare(known, random).context("after the restart")?;
        let mut objects: Vec<_> = objects.into_values().map(Change::Upsert).collect();
        for n in (1..objects.len()).rev() {
            objects.swap(n, random.below(n as u64 + 1) as usize);
        }
        let at_once = random.one_in(2);
        let half = random.below(objects.len() as u64 + 1) as usize;
        let later = if at_once { Vec::new() } else { objects.split_off(half) };
        self.apply(&Event::Own(known.node_ports.clone(), known.interfaces.clone()))?;
        for some in [objects, later] {
            self.kernel.change(some.clone())?;
            self.memory.change(some)?;
        }
        // What half of the objects said in between is held until the sync where it would be a delete (R6): an address that
        // is a node's no more, say.
        if at_once {
            self.compare(known, random).context("all is known again, but not synced")?;
        }
        self.kernel.sync()?;
        self.memory.sync()?;
        self.compare(known, random).context("synced again")
    }

    pub(super) fn apply(&mut self, event: &Event) -> Result<()> {
        let changes = match event {
            Event::Apply(manifest) => upserts(manifest)?,
            Event::Delete(name) => vec![deletion(name)?],
            Event::Client(client) => {
                // In memory a socket knows for good whether its application is left alone.
                for [kernel, memory] in std::mem::take(&mut self.lasting).into_values() {
                    self.kernel.close(kernel);
                    self.memory.close(memory);
                }
                self.reached = Default::default();
                self.kernel.client(client)?;
                return self.memory.client(client);
            }
            Event::Own(chosen, interfaces) => {
                self.kernel.own_addresses(chosen, interfaces)?;
                return self.memory.own_addresses(chosen, interfaces);
            }
        };
        self.kernel.change(changes.clone())?;
        self.memory.change(changes)
    }

    /// Looks many destinations up, and goes to some of them from sockets.
    pub(super) fn compare(&mut self, known: &Known, random: &mut Random) -> Result<()> {
        self.kept = Default::default();
        let mut kinds: [Vec<Target>; 3] = Default::default();
        let maps = self.kernel.machine().maps()?;
        let live = explain::live(&maps);
        let asker = Asker { netns: self.netns, excluded: known.client.excluded, ..Asker::default() };
        for (protocol, to) in destinations(known, random) {
            let key = key(protocol, to);
            let about = || format!("{to} {protocol}");
            let found = explain::explain(&live, |id| live.name(id), &asker, to, key.protocol);
            let candidates = self.memory.candidates(&key)?;
            let expected = known.expected(protocol, to);
            check(known, &found, &candidates, &expected).with_context(about)?;
            let is_cluster_ip = known.services.keys().any(|n| vip(*n, to.is_ipv6()) == to.ip());
            let kind = match expected {
                _ if is_cluster_ip && PORTS.contains(&(protocol, to.port())) => 0,
                Expected::Of(..) => 1,
                Expected::Is(Reason::RemoteNodePort | Reason::SourceRange | Reason::UnknownClient) => 1,
                Expected::Is(_) => 2,
            };
            let affinity = match expected {
                Expected::Of(n, _) => known.services.get(&n).filter(|it| it.has_affinity).map(|_| n),
                Expected::Is(_) => None,
            };
            kinds[kind].push(Target { protocol, to, candidates, affinity });
        }
        ensure!(live.error().is_none(), "the maps can't be read");
        for (mut targets, used) in kinds.into_iter().zip(USED) {
            for _ in 0..used.min(targets.len()) {
                let target = targets.swap_remove(random.below(targets.len() as u64) as usize);
                let about = || format!("{} {}", target.to, target.protocol);
                self.exchange(&target).with_context(about)?;
            }
        }
        Ok(())
    }

    fn exchange(&mut self, target: &Target) -> Result<()> {
        let kernel = self.kernel.candidates(&key(target.protocol, target.to))?;
        let Target { candidates, .. } = target;
        ensure!(kernel == *candidates, "candidates {kernel:?} in the kernel, {candidates:?} in memory");
        let is_silent = target.to.ip().is_loopback() && target.protocol == Protocol::Udp;
        if is_silent && verdict(candidates) == "nobody" {
            // A closed port of the loopback says nothing in time.
            return Ok(());
        }
        let reason = candidates.as_ref().map_or_else(|reason| reason.name(), |_| Reason::Balanced.name());
        *self.met.entry(reason).or_default() += 1;
        let families = if target.to.is_ipv6() { &[Family::V6][..] } else { &[Family::V4, Family::Mapped] };
        for family in families {
            self.exchanges += self.one(*family, target).with_context(|| format!("{family:?}"))?;
        }
        Ok(())
    }

    /// R23: on one side, a choice that was not the socket's own.
    fn keeps(&mut self, side: usize, target: &Target, backend: SocketAddr) -> Result<()> {
        let Some(n) = target.affinity else { return Ok(()) };
        let key = (n, target.protocol, target.to.is_ipv6());
        let old = self.kept[side].insert(key, backend);
        // Another list may lack it.
        let old = old.filter(|old| target.candidates.as_ref().is_ok_and(|it| it.contains(old)));
        if old.is_some() && target.candidates.as_ref().is_ok_and(|it| it.len() > 1) {
            *self.met.entry(Reason::Affinity.name()).or_default() += 1;
        }
        let side = ["kernel", "memory"][side];
        ensure!(old.is_none_or(|old| old == backend), "R23: {backend} in the {side}, not {old:?}");
        Ok(())
    }

    fn one(&mut self, family: Family, target: &Target) -> Result<u64> {
        let Target { protocol, to, ref candidates, affinity } = *target;
        let expected = meets(candidates, to);
        let times = if affinity.is_some() { 2 } else { 1 };
        for _ in 0..times {
            let (kernel, memory) = (self.kernel.open(protocol, family)?, self.memory.open(protocol, family)?);
            let connected = [self.kernel.connect(kernel, to)?, self.memory.connect(memory, to)?];
            self.kernel.close(kernel);
            self.memory.close(memory);
            agree(connected, to, expected, candidates).context("connect")?;
            for (side, outcome) in connected.into_iter().enumerate() {
                if let Outcome::Answered { backend, .. } = outcome {
                    self.keeps(side, target, backend).context("connect")?;
                }
            }
        }
        if protocol == Protocol::Tcp {
            return Ok(times);
        }
        let name = match family {
            Family::V4 => "v4",
            Family::V6 => "v6",
            Family::Mapped => "mapped",
        };
        let [kernel, memory] = match self.lasting.get(name) {
            Some(sockets) => *sockets,
            None => {
                let new = [self.kernel.open(protocol, family)?, self.memory.open(protocol, family)?];
                self.lasting.insert(name, new);
                new
            }
        };
        let first = [self.kernel.ask(kernel, Some(to))?, self.memory.ask(memory, Some(to))?];
        let second = [self.kernel.ask(kernel, Some(to))?, self.memory.ask(memory, Some(to))?];
        ensure!(first == second, "R8: {first:?}, and then {second:?}");
        for (side, outcome) in first.into_iter().enumerate() {
            let Outcome::Answered { backend, shown } = outcome else {
                ensure!(kind(outcome) == expected, "sendto: {outcome:?}, but {candidates:?}");
                continue;
            };
            ensure!(shown == to, "R9: {outcome:?}");
            // It may stay on what it has while that is usable, whatever is chosen from now.
            let had = self.reached[side].insert((name, to), backend) == Some(backend);
            let chosen = candidates.as_ref().is_ok_and(|candidates| candidates.contains(&backend));
            let kept = had && self.memory.is_usable(&key(protocol, to), backend);
            ensure!(chosen || kept, "R8: {outcome:?}, had: {had}, candidates: {candidates:?}");
            if !had {
                self.keeps(side, target, backend).context("sendto")?;
            }
        }
        Ok(times + 2)
    }
}
