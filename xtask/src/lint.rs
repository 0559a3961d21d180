//! `cargo xtask lint`: every check that does not run code of ours.

use std::time::Instant;

use anyhow::{Result, bail};

use crate::{
    check_layers,
    run::{cargo, succeed, workspace},
    setup,
};

/// What to check beyond the usual.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Also check dependencies against the RustSec database (fetches it from GitHub)
    #[arg(long)]
    advisories: bool,
}

/// Runs every check, also after one failed, and names those that failed at the end.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    setup::run()?;
    setup::component("rustfmt", "fmt")?;
    setup::component("clippy", "clippy")?;
    // A debug build is made in less than half the time and checks us in a second.
    setup::cargo_tool("deny", "cargo-deny", &["--no-default-features", "--debug"], "1 to 3 minutes")?;

    let mut failed = Vec::new();
    let mut step = |name: &str, check: &dyn Fn() -> Result<()>| {
        println!("==> {name}");
        let begun = Instant::now();
        let outcome = check();
        let took = begun.elapsed().as_secs_f32();
        match outcome {
            Ok(()) => println!("==> {name}: ok ({took:.1} s)"),
            Err(error) => {
                println!("==> {name}: FAILED ({took:.1} s): {error:#}");
                failed.push(name.to_owned());
            }
        }
    };

    step("format", &|| succeed(cargo().args(["fmt", "--all", "--check"])));
    for outside in ["crates/ebpf", "fuzz"] {
        let manifest = workspace().join(outside).join("Cargo.toml");
        if manifest.is_file() {
            step(&format!("format of {outside}"), &|| {
                succeed(cargo().args(["fmt", "--check", "--manifest-path"]).arg(&manifest))
            });
        }
    }
    step("layers", &check_layers::run);
    step("clippy", &|| {
        // With what is not compiled in by default: `cargo xtask image` builds without it.
        let mut clippy = cargo();
        clippy.args(["clippy", "--workspace", "--all-targets", "--features", "balancing-cli/otel"]);
        succeed(clippy.args(["--", "--deny", "warnings"]))
    });
    // The programs have a lock file of their own, and are what users load into their kernels.
    for manifest in ["Cargo.toml", "crates/ebpf/Cargo.toml"] {
        let path = workspace().join(manifest);
        if !path.is_file() {
            continue;
        }
        let deny = |checks: &[&str]| {
            let mut deny = cargo();
            deny.args(["deny", "--manifest-path"]).arg(&path).args(["--workspace", "--config"]);
            succeed(deny.arg(workspace().join("deny.toml")).arg("check").args(checks))
        };
        step(&format!("licences, bans, sources of {manifest}"), &|| deny(&["licenses", "bans", "sources"]));
        if arguments.advisories {
            step(&format!("advisories of {manifest}"), &|| deny(&["advisories"]));
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    bail!("failed: {}", failed.join("; "))
}
