//! The same figures with an API server as the source, and what a large cluster does to the agent besides.

use std::{
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use super::{
    AUDITED, Extent, api_server::ApiServer, change, idle, load, report::Report, restart, stage::Stage, start,
};

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The `balancing` to measure
    #[arg(long, value_name = "FILE")]
    program: PathBuf,
    /// Services, each with ten endpoints; once for each size
    #[arg(long, value_name = "N", default_values_t = [1000, 10_000], value_parser = clap::value_parser!(u32).range(500..=50_000))]
    services: Vec<u32>,
    /// Nodes of the cluster
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(2..=20_000))]
    nodes: u32,
    /// For how long a thousand slices a second change, and for how long nothing happens
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    #[command(flatten)]
    extent: Extent,
}

/// Measures, and prints the table.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    testkit::require_root();
    let mut report = Report::new(format!("an API server with TLS and {} nodes", arguments.nodes))?;
    for services in &arguments.services {
        println!("{services} services ...");
        measure(&mut report, arguments, *services).with_context(|| format!("with {services} services"))?;
    }
    report.publish(arguments.extent.json.as_deref())
}

fn measure(report: &mut Report, arguments: &Arguments, services: u32) -> Result<()> {
    let seconds = Duration::from_secs(arguments.seconds.into());
    let feed = |vip, first| ApiServer::fill(arguments.nodes, services, vip, first);
    let stage = Stage::build(&arguments.program, services, feed)?;
    report.starts(services, &start::measure(&stage, arguments.extent.starts)?);

    stage.clean()?;
    let (begun, bytes, requests) = (Instant::now(), stage.feed().bytes_sent(), stage.feed().requests());
    let agent = stage.agent()?;
    report.asked(services, stage.feed().bytes_sent() - bytes, stage.feed().requests() - requests);
    report.changes(services, &change::measure(&stage, &agent, arguments.extent.changes)?);
    thread::sleep(AUDITED.saturating_sub(begun.elapsed()));
    report.memory(services, &agent.process().memory()?);

    println!("  {} changes a second ...", load::RATE);
    report.storm(services, &load::storm(&stage, &agent, services, arguments.seconds)?);
    println!("  a rolling restart ...");
    report.rolling(services, &load::rolling(&stage, &agent, services)?);
    println!("  idle ...");
    report.idle(services, "nodes report", &idle::heartbeats(&stage, &agent, seconds)?);
    report.idle(services, "nothing happens", &idle::quiet(&stage, &agent, seconds)?);
    report.memory_after(services, &agent.process().memory()?);

    report.restarts(services, &restart::measure(&stage, agent, arguments.extent.starts)?);
    stage.clean()
}
