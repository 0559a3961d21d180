//! C1: from the start of the program to everything in force.

use std::time::Duration;

use anyhow::Result;
use rustix::process::Signal;

use super::{feed::Feed, stage::Stage};

/// One start.
#[derive(Clone, Copy)]
pub(super) struct Start {
    pub(super) took: Duration,
    pub(super) cpu: Duration,
}

/// Starts of both kinds.
pub(super) struct Starts {
    /// Nothing was pinned.
    pub(super) cold: Vec<Start>,
    /// The tables of the agent before were there.
    pub(super) warm: Vec<Start>,
}

/// Starts agents, one after another.
pub(super) fn measure<F: Feed>(stage: &Stage<F>, count: u32) -> Result<Starts> {
    let start = || -> Result<Start> {
        let mut agent = stage.agent()?;
        let start = Start { took: agent.ready_after, cpu: agent.process().cpu()? };
        agent.end(Signal::TERM)?;
        Ok(start)
    };
    let (mut cold, mut warm) = (Vec::new(), Vec::new());
    for _ in 0..count {
        stage.clean()?;
        cold.push(start()?);
        warm.push(start()?);
    }
    Ok(Starts { cold, warm })
}
