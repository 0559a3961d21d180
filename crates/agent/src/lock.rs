//! One agent at a time: two would undo each other's tables.

use std::{
    fs::{File, OpenOptions},
    path::Path,
};

use crate::Error;

/// Held while the agent lives; the kernel lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "held, not used")] File);

impl Lock {
    /// Takes the lock beside the agent's socket.
    ///
    /// # Errors
    /// Another agent has it, or the directory can't be written.
    pub(crate) fn take(socket: &Path) -> Result<Self, Error> {
        let path = socket.with_extension("lock");
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory).map_err(|e| Error::file("mkdir", directory, e))?;
        }
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|e| Error::file("open", &path, e))?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(std::fs::TryLockError::WouldBlock) => Err(Error::Running(path)),
            Err(std::fs::TryLockError::Error(e)) => Err(Error::file("flock", &path, e)),
        }
    }
}
