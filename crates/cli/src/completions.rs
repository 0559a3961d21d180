//! `balancing completions`.

use std::process::ExitCode;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::{Command, output::print};

/// Print what a shell needs to complete this command: words, flags, and what flags take
#[derive(Args)]
#[command(
    after_help = "Examples:\n  balancing completions bash | sudo tee /usr/share/bash-completion/completions/balancing\n  \
                        source <(balancing completions zsh)\n  \
                        balancing completions fish > ~/.config/fish/completions/balancing.fish\n\n\
                        Exit codes: 0 done, 2 wrong usage."
)]
pub(crate) struct Options {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

impl Options {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Command::command(), "balancing", &mut script);
        print(String::from_utf8(script)?.trim_end())?;
        Ok(ExitCode::SUCCESS)
    }
}
