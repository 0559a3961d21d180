//! Where the agent and its pins are, for every verb.

use std::path::PathBuf;

use clap::Args;
use kernel::{Maps, Pins};

/// Options that all verbs share.
#[derive(Args, Clone, Debug)]
pub(crate) struct Place {
    /// The bpffs directory of our pins
    #[arg(long, value_name = "DIR", env = "BALANCING_BPFFS", default_value = kernel::pins::DEFAULT)]
    pub(crate) bpffs: PathBuf,
    /// The agent's unix socket
    #[arg(long, value_name = "FILE", env = "BALANCING_SOCKET", default_value = agent::config::SOCKET)]
    pub(crate) socket: PathBuf,
}

impl Place {
    /// The pins.
    pub(crate) fn pins(&self) -> Pins {
        Pins::new(&self.bpffs)
    }

    /// The pinned maps, which are there also when the agent is not.
    pub(crate) fn maps(&self) -> Result<Maps, kernel::Error> {
        Maps::open(&self.pins())
    }
}
