//! A directory of Kubernetes manifests, followed live.
//!
//! Every `.yaml`, `.yml` and `.json` file of the directory counts, except those whose names begin with `.` or
//! end with `~`. Subdirectories don't (nor do they for `kubectl apply -f`). Symbolic links are followed, so a
//! mounted ConfigMap works: its `..data` link is swapped in the directory itself, which inotify reports.
//!
//! - A broken file is reported, and what was last good in it stays in force, all of it.
//! - A file that vanishes takes its objects with it. A directory that vanishes takes nothing: all stays as it
//!   was until it is back.
//! - An object in two files is held by the first in name order; the other file is reported.
//! - What one look at the directory finds is one batch, so that renaming a file into place is atomic.
//!
//! inotify only says *when* to look. What it misses (a full queue, the far end of a symbolic link, a network
//! filesystem) is found by looking again every now and then.

mod directory;
mod parse;
mod signs;
mod watch;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use tokio::{sync::mpsc::Sender, time};

pub use directory::{Batch, Directory, is_manifest};
pub use parse::{Content, Fault, documents, parse};
pub use signs::Signs;
use watch::Watch;

use crate::{Error, Update};

/// How long to wait after the first sign of a change: whoever writes one file often writes more.
const DEBOUNCE: Duration = Duration::from_millis(10);
/// How soon to look again at a file that was written just before it was read.
const SETTLE: Duration = Duration::from_millis(100);
/// How often to look without a sign.
const RESCAN: Duration = Duration::from_secs(1);
/// Looking without a sign may take one part in this many of the time.
const RESCAN_SHARE: u32 = 200;

/// A directory of manifests that can be listed.
#[derive(Debug)]
pub struct Manifests {
    directory: Directory,
}

impl Manifests {
    /// Opens a directory.
    ///
    /// # Errors
    ///
    /// [`Error::Directory`] if it can't be listed: better to fail at the start than to wait for a typing error.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let path = path.into();
        match std::fs::read_dir(&path) {
            Ok(_) => Ok(Self { directory: Directory::new(path) }),
            Err(source) => Err(Error::Directory { path, source }),
        }
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Sends what the directory holds, and then what changes, until nobody listens any more.
    pub async fn run(self, updates: Sender<Update>) {
        // Before the first look, or a change right after it would go unseen.
        let mut watch = Watch::new(self.directory.path());
        let mut directory = self.directory;
        let (mut synced, mut complete) = (false, false);
        let mut reported = Vec::new();
        loop {
            watch.follow();
            let started = Instant::now();
            let signs = watch.take_signs();
            // Reading and parsing may take long: not on a thread that others wait for.
            let scan = tokio::task::spawn_blocking(move || {
                let batch = directory.scan_after(&signs);
                (directory, batch)
            });
            let Ok((scanned, batch)) = scan.await else {
                tracing::error!("the manifests directory is no longer read: reading it panicked");
                return;
            };
            directory = scanned;
            let pause = pause(batch.unsettled, started.elapsed());

            let mut news = Vec::new();
            if !batch.changes.is_empty() {
                news.push(Update::Changes(batch.changes));
            }
            if batch.complete && !synced {
                synced = true;
                news.push(Update::Synced);
            }
            if synced && batch.whole && !complete {
                complete = true;
                news.push(Update::Complete);
            }
            let mut problems = batch.problems;
            problems.extend(watch.problem());
            if problems != reported {
                reported.clone_from(&problems);
                news.push(Update::Problems(problems));
            }
            for update in news {
                if updates.send(update).await.is_err() {
                    return;
                }
            }

            tokio::select! {
                () = updates.closed() => return,
                () = time::sleep(pause) => {}
                () = watch.changed() => time::sleep(DEBOUNCE).await,
            }
        }
    }
}

/// How long to wait for a sign after a look that took so long.
fn pause(unsettled: bool, took: Duration) -> Duration {
    if unsettled { SETTLE } else { RESCAN.max(took * RESCAN_SHARE) }
}

#[cfg(test)]
mod tests;
