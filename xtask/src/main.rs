//! Development tasks. `cargo xtask --help` lists them.
#![forbid(unsafe_code)]

mod bench;
mod check_layers;
mod dashboard;
mod demo;
mod fuzz;
mod image;
mod lint;
mod mutants;
mod run;
mod setup;
mod soak;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Everything a contributor or CI runs, one verb each.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Install what building and testing need on this machine; says what first, reuses what is there
    Setup,
    /// See it work: pods as namespaces, real backends, a restart in the middle of it (as root, 25 seconds)
    Demo(demo::Arguments),
    /// Measure what a connection costs with the programs and without, or what the agent takes (as root, three minutes)
    Bench(bench::Arguments),
    /// The picture in docs/metrics.md, of the dashboard with real samples (as root, two minutes)
    Dashboard(dashboard::Arguments),
    /// Formatting, clippy, the layers, licences and sources of dependencies
    Lint(lint::Arguments),
    /// Only the layers: which crate may use which (docs/adr/0001-layers.md)
    CheckLayers,
    /// Set up, build, and run every test; the kernel, scenario and process tests run as root
    Test(test::Arguments),
    /// The program as one file that needs no other, and a container image of it, in target/image
    Image,
    /// Fuzz one target, or each in turn (needs a nightly toolchain)
    Fuzz(fuzz::Arguments),
    /// Everything at once for an hour, then: has anything failed, is anything left, has anything grown? (as root)
    Soak(soak::Arguments),
    /// Change the pure crates' code place by place: does a test notice? (more than an hour)
    Mutants(mutants::Arguments),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().verb {
        Verb::Setup => setup::run().and_then(|()| setup::kubernetes()).and_then(|()| setup::prometheus()),
        Verb::Demo(arguments) => demo::run(&arguments),
        Verb::Bench(arguments) => bench::run(&arguments),
        Verb::Dashboard(arguments) => dashboard::run(&arguments),
        Verb::Lint(arguments) => lint::run(&arguments),
        Verb::CheckLayers => check_layers::run(),
        Verb::Test(arguments) => test::run(&arguments),
        Verb::Image => image::run(),
        Verb::Fuzz(arguments) => fuzz::run(&arguments),
        Verb::Soak(arguments) => soak::run(&arguments),
        Verb::Mutants(arguments) => mutants::run(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
