//! What the programs cost in themselves, E5 and E9: the kernel's own count of a run's time, less what a program that
//! does nothing takes at the same hook, in units of a hash look-up. All three are measured in turns, within seconds,
//! so that the figures of different machines can be compared.

use std::{collections::BTreeMap, fmt};

use agent::EventLevel;
use anyhow::{Context, Result, bail};
use aya::sys::Stats;
use kernel::{
    Events, HOOKS, Maps,
    yardstick::{Work, Yardstick},
};
use serde::Serialize;

use crate::{
    arena::Arena,
    figures::{Figure, Unit},
    operation::{Case, Family, Operation, Path},
    programs::counts,
    report::{alone, or_dash, what},
};

/// Runs in each round, and rounds; the best round counts. So few that the ring buffer has room for an event of each.
const RUNS: u32 = 250;
const ROUNDS: usize = 60;
/// Look-ups in one run of the program that measures them.
const LOOKUPS: u32 = 32;

/// Programs, less the family, and what runs them.
const LOADS: [(&str, Operation); 6] = [
    ("connect", Operation::UdpConnect),
    ("connect", Operation::TcpConnect),
    ("sendmsg", Operation::UdpExchange),
    ("sendmsg", Operation::UdpExchangeFresh),
    ("recvmsg", Operation::UdpExchange),
    ("getpeername", Operation::PeerName),
];

/// All costs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NetCosts {
    /// Nanoseconds of a look-up of one key, again and again, in a hash of keys of 8 bytes.
    lookup: f64,
    costs: Vec<NetCost>,
}

/// What one program costs for a hot VIP.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct NetCost {
    figure: &'static str,
    hook: &'static str,
    operation: Operation,
    /// Nanoseconds.
    net: f64,
    /// The same in look-ups.
    lookups: f64,
    /// At most this many look-ups.
    target: Option<f64>,
    /// What the best peer reaches.
    peer: Option<f64>,
}

/// What the clients do, and whether each decision is told.
type Load = (Operation, Family, bool);

/// Mean of the fastest round, by load and program.
#[derive(Default)]
struct Fastest(BTreeMap<(Load, u32), f64>);

impl Fastest {
    /// Does `work` and notes what each program took that ran in each of its runs.
    fn observe(&mut self, load: Load, work: impl FnOnce() -> Result<()>) -> Result<()> {
        let before = counts();
        work()?;
        for (program, (time, runs)) in counts() {
            let (old_time, old_runs) = before.get(&program).copied().unwrap_or_default();
            if runs >= old_runs + u64::from(RUNS) {
                let mean = (time - old_time) as f64 / (runs - old_runs) as f64;
                let fastest = self.0.entry((load, program)).or_insert(mean);
                *fastest = fastest.min(mean);
            }
        }
        Ok(())
    }

    fn of(&self, load: Load, program: u32) -> Result<f64> {
        self.0
            .get(&(load, program))
            .copied()
            .with_context(|| format!("program {program} did not run: {load:?}"))
    }
}

/// What is attached where nothing of ours is.
struct Yardsticks {
    /// Doing nothing, by hook.
    empty: BTreeMap<&'static str, Yardstick>,
    prepare: Yardstick,
    look_up: Yardstick,
}

impl Yardsticks {
    fn attach(cgroup: &std::path::Path) -> Result<Self> {
        let mut empty = BTreeMap::new();
        for hook in HOOKS.into_iter().filter(|hook| hook.name != "sock_release") {
            empty.insert(hook.name, Yardstick::attach(cgroup, hook, Work::Nothing)?);
        }
        let connect = HOOKS.into_iter().find(|hook| hook.name == "connect4").context("no hook connect4")?;
        Ok(Self {
            empty,
            prepare: Yardstick::attach(cgroup, connect, Work::Prepare(LOOKUPS))?,
            look_up: Yardstick::attach(cgroup, connect, Work::LookUp(LOOKUPS))?,
        })
    }
}

