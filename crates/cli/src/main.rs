//! The `balancing` command: one verb a file.
#![forbid(unsafe_code)]

mod agent;
mod check;
mod clean;
mod completions;
mod controller;
mod crd;
mod doctor;
mod events;
mod get;
mod man;
mod output;
mod pause;
mod place;
mod plan;
mod report;
mod settings;
mod status;
mod stop;
mod target;
mod tone;
mod top;
mod wanted;
mod why;
mod width;

use std::{io::Write, process::ExitCode};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "balancing",
    version,
    about = "Layer-4 load balancing with eBPF, where connections begin",
    after_help = "Exit codes: 0 done (status: healthy), 1 failed (status: degraded; doctor: something is missing; \
                  get: a name is not there), 2 wrong usage or configuration (status: not running), \
                  3 plan: something would change."
)]
struct Command {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Agent(agent::Options),
    Controller(controller::Options),
    Status(status::Options),
    Get(get::Options),
    Why(why::Options),
    Events(events::Options),
    Top(top::Options),
    Plan(plan::Options),
    Check(check::Options),
    Doctor(doctor::Options),
    Report(report::Options),
    Pause(pause::Pause),
    Resume(pause::Resume),
    Clean(clean::Options),
    Crd(crd::Options),
    Completions(completions::Options),
    Man(man::Options),
}

fn main() -> ExitCode {
    // In two steps: a mistake in a file or a variable is no matter for the usage that `Command::parse` would print.
    let command = match Command::from_arg_matches(&Command::command().get_matches()) {
        Ok(command) => command,
        Err(error) => error.exit(),
    };
    let outcome = match command.verb {
        Verb::Agent(options) => options.run(),
        Verb::Controller(options) => options.run(),
        Verb::Status(options) => options.run(),
        Verb::Get(options) => options.run(),
        Verb::Why(options) => options.run(),
        Verb::Events(options) => options.run(),
        Verb::Top(options) => options.run(),
        Verb::Plan(options) => options.run(),
        Verb::Check(options) => options.run(),
        Verb::Doctor(options) => options.run(),
        Verb::Report(options) => options.run(),
        Verb::Pause(options) => options.run(),
        Verb::Resume(options) => options.run(),
        Verb::Clean(options) => options.run(),
        Verb::Crd(options) => options.run(),
        Verb::Completions(options) => options.run(),
        Verb::Man(options) => options.run(),
    };
    match outcome {
        Ok(code) => code,
        // Whoever reads our output has had enough, as `| head` has.
        Err(error) if output::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // Not `eprintln`, which panics where nobody can be told, as on a full disk: the exit code still tells.
            let _ = writeln!(std::io::stderr(), "error: {}", output::chain(&error));
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_an_example_and_says_its_exit_codes() {
        let command = Command::command();
        command.clone().debug_assert();
        for verb in command.get_subcommands() {
            let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example"), "`balancing {} --help` has no example", verb.get_name());
            assert!(
                help.contains("Exit codes: 0 "),
                "`balancing {} --help` has no exit codes",
                verb.get_name()
            );
        }
    }
}
