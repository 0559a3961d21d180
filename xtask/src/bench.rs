//! `cargo xtask bench`: sets up, builds with optimisation, and measures as root (docs/performance.md).

use std::{env, path::PathBuf, process::Command};

use anyhow::{Context, Result, bail};

use crate::{
    run::{as_root, capture, cargo},
    setup,
};

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Services in the tables, each with ten endpoints
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    services: u32,
    /// About a minute instead of three
    #[arg(long)]
    quick: bool,
    /// Also write everything to this file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Runs it.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    setup::run()?;
    println!("==> build (release)");
    let program = build()?;
    let mut bench = as_root("env", "measuring attaches programs to a cgroup of its own, and")?;
    bench.arg(format!("PATH={}", env::var("PATH").unwrap_or_default())).arg(&program);
    bench.arg("--services").arg(arguments.services.to_string());
    if arguments.quick {
        bench.arg("--quick");
    }
    if let Some(file) = &arguments.json {
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

/// Builds it; where it is.
fn build() -> Result<PathBuf> {
    let mut build: Command = cargo();
    build.args(["build", "--release", "--package", "balancing-bench", "--bins"]);
    let printed = capture(build.arg("--message-format=json-render-diagnostics"))?;
    let messages = printed.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let mut executables = messages.filter(|message| message["target"]["name"] == "balancing-bench");
    let file = executables.find_map(|message| message["executable"].as_str().map(PathBuf::from));
    file.context("the build produced no program `balancing-bench`")
}
