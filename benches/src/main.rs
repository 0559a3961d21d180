//! What a connection costs with the programs in force, against the same without them: E1 to E7, E9 and
//! E10 of the figures in docs/performance.md. Started by `cargo xtask bench`.
#![forbid(unsafe_code)]

mod arena;
mod cores;
mod figures;
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

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};
use serde::Serialize;

use crate::{
    arena::Arena,
    figures::{Comparison, Figures},
    report::Report,
    worker::Cpu,
};

/// Measure what a connection costs, with the programs and without, and what memory their maps take.
#[derive(Parser)]
#[command(name = "balancing-bench")]
struct Arguments {
    /// Only this, instead of all that is about one connection
    section: Option<Section>,
    /// Services in the tables, each with ten endpoints, TCP and UDP, in both families
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    services: u32,
    /// Make the tables as small as these services allow, instead of as shipped
    #[arg(long)]
    snug: bool,
    /// Measure for half a minute instead of two and a half
    #[arg(long)]
    quick: bool,
    /// Also write everything to this file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Compare with the figures in this file, and fail where they are far worse
    #[arg(long, value_name = "FILE")]
    figures: Option<PathBuf>,
    /// Put what is measured into that file instead
    #[arg(long, requires = "figures")]
    accept: bool,
}

/// What can be measured alone.
#[derive(Clone, Copy, ValueEnum)]
enum Section {
    /// The same on one CPU and on all at once; fails if it costs more there
    Cores,
    /// Beside nftables and iptables with rules of kube-proxy's shape, at 1, 1,000 and 10,000 services
    Peers,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let duration = Duration::from_secs(if arguments.quick { 35 } else { 150 });
    // Before the arena takes one of them.
    let cpus = Cpu::all()?;
    if matches!(arguments.section, Some(Section::Peers)) {
        return write_json(arguments, &peers::run(arguments.quick)?);
    }
    let arena = Arena::build(arguments.services, arguments.snug)?;
    println!(
        "{} services x {} endpoints, TCP and UDP, both families: in the tables after {} ms",
        arguments.services,
        tables::ENDPOINTS,
        arena.filled_in.as_millis()
    );
    arena.verify()?;
    let cores = || cores::measure(&arena, &cpus, arguments.services, Duration::from_secs(20));
    if matches!(arguments.section, Some(Section::Cores)) {
        let cores = cores()?;
        println!("\n{cores}");
        write_json(arguments, &cores)?;
        return cores.check();
    }
    println!("measuring for {} s ...", duration.as_secs());
    let measured = measure::measure(&arena, duration)?;
    let programs = programs::measure(&arena)?;
    let net_costs = net_cost::measure(&arena)?;
    let as_shipped = tables::sizes(arguments.services, arguments.snug) == kernel::Sizes::default();
    let map_memory = memory::measure(&arena.pins, as_shipped)?;
    let cores = if arguments.quick { None } else { Some(cores()?) };
    let report = Report::new(arguments.services, &measured, programs, net_costs, map_memory, cores)?;
    println!("\n{report}");
    write_json(arguments, &report)?;
    match &arguments.figures {
        Some(file) if arguments.accept => report.figures().write(file),
        Some(file) => compare(&report.figures(), file),
        None => Ok(()),
    }
}

/// Writes what was measured where it is wanted.
fn write_json(arguments: &Arguments, measured: &impl Serialize) -> Result<()> {
    let Some(file) = &arguments.json else { return Ok(()) };
    let text = serde_json::to_string_pretty(measured).context("cannot write JSON")?;
    std::fs::write(file, text + "\n").with_context(|| format!("cannot write {}", file.display()))
}

/// Says what is worse than what is checked in; fails where that is no noise.
fn compare(now: &Figures, file: &std::path::Path) -> Result<()> {
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
