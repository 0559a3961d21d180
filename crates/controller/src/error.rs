//! What ends a controller. What goes wrong with a cluster while it runs does not: that is told of, and tried again.

use std::net::SocketAddr;

use thiserror::Error;

/// Why it ended.
#[derive(Debug, Error)]
pub enum Error {
    /// Where the API server is, and who we are, is not known.
    #[error(transparent)]
    Access(#[from] source::Error),
    /// It can't listen.
    #[error("listening at {address} for {what}: {source}; choose another port, or end who has it")]
    Listen {
        /// What for.
        what: &'static str,
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// TLS can't be set up.
    #[error("setting up TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// A task that has no end has ended.
    #[error("{0} has ended; this is a mistake in balancing, please report it with the log")]
    Ended(&'static str),
}
