//! `balancing clean`.

use std::process::ExitCode;

use anyhow::Context;
use clap::Args;

use crate::{output::print, place::Place, stop::stop};

/// Detach everything and remove every pin: the node is as before
///
/// Connections that exist go on; connected sockets then show their backend's address.
#[derive(Args)]
#[command(after_help = "Example:\n  balancing clean\n\n\
                        Exit codes: 0 gone (also if nothing was there), 1 failed, or an agent runs, 2 wrong usage.")]
pub(crate) struct Options {
    #[command(flatten)]
    place: Place,
    /// Do nothing more after that until a signal comes: for a DaemonSet that cleans each node
    #[arg(long)]
    wait: bool,
}

impl Options {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let pins = self.place.pins();
        if agent::is_owned(&pins)? {
            let pid = agent::local::status(&self.place.socket)
                .map_or(String::new(), |it| format!(" (pid {})", it.pid));
            anyhow::bail!("the agent is running{pid} and would be left with nothing; stop it first");
        }
        let there = pins.exist()?;
        kernel::clean(&pins)?;
        let directory = pins.directory().display();
        if there {
            print(&format!("detached all programs and removed {directory}"))?;
        } else {
            print(&format!("nothing to do: {directory} is not there"))?;
        }
        if self.wait {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .context("starting the runtime")?;
            runtime.block_on(async {
                stop()?.await;
                anyhow::Ok(())
            })?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
