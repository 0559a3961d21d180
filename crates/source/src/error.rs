//! What keeps a source from starting. Once it runs, nothing stops it: what goes wrong then is a problem to
//! report, and the last good state stays in force.

use std::{io, path::PathBuf};

use thiserror::Error;

/// A source that can't start.
#[derive(Debug, Error)]
pub enum Error {
    /// The manifests directory can't be listed.
    #[error("manifests directory {}: {source}; create it, or name another one", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}
