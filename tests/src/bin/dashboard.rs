//! Started by `cargo xtask dashboard`, which says what it does.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use balancing_tests::picture;
use clap::Parser;

/// A picture of the dashboard, from real samples
#[derive(Parser)]
struct Arguments {
    /// For how long samples are taken
    #[arg(long, value_name = "N", default_value_t = 130)]
    seconds: u64,
    /// Where it is written
    #[arg(long, value_name = "FILE")]
    picture: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match picture::take(Duration::from_secs(arguments.seconds), &arguments.picture) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
