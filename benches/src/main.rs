//! What a connection costs with the programs in force, against the same without them: E1 to E7, E9 and
//! E10 of the figures in docs/performance.md. Started by `cargo xtask bench`.
#![forbid(unsafe_code)]

mod arena;
mod control;
mod cores;
mod figures;
mod machine;
mod measure;
mod memory;
mod net_cost;
mod operation;
mod peers;
mod programs;
mod report;
mod site;
mod tables;
mod worker;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use serde::Serialize;

use crate::{
    arena::Arena,
    figures::{Comparison, Figures},
    report::Report,
    worker::Cpu,
};

/// How long all CPUs are compared with one.
const CORES: Duration = Duration::from_secs(20);

/// Measure what a connection costs, with the programs and without, and what memory their maps take.
#[derive(Parser)]
#[command(name = "balancing-bench", args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    part: Option<Part>,
    #[command(flatten)]
    scale: Scale,
    /// Measure for half a minute instead of two and a half
    #[arg(long)]
    quick: bool,
    /// Compare with the figures in this file, and fail where they are far worse
    #[arg(long, value_name = "FILE")]
    figures: Option<PathBuf>,
    /// Put what is measured into that file instead
    #[arg(long, requires = "figures")]
    accept: bool,
}

/// How many services, and where the result goes.
#[derive(clap::Args)]
struct Scale {
    /// Services in the tables, each with ten endpoints, TCP and UDP, in both families
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    services: u32,
    /// Also write everything to this file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What else can be measured.
#[derive(Subcommand)]
enum Part {
    /// Measure the agent: how long it takes to start and to follow a change, and what CPU time and memory that takes
    Control(control::Arguments),
    /// Measure the agent with an API server as its source: the same, and a large cluster that changes all the time, or not at all
    Kube(control::kube::Arguments),
    /// What it costs to see what connections do: events, metrics, who uses what
    Observe(control::observe::Arguments),
    /// The controller: what slices of policies cost, in a large cluster
    Controller(control::oversight::Arguments),
    /// Measure the same on one CPU and on all at once; fails if it costs more there
    Cores(Scale),
    /// Measure beside nftables and iptables with rules of kube-proxy's shape, at 1, 1,000 and 10,000 services
    Peers {
        /// For a shorter time
        #[arg(long)]
        quick: bool,
        /// Also write everything to this file, as JSON
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match &arguments.part {
        None => connections(&arguments),
        Some(Part::Control(control)) => control::run(control),
        Some(Part::Kube(kube)) => control::kube::run(kube),
        Some(Part::Observe(observe)) => control::observe::run(observe),
        Some(Part::Controller(controller)) => control::oversight::run(controller),
        Some(Part::Cores(scale)) => all_cores(scale),
        Some(Part::Peers { quick, json }) => {
            peers::run(*quick).and_then(|peers| write_json(json.as_deref(), &peers))
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn build(scale: &Scale) -> Result<Arena> {
    let arena = Arena::build(scale.services)?;
    println!(
        "{} services x {} endpoints, TCP and UDP, both families: in the tables after {} ms",
        scale.services,
        tables::ENDPOINTS,
        arena.filled_in.as_millis()
    );
    arena.verify()?;
    Ok(arena)
}

fn connections(arguments: &Arguments) -> Result<()> {
    let Arguments { scale, quick, .. } = arguments;
    let duration = Duration::from_secs(if *quick { 35 } else { 150 });
    // Before the arena takes one of them.
    let cpus = Cpu::all()?;
    let arena = build(scale)?;
    println!("measuring for {} s ...", duration.as_secs());
    let measured = measure::measure(&arena, duration)?;
    let programs = programs::measure(&arena)?;
    let net_costs = net_cost::measure(&arena)?;
    let map_memory = memory::measure(scale.services)?;
    let cores = if *quick { None } else { Some(cores::measure(&arena, &cpus, scale.services, CORES)?) };
    let report = Report::new(scale.services, &measured, programs, net_costs, map_memory, cores)?;
    println!("\n{report}");
    write_json(scale.json.as_deref(), &report)?;
    match &arguments.figures {
        Some(file) if arguments.accept => report.figures().write(file),
        Some(file) => compare(&report.figures(), file),
        None => Ok(()),
    }
}

fn all_cores(scale: &Scale) -> Result<()> {
    let cpus = Cpu::all()?;
    let cores = cores::measure(&build(scale)?, &cpus, scale.services, CORES)?;
    println!("\n{cores}");
    write_json(scale.json.as_deref(), &cores)?;
    cores.check()
}

/// Writes what was measured where it is wanted.
pub(crate) fn write_json(file: Option<&Path>, measured: &impl Serialize) -> Result<()> {
    let Some(file) = file else { return Ok(()) };
    let text = serde_json::to_string_pretty(measured).context("cannot write JSON")?;
    std::fs::write(file, text + "\n").with_context(|| format!("cannot write {}", file.display()))
}

/// Says what is worse than what is checked in; fails where that is no noise.
fn compare(now: &Figures, file: &Path) -> Result<()> {
    let checked_in = Figures::read(file)?;
    let comparison = Comparison::new(&checked_in, now);
    println!("{comparison}");
    let broken = comparison.broken();
    if !broken.is_empty() {
        bail!(
            "far worse than what is checked in: {}. If that is meant: `cargo xtask bench --quick --accept`",
            broken.join("; ")
        );
    }
    Ok(())
}
