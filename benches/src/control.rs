//! What the agent takes: C1 to C5 of the figures in docs/performance.md. The real program, with manifests or an API server as
//! its source, a cgroup and a bpffs of its own, and connections that are real.
//!
//! ```text
//! stage       the place, and agents in it
//! feed        where they have services from
//! manifests   a directory of files
//! api_server  an API server; objects: what it holds
//! process     what the kernel says of the agent: CPU, memory
//! start       C1
//! change      C2, C3
//! restart     C5
//! kube        all of that with an API server, and K1 to K4
//! load        K2, K3; seen: when the maps have what was written
//! idle        K4
//! report      the table
//! observe     S1 to S4: events, metrics, usage
//! oversight   O1 to O5: not the agent but the controller; follower: an agent that it works for
//! ```

mod api_server;
mod change;
mod feed;
mod follower;
mod idle;
pub(crate) mod kube;
mod load;
mod manifests;
mod objects;
pub(crate) mod observe;
pub(crate) mod oversight;
mod process;
mod report;
mod restart;
mod seen;
mod stage;
mod start;

use std::{
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use self::{manifests::Manifests, report::Report, stage::Stage};

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
    #[command(flatten)]
    extent: Extent,
}

/// How much of it, whatever the source.
#[derive(clap::Args)]
struct Extent {
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
    let said = if arguments.full { "conditions, node, zone and pod" } else { "the address" };
    let mut report = Report::new(format!("manifests; of each {said}"))?;
    for services in &arguments.services {
        println!("{services} services ...");
        measure(&mut report, arguments, *services).with_context(|| format!("with {services} services"))?;
    }
    report.publish(arguments.extent.json.as_deref())
}

fn measure(report: &mut Report, arguments: &Arguments, services: u32) -> Result<()> {
    let feed = |vip, first| Manifests::write(services, arguments.full, vip, first);
    let stage = Stage::build(&arguments.program, services, feed)?;
    let starts = start::measure(&stage, arguments.extent.starts)?;
    report.starts(services, &starts);

    // One agent, as operators have it: it has started from nothing, seen changes, and audited its tables.
    stage.clean()?;
    let begun = Instant::now();
    let agent = stage.agent()?;
    report.changes(services, &change::measure(&stage, &agent, arguments.extent.changes)?);
    thread::sleep(AUDITED.saturating_sub(begun.elapsed()));
    report.memory(services, &agent.process().memory()?);

    report.restarts(services, &restart::measure(&stage, agent, arguments.extent.starts)?);
    stage.clean()
}
