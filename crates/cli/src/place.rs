//! Where the agent and its pins are, for every verb.

use std::path::PathBuf;

use agent::local::{self, AskError, Request};
use clap::Args;
use kernel::{Maps, Pins};
use serde::de::DeserializeOwned;

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

    /// Asks the agent; `None` if none runs. One that runs and can't be asked is an error.
    pub(crate) fn ask_if_running<T: DeserializeOwned>(
        &self,
        request: &Request,
    ) -> Result<Option<T>, AskError> {
        match local::ask_one(&self.socket, request) {
            Ok(answer) => Ok(Some(answer)),
            Err(AskError::NotRunning(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The pinned maps, which are there also when the agent is not.
    pub(crate) fn maps(&self) -> Result<Maps, kernel::Error> {
        Maps::open(&self.pins())
    }
}
