//! The figures: a table for people, JSON for machines.

use std::fmt;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::{
    cores::Cores,
    figures::{self, Figures},
    machine::Machine,
    measure::Series,
    memory::MapMemory,
    net_cost::NetCosts,
    operation::{Case, Family, Operation, Path},
    programs::ProgramTime,
    tables::ENDPOINTS,
};

/// Everything that one run has found.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    date: String,
    kernel: String,
    cpu: String,
    services: u32,
    endpoints_per_service: u32,
    rounds: usize,
    figures: Vec<Figure>,
    programs: Vec<ProgramTime>,
    net_costs: NetCosts,
    map_memory: MapMemory,
    /// Null in a quick run.
    cores: Option<Cores>,
}

/// One ratio.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Figure {
    figure: &'static str,
    what: &'static str,
    family: Family,
    path: Path,
    /// Nanoseconds of one operation without programs: fastest round.
    direct_min: f64,
    /// Nanoseconds of one operation: fastest round.
    min: f64,
    /// The same: median.
    median: f64,
    ratio_min: f64,
    ratio_median: f64,
    /// At most this; null where there is no aim of its own.
    target: Option<f64>,
    /// What the best peer reaches.
    peer: Option<f64>,
}

impl Report {
    /// Puts it together.
    pub(crate) fn new(
        services: u32,
        measured: &[Series],
        programs: Vec<ProgramTime>,
        net_costs: NetCosts,
        map_memory: MapMemory,
        cores: Option<Cores>,
    ) -> Result<Self> {
        let find = |case: Case| {
            measured.iter().find(|series| series.case == case).with_context(|| format!("{case:?} is missing"))
        };
        let mut figures = Vec::new();
        for operation in Operation::COMPARED {
            for &path in operation.paths().iter().filter(|path| **path != Path::Direct) {
                for family in Family::ALL {
                    let series = find(Case { operation, family, path })?;
                    let direct = find(Case { operation, family, path: Path::Direct })?;
                    let (target, peer) = aims(operation, path, services).unzip();
                    figures.push(Figure {
                        figure: figure(operation, path),
                        what: what(operation),
                        family,
                        path,
                        direct_min: direct.min(),
                        min: series.min(),
                        median: series.median(),
                        ratio_min: series.min() / direct.min(),
                        ratio_median: series.median_ratio(direct),
                        target,
                        peer,
                    });
                }
            }
        }
        let Machine { date, kernel, cpu } = Machine::here()?;
        Ok(Self {
            date,
            kernel,
            cpu,
            services,
            endpoints_per_service: ENDPOINTS,
            rounds: measured.first().map_or(0, |series| series.rounds.len()),
            figures,
            programs,
            net_costs,
            map_memory,
            cores,
        })
    }
}

impl Report {
    /// What is compared with the figures that are checked in. A ratio is the mean of all kinds of sockets, which
    /// has less noise.
    pub(crate) fn figures(&self) -> Figures {
        let mut figures = Vec::new();
        let mut rest = self.figures.as_slice();
        while let Some(first) = rest.first() {
            let same = |other: &&Figure| other.what == first.what && other.path == first.path;
            let (sockets, others) = rest.split_at(rest.iter().take_while(same).count());
            rest = others;
            // It is the kernel's, not ours.
            if first.path == Path::Idle {
                continue;
            }
            let name = format!("{} {}, {}", first.figure, alone(first.what), place(first.path));
            let mean = |of: fn(&Figure) -> f64| sockets.iter().map(of).sum::<f64>() / sockets.len() as f64;
            let (median, fastest) = (mean(|it| it.ratio_median), mean(|it| it.ratio_min));
            figures.push(figures::Figure::ratio(name, median, fastest));
        }
        figures.extend(self.net_costs.figures());
        figures.push(self.map_memory.figure());
        Figures {
            date: self.date.clone(),
            kernel: self.kernel.clone(),
            cpu: self.cpu.clone(),
            services: self.services,
            figures,
        }
    }
}

/// The name that a figure has in docs/performance.md.
fn figure(operation: Operation, path: Path) -> &'static str {
    match (operation, path) {
        (_, Path::Idle) => "-",
        (Operation::UdpConnect, Path::Random) => "E2",
        (Operation::UdpConnect, Path::NoService) => "E3",
        (Operation::UdpConnect, _) => "E1",
        (Operation::TcpConnect, _) => "E4",
        (Operation::UdpExchange, _) => "E6",
        (Operation::TcpTraffic, _) => "E7",
        (Operation::UdpExchangeFresh | Operation::PeerName, _) => "-",
    }
}

