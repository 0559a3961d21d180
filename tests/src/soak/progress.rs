//! A line now and then.

use std::{
    sync::atomic::Ordering::SeqCst,
    time::{Duration, Instant},
};

use super::{
    agents::{Agents, Footprint},
    ledger::Ledger,
};

/// Lines between two lines of heads.
const PAGE: usize = 30;

/// Prints progress.
pub(super) struct Progress {
    began: Instant,
    every: Duration,
    due: Instant,
    lines: usize,
    /// Failures told so far.
    told: usize,
}

impl Progress {
    /// A line each `every`.
    pub(super) fn new(every: Duration) -> Self {
        let began = Instant::now();
        Self { began, every, due: began + every, lines: 0, told: 0 }
    }

    /// Says what phase begins.
    pub(super) fn say(&self, text: &str) {
        println!("{:>8}  {text}", elapsed(self.began));
    }

    /// Prints a line if one is due.
    pub(super) fn step(&mut self, ledger: &Ledger, agents: &Agents<'_>, edits: usize) {
        if Instant::now() < self.due {
            return;
        }
        self.due = Instant::now() + self.every;
        for text in ledger.failures().iter().skip(self.told) {
            self.told += 1;
            println!("  failed: {text}");
        }
        if self.lines.is_multiple_of(PAGE) {
            println!(
                "{:>8} {:>10} {:>6} {:>8} {:>7} {:>6} {:>8} {:>8} {:>6}  MAPS",
                "ELAPSED", "EXCHANGES", "FAILED", "RESTARTS", "EDITS", "SLOTS", "RSS KiB", "OWN KiB", "FILES"
            );
        }
        self.lines += 1;
        let maps = agents.status().map(|status| status.maps).unwrap_or_default();
        let used = |wanted: &str| {
            let map = maps.iter().find(|map| map.name == wanted);
            map.map_or("-".to_owned(), |map| map.used.to_string())
        };
        let footprint = agents.footprint().ok();
        let takes =
            |of: fn(&Footprint) -> u64| footprint.as_ref().map_or("-".to_owned(), |it| of(it).to_string());
        let shown = [("frontends4", "v4"), ("frontends6", "v6"), ("lists", "list"), ("backends", "backend")];
        let shown = shown.into_iter().chain([("sources", "source"), ("affinity", "affinity")]);
        let shown: Vec<String> = shown.map(|(map, short)| format!("{short} {}", used(map))).collect();
        println!(
            "{:>8} {:>10} {:>6} {:>8} {:>7} {:>6} {:>8} {:>8} {:>6}  {}",
            elapsed(self.began),
            ledger.exchanges.load(SeqCst),
            ledger.failed.load(SeqCst),
            agents.restarts,
            edits,
            used("slots"),
            takes(|it| it.rss),
            takes(|it| it.own),
            takes(|it| it.files as u64),
            shown.join(", ")
        );
    }
}

fn elapsed(since: Instant) -> String {
    let seconds = since.elapsed().as_secs();
    format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}
