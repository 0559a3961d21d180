//! The figures: a table for people, JSON for machines.

use std::{fmt, fs, path::Path, thread, time::Duration};

use anyhow::{Context, Result};
use serde::Serialize;

use super::{
    change::Changes,
    idle::Idle,
    load::{Load, RATE, RESTARTED},
    process::Memory,
    restart::Restarts,
    start::Start,
    start::Starts,
};
use crate::{machine::Machine, report::or_dash, tables::ENDPOINTS, write_json};

/// Everything that one run has found.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    date: String,
    kernel: String,
    cpu: String,
    endpoints_per_service: u32,
    /// Where the agent has its objects from.
    source: String,
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

/// The same target at both, and no peer.
fn at_most(target: f64) -> Option<Aims> {
    Some([(target, f64::NAN); 2])
}

impl Report {
    /// Nothing has been measured yet.
    pub(super) fn new(source: String) -> Result<Self> {
        let Machine { date, kernel, cpu } = Machine::here()?;
        let load = fs::read_to_string("/proc/loadavg").context("cannot read /proc/loadavg")?;
        Ok(Self {
            date,
            kernel,
            cpu,
            endpoints_per_service: ENDPOINTS,
            source,
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
        self.add(of, format!("  longest of {}", changes.took.len()), ms(longest), at_most(60.0));
        let of = ("C3", services);
        self.add(of, "CPU time of one change", ms(changes.cpu), Some([(5.0, 180.0), (5.0, 4700.0)]));
        let aims = [(100.0, 400.0), (100.0, 9000.0)];
        self.add(of, "CPU time of 100 at once", ms(changes.cpu_of_hundred), Some(aims));
    }

    /// C4.
    pub(super) fn memory(&mut self, services: u32, memory: &Memory) {
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
        self.add(("C5", services), what, (*failed as f64, ""), at_most(0.0));
    }

    /// K1.
    pub(super) fn asked(&mut self, services: u32, bytes: u64, requests: usize) {
        self.add(("K1", services), "start: from the server", mib(bytes), None);
        self.add(("K1", services), "  requests", (requests as f64, ""), None);
    }

    /// K2.
    pub(super) fn storm(&mut self, services: u32, load: &Load) {
        let of = ("K2", services);
        let what = format!("{RATE} changes a second: to the map, p50");
        self.load(of, what, load, (None, at_most(100.0), at_most(40.0)));
    }

    /// K3.
    pub(super) fn rolling(&mut self, services: u32, load: &Load) {
        let what = format!("rolling restart of {RESTARTED}: to the map, p50");
        self.load(("K3", services), what, load, (None, None, None));
    }

    fn load(
        &mut self,
        of: (&'static str, u32),
        what: String,
        load: &Load,
        (p50, p99, share): (Option<Aims>, Option<Aims>, Option<Aims>),
    ) {
        let ms = |time: Duration| (time.as_secs_f64() * 1e3, "ms");
        let mut took = load.took.clone();
        took.sort_unstable();
        let at = |part: usize| took.get(took.len() * part / 1000).copied().unwrap_or_default();
        self.add(of, what, ms(at(500)), p50);
        self.add(of, "  p99", ms(at(990)), p99);
        self.add(of, "  longest", ms(took.last().copied().unwrap_or_default()), None);
        self.add(of, "  CPU, of one core", percent(load.cpu, load.lasted), share);
        self.add(of, "  CPU time of one change", ms(load.cpu / load.writes.max(1)), None);
        self.add(
            of,
            "  changes written in a second",
            (f64::from(load.writes) / load.lasted.as_secs_f64(), ""),
            None,
        );
        self.add(
            of,
            "  from the server, of each",
            (load.bytes as f64 / f64::from(load.writes.max(1)), "B"),
            None,
        );
    }

    /// K4.
    pub(super) fn idle(&mut self, services: u32, what: &str, idle: &Idle) {
        let of = ("K4", services);
        let each_second = |count: u64| count as f64 / idle.lasted.as_secs_f64();
        self.add(of, format!("idle, {what}: CPU, of one core"), percent(idle.cpu, idle.lasted), at_most(0.2));
        self.add(of, "  from the server, a second", (each_second(idle.bytes), "B"), None);
        self.add(of, "  wake-ups, a second", (each_second(idle.waits), ""), None);
    }

    /// C4, after all of that.
    pub(super) fn memory_after(&mut self, services: u32, memory: &Memory) {
        self.add(("C4", services), "resident memory, peak, after all of that", mib(memory.peak), None);
        self.add(("C4", services), "  after that", mib(memory.resident), None);
    }

    /// Prints it, and writes it as JSON where that is wanted.
    pub(super) fn publish(&self, json: Option<&Path>) -> Result<()> {
        println!("\n{self}");
        write_json(json, self)
    }
}

fn mib(bytes: u64) -> (f64, &'static str) {
    (bytes as f64 / f64::from(1 << 20), "MiB")
}

fn percent(cpu: Duration, of: Duration) -> (f64, &'static str) {
    (100.0 * cpu.as_secs_f64() / of.as_secs_f64(), "%")
}

fn median(mut all: Vec<Duration>) -> Duration {
    all.sort_unstable();
    all.get(all.len() / 2).copied().unwrap_or_default()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { date, kernel, cpu, endpoints_per_service, source, load, cpus, .. } = self;
        writeln!(f, "{date}, kernel {kernel}, {cpu}, {cpus} CPUs, load {load} before")?;
        writeln!(f, "{endpoints_per_service} endpoints a service, from {source}")?;
        writeln!(
            f,
            "\n{:<3} {:<47}{:>9}{:>11}     {:>9}{:>9}",
            "", "what", "services", "measured", "target", "peer"
        )?;
        for Figure { figure, what, services, value, unit, target, peer } in &self.figures {
            let digits = match *unit {
                "s" | "%" => 2,
                "" | "B" => 0,
                _ => 1,
            };
            let (target, peer) = (or_dash(*target, digits), or_dash(*peer, digits));
            writeln!(
                f,
                "{figure:<3} {what:<47}{services:>9}{value:>11.digits$} {unit:<4}{target:>9}{peer:>9}"
            )?;
        }
        Ok(())
    }
}
