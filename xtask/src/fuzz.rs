//! `cargo xtask fuzz`: runs the targets of `fuzz/` under cargo-fuzz.

use std::io::IsTerminal;

use anyhow::{Context, Result, bail};

use crate::{
    run::{cargo_bin, command, output, succeed, workspace},
    setup,
};

/// What to fuzz, and for how long.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Name of a target in fuzz/; each in turn where absent
    target: Option<String>,
    /// Seconds per target
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

/// Fuzzes the targets; fails on the first finding.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    if !workspace().join("fuzz/Cargo.toml").is_file() {
        bail!("there is no fuzz/Cargo.toml in this tree: nothing to fuzz");
    }
    // libFuzzer's instrumentation is a nightly feature of rustc.
    if output(command("rustup").args(["run", "nightly", "rustc", "--version"])).is_none() {
        bail!("fuzzing needs a nightly toolchain: run `rustup toolchain install nightly --profile minimal`");
    }
    setup::cargo_tool("fuzz", "cargo-fuzz", &[], "about a minute")?;
    let listed =
        output(nightly_fuzz().arg("list")).context("`cargo fuzz list` failed: is fuzz/Cargo.toml sound?")?;
    let all: Vec<&str> = listed.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let chosen = match &arguments.target {
        Some(target) if all.contains(&target.as_str()) => vec![target.as_str()],
        Some(target) => bail!("no fuzz target {target}; there are: {}", all.join(", ")),
        None => all,
    };
    for target in chosen {
        println!("==> fuzz {target} for {} s", arguments.seconds);
        let limit = format!("-max_total_time={}", arguments.seconds);
        // A line for every new input is for somebody who watches.
        let verbosity = format!("-verbosity={}", u8::from(std::io::stdout().is_terminal()));
        succeed(nightly_fuzz().args(["run", target, "--", &limit, &verbosity, "-print_final_stats=1"]))
            .with_context(|| format!("fuzz target {target}: the input is below fuzz/artifacts/{target}"))?;
    }
    Ok(())
}

/// `cargo fuzz` with the nightly toolchain.
fn nightly_fuzz() -> std::process::Command {
    let mut fuzz = command("rustup");
    let path = std::env::var("PATH").unwrap_or_default();
    // `cargo run` pinned its own toolchain in the environment; rustup must not see that.
    fuzz.env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO").env_remove("RUSTC");
    fuzz.env("PATH", format!("{}:{path}", cargo_bin().display()));
    fuzz.args(["run", "nightly", "cargo", "fuzz"]);
    fuzz
}
