//! What is read when somebody asks for metrics: by the thread that answers, from the pinned maps themselves, so that there is an
//! answer while the task that owns the tables is stuck.
//!
//! The maps are opened each time: that takes less than reading them, and larger ones may be in their place by now.

use std::time::{Duration, Instant};

use host::Process;
use kernel::{Maps, Pins};
use observe::metrics::{self, Kernel, Program, Reading, Sink, Source};

use super::condition::Condition;
use crate::{
    room,
    status::{EventSink, MapUse},
};

/// Reads all of it; `silent`: how long ago the task turned.
pub(super) fn read(pins: &Pins, it: &Condition, silent: Duration) -> Reading {
    let mut maps = it.tables.to_vec();
    let kernel = match Maps::open_read_only(pins).and_then(|maps| Ok((of_kernel(pins, &maps)?, maps))) {
        Ok((kernel, open)) => {
            maps.extend(room::of_others(&open));
            Some(kernel)
        }
        Err(error) => {
            tracing::debug!("reading the maps for metrics: {error}");
            None
        }
    };
    let health =
        [("/livez", it.dead(silent)), ("/healthz", it.unserved(silent)), ("/readyz", it.unready(silent))];
    let since = |since: Option<Instant>| since.map_or(Duration::ZERO, |since| since.elapsed());
    Reading {
        kernel,
        maps: maps.into_iter().map(of_map).collect(),
        process: Process::own().ok().map(of_process),
        health: health.map(|(path, problems)| (path, problems.is_empty())).into(),
        silence: silent,
        waiting: since(it.waiting),
        sinks: it.sinks.iter().map(|sink| of_sink(sink.get())).collect(),
        source: it.source.map(|name| Source { name, synced: it.synced, stale: since(it.stale) }),
    }
}

fn of_kernel(pins: &Pins, maps: &Maps) -> Result<Kernel, kernel::Error> {
    let counted = maps.counted()?;
    let programs = kernel::attached(pins)?.into_iter().map(|it| Program {
        hook: it.hook,
        attached: it.program_id.is_some(),
        runs: it.runs().map(|(nanoseconds, runs)| (Duration::from_nanos(nanoseconds), runs)),
    });
    Ok(Kernel {
        decisions: counted.decisions,
        events_lost: counted.events_lost,
        unattributed: counted.unattributed,
        paused: maps.settings()?.paused != 0,
        programs: programs.collect(),
    })
}

fn of_sink(it: EventSink) -> Sink {
    // Anybody may read metrics: a collector's URL may have something secret in it.
    let name = if it.name.contains("://") { "otlp".into() } else { it.name };
    Sink { name, written: it.written, lost: it.lost, failing: it.problem.is_some() }
}

fn of_map(it: MapUse) -> metrics::MapUse {
    metrics::MapUse { name: it.name, entries: it.used, capacity: it.capacity, limit: it.most }
}

fn of_process(it: Process) -> metrics::Process {
    metrics::Process {
        cpu: it.cpu.as_secs_f64(),
        resident: it.resident,
        address_space: it.address_space,
        open_files: it.open_files,
        most_files: it.most_files,
        started: it.started,
    }
}
