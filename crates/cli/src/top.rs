//! `balancing top`.

mod ask;
mod controls;
mod picture;
mod rates;
mod screen;
mod session;
mod sheet;
#[cfg(test)]
mod tests;
mod view;

use std::{
    io::{self, IsTerminal},
    process::ExitCode,
    time::Duration,
};

use agent::local::{self, AskError};
use clap::Args;

use crate::{
    output::{Format, show, wrong_usage},
    place::Place,
};
use ask::{Endpoints, ask};
use controls::KEYS;
use rates::Rates;

/// Watch what connections do: busiest services, their backends, failures and why, policies, maps
///
/// It shows what the agent counts on this node. A backend that gets nothing is shown with share 0, and why.
#[derive(Args)]
#[command(after_help = format!("{KEYS}\n\nExamples:\n  balancing top\n  balancing top --interval 10\n  \
                        balancing top --once\n  balancing top --once -o json | jq '.services[0].backends'\n\n\
                        Exit codes: 0 done, 1 failed (with --once also: no agent runs), 2 wrong usage, no terminal."))]
pub(crate) struct Options {
    /// Print one picture and end
    #[arg(long)]
    once: bool,
    /// Form of that picture
    #[arg(short, long, value_enum, default_value_t, requires = "once")]
    output: Format,
    /// Ask the agent each so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3600))]
    interval: u64,
    #[command(flatten)]
    place: Place,
}

impl Options {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        if self.once {
            let view = ask(&self.place, &Endpoints::All, &mut Rates::default())?;
            show(&view, self.output, |_| picture::text(&view))?;
            return Ok(ExitCode::SUCCESS);
        }
        if !(io::stdin().is_terminal() && io::stdout().is_terminal()) {
            return Ok(wrong_usage("this is no terminal; `balancing top --once` prints one picture"));
        }
        // Who may never ask need not see an empty screen.
        if let Err(error @ AskError::Denied(_)) = local::status(&self.place.socket) {
            return Err(error.into());
        }
        session::run(self.place, Duration::from_secs(self.interval))?;
        Ok(ExitCode::SUCCESS)
    }
}
