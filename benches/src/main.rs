//! What a connection costs with the programs in force, against the same without them: E1 to E7, E9 and
//! E10 of the figures in docs/performance.md. Started by `cargo xtask bench`. With `control`, what the agent takes: C1 to C5.
#![forbid(unsafe_code)]

mod arena;
mod control;
mod machine;
mod measure;
mod memory;
mod net_cost;
mod operation;
mod programs;
mod report;
mod tables;
mod worker;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

use crate::{arena::Arena, report::Report};

/// Measure what a connection costs, with the programs and without, and what memory their maps take.
#[derive(Parser)]
#[command(name = "balancing-bench", args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    part: Option<Part>,
    /// Services in the tables, each with ten endpoints, TCP and UDP, in both families
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    services: u32,
    /// Measure for half a minute instead of two and a half
    #[arg(long)]
    quick: bool,
    /// Also write everything to this file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What else can be measured.
#[derive(Subcommand)]
enum Part {
    /// Measure the agent: how long it takes to start and to follow a change, and what CPU time and memory that takes
    Control(control::Arguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match &arguments.part {
        Some(Part::Control(control)) => control::run(control),
        None => run(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let duration = Duration::from_secs(if arguments.quick { 35 } else { 150 });
    let arena = Arena::build(arguments.services)?;
    println!(
        "{} services x {} endpoints, TCP and UDP, both families: in the tables after {} ms",
        arguments.services,
        tables::ENDPOINTS,
        arena.filled_in.as_millis()
    );
    arena.verify()?;
    println!("measuring for {} s ...", duration.as_secs());
    let measured = measure::measure(&arena, duration)?;
    let programs = programs::measure(&arena)?;
    let net_costs = net_cost::measure(&arena)?;
    let map_memory = memory::measure(arguments.services)?;
    let report = Report::new(arguments.services, &measured, programs, net_costs, map_memory)?;
    println!("\n{report}");
    if let Some(file) = &arguments.json {
        let text = serde_json::to_string_pretty(&report).context("cannot write JSON")?;
        std::fs::write(file, text + "\n").with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}
