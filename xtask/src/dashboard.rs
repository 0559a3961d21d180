//! `cargo xtask dashboard`: takes the picture of the dashboard that docs/metrics.md shows.

use std::env;

use anyhow::Result;

use crate::{
    run::{as_root, build_programs, succeed, workspace},
    setup,
};

/// Where it is.
const PICTURE: &str = "docs/dashboard.svg";

/// For how long.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// For how long samples are taken
    #[arg(long, value_name = "N", default_value_t = 130)]
    seconds: u64,
}

/// Takes it.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    setup::run()?;
    setup::prometheus()?;
    println!("==> build");
    let built = build_programs(&["balancing-cli", "balancing-tests"])?;
    let mut take = as_root("env", "the picture is of an agent in a namespace and a cgroup of its own:")?;
    take.arg(format!("PATH={}", env::var("PATH").unwrap_or_default()));
    take.arg(format!("BALANCING_BIN={}", built("balancing")?.display())).arg(built("dashboard")?);
    take.arg("--seconds").arg(arguments.seconds.to_string());
    take.arg("--picture").arg(workspace().join(PICTURE));
    println!("==> {} s of samples", arguments.seconds);
    succeed(&mut take)?;
    println!("{PICTURE} is new");
    Ok(())
}
