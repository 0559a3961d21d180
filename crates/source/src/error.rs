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
    /// The thread that follows it can't run.
    #[error("the thread that follows the source: {0}")]
    Thread(#[source] io::Error),
    /// What says where the API server is, and who we are, can't be used.
    #[error("{what}: {reason}")]
    Access {
        /// The kubeconfig, the service account, or the URL of a server.
        what: String,
        /// What is wrong, and what would be right.
        reason: String,
    },
}
