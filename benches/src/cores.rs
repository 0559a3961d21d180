//! Many cores: do the programs cost more on one CPU while all others run them too?
//!
//! Each CPU has a client, a namespace and servers of its own. So what the clients share is what the kernel shares among
//! all, which is there without programs too, and what the programs share: a word that they all write would show.

use std::{fmt, time::Duration};

use agent::EventLevel;
use anyhow::{Context, Result, bail, ensure};
use kernel::{Events, Maps};
use serde::Serialize;

use crate::{
    arena::Arena,
    measure::{Series, median_and_least, sweep},
    operation::{Case, Family, Operation, Path},
    report::{place, what},
    site::Site,
    worker::{Cpu, Worker},
};

/// By how much the ratio of all CPUs together may be above that of one alone, before it is more than noise.
const RISE: f64 = 0.03;

/// What is compared.
const COMPARED: [(Operation, &[Path]); 3] = [
    (Operation::UdpConnect, &[Path::Hot, Path::Random, Path::NoService]),
    (Operation::TcpConnect, &[Path::Hot, Path::Random, Path::NoService]),
    (Operation::UdpExchange, &[Path::Hot, Path::Random, Path::NoService]),
];

/// A client on each CPU.
type Crew = Vec<Worker>;

/// What has a round in each sweep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Turn {
    case: Case,
    /// Everywhere at once, or on one CPU alone.
    all: bool,
    /// Does the ring buffer get an event of each connect? It is one for all CPUs.
    told: bool,
}

/// What one operation costs alone, and beside others.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    operation: Operation,
    path: Path,
    /// With an event for each: one ring buffer, so that this may rise.
    told: bool,
    /// Nanoseconds without programs, median: on one CPU, and on all.
    direct: [f64; 2],
    /// With programs / without: on one CPU, and on all.
    ratio: [f64; 2],
    /// The second of these / the first: median of all sweeps, and the least that it is in all likelihood.
    rise: f64,
    rise_at_least: f64,
}

/// All rows.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Cores {
    cpus: usize,
    sweeps: usize,
    rows: Vec<Row>,
}

/// Measures on `cpus` for about `duration`.
pub(crate) fn measure(arena: &Arena, cpus: &[Cpu], services: u32, duration: Duration) -> Result<Cores> {
    let [with, without] = arena.with_and_without();
    let (mut sites, mut inside, mut outside): (Vec<Site>, Crew, Crew) = Default::default();
    for &cpu in cpus {
        let site = Site::build("core")?;
        inside.push(site.worker(with, cpu, services)?);
        outside.push(site.worker(without, cpu, services)?);
        sites.push(site);
    }
    let maps = Maps::open(&arena.pins)?;
    let mut events = Events::open(&arena.pins)?;
    let lost = maps.events_lost()?;
    let measured = sweep(turns(), duration, |turn, count| {
        let crew = if turn.case.path.has_programs() { &inside } else { &outside };
        if turn.told {
            agent::set_level(&maps, EventLevel::All)?;
        }
        let took = run(crew, turn, count)?;
        if turn.told {
            agent::set_level(&maps, EventLevel::Failures)?;
            while events.next_event().is_some() {}
        }
        Ok(took)
    })?;
    ensure!(
        maps.events_lost()? == lost,
        "the ring buffer was full: an event that is lost costs less than one that is told"
    );
    Ok(Cores {
        cpus: cpus.len(),
        sweeps: measured.first().map_or(0, |series| series.rounds.len()),
        rows: rows(&measured)?,
    })
}

fn turns() -> Vec<Turn> {
    let mut turns = Vec::new();
    for all in [false, true] {
        for (operation, paths) in COMPARED {
            let case = |path| Case { operation, family: Family::V4, path };
            let with = paths.iter().map(|&path| Turn { case: case(path), all, told: false });
            turns.push(Turn { case: case(Path::Direct), all, told: false });
            turns.extend(with);
        }
        let case = Case { operation: Operation::UdpConnect, family: Family::V4, path: Path::Hot };
        turns.push(Turn { case, all, told: true });
    }
    turns
}

