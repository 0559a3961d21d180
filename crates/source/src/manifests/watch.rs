//! Signs of change in the directory, from inotify.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode},
};
use tokio::sync::Notify;

use super::signs::Signs;
use crate::{Place, Problem, Severity};

/// Watches a path, whichever directory is there.
pub(super) struct Watch {
    path: PathBuf,
    sign: Arc<Notify>,
    signs: Arc<Mutex<Signs>>,
    watcher: Option<RecommendedWatcher>,
    /// Device and inode of the directory that is watched.
    watched: Option<(u64, u64)>,
    error: Option<String>,
}

impl Watch {
    pub(super) fn new(path: &Path) -> Self {
        let sign = Arc::new(Notify::new());
        let signs = Arc::new(Mutex::new(Signs::default()));
        let mut watch = Self {
            path: path.to_owned(),
            sign: sign.clone(),
            signs: signs.clone(),
            watcher: None,
            watched: None,
            error: None,
        };
        match notify::recommended_watcher(move |event| {
            if is_change(&event) {
                if let Ok(event) = &event {
                    signs.lock().unwrap_or_else(PoisonError::into_inner).note(event);
                }
                sign.notify_one();
            }
        }) {
            Ok(watcher) => watch.watcher = Some(watcher),
            Err(error) => watch.error = Some(error.to_string()),
        }
        watch
    }

    /// Watches the directory that is at the path now. An inotify watch stays with the directory when that is
    /// moved or replaced.
    pub(super) fn follow(&mut self) {
        let Some(watcher) = &mut self.watcher else { return };
        let there = fs::metadata(&self.path).ok().map(|metadata| (metadata.dev(), metadata.ino()));
        if there == self.watched {
            return;
        }
        if self.watched.take().is_some() {
            // Fails where the kernel has dropped the watch with the directory; nothing is left to remove then.
            let _ = watcher.unwatch(&self.path);
        }
        if there.is_some() {
            match watcher.watch(&self.path, RecursiveMode::NonRecursive) {
                Ok(()) => (self.watched, self.error) = (there, None),
                Err(error) => self.error = Some(error.to_string()),
            }
        }
    }

    /// What is known of single files since this was last asked.
    pub(super) fn take_signs(&self) -> Signs {
        self.signs.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Returns when something may have changed.
    pub(super) async fn changed(&self) {
        self.sign.notified().await;
    }

    /// Why changes are not seen at once, if so.
    pub(super) fn problem(&self) -> Option<Problem> {
        let error = self.error.as_ref()?;
        Some(Problem {
            severity: Severity::Notice,
            place: Place::File(self.path.clone()),
            line: None,
            object: None,
            reason: format!("can't be watched, changes are seen late: {error}"),
        })
    }
}

/// Everything but reading, of which our own looks are a part.
fn is_change(event: &notify::Result<Event>) -> bool {
    match event {
        Ok(event) => match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
            EventKind::Access(_) => false,
            _ => true,
        },
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use notify::event::{CreateKind, ModifyKind, RemoveKind};
    use tokio::time;

    use super::*;

    #[test]
    fn reading_is_no_sign_of_change_and_all_else_is() {
        let table = [
            // Our own looks.
            (EventKind::Access(AccessKind::Open(AccessMode::Any)), false),
            (EventKind::Access(AccessKind::Read), false),
            (EventKind::Access(AccessKind::Close(AccessMode::Read)), false),
            (EventKind::Access(AccessKind::Close(AccessMode::Write)), true),
            (EventKind::Create(CreateKind::File), true),
            (EventKind::Modify(ModifyKind::Any), true),
            (EventKind::Remove(RemoveKind::File), true),
            // A full queue.
            (EventKind::Other, true),
        ];
        for (kind, expected) in table {
            assert_eq!(is_change(&Ok(Event::new(kind))), expected, "{kind:?}");
        }
        assert!(is_change(&Err(notify::Error::generic("lost"))));
    }

    #[tokio::test]
    async fn nothing_is_signed_where_nothing_changes() {
        let temp = tempfile::TempDir::new().unwrap();
        let mut watch = Watch::new(temp.path());
        watch.follow();
        let soon = Duration::from_millis(30);
        assert!(time::timeout(soon, watch.changed()).await.is_err());
        fs::read_dir(temp.path()).unwrap();
        assert!(time::timeout(soon, watch.changed()).await.is_err());
        fs::write(temp.path().join("a.yaml"), "").unwrap();
        assert!(time::timeout(Duration::from_secs(10), watch.changed()).await.is_ok());
    }

    #[test]
    fn a_directory_that_can_not_be_watched_is_told_of() {
        let mut watch = Watch::new(Path::new("/nonexistent"));
        assert_eq!(watch.problem(), None);
        watch.error = Some("no space left on device".into());
        let problem = watch.problem().unwrap();
        assert_eq!(problem.severity, Severity::Notice);
        let text = "/nonexistent: can't be watched, changes are seen late: no space left on device";
        assert_eq!(problem.to_string(), text);
    }
}
