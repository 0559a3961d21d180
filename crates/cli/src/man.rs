//! `balancing man`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::{Args, CommandFactory};
use clap_mangen::{Man, generate_to};

use crate::{Command, output::print};

/// Print the manual page of this command, or write those of all its commands into a directory
#[derive(Args)]
#[command(
    after_help = "Examples:\n  balancing man | man -l -\n  sudo balancing man /usr/local/share/man/man1\n\n\
                        Exit codes: 0 done, 1 not written, 2 wrong usage."
)]
pub(crate) struct Options {
    /// Where to write balancing.1, balancing-get.1 and so on; it must be there
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
}

impl Options {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        // `balancing help get` says what `balancing-get.1` does.
        let command = Command::command().disable_help_subcommand(true);
        match self.directory {
            Some(directory) => {
                let context = || format!("write manual pages to {}; is it a directory?", directory.display());
                generate_to(command, &directory).with_context(context)?;
            }
            None => {
                let mut page = Vec::new();
                Man::new(command).render(&mut page)?;
                print(String::from_utf8(page)?.trim_end())?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
