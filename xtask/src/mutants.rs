//! `cargo xtask mutants`: changes the code of the pure crates, one place at a time, and runs their tests: a change
//! that no test notices is a rule that no test proves.
//!
//! What is left out, and why, is in `.cargo/mutants.toml`.

use std::{fs, path::Path, time::Instant};

use anyhow::{Context, Result, bail};

use crate::{
    run::{capture, cargo, command, workspace},
    setup,
};

/// The crates whose rules are proved by tests of their own, without a kernel.
const CRATES: [&str; 3] = ["model", "plan", "datapath"];

/// cargo-mutants: no mutant survived, but some ran into the time limit.
const ONLY_TIMEOUTS: i32 = 3;

/// cargo-mutants: mutants survived.
const SURVIVORS: i32 = 2;

/// What to mutate.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Crates, without `balancing-`; model, plan and datapath where absent
    crates: Vec<String>,
    /// Only what differs from this commit, also what is not committed yet
    #[arg(long, value_name = "COMMIT")]
    in_diff: Option<String>,
    /// Mutants to build and test side by side
    #[arg(long, default_value_t = 1)]
    jobs: u32,
}

/// Tests every mutant; fails if one survives.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    setup::cargo_tool("mutants", "cargo-mutants", &[], "about 2 minutes")?;
    let begun = Instant::now();
    let directory = workspace().join("target/mutants");
    fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;

    let mut mutants = cargo();
    mutants
        .args(["mutants", "--no-times", "--jobs", &arguments.jobs.to_string(), "--output"])
        .arg(&directory);
    let crates: Vec<&str> = match arguments.crates.as_slice() {
        [] => CRATES.to_vec(),
        some => some.iter().map(String::as_str).collect(),
    };
    for name in &crates {
        mutants.args(["--package", &format!("balancing-{name}")]);
    }
    if let Some(commit) = &arguments.in_diff {
        let diff = directory.join("in.diff");
        fs::write(&diff, capture(command("git").args(["diff", commit]))?)
            .with_context(|| format!("cannot write {}", diff.display()))?;
        mutants.arg("--in-diff").arg(diff);
    }

    // Not `succeed`: its exit status says which of several outcomes it was.
    let status = mutants.status().context("cannot run `cargo mutants`")?;
    let results = directory.join("mutants.out");
    match status.code() {
        // A mutant that hangs was noticed. It is shown, since a slow machine may hang as well.
        Some(0 | ONLY_TIMEOUTS) => {
            let took = begun.elapsed().as_secs_f32();
            println!("no mutant of {} survived ({took:.0} s)", crates.join(", "));
            for mutant in listed(&results.join("timeout.txt")) {
                println!("  noticed by its time-out only: {mutant}");
            }
            Ok(())
        }
        Some(SURVIVORS) => {
            let missed = listed(&results.join("missed.txt"));
            for mutant in &missed {
                println!("  survived: {mutant}");
            }
            bail!(
                "{} mutants survived: each needs a test, or a line with its reason in .cargo/mutants.toml (the changes: {})",
                missed.len(),
                results.join("diff").display()
            )
        }
        _ => bail!("`cargo mutants` failed: {status}"),
    }
}

/// The lines of a file of results; none where it is not there.
fn listed(file: &Path) -> Vec<String> {
    fs::read_to_string(file).unwrap_or_default().lines().map(str::to_owned).collect()
}
