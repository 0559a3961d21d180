//! What inotify tells of single files: which were renamed into place, and which somebody is writing.

use std::{
    collections::{HashMap, HashSet},
    ffi::{OsStr, OsString},
    time::{Duration, Instant},
};

use notify::{
    Event, EventKind,
    event::{AccessKind, AccessMode, ModifyKind, RenameMode},
};

/// The link that the kubelet swaps in a mounted ConfigMap, by renaming.
const DATA: &str = "..data";
/// For how long one who has a file open for writing, and does not write, is waited for: some never close it.
const STALLED: Duration = Duration::from_secs(10);

/// Signs since the last look. Without inotify there are none, and the looks must do.
#[derive(Clone, Debug, Default)]
pub struct Signs {
    renamed: HashSet<OsString>,
    writing: HashMap<OsString, Instant>,
}

impl Signs {
    /// Takes an event in.
    pub(super) fn note(&mut self, event: &Event) {
        let Some(name) = event.paths.last().and_then(|path| path.file_name()) else { return };
        match event.kind {
            EventKind::Modify(ModifyKind::Name(RenameMode::To | RenameMode::Both)) => {
                self.renamed.insert(name.to_owned());
                self.writing.remove(name);
            }
            EventKind::Create(_) | EventKind::Modify(ModifyKind::Data(_)) => {
                self.renamed.remove(name);
                self.writing.insert(name.to_owned(), Instant::now());
            }
            EventKind::Access(AccessKind::Close(AccessMode::Write)) | EventKind::Remove(_) => {
                self.writing.remove(name);
            }
            _ => {}
        }
    }

    /// Those so far; who is writing remains to be known.
    pub(super) fn take(&mut self) -> Self {
        self.writing.retain(|_, last| last.elapsed() < STALLED);
        Self { renamed: std::mem::take(&mut self.renamed), writing: self.writing.clone() }
    }

    /// Was it complete when it came into place?
    pub(super) fn is_renamed(&self, name: &OsStr) -> bool {
        self.renamed.contains(name) || self.renamed.contains(OsStr::new(DATA))
    }

    /// Has somebody begun to write it, and not closed it?
    pub(super) fn is_being_written(&self, name: &OsStr) -> bool {
        self.writing.get(name).is_some_and(|last| last.elapsed() < STALLED)
    }
}

#[cfg(test)]
mod tests {
    use notify::event::{CreateKind, DataChange};

    use super::*;

    fn event(kind: EventKind, name: &str) -> Event {
        Event::new(kind).add_path(format!("/m/{name}").into())
    }

    #[test]
    fn who_writes_is_known_until_it_is_closed() {
        let mut signs = Signs::default();
        let name = OsStr::new("a.yaml");
        let data = EventKind::Modify(ModifyKind::Data(DataChange::Any));
        signs.note(&event(EventKind::Create(CreateKind::File), "a.yaml"));
        signs.note(&event(data, "a.yaml"));
        assert!(signs.take().is_being_written(name) && signs.take().is_being_written(name));
        signs.note(&event(EventKind::Access(AccessKind::Close(AccessMode::Write)), "a.yaml"));
        assert!(!signs.take().is_being_written(name));
    }

    #[test]
    fn who_is_renamed_is_complete_once() {
        let mut signs = Signs::default();
        let to = EventKind::Modify(ModifyKind::Name(RenameMode::To));
        signs.note(&event(to, "a.yaml"));
        let first = signs.take();
        assert!(first.is_renamed(OsStr::new("a.yaml")) && !first.is_renamed(OsStr::new("b.yaml")));
        assert!(!signs.take().is_renamed(OsStr::new("a.yaml")));
        // Written after that: no longer.
        signs.note(&event(to, "a.yaml"));
        signs.note(&event(EventKind::Modify(ModifyKind::Data(DataChange::Any)), "a.yaml"));
        assert!(!signs.take().is_renamed(OsStr::new("a.yaml")));
        // All files of a ConfigMap at once.
        signs.note(&event(to, "..data"));
        assert!(signs.take().is_renamed(OsStr::new("a.yaml")));
    }
}
