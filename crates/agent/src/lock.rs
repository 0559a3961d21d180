//! One agent at a time: two would undo each other's tables.

use std::{
    fs::{File, OpenOptions, TryLockError},
    path::Path,
};

use kernel::Pins;

use crate::Error;

/// Held while the agent lives; the kernel lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct Lock {
    _socket: File,
    _pins: File,
}

impl Lock {
    /// Takes the locks: a file beside the socket, and the directory of the pins, for either may be shared with an
    /// agent that has another one of the other.
    ///
    /// # Errors
    /// Another agent has one, or the directories can't be written.
    pub(crate) fn take(socket: &Path, pins: &Pins) -> Result<Self, Error> {
        let path = socket.with_extension("lock");
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory).map_err(|e| Error::file("mkdir", directory, e))?;
        }
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true);
        let socket = lock(&path, options.open(&path))?;
        pins.create()?;
        let pins = lock(pins.directory(), File::open(pins.directory()))?;
        Ok(Self { _socket: socket, _pins: pins })
    }
}

fn lock(path: &Path, opened: std::io::Result<File>) -> Result<File, Error> {
    let file = opened.map_err(|e| Error::file("open", path, e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Running(path.to_owned())),
        Err(TryLockError::Error(e)) => Err(Error::file("flock", path, e)),
    }
}

/// Does an agent own these pins? Also one that does not answer, or answers elsewhere.
///
/// # Errors
/// The directory can't be opened.
pub fn is_owned(pins: &Pins) -> Result<bool, Error> {
    if !pins.exist()? {
        return Ok(false);
    }
    match lock(pins.directory(), File::open(pins.directory())) {
        Ok(_) => Ok(false),
        Err(Error::Running(_)) => Ok(true),
        Err(error) => Err(error),
    }
}
