//! `cargo xtask soak`: sets up, builds, and runs the soak of `tests/src/soak.rs` as root.

use std::{env, os::unix::process::CommandExt};

use anyhow::{Context, Result};

use crate::{
    run::{as_root, build_programs},
    setup,
};

/// How long, and with which edits.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// For how long; ctrl-C ends it sooner, with all checks
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    minutes: u64,
    /// Repeats edits and restarts of a run that printed it
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
}

/// Runs it; fails when an exchange failed, or something leaked.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    setup::run()?;
    println!("==> build");
    let built = build_programs(&["balancing-cli", "balancing-tests"])?;
    // `env` carries the variables through sudo, which drops them.
    let mut soak = as_root("env", "a soak makes namespaces and a cgroup of its own, and")?;
    soak.arg(format!("PATH={}", env::var("PATH").unwrap_or_default()));
    soak.arg(format!("BALANCING_BIN={}", built("balancing")?.display())).arg(built("soak")?);
    soak.arg("--minutes").arg(arguments.minutes.to_string());
    if let Some(seed) = arguments.seed {
        soak.arg("--seed").arg(seed.to_string());
    }
    println!();
    // In our place: ctrl-C and the exit code are its own.
    Err(soak.exec()).context("cannot run the soak")
}
