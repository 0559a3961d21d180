//! What the agent takes: C1 to C5 of the figures in docs/performance.md. The real program, with manifests as its source, a
//! cgroup and a bpffs of its own, and connections that are real.
//!
//! ```text
//! stage       the place, the services, and agents in it
//! manifests   what the services are in YAML
//! process     what the kernel says of the agent: CPU, memory
//! start       C1
//! change      C2, C3
//! restart     C5
//! report      the table
//! ```

mod change;
mod manifests;
mod process;
mod report;
mod restart;
mod stage;
mod start;

use std::{
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use self::{report::Report, stage::Stage};

/// An agent audits its tables every 30 seconds, which takes memory for a moment.
const AUDITED: Duration = Duration::from_secs(35);

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The `balancing` to measure
    #[arg(long, value_name = "FILE")]
    program: PathBuf,
    /// Services, each with ten endpoints; once for each size
    #[arg(long, value_name = "N", default_values_t = [1000, 10_000], value_parser = clap::value_parser!(u32).range(100..=50_000))]
    services: Vec<u32>,
    /// Endpoints with conditions, node, zone and pod, as an API server has them, not with their address alone
    #[arg(long)]
    full: bool,
    /// Changes of one slice to measure
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(10..))]
    changes: u32,
    /// Starts of each kind, and restarts under traffic
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(2..))]
    starts: u32,
    /// Also write everything to this file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Measures, and prints the table.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    testkit::require_root();
    let mut report = Report::new(arguments.full)?;
    for services in &arguments.services {
        println!("{services} services ...");
        measure(&mut report, arguments, *services).with_context(|| format!("with {services} services"))?;
    }
    println!("\n{report}");
    if let Some(file) = &arguments.json {
        let text = serde_json::to_string_pretty(&report).context("cannot write JSON")?;
        std::fs::write(file, text + "\n").with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

fn measure(report: &mut Report, arguments: &Arguments, services: u32) -> Result<()> {
    let stage = Stage::build(&arguments.program, services, arguments.full)?;
    let starts = start::measure(&stage, arguments.starts)?;
    report.starts(services, &starts);

    // One agent, as operators have it: it has started from nothing, seen changes, and audited its tables.
    stage.clean()?;
    let begun = Instant::now();
    let agent = stage.agent()?;
    report.changes(services, &change::measure(&stage, &agent, arguments.changes)?);
    thread::sleep(AUDITED.saturating_sub(begun.elapsed()));
    report.memory(services, &agent.process().memory()?);

    report.restarts(services, &restart::measure(&stage, agent, arguments.starts)?);
    stage.clean()
}
