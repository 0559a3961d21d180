//! Random scenarios, in the kernel and in memory side by side: the same verdicts, the same candidates.
//!
//! `BALANCING_SCENARIO_SEED` repeats one run, `BALANCING_SCENARIOS` says how many.

#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, net::SocketAddr, time::Instant};

use abi::{Reason, Verdict};
use anyhow::{Context, Result, ensure};
use balancing_tests::{
    random::Random,
    scenario::{deletion, upserts},
    world::{Candidates, KernelWorld, MemoryWorld, Outcome, SocketId, World, key},
};
use model::{Protocol, View};
use testkit::{
    Family,
    object::{endpoint, node, service, slice},
};

const SERVICES: u64 = 3;
const CHANGES: u64 = 3;

fn view() -> View {
    View { node: "n1".into(), proxy_name: None, resolve_selectors: true }
}

fn vip(service: u64, ipv6: bool) -> String {
    if ipv6 { format!("fd00:96::{service}") } else { format!("10.96.0.{service}") }
}

/// A manifest, or the name of an object to delete.
fn change(random: &mut Random) -> Result<String, String> {
    let n = random.below(SERVICES);
    match random.below(10) {
        0 => Err(format!("Service default/s{n}")),
        1 => Err(format!("EndpointSlice default/s{n}-{}", random.below(4))),
        2 => Ok(random_node(random)),
        3 | 4 => Ok(random_service(random, n)),
        _ => {
            let which = random.below(4);
            Ok(random_slice(random, n, which))
        }
    }
}

fn random_node(random: &mut Random) -> String {
    let node = node("n1");
    match random.below(3) {
        0 => node.to_string(),
        zone => node.zone(["a", "b"][zone as usize - 1]).to_string(),
    }
}

fn random_service(random: &mut Random, n: u64) -> String {
    let mut service = service(&format!("s{n}"));
    let families = random.below(3);
    if families != 1 {
        service = service.cluster_ip(vip(n, false));
    }
    if families != 0 {
        service = service.cluster_ip(vip(n, true));
    }
    if families == 2 {
        service = service.field("ipFamilyPolicy", "PreferDualStack").field("ipFamilies", "[IPv4, IPv6]");
    } else {
        service = service.field("ipFamilies", if families == 0 { "[IPv4]" } else { "[IPv6]" });
    }
    if random.one_in(3) {
        service = service.field("internalTrafficPolicy", "Local");
    }
    let node_ports = random.one_in(4);
    if node_ports {
        service = service.field("type", "NodePort").field("externalTrafficPolicy", "Local");
    }
    if random.one_in(8) {
        service = service.label("service.kubernetes.io/service-proxy-name", "other");
    }
    let wanted = if random.one_in(5) { 1 } else { 2 };
    for (words, number) in [("t:80", 30_000 + 2 * n), ("u:53/UDP", 30_001 + 2 * n)].into_iter().take(wanted) {
        let number = number.to_string();
        let fields = [("nodePort", number.as_str())];
        service = service.port_with(words, if node_ports { &fields } else { &[] });
    }
    service.to_string()
}

fn random_slice(random: &mut Random, n: u64, which: u64) -> String {
    let ipv6 = which % 2 == 1;
    let mut slice = slice(&format!("s{n}-{which}"), &format!("s{n}"));
    if ipv6 {
        slice = slice.ipv6();
    }
    slice = slice.port("t:8080");
    if !random.one_in(4) {
        slice = slice.port("u:5353/UDP");
    }
    for _ in 0..random.below(5) {
        let host = 1 + random.below(6);
        let mut it = endpoint(if ipv6 { format!("fd00:1::{host}") } else { format!("10.1.0.{host}") });
        if random.one_in(3) {
            it = match random.below(3) {
                0 => it.ready(false),
                1 => it.ready(false).serving(true).terminating(true),
                _ => it.ready(false).serving(false).terminating(true),
            };
        }
        if random.one_in(2) {
            it = it.node(["n1", "n2"][random.below(2) as usize]);
        }
        if !random.one_in(3) {
            it = it.for_zone(["a", "b"][random.below(2) as usize]);
        }
        if random.one_in(4) {
            it = it.for_node(["n1", "n2"][random.below(2) as usize]);
        }
        slice = slice.endpoint(it);
    }
    slice.to_string()
}

