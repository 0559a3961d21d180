//! `cargo xtask bench`: sets up, builds with optimisation, and measures as root (docs/performance.md).

use std::{env, path::PathBuf};

use anyhow::{Context, Result, bail};

use crate::{
    run::{as_root, capture, cargo, workspace},
    setup,
};

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only this, instead of all that is about one connection
    section: Option<Section>,
    /// Services in the tables, each with ten endpoints
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    services: u32,
    /// Make the tables as small as these services allow, instead of as shipped
    #[arg(long)]
    snug: bool,
    /// About a minute instead of three, in the build that tests use; compares with the figures that are checked in
    /// (benches/figures.json), and fails where it costs far more
    #[arg(long, conflicts_with_all = ["services", "snug"])]
    quick: bool,
    /// Check in what is measured
    #[arg(long, requires = "quick")]
    accept: bool,
    /// Also write everything to this file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What can be measured alone.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Section {
    /// The same on one CPU and on all at once; fails if it costs more there
    Cores,
    /// Beside nftables and iptables with rules of kube-proxy's shape, at 1, 1,000 and 10,000 services (eight minutes;
    /// installs Debian packages nftables and iptables where they are missing)
    Peers,
}

/// Runs it.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    setup::run()?;
    if matches!(arguments.section, Some(Section::Peers)) {
        setup::programs(&[("nft", "nftables"), ("iptables-nft-restore", "iptables")]);
    }
    let program = build(arguments.quick)?;
    let mut bench = as_root("env", "measuring attaches programs to a cgroup of its own, and")?;
    bench.arg(format!("PATH={}", env::var("PATH").unwrap_or_default())).arg(&program);
    if let Some(section) = arguments.section {
        bench.arg(section.name());
    }
    bench.arg("--services").arg(arguments.services.to_string());
    for (wanted, flag) in
        [(arguments.snug, "--snug"), (arguments.quick, "--quick"), (arguments.accept, "--accept")]
    {
        if wanted {
            bench.arg(flag);
        }
    }
    if arguments.quick && arguments.section.is_none() {
        bench.arg("--figures").arg(workspace().join("benches/figures.json"));
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

impl Section {
    fn name(self) -> &'static str {
        match self {
            Self::Cores => "cores",
            Self::Peers => "peers",
        }
    }
}

/// Builds it; where it is. Quickly: as the tests are built, so that CI has it already. That makes the client slower, and
/// so the ratios smaller, but the programs are the same.
fn build(quick: bool) -> Result<PathBuf> {
    println!("==> build{}", if quick { "" } else { " (release)" });
    let what: &[&str] = if quick {
        // As `cargo xtask test` does: of this package alone, dependencies would be built again with fewer features.
        &["build", "--workspace", "--bins", "--tests"]
    } else {
        &["build", "--release", "--package", "balancing-bench", "--bins"]
    };
    let printed = capture(cargo().args(what).arg("--message-format=json-render-diagnostics"))?;
    let messages = printed.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let is_program = |message: &serde_json::Value| {
        message["target"]["name"] == "balancing-bench" && message["profile"]["test"] == false
    };
    let mut executables = messages.filter(is_program);
    let file = executables.find_map(|message| message["executable"].as_str().map(PathBuf::from));
    file.context("the build produced no program `balancing-bench`")
}
