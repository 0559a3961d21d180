//! The demo: one virtual address, three pods, and what an operator does to them on a working day.
//!
//! Pods are network namespaces of this machine, the agent is the real program, and its programs are attached to
//! a cgroup of the demo's own: nothing else on the machine is touched. Started by `cargo xtask demo`.
#![forbid(unsafe_code)]

mod interrupt;
mod screen;
mod stage;
mod story;
mod traffic;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::Parser;

use crate::{interrupt::Interrupt, screen::Screen};

/// A virtual address, its pods, and what happens to them.
#[derive(Parser)]
#[command(name = "balancing-demo")]
struct Arguments {
    /// The program `balancing`
    #[arg(long, value_name = "FILE", env = "BALANCING_BIN")]
    balancing: PathBuf,
    /// In about six seconds, for tests
    #[arg(long)]
    fast: bool,
}

/// How long the parts of the demo take.
#[derive(Clone, Copy)]
struct Pace {
    /// Traffic under one condition.
    traffic: Duration,
    /// After something that people read.
    reading: Duration,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let milliseconds = Duration::from_millis;
    let pace = if arguments.fast {
        Pace { traffic: milliseconds(500), reading: milliseconds(0) }
    } else {
        Pace { traffic: milliseconds(4000), reading: milliseconds(700) }
    };
    let mut screen = Screen::new();
    let interrupt = match Interrupt::watch() {
        Ok(interrupt) => interrupt,
        Err(error) => {
            eprintln!("error: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    match story::tell(&arguments.balancing, pace, &mut screen, &interrupt) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if interrupt.check().is_err() {
                // Whatever failed did so because of that.
                eprintln!("\ninterrupted; everything that the demo made is removed");
                return ExitCode::from(130);
            }
            // Whoever reads our output has had enough, as `| head` has.
            if !screen::is_broken_pipe(&error) {
                eprintln!("\nerror: {error:#}");
            }
            ExitCode::FAILURE
        }
    }
}
