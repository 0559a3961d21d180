//! The signals that end a process.

use std::io;

use tokio::signal::unix::{SignalKind, signal};

/// Comes to its end with SIGTERM or ctrl-C, which from now on do nothing else. For use inside of a runtime.
///
/// # Errors
/// The signals can't be caught.
pub(crate) fn stop() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
