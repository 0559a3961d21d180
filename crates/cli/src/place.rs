//! Where the agent and its pins are, for every verb.

use std::path::PathBuf;

use agent::local::{self, AskError, Request};
use clap::{ArgMatches, Args, Command, FromArgMatches, error::Error};
use kernel::{Maps, Pins};
use serde::de::DeserializeOwned;

use crate::settings::{Settings, Subset};

/// What all verbs share: they find pins and socket where the agent's configuration has them.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pins: Pins,
    /// The agent's unix socket.
    pub(crate) socket: PathBuf,
}

struct Where;

impl Subset for Where {
    fn has(flag: &str) -> bool {
        matches!(flag, "bpffs" | "socket")
    }
}

impl Args for Place {
    fn augment_args(command: Command) -> Command {
        Settings::<Where>::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Place {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let config = Settings::<Where>::from_arg_matches(matches)?.effective.config;
        Ok(Self { pins: config.bpffs, socket: config.socket })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Place {
    /// The pins.
    pub(crate) fn pins(&self) -> Pins {
        self.pins.clone()
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
        Maps::open(&self.pins)
    }
}