/// How long `count` of it take where the machine does least else: what CPUs share slows down all of them.
fn run(crew: &Crew, turn: &Turn, count: u32) -> Result<Duration> {
    let crew = if turn.all { crew } else { crew.last().map_or(&crew[..0], std::slice::from_ref) };
    for worker in crew {
        worker.begin(turn.case, count);
    }
    // All of them, also when one has failed: what the others say must not be taken for the next round's.
    let took: Vec<Result<Duration>> = crew.iter().map(Worker::wait).collect();
    let took: Vec<Duration> = took.into_iter().collect::<Result<_>>()?;
    took.into_iter().min().context("no CPU")
}

fn rows(measured: &[Series<Turn>]) -> Result<Vec<Row>> {
    let of = |turn: Turn| measured.iter().find(|series| series.case == turn);
    let mut rows = Vec::new();
    for one in measured.iter().filter(|series| series.case.case.path.has_programs() && !series.case.all) {
        let Turn { case, told, .. } = one.case;
        let base = Case { path: Path::Direct, ..case };
        let (Some(all), Some(direct_one), Some(direct_all)) = (
            of(Turn { case, all: true, told }),
            of(Turn { case: base, all: false, told: false }),
            of(Turn { case: base, all: true, told: false }),
        ) else {
            bail!("{case:?} is missing");
        };
        let ratios = all.ratios(direct_all).zip(one.ratios(direct_one));
        let (rise, rise_at_least) = median_and_least(ratios.map(|(all, one)| all / one).collect());
        rows.push(Row {
            operation: case.operation,
            path: case.path,
            told,
            direct: [direct_one.median(), direct_all.median()],
            ratio: [one.median_ratio(direct_one), all.median_ratio(direct_all)],
            rise,
            rise_at_least,
        });
    }
    Ok(rows)
}

impl Row {
    /// More than noise? An event is: the ring buffer has one lock.
    fn rises(&self) -> bool {
        self.rise_at_least > 1.0 + RISE
    }

    fn what(&self) -> String {
        format!("{}{}", what(self.operation), if self.told { ", its event" } else { "" })
    }
}

impl Cores {
    /// Fails if the programs cost more where all CPUs run them.
    pub(crate) fn check(&self) -> Result<()> {
        let risen: Vec<String> =
            self.rows.iter().filter(|row| row.rises() && !row.told).map(Row::what).collect();
        if risen.is_empty() {
            return Ok(());
        }
        bail!(
            "the programs cost more where {} CPUs run them than on one alone: {}. Do they write what all share? (docs/performance.md)",
            self.cpus,
            risen.join("; ")
        )
    }
}

impl fmt::Display for Cores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cpus, sweeps, rows } = self;
        writeln!(f, "On one CPU alone, and on all {cpus} at once, {sweeps} rounds of 1 ms each:")?;
        writeln!(
            f,
            "{:<30}{:<12}{:>9}{:>9}{:>9}{:>9}{:>9}{:>10}",
            "what", "to", "1: ns", "ratio", "all: ns", "ratio", "rise", "at least"
        )?;
        for row in rows {
            let ([direct_one, direct_all], [one, all]) = (row.direct, row.ratio);
            writeln!(
                f,
                "{:<30}{:<12}{direct_one:>9.0}{one:>9.3}{direct_all:>9.0}{all:>9.3}{:>9.3}{:>10.3}{}",
                row.what(),
                place(row.path),
                row.rise,
                row.rise_at_least,
                if row.rises() { "  RISES" } else { "" }
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rise_fails_beyond_noise_only_and_an_event_may() {
        let row = |rise: f64, rise_at_least: f64, told: bool| Row {
            operation: Operation::UdpConnect,
            path: Path::Hot,
            told,
            direct: [5000.0, 6000.0],
            ratio: [1.05, 1.05 * rise],
            rise,
            rise_at_least,
        };
        let cores = |row| Cores { cpus: 2, sweeps: 100, rows: vec![row] };
        assert!(cores(row(1.01, 1.0, false)).check().is_ok());
        assert!(cores(row(1.2, 0.98, false)).check().is_ok());
        assert!(cores(row(1.1, 1.07, true)).check().is_ok());
        let error = cores(row(1.1, 1.07, false)).check().unwrap_err().to_string();
        assert!(error.contains("2 CPUs") && error.contains("UDP connect+close"), "{error}");
    }
}
