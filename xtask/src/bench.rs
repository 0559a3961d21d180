//! `cargo xtask bench`: sets up, builds with optimisation, and measures as root (docs/performance.md): connections, or with
//! `control` the agent.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{
    run::{as_root, capture, cargo},
    setup,
};

/// What to measure.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    part: Option<Part>,
    /// Services in the tables, each with ten endpoints
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    services: u32,
    /// Make the tables as small as these services allow, instead of as shipped
    #[arg(long)]
    snug: bool,
    /// About a minute instead of three
    #[arg(long)]
    quick: bool,
    /// Also write everything to this file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What else can be measured.
#[derive(clap::Subcommand)]
enum Part {
    /// The agent: how long it takes to start and to follow a change, and what CPU time and memory that takes (three minutes)
    Control(Control),
}

/// The same.
#[derive(clap::Args)]
struct Control {
    /// Services, each with ten endpoints; may be given more than once [default: 1000 and 10000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(100..=50_000))]
    services: Vec<u32>,
    /// Endpoints with conditions, node, zone and pod, as an API server has them, not with their address alone
    #[arg(long)]
    full: bool,
    /// Also write everything to this file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Runs it.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    setup::run()?;
    println!("==> build (release)");
    let program = build("balancing-bench", "balancing-bench")?;
    let mut bench = as_root("env", "measuring attaches programs to a cgroup of its own, and")?;
    bench.arg(format!("PATH={}", env::var("PATH").unwrap_or_default())).arg(&program);
    if let Some(Part::Control(control)) = &arguments.part {
        bench.args(["control", "--program"]).arg(build("balancing-cli", "balancing")?);
        for services in &control.services {
            bench.arg("--services").arg(services.to_string());
        }
        if control.full {
            bench.arg("--full");
        }
        return start(bench, control.json.as_deref());
    }
    bench.arg("--services").arg(arguments.services.to_string());
    for (wanted, flag) in [(arguments.snug, "--snug"), (arguments.quick, "--quick")] {
        if wanted {
            bench.arg(flag);
        }
    }
    start(bench, arguments.json.as_deref())
}

fn start(mut bench: Command, json: Option<&Path>) -> Result<()> {
    if let Some(file) = json {
        // Relative to where the user is, not to where we run it.
        bench.arg("--json").arg(std::path::absolute(file).context("cannot find out where --json is")?);
    }
    println!();
    let status = bench.status().context("cannot run the benchmark")?;
    if !status.success() {
        bail!("the benchmark failed: {status}");
    }
    Ok(())
}

/// Builds a program of a package; where it is.
fn build(package: &str, program: &str) -> Result<PathBuf> {
    let mut build: Command = cargo();
    build.args(["build", "--release", "--package", package, "--bins"]);
    let printed = capture(build.arg("--message-format=json-render-diagnostics"))?;
    let messages = printed.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let mut executables = messages.filter(|message| message["target"]["name"] == program);
    let file = executables.find_map(|message| message["executable"].as_str().map(PathBuf::from));
    file.with_context(|| format!("the build produced no program `{program}`"))
}