/// What an operation is called in tables.
pub(crate) fn what(operation: Operation) -> &'static str {
    match operation {
        Operation::UdpConnect => "UDP connect+close",
        Operation::TcpConnect => "TCP connect+close",
        Operation::UdpExchange => "UDP request+reply",
        Operation::UdpExchangeFresh => "the same, new socket",
        Operation::TcpTraffic => "TCP, established",
        Operation::PeerName => "getpeername",
    }
}

/// [`what`], where no table gives it a place to refer to.
pub(crate) fn alone(what: &str) -> &str {
    if what == self::what(Operation::UdpExchangeFresh) { "UDP request+reply, new socket" } else { what }
}

/// A figure, or that there is none.
pub(crate) fn or_dash(value: Option<f64>, digits: usize) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.digits$}"))
}

/// What a path is called in tables.
pub(crate) fn place(path: Path) -> &'static str {
    match path {
        Path::Direct => "direct",
        Path::Hot => "hot VIP",
        Path::Random => "random VIP",
        Path::NoService => "no service",
        Path::Idle => "idle hooks",
    }
}

/// What is to be reached, and the best peer, both measured with 10k services (random VIPs above that: 50k).
fn aims(operation: Operation, path: Path, services: u32) -> Option<(f64, f64)> {
    match (operation, path) {
        (Operation::UdpConnect, Path::Hot) => Some((1.10, 1.24)),
        (Operation::UdpConnect, Path::Random) if services > 10_000 => Some((1.22, 1.50)),
        (Operation::UdpConnect, Path::Random) => Some((1.17, 1.42)),
        (Operation::UdpConnect, Path::NoService) => Some((1.045, 1.087)),
        (Operation::TcpConnect, Path::Hot) => Some((1.025, 1.051)),
        (Operation::TcpConnect, Path::Random) => Some((1.045, 1.092)),
        (Operation::TcpConnect, Path::NoService) => Some((1.012, 1.014)),
        (Operation::UdpExchange, Path::Hot) => Some((1.027, 1.032)),
        (Operation::UdpExchange, Path::Random) => Some((1.12, 1.17)),
        (Operation::UdpExchange, Path::NoService) => Some((1.015, 1.016)),
        // 1.00 ± 0.01
        (Operation::TcpTraffic, _) => Some((1.01, 1.0)),
        _ => None,
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { date, kernel, cpu, services, endpoints_per_service, rounds, .. } = self;
        writeln!(f, "{date}, kernel {kernel}, {cpu}")?;
        writeln!(f, "{services} services x {endpoints_per_service} endpoints, {rounds} rounds of 1 ms each")?;
        writeln!(
            f,
            "\n{:<3} {:<21}{:<11}{:<7}{:>10}{:>9}{:>8}{:>9}{:>8}{:>7}",
            "", "what", "to", "socket", "direct ns", "+ ns", "ratio", "median", "target", "peer"
        )?;
        for figure in &self.figures {
            let Figure { direct_min, min, ratio_min, ratio_median, .. } = figure;
            let family = match figure.family {
                Family::V4 => "IPv4",
                Family::V6 => "IPv6",
                Family::Mapped => "mapped",
            };
            writeln!(
                f,
                "{:<3} {:<21}{:<11}{family:<7}{direct_min:>10.0}{:>9.0}{ratio_min:>8.3}{ratio_median:>9.3}{:>8}{:>7}",
                figure.figure,
                figure.what,
                place(figure.path),
                min - direct_min,
                or_dash(figure.target, 3),
                or_dash(figure.peer, 3),
            )?;
        }
        writeln!(f, "\n{}\n{}", self.net_costs, self.map_memory)?;
        if let Some(cores) = &self.cores {
            writeln!(f, "{cores}")?;
        }
        writeln!(f, "ns for one run, as the kernel counts them (that counting included):")?;
        writeln!(f, "{:<14}{:<23}{:>9}{:>12}{:>12}", "program", "in", "hot VIP", "random VIP", "no service")?;
        let mut told: Vec<(&str, Operation)> = Vec::new();
        for ProgramTime { hook, operation, .. } in &self.programs {
            if told.contains(&(hook, *operation)) {
                continue;
            }
            told.push((hook, *operation));
            let of = |path: Path| {
                let same =
                    |time: &&ProgramTime| (time.hook, time.operation, time.path) == (*hook, *operation, path);
                let time = self.programs.iter().find(same);
                time.map_or("-".to_owned(), |time| format!("{:.0}", time.nanoseconds))
            };
            let (hot, random, none) = (of(Path::Hot), of(Path::Random), of(Path::NoService));
            writeln!(f, "{hook:<14}{:<23}{hot:>9}{random:>12}{none:>12}", what(*operation))?;
        }
        Ok(())
    }
}