/// The two worlds, and a socket of each kind that lives as long as the scenario.
struct Both<'a> {
    kernel: &'a mut KernelWorld,
    memory: &'a mut MemoryWorld,
    lasting: BTreeMap<&'static str, [SocketId; 2]>,
    /// What those of the kernel and of memory reached last by each address.
    reached: [BTreeMap<(&'static str, SocketAddr), SocketAddr>; 2],
}

impl Both<'_> {
    fn apply(&mut self, change: &Result<String, String>) -> Result<()> {
        let changes = match change {
            Ok(manifest) => upserts(manifest)?,
            Err(name) => vec![deletion(name)?],
        };
        self.kernel.change(changes.clone())?;
        self.memory.change(changes)
    }

    fn compare(&mut self) -> Result<u64> {
        let mut exchanges = 0;
        for n in 0..SERVICES {
            for (protocol, port) in [(Protocol::Tcp, 80), (Protocol::Udp, 53)] {
                for families in [&[Family::V4, Family::Mapped][..], &[Family::V6]] {
                    let to = SocketAddr::new(vip(n, families == [Family::V6]).parse()?, port);
                    let key = key(protocol, to);
                    let (kernel, memory) = (self.kernel.candidates(&key)?, self.memory.candidates(&key)?);
                    ensure!(
                        kernel == memory,
                        "{to}: candidates {kernel:?} in the kernel, {memory:?} in memory"
                    );
                    for family in families {
                        let about = || format!("{to} {protocol} {family:?}");
                        exchanges += self.one(protocol, *family, to, &memory).with_context(about)?;
                    }
                }
            }
        }
        Ok(exchanges)
    }

    fn one(
        &mut self,
        protocol: Protocol,
        family: Family,
        to: SocketAddr,
        candidates: &Candidates,
    ) -> Result<u64> {
        let (kernel, memory) = (self.kernel.open(protocol, family)?, self.memory.open(protocol, family)?);
        let connected = (self.kernel.connect(kernel, to)?, self.memory.connect(memory, to)?);
        self.kernel.close(kernel);
        self.memory.close(memory);
        agree(connected, to, candidates).context("connect")?;
        if protocol == Protocol::Tcp {
            return Ok(1);
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
        let first = (self.kernel.ask(kernel, Some(to))?, self.memory.ask(memory, Some(to))?);
        let second = (self.kernel.ask(kernel, Some(to))?, self.memory.ask(memory, Some(to))?);
        ensure!(first == second, "R8: {first:?}, and then {second:?}");
        for (outcome, reached) in [first.0, first.1].into_iter().zip(&mut self.reached) {
            let Outcome::Answered { backend, shown } = outcome else {
                ensure!(kind(outcome) == verdict(candidates), "sendto: {outcome:?}, but {candidates:?}");
                continue;
            };
            ensure!(shown == to, "R9: {outcome:?}");
            // It may stay on what it has while that is usable, whatever is chosen from now.
            let had = reached.insert((name, to), backend) == Some(backend);
            let chosen = candidates.as_ref().is_ok_and(|candidates| candidates.contains(&backend));
            let kept = had && self.memory.is_usable(&key(protocol, to), backend);
            ensure!(chosen || kept, "R8: {outcome:?}, had: {had}, candidates: {candidates:?}");
        }
        Ok(3)
    }
}

fn kind(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Answered { .. } => "answered",
        Outcome::Refused => "refused",
        Outcome::Unreachable => "unreachable",
        Outcome::Denied => "denied",
        Outcome::NoMemory => "no memory",
        Outcome::Nobody => "nobody",
    }
}

/// What a new connection meets.
fn verdict(candidates: &Candidates) -> &'static str {
    match candidates {
        Ok(_) => "answered",
        Err(Reason::BrokenTable | Reason::NoMemory) => "broken",
        Err(reason) => match reason.verdict() {
            Verdict::Refused => "refused",
            Verdict::Unreachable => "unreachable",
            Verdict::Denied => "denied",
            Verdict::Passed | Verdict::Translated => "nobody",
        },
    }
}

fn agree((kernel, memory): (Outcome, Outcome), to: SocketAddr, candidates: &Candidates) -> Result<()> {
    ensure!(kind(kernel) == kind(memory), "{kernel:?} in the kernel, {memory:?} in memory");
    ensure!(kind(kernel) == verdict(candidates), "{kernel:?}, but {candidates:?}");
    for outcome in [kernel, memory] {
        if let Outcome::Answered { backend, shown } = outcome {
            ensure!(shown == to, "R9: {backend} is shown as {shown}");
            let right = candidates.as_ref().is_ok_and(|candidates| candidates.contains(&backend));
            ensure!(right, "reached {backend}, not of {candidates:?}");
        }
    }
    Ok(())
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap())
}

#[test]
fn random_scenarios() {
    let first = number("BALANCING_SCENARIO_SEED").unwrap_or_else(Random::seed);
    let count = number("BALANCING_SCENARIOS").unwrap_or(200);
    println!("BALANCING_SCENARIO_SEED={first} ({count} scenarios)");
    let mut kernel = KernelWorld::new("random", view()).unwrap();
    let begun = Instant::now();
    let mut exchanges = 0;
    for seed in (first..).take(count as usize) {
        let mut random = Random::new(seed);
        let mut memory = MemoryWorld::new(view(), 4, seed as u32).unwrap();
        kernel.reset(view()).unwrap();
        memory.sync().unwrap();
        let start = (0..SERVICES).flat_map(|n| [(n, 0), (n, 1), (n, 2), (n, 3)]);
        let mut changes: Vec<Result<String, String>> =
            start.map(|(n, which)| Ok(random_slice(&mut random, n, which))).collect();
        changes.extend((0..SERVICES).map(|n| Ok(random_service(&mut random, n))));
        let mut both = Both {
            kernel: &mut kernel,
            memory: &mut memory,
            lasting: BTreeMap::new(),
            reached: Default::default(),
        };
        let mut played = Vec::new();
        let play = || -> Result<()> {
            for change in changes {
                played.push(change);
                both.apply(played.last().unwrap())?;
            }
            exchanges += both.compare()?;
            for _ in 0..CHANGES {
                played.push(change(&mut random));
                both.apply(played.last().unwrap())?;
                exchanges += both.compare()?;
            }
            Ok(())
        };
        if let Err(error) = play() {
            for change in &played {
                match change {
                    Ok(manifest) => println!("---\n{manifest}"),
                    Err(name) => println!("# delete {name}"),
                }
            }
            panic!("BALANCING_SCENARIO_SEED={seed}: {error:#}");
        }
    }
    println!("{count} scenarios, {exchanges} exchanges each way, {:?}", begun.elapsed());
}
