//! What one run of each program takes, as the kernel itself counts it. Counting costs, so this is a pass of its
//! own, and the counting ends with it.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use aya::{programs::loaded_programs, sys::Stats};
use serde::Serialize;

use crate::{
    arena::Arena,
    operation::{Case, Family, Operation, Path},
};

/// Runs in each round, and rounds; the best round counts.
const RUNS: u32 = 1000;
const ROUNDS: usize = 8;

/// One program under one load.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ProgramTime {
    /// Name of the hook.
    pub(crate) hook: &'static str,
    /// What the clients did.
    pub(crate) operation: Operation,
    /// Where to.
    pub(crate) path: Path,
    /// Mean of the best round.
    pub(crate) nanoseconds: f64,
}

/// Measures every program under the loads that run it.
pub(crate) fn measure(arena: &Arena) -> Result<Vec<ProgramTime>> {
    // Ends when it is dropped.
    let _counting = aya::sys::enable_stats(Stats::RunTime).context("BPF_ENABLE_STATS")?;
    let hooks = kernel::attached(&arena.pins)?;
    let mut times = Vec::new();
    for operation in Operation::ALL {
        for family in [Family::V4, Family::V6] {
            for &path in operation.paths().iter().filter(|path| path.has_programs()) {
                let case = Case { operation, family, path };
                let mut best: BTreeMap<&'static str, f64> = BTreeMap::new();
                let mut before = counts();
                for _ in 0..ROUNDS {
                    arena.run(case, RUNS)?;
                    let after = counts();
                    for hook in &hooks {
                        let Some(id) = hook.program_id else { continue };
                        let zero = (0, 0);
                        let (old, new) = (before.get(&id).unwrap_or(&zero), after.get(&id).unwrap_or(&zero));
                        // A program that hardly ran was not part of this.
                        if new.1 < old.1 + u64::from(RUNS) {
                            continue;
                        }
                        let mean = (new.0 - old.0) as f64 / (new.1 - old.1) as f64;
                        let best = best.entry(hook.hook).or_insert(mean);
                        *best = best.min(mean);
                    }
                    before = after;
                }
                times.extend(best.into_iter().map(|(hook, nanoseconds)| ProgramTime {
                    hook,
                    operation,
                    path,
                    nanoseconds,
                }));
            }
        }
    }
    Ok(times)
}

/// Nanoseconds and runs of all programs, by id.
pub(crate) fn counts() -> BTreeMap<u32, (u64, u64)> {
    let mut counts = BTreeMap::new();
    // One that cannot be looked at is somebody else's that has just gone: ours stay.
    for program in loaded_programs().filter_map(Result::ok) {
        counts.insert(program.id(), (program.run_time().as_nanos() as u64, program.run_count()));
    }
    counts
}
