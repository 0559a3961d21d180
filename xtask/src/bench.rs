//! `cargo xtask bench`: sets up, builds with optimisation, and measures as root (docs/performance.md): connections, or with
//! `control` and `kube` the agent.

use std::{env, path::PathBuf, process::Command};

use anyhow::{Context, Result, bail};

use crate::{
    run::{as_root, capture, cargo, workspace},
    setup, test,
};

/// What to measure.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    part: Option<Part>,
    #[command(flatten)]
    scale: Scale,
    /// About a minute instead of three, in the build that tests use; compares with the figures that are checked in
    /// (benches/figures.json), and fails where it costs far more
    #[arg(long, conflicts_with = "services")]
    quick: bool,
    /// Check in what is measured
    #[arg(long, requires = "quick")]
    accept: bool,
}

/// How many services, and where the result goes.
#[derive(clap::Args)]
struct Scale {
    /// Services in the tables, each with ten endpoints
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    services: u32,
    /// Also write everything to this file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What else can be measured.
#[derive(clap::Subcommand)]
enum Part {
    /// The agent: how long it takes to start and to follow a change, and what CPU time and memory that takes (three minutes)
    Control(Control),
    /// The same with an API server as the agent's source, and besides: a large cluster that changes all the time, restarts, or
    /// is idle (ten minutes)
    Kube(Kube),
    /// The controller: 500 policies that select 50,000 pods, and pods that change all the time (four minutes)
    Controller(Controller),
    /// What it costs to see what connections do: events, metrics, who uses what, at 10,000 services (three minutes)
    Observe(Observe),
    /// The same on one CPU and on all at once; fails if it costs more there
    Cores(Scale),
    /// Beside nftables and iptables with rules of kube-proxy's shape, at 1, 1,000 and 10,000 services (eight minutes;
    /// installs Debian packages nftables and iptables where they are missing)
    Peers {
        /// For a shorter time
        #[arg(long)]
        quick: bool,
        /// Also write everything to this file, as JSON
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
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

/// The same, from an API server.
#[derive(clap::Args)]
struct Kube {
    /// Services, each with ten endpoints; may be given more than once [default: 1000 and 10000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(500..=50_000))]
    services: Vec<u32>,
    /// Nodes of the cluster
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(2..=20_000))]
    nodes: u32,
    /// About a minute, at 1,000 services unless others are given: to see that it works, not for figures
    #[arg(long)]
    quick: bool,
    /// Also write everything to this file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// The controller.
#[derive(clap::Args)]
struct Controller {
    /// About a minute, with a tenth of it: to see that it works, not for figures
    #[arg(long)]
    quick: bool,
    /// Changes of pods in a second
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=2_000))]
    rate: u32,
    /// Also write everything to this file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What it costs to see.
#[derive(clap::Args)]
struct Observe {
    /// Services, each with ten endpoints
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(100..=50_000))]
    services: u32,
    /// Also write everything to this file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Runs it.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    setup::run()?;
    if matches!(arguments.part, Some(Part::Peers { .. })) {
        setup::programs(&[("nft", "nftables"), ("iptables-nft-restore", "iptables")]);
    }
    let quick = arguments.part.is_none() && arguments.quick;
    println!("==> build{}", if quick { "" } else { " (release)" });
    let program = build("balancing-bench", "balancing-bench", quick)?;
    let mut bench = as_root("env", "measuring attaches programs to a cgroup of its own, and")?;
    bench.arg(format!("PATH={}", env::var("PATH").unwrap_or_default())).arg(&program);
    let json = match &arguments.part {
        None => {
            add_flags(&mut bench, &[(quick, "--quick"), (arguments.accept, "--accept")]);
            if quick {
                bench.arg("--figures").arg(workspace().join("benches/figures.json"));
            }
            bench.arg("--services").arg(arguments.scale.services.to_string());
            &arguments.scale.json
        }
        Some(Part::Control(control)) => {
            bench.args(["control", "--program"]).arg(build("balancing-cli", "balancing", false)?);
            for services in &control.services {
                bench.arg("--services").arg(services.to_string());
            }
            add_flags(&mut bench, &[(control.full, "--full")]);
            &control.json
        }
        Some(Part::Kube(kube)) => {
            bench.args(["kube", "--program"]).arg(build("balancing-cli", "balancing", false)?);
            bench.arg("--nodes").arg(kube.nodes.to_string());
            let services = if kube.quick && kube.services.is_empty() { &[1000][..] } else { &kube.services };
            for services in services {
                bench.arg("--services").arg(services.to_string());
            }
            if kube.quick {
                bench.args(["--seconds", "5", "--changes", "10", "--starts", "2"]);
            }
            &kube.json
        }
        Some(Part::Controller(controller)) => {
            bench.args(["controller", "--program"]).arg(build("balancing-cli", "balancing", false)?);
            bench.arg("--rate").arg(controller.rate.to_string());
            if controller.quick {
                bench.args(["--policies", "50", "--pods", "5000", "--seconds", "10"]);
            }
            &controller.json
        }
        Some(Part::Observe(observe)) => {
            bench.args(["observe", "--program"]).arg(build("balancing-cli", "balancing", false)?);
            bench.arg("--services").arg(observe.services.to_string());
            &observe.json
        }
        Some(Part::Cores(scale)) => {
            bench.args(["cores", "--services"]).arg(scale.services.to_string());
            &scale.json
        }
        Some(Part::Peers { quick, json }) => {
            bench.arg("peers");
            add_flags(&mut bench, &[(*quick, "--quick")]);
            json
        }
    };
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

fn add_flags(command: &mut Command, flags: &[(bool, &str)]) {
    command.args(flags.iter().filter(|(wanted, _)| *wanted).map(|(_, flag)| flag));
}

/// Builds a program of a package; where it is. Quickly: as the tests are built, so that CI has it already. That makes the
/// client slower, and so the ratios smaller, but the programs are the same.
fn build(package: &str, program: &str, quick: bool) -> Result<PathBuf> {
    let release = ["build", "--release", "--package", package, "--bins"];
    let what: &[&str] = if quick { test::BUILD } else { &release };
    let printed = capture(cargo().args(what).arg("--message-format=json-render-diagnostics"))?;
    let messages = printed.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let is_program = |message: &serde_json::Value| {
        message["target"]["name"] == program && message["profile"]["test"] == false
    };
    let mut executables = messages.filter(is_program);
    let file = executables.find_map(|message| message["executable"].as_str().map(PathBuf::from));
    file.with_context(|| format!("the build produced no program `{program}`"))
}