/// Measures everything, for a hot VIP.
pub(crate) fn measure(arena: &Arena) -> Result<NetCosts> {
    // Ends when it is dropped.
    let _counting = aya::sys::enable_stats(Stats::RunTime).context("BPF_ENABLE_STATS")?;
    let yardsticks = Yardsticks::attach(arena.apart())?;
    let fastest = run(arena)?;
    let quiet = |operation, family| (operation, family, false);
    let connect = quiet(Operation::UdpConnect, Family::V4);
    let [with, without] =
        [&yardsticks.look_up, &yardsticks.prepare].map(|it| fastest.of(connect, it.program_id()));
    let lookup = (with? - without?) / f64::from(LOOKUPS);

    let attached = kernel::attached(&arena.pins)?;
    let mut costs = Vec::new();
    let families = [(Family::V4, "4"), (Family::V6, "6")];
    for (figure, family, digit) in
        ["E5", "E9"].into_iter().flat_map(|figure| families.map(|(family, digit)| (figure, family, digit)))
    {
        for (verb, operation) in LOADS {
            if figure == "E9" && verb != "connect" {
                continue;
            }
            let name = format!("{verb}{digit}");
            let hook = attached.iter().find(|it| it.hook == name).context("no such hook")?;
            let program = hook.program_id.with_context(|| format!("{name} is not attached"))?;
            let ours = fastest.of(quiet(operation, family), program)?;
            let net = if figure == "E9" {
                fastest.of((operation, family, true), program)? - ours
            } else {
                let empty = yardsticks.empty.get(hook.hook).context("no such yardstick")?;
                ours - fastest.of(quiet(operation, family), empty.program_id())?
            };
            let (target, peer) = aims(figure, hook.hook).unzip();
            costs.push(NetCost {
                figure,
                hook: hook.hook,
                operation,
                net,
                lookups: net / lookup,
                target,
                peer,
            });
        }
    }
    Ok(NetCosts { lookup, costs })
}

/// Runs all loads in turn, where our programs are and where the yardsticks are.
fn run(arena: &Arena) -> Result<Fastest> {
    let maps = Maps::open(&arena.pins)?;
    let mut events = Events::open(&arena.pins)?;
    // What was measured before may have left some: nobody read them.
    drain(&mut events);
    let lost = maps.events_lost()?;
    let mut fastest = Fastest::default();
    for _ in 0..ROUNDS {
        for family in [Family::V4, Family::V6] {
            let mut done = Vec::new();
            for (verb, operation) in LOADS {
                if done.contains(&operation) {
                    continue;
                }
                done.push(operation);
                let case = Case { operation, family, path: Path::Hot };
                fastest.observe((operation, family, false), || arena.run(case, RUNS).map(drop))?;
                fastest.observe((operation, family, false), || {
                    arena.run_apart(operation, family, RUNS).map(drop)
                })?;
                if verb == "connect" {
                    agent::set_level(&maps, EventLevel::All)?;
                    fastest.observe((operation, family, true), || arena.run(case, RUNS).map(drop))?;
                    agent::set_level(&maps, EventLevel::Failures)?;
                    drain(&mut events);
                }
            }
        }
    }
    if maps.events_lost()? != lost {
        bail!("the ring buffer was full: an event that is lost costs less than one that is told");
    }
    Ok(fastest)
}

fn drain(events: &mut Events) {
    while events.next_event().is_some() {}
}

impl NetCosts {
    /// All, in look-ups.
    pub(crate) fn figures(&self) -> impl Iterator<Item = Figure> {
        self.costs.iter().map(|cost| {
            let name = format!("{} {}, {}", cost.figure, cost.hook, alone(what(cost.operation)));
            Figure::new(name, Unit::LookUps, cost.lookups)
        })
    }
}

/// What is to be reached, and the best peer, in look-ups.
fn aims(figure: &str, hook: &str) -> Option<(f64, f64)> {
    match (figure, hook) {
        ("E5", "connect4") => Some((9.6, 24.6)),
        ("E5", "sendmsg4") => Some((7.4, 9.7)),
        ("E5", "recvmsg4") => Some((2.2, 5.0)),
        ("E5", "getpeername4") => Some((1.7, 4.3)),
        ("E9", "connect4") => Some((2.2, 9.3)),
        _ => None,
    }
}

impl fmt::Display for NetCosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Hot VIP, net of an empty program, in hot hash look-ups of {:.1} ns:", self.lookup)?;
        writeln!(
            f,
            "{:<3} {:<14}{:<29}{:>9}{:>10}{:>8}{:>7}",
            "", "program", "in", "net ns", "look-ups", "target", "peer"
        )?;
        for NetCost { figure, hook, operation, net, lookups, target, peer } in &self.costs {
            let what = what(*operation);
            let what = if *figure == "E9" { format!("{what}, its event") } else { what.to_owned() };
            let [target, peer] = [target, peer].map(|value| or_dash(*value, 1));
            writeln!(f, "{figure:<3} {hook:<14}{what:<29}{net:>9.0}{lookups:>10.1}{target:>8}{peer:>7}")?;
        }
        Ok(())
    }
}
