//! Beside others: the same client, without anything, with our programs, with connection tracking alone, and with rules of
//! kube-proxy's shape.

mod ground;
mod rules;

use std::{
    fmt,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use model::Protocol;
use serde::Serialize;

use self::ground::Ground;
use crate::{
    arena::Arena,
    measure::{Series, sweep},
    operation::{Case, Family, Operation, Path},
    report::{alone, or_dash, place, what},
    worker::Cpu,
};

/// What there is to compare, and where to. A UDP `connect()` sends nothing, so that rules for packets cost nothing then.
const COMPARED: [(Operation, &[Path]); 4] = [
    (Operation::TcpConnect, &[Path::Hot, Path::Random, Path::NoService]),
    (Operation::UdpExchangeFresh, &[Path::Hot, Path::Random, Path::NoService]),
    (Operation::UdpExchange, &[Path::Hot, Path::NoService]),
    (Operation::TcpTraffic, &[Path::Hot, Path::NoService]),
];

/// What packets go by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Rules {
    /// Nothing but connection tracking.
    Conntrack,
    /// A verdict map, and a chain for each service and each endpoint.
    Nftables,
    /// One chain through all services, in nf_tables: what `iptables` is on most machines.
    IptablesNft,
    /// The same, in the kernel's older tables.
    IptablesLegacy,
}

impl Rules {
    const ALL: [Self; 4] = [Self::Conntrack, Self::Nftables, Self::IptablesNft, Self::IptablesLegacy];

    /// In messages and tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Conntrack => "conntrack",
            Self::Nftables => "nftables",
            Self::IptablesNft => "ipt-nft",
            Self::IptablesLegacy => "ipt-legacy",
        }
    }

    fn reaches(self, path: Path) -> bool {
        self != Self::Conntrack || matches!(path, Path::NoService)
    }
}

/// Rules for each protocol, so that no packet goes by those of the other.
struct Peer {
    rules: Rules,
    tcp: Ground,
    udp: Ground,
}

impl Peer {
    fn run(&self, case: Case, count: u32) -> Result<Duration> {
        let tcp = matches!(case.operation, Operation::TcpConnect | Operation::TcpTraffic);
        if tcp { self.tcp.run(case, count) } else { self.udp.run(case, count) }
    }
}

/// What has a round in each sweep: with our programs or without anything, or with a peer's rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Turn {
    rules: Option<Rules>,
    case: Case,
}

/// One operation to one kind of destination.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    operation: Operation,
    path: Path,
    /// Nanoseconds without anything: lower quartile, as all that follows.
    direct: f64,
    /// With our programs / without anything.
    ours: f64,
    /// The same of peers, in the order of [`Rules::ALL`]; null where there is none.
    peers: [Option<f64>; Rules::ALL.len()],
}

/// All of one number of services.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Peers {
    services: u32,
    sweeps: usize,
    rows: Vec<Row>,
    /// Peers that are not there, and why.
    left_out: Vec<String>,
}

/// Measures at each number of services, and prints it.
pub(crate) fn run(quick: bool) -> Result<Vec<Peers>> {
    let (sizes, seconds): (&[u32], u64) = if quick { (&[1, 1000], 10) } else { (&[1, 1000, 10_000], 30) };
    let cpu = Cpu::last()?;
    let measured = sizes.iter().map(|&services| {
        let peers = measure(cpu, services, Duration::from_secs(seconds))?;
        println!("\n{peers}");
        Ok(peers)
    });
    measured.collect()
}

/// Measures for about `duration`, beside what else it takes to put rules in force.
fn measure(cpu: Cpu, services: u32, duration: Duration) -> Result<Peers> {
    let arena = Arena::build(services)?;
    arena.verify()?;
    let (mut peers, mut left_out) = (Vec::new(), Vec::new());
    for rules in Rules::ALL {
        let begun = Instant::now();
        match build(&arena, rules, cpu, services) {
            Ok(peer) => {
                println!(
                    "{services} services, {}: in force after {:.1} s",
                    rules.name(),
                    begun.elapsed().as_secs_f32()
                );
                peers.push(peer);
            }
            Err(error) => left_out.push(format!("{}: {error:#}", rules.name())),
        }
    }
    let mut turns = Vec::new();
    for (operation, paths) in COMPARED {
        let case = |path| Case { operation, family: Family::V4, path };
        turns.push(Turn { rules: None, case: case(Path::Direct) });
        for &path in paths {
            turns.push(Turn { rules: None, case: case(path) });
            let reached = peers.iter().filter(|peer| peer.rules.reaches(path));
            turns.extend(reached.map(|peer| Turn { rules: Some(peer.rules), case: case(path) }));
        }
    }
    println!("{services} services: measuring for {} s ...", duration.as_secs());
    let measured = sweep(turns, duration, |turn, count| match turn.rules {
        None => arena.run(turn.case, count),
        Some(rules) => {
            let peer = peers.iter().find(|peer| peer.rules == rules).context("no such peer")?;
            peer.run(turn.case, count).with_context(|| rules.name())
        }
    })?;
    let sweeps = measured.first().map_or(0, |series| series.rounds.len());
    Ok(Peers { services, sweeps, rows: rows(&measured)?, left_out })
}

/// Puts rules for both protocols in force, and sees that VIPs are reached by them.
fn build(arena: &Arena, rules: Rules, cpu: Cpu, services: u32) -> Result<Peer> {
    let [_, without] = arena.with_and_without();
    let ground = |protocol| Ground::build(rules, protocol, services, without, cpu);
    let peer = Peer { rules, tcp: ground(Protocol::Tcp)?, udp: ground(Protocol::Udp)? };
    for (operation, paths) in COMPARED {
        for &path in paths.iter().filter(|path| rules.reaches(**path)) {
            peer.run(Case { operation, family: Family::V4, path }, 100)?;
        }
    }
    Ok(peer)
}

fn rows(measured: &[Series<Turn>]) -> Result<Vec<Row>> {
    let of =
        |rules: Option<Rules>, case: Case| measured.iter().find(|series| series.case == Turn { rules, case });
    let mut rows = Vec::new();
    for (operation, paths) in COMPARED {
        for &path in paths {
            let case = Case { operation, family: Family::V4, path };
            let direct =
                of(None, Case { path: Path::Direct, ..case }).context("no rounds without anything")?;
            let ours = of(None, case).context("no rounds of ours")?;
            let direct = direct.quartile();
            rows.push(Row {
                operation,
                path,
                direct,
                ours: ours.quartile() / direct,
                peers: Rules::ALL.map(|rules| Some(of(Some(rules), case)?.quartile() / direct)),
            });
        }
    }
    Ok(rows)
}

impl fmt::Display for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { services, sweeps, rows, left_out } = self;
        writeln!(f, "{services} services, IPv4, {sweeps} rounds of 1 ms each; lower quartiles, to direct:")?;
        write!(f, "{:<30}{:<12}{:>10}{:>8}", "what", "to", "direct ns", "ours")?;
        for rules in Rules::ALL {
            write!(f, "{:>12}", rules.name())?;
        }
        writeln!(f)?;
        for Row { operation, path, direct, ours, peers } in rows {
            write!(f, "{:<30}{:<12}{direct:>10.0}{ours:>8.2}", alone(what(*operation)), place(*path))?;
            for peer in peers {
                write!(f, "{:>12}", or_dash(*peer, 2))?;
            }
            writeln!(f)?;
        }
        for missing in left_out {
            writeln!(f, "not measured: {missing}")?;
        }
        Ok(())
    }
}
