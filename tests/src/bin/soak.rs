//! Started by `cargo xtask soak`, which says what it does.

use std::{
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use balancing_tests::soak::{self, Options};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

/// Edits, restarts and traffic for a long time; then it is checked that nothing leaks
#[derive(Parser)]
struct Arguments {
    /// For how long
    #[arg(long, value_name = "N", default_value_t = 60)]
    minutes: u64,
    /// Repeats edits and restarts; printed in any case
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<bool> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("what time is it?")?;
    let seed = arguments.seed.unwrap_or(now.as_nanos() as u64);
    let interrupted = Arc::new(AtomicBool::new(false));
    stop_on_signals(&interrupted)?;
    println!("soak: {} minutes, --seed {seed}; ctrl-C ends it with all checks", arguments.minutes);
    let report = soak::run(&Options {
        duration: Duration::from_secs(60 * arguments.minutes),
        seed,
        audit: Duration::from_secs(5),
        progress: Duration::from_secs(10),
        compare_memory: true,
        interrupted,
    })?;
    println!("\n{}", report.summary);
    if report.complaints.is_empty() {
        println!("nothing failed, nothing is left, nothing has grown");
        return Ok(true);
    }
    println!("\nthe end of the agent's log:");
    let lines: Vec<&str> = report.log.lines().collect();
    lines[lines.len().saturating_sub(30)..].iter().for_each(|line| println!("    {line}"));
    println!("\nFAILED (--seed {seed}):");
    report.complaints.iter().for_each(|complaint| println!("- {complaint}"));
    Ok(false)
}

/// SIGINT and SIGTERM set `interrupted`.
fn stop_on_signals(interrupted: &Arc<AtomicBool>) -> Result<()> {
    let interrupted = Arc::clone(interrupted);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("make a runtime")?;
    let (mut interrupts, mut terminations) = {
        let _inside = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async {
            loop {
                tokio::select! {
                    _ = interrupts.recv() => {}
                    _ = terminations.recv() => {}
                }
                interrupted.store(true, SeqCst);
            }
        });
    })?;
    Ok(())
}
