//! `balancing plan`: what an agent would do with a directory of manifests, without doing it.
//!
//! The agent's own [`Reconciler`] runs over a picture of the tables. What it would write is taken down, and that is
//! all that happens to it: the maps are opened for reading only.

mod paper;
mod services;

use std::{path::Path, thread, time::Duration};

use host::Addresses;
use kernel::{Maps, TableStore};
use plan::{Capacity, Deletes, Phase, Plan};
use serde::Serialize;
use source::{
    Problem, Severity,
    manifests::{Batch, Directory, Manifests},
};

use crate::{
    Config, Error, Reconciler, answer,
    growth::{capacity, growth},
};
use paper::Paper;
pub use services::{Frontend, Outcome, ServiceChange};

/// How often a directory is looked at that is being written to, and how long in between.
const LOOKS: usize = 20;
const PAUSE: Duration = Duration::from_millis(100);

/// What would happen.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DryRun {
    /// Would anything change?
    pub changes: bool,
    /// What it was compared with.
    pub tables: Tables,
    /// Objects in the manifests, by kind.
    pub objects: Vec<(String, usize)>,
    /// What is wrong with the manifests, and with what they ask for.
    pub problems: Vec<String>,
    /// What has no effect, though it is valid.
    pub notices: Vec<String>,
    /// Services that would change, by name.
    pub services: Vec<ServiceChange>,
    /// Writes, in their order.
    pub phases: Vec<Writes>,
    /// How many writes of each kind, on one line.
    pub summary: String,
}

/// The tables that are there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tables {
    /// Where they are pinned.
    pub pins: String,
    /// They are there; else everything is new.
    pub found: bool,
    /// Frontends in them.
    pub frontends: usize,
    /// Backends in them.
    pub backends: usize,
    /// What is to be said of them.
    pub notices: Vec<String>,
}

/// Writes of one phase.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Writes {
    /// What is written.
    pub phase: &'static str,
    /// How many.
    pub count: usize,
    /// Each in words.
    pub lines: Vec<String>,
}

/// Computes what an agent with this configuration and these manifests would write if it started now.
///
/// # Errors
/// The directory can't be listed, or the maps can't be read.
pub fn dry_run(config: &Config, manifests: &Path) -> Result<DryRun, Error> {
    Manifests::open(manifests)?;
    let (paper, capacity, mut notices) = open(config)?;
    let found = paper.was_read;
    let mut reconciler = Reconciler::new(
        paper,
        // An agent would make them larger.
        capacity.max(&config.most()),
        config.view(true),
    )?;
    notices.extend(reconciler.inconsistencies().iter().map(|it| format!("damaged, to be repaired: {it}")));
    let before = reconciler.table().image();
    let usage = reconciler.table().usage();

    reconciler.set_own_addresses(&config.node_port_addresses, Addresses::own()?.all());
    let batch = look(manifests);
    reconciler.apply(batch.changes);
    if batch.whole {
        reconciler.complete();
    }
    reconciler.look_at_everything();
    let round = reconciler.round(if batch.whole { Deletes::Allowed } else { Deletes::Held })?;
    let larger = capacity.grown(&reconciler.desired().need(), |_| false, &config.most());
    if let Some(larger) = larger.filter(|_| found) {
        notices.push(format!("to be made larger: {}", growth(&capacity, &larger)));
    }

    let (errors, valid): (Vec<Problem>, Vec<Problem>) =
        batch.problems.into_iter().partition(|problem| problem.severity == Severity::Error);
    let mut problems: Vec<String> = errors.iter().map(ToString::to_string).collect();
    if !batch.whole {
        problems.push("nothing is deleted until every file has been read well".into());
    }
    problems.extend(answer::held(&reconciler));
    problems.extend(round.refused.iter().map(ToString::to_string));
    problems.extend(answer::conflicts(reconciler.desired()));
    let phases = reconciler.store().phases.clone();
    let services = services::changes(&before, &reconciler.table().image());
    Ok(DryRun {
        changes: !phases.is_empty(),
        tables: Tables {
            pins: config.bpffs.directory().display().to_string(),
            found,
            frontends: (usage.frontends4 + usage.frontends6) as usize,
            backends: usage.backends as usize,
            notices,
        },
        objects: answer::objects(reconciler.cluster()),
        problems,
        notices: valid.iter().map(ToString::to_string).chain(answer::crowded(reconciler.cluster())).collect(),
        services,
        phases: phases.iter().map(writes).collect(),
        summary: Plan { phases, refused: round.refused, ends_affinity: round.ends_affinity }.to_string(),
    })
}

fn writes(phase: &Phase) -> Writes {
    Writes { phase: phase.name(), count: phase.len(), lines: phase.lines() }
}

/// What the directory says, once it is at rest: the same look as the agent's.
fn look(manifests: &Path) -> Batch {
    let mut directory = Directory::new(manifests.to_owned());
    let mut all = directory.scan();
    for _ in 0..LOOKS {
        if !all.unsettled {
            break;
        }
        thread::sleep(PAUSE);
        let mut next = directory.scan();
        next.changes.splice(0..0, all.changes);
        all = next;
    }
    all
}

/// A picture of what is pinned, or of empty maps, how much those hold; and what is to be said of it.
fn open(config: &Config) -> Result<(Paper, Capacity, Vec<String>), Error> {
    let pins = &config.bpffs;
    match Maps::open_read_only(pins) {
        Ok(maps) => Ok((Paper::of(maps.read()?), capacity(&maps), Vec::new())),
        Err(kernel::Error::NotInstalled(missing)) => {
            let other = missing != pins.directory();
            let of_another =
                "what is pinned has tables of another version, which the agent would make anew".into();
            Ok((Paper::default(), config.most(), if other { vec![of_another] } else { Vec::new() }))
        }
        Err(error) => Err(error.into()),
    }
}
