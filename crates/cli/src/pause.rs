//! `balancing pause` and `balancing resume`.

use std::process::ExitCode;

use clap::Args;

use crate::{output::print, place::Place};

/// Let all new connections pass untranslated, at once: the emergency switch
///
/// One flag in a pinned map; nothing is detached, and it works without the agent. Sockets that were translated
/// before keep their backend and still show the address that the application used.
#[derive(Args)]
#[command(after_help = "Example:\n  balancing pause && curl http://10.96.0.1/; balancing resume\n\n\
                        Exit codes: 0 paused (also if it was), 1 failed, 2 wrong usage.")]
pub(crate) struct Pause {
    #[command(flatten)]
    place: Place,
}

/// End a pause
#[derive(Args)]
#[command(after_help = "Example:\n  balancing resume\n\n\
                        Exit codes: 0 not paused any more (also if it was not), 1 failed, 2 wrong usage.")]
pub(crate) struct Resume {
    #[command(flatten)]
    place: Place,
}

impl Pause {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        set(&self.place, true)
    }
}

impl Resume {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        set(&self.place, false)
    }
}

fn set(place: &Place, paused: bool) -> anyhow::Result<ExitCode> {
    let maps = place.maps()?;
    let mut was = false;
    maps.change_settings(|settings| {
        was = settings.paused != 0;
        settings.paused = paused.into();
    })?;
    print(match (was, paused) {
        (false, true) => "paused: new connections pass untranslated until `balancing resume`",
        (true, true) => "already paused",
        (true, false) => "resumed",
        (false, false) => "not paused",
    })?;
    Ok(ExitCode::SUCCESS)
}
