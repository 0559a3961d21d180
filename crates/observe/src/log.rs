//! The agent's own log: lines on standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Starts logging to standard error, at level `info` unless `BALANCING_LOG` says otherwise (syntax of
/// `tracing_subscriber::EnvFilter`).
pub fn start() {
    let filter = EnvFilter::try_from_env("BALANCING_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        // A full disk or a reader that is gone is no reason to end: what can't be logged is lost. (Told of it, the
        // subscriber would write to the same standard error, and panic.)
        .log_internal_errors(false)
        .init();
}
