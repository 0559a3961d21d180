//! Unique names that tell whose they are, so that leftovers of killed runs can be removed.

use std::{
    fs,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

const PREFIX: &str = "balancing-test-";

/// A name that nobody else uses: `balancing-test-<pid>-<number>`.
pub fn unique_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{PREFIX}{}-{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// What processes that are gone have left in `directory`.
pub fn orphans(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let orphaned = |name: &str| {
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists())
    };
    entries
        .filter(|entry| entry.file_name().to_str().is_some_and(orphaned))
        .map(|entry| entry.path())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_dead_processes_made_is_orphaned() {
        let directory = tempfile::tempdir().unwrap();
        let mine = directory.path().join(unique_name());
        // Above the greatest pid that Linux gives out.
        let orphan = directory.path().join(format!("{PREFIX}4194999-0"));
        for path in [&mine, &orphan, &directory.path().join("other")] {
            fs::create_dir(path).unwrap();
        }
        assert_eq!(orphans(directory.path()), [orphan]);
    }
}
