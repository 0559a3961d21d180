//! The figures: a table for people, JSON for machines.

use std::{fmt, fs, thread, time::Duration};

use anyhow::{Context, Result};
use serde::Serialize;

use super::{change::Changes, process::Memory, restart::Restarts, start::Start, start::Starts};
use crate::{machine::Machine, report::or_dash, tables::ENDPOINTS};

/// Everything that one run has found.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    date: String,
    kernel: String,
    cpu: String,
    endpoints_per_service: u32,
    /// Endpoints with all that an API server says of them.
    full: bool,
    /// Threads that wanted a CPU, on average over the minute before: ours hardly count.
    load: String,
    cpus: usize,
    figures: Vec<Figure>,
}

/// One figure.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Figure {
    figure: &'static str,
    what: String,
    services: u32,
    value: f64,
    unit: &'static str,
    /// At most this; null where there is no aim of its own.
    target: Option<f64>,
    /// What the best peer reaches.
    peer: Option<f64>,
}

/// Target and best peer, at 1,000 and at 10,000 services.
type Aims = [(f64, f64); 2];

impl Report {
    /// Nothing has been measured yet.
    pub(super) fn new(full: bool) -> Result<Self> {
        let Machine { date, kernel, cpu } = Machine::here()?;
        let load = fs::read_to_string("/proc/loadavg").context("cannot read /proc/loadavg")?;
        Ok(Self {
            date,
            kernel,
            cpu,
            endpoints_per_service: ENDPOINTS,
            full,
            load: load.split(' ').next().unwrap_or_default().to_owned(),
            cpus: thread::available_parallelism().context("cannot count CPUs")?.get(),
            figures: Vec::new(),
        })
    }

    fn add(
        &mut self,
        (figure, services): (&'static str, u32),
        what: impl Into<String>,
        (value, unit): (f64, &'static str),
        aims: Option<Aims>,
    ) {
        let aim = aims.and_then(|[few, many]| match services {
            1000 => Some(few),
            10_000 => Some(many),
            _ => None,
        });
        let target = aim.map(|(target, _)| target);
        // NaN where no peer was measured.
        let peer = aim.map(|(_, peer)| peer).filter(|peer| !peer.is_nan());
        self.figures.push(Figure { figure, what: what.into(), services, value, unit, target, peer });
    }

    /// C1.
    pub(super) fn starts(&mut self, services: u32, starts: &Starts) {
        let aims = [(0.6, 0.96), (4.0, 10.4)];
        let median = |starts: &[Start], of: fn(&Start) -> Duration| {
            (median(starts.iter().map(of).collect()).as_secs_f64(), "s")
        };
        for (kind, starts) in [("nothing pinned", &starts.cold), ("over pinned tables", &starts.warm)] {
            let of = ("C1", services);
            self.add(of, format!("start to in force, {kind}"), median(starts, |it| it.took), Some(aims));
            self.add(of, "  CPU time of it", median(starts, |it| it.cpu), None);
        }
    }

    /// C2 and C3.
    pub(super) fn changes(&mut self, services: u32, changes: &Changes) {
        let ms = |time: Duration| (time.as_secs_f64() * 1e3, "ms");
        let longest = changes.took.iter().max().copied().unwrap_or_default();
        let of = ("C2", services);
        let aims = [(20.0, 172.0), (20.0, 2900.0)];
        self.add(of, "slice changed to connection using it", ms(median(changes.took.clone())), Some(aims));
        let aims = [(60.0, f64::NAN), (60.0, f64::NAN)];
        self.add(of, format!("  longest of {}", changes.took.len()), ms(longest), Some(aims));
        let of = ("C3", services);
        self.add(of, "CPU time of one change", ms(changes.cpu), Some([(5.0, 180.0), (5.0, 4700.0)]));
        let aims = [(100.0, 400.0), (100.0, 9000.0)];
        self.add(of, "CPU time of 100 at once", ms(changes.cpu_of_hundred), Some(aims));
    }

    /// C4.
    pub(super) fn memory(&mut self, services: u32, memory: &Memory) {
        let mib = |bytes: u64| (bytes as f64 / f64::from(1 << 20), "MiB");
        let of = ("C4", services);
        self.add(of, "resident memory, peak", mib(memory.peak), Some([(30.0, 107.0), (120.0, 499.0)]));
        self.add(of, "  after that", mib(memory.resident), None);
        self.add(of, "  of which its own", mib(memory.own), None);
        self.add(of, "  of which maps (E10)", mib(memory.maps), None);
    }

    /// C5.
    pub(super) fn restarts(&mut self, services: u32, restarts: &Restarts) {
        let Restarts { count, exchanges, failed } = restarts;
        let what = format!("{count} restarts: failed of {exchanges} exchanges");
        let aims = [(0.0, f64::NAN), (0.0, f64::NAN)];
        self.add(("C5", services), what, (*failed as f64, ""), Some(aims));
    }
}

fn median(mut all: Vec<Duration>) -> Duration {
    all.sort_unstable();
    all.get(all.len() / 2).copied().unwrap_or_default()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { date, kernel, cpu, endpoints_per_service, full, load, cpus, .. } = self;
        writeln!(f, "{date}, kernel {kernel}, {cpu}, {cpus} CPUs, load {load} before")?;
        let said = if *full { "conditions, node, zone and pod" } else { "the address" };
        writeln!(f, "{endpoints_per_service} endpoints a service, of each {said}")?;
        writeln!(
            f,
            "\n{:<3} {:<43}{:>9}{:>11}     {:>9}{:>9}",
            "", "what", "services", "measured", "target", "peer"
        )?;
        for Figure { figure, what, services, value, unit, target, peer } in &self.figures {
            let digits = match *unit {
                "s" => 2,
                "" => 0,
                _ => 1,
            };
            let (target, peer) = (or_dash(*target, digits), or_dash(*peer, digits));
            writeln!(
                f,
                "{figure:<3} {what:<43}{services:>9}{value:>11.digits$} {unit:<4}{target:>9}{peer:>9}"
            )?;
        }
        Ok(())
    }
}
