//! The signals that end a process, and one that does not.

use std::io;

use tokio::signal::unix::{SignalKind, signal};

/// Comes to its end with SIGTERM or ctrl-C, which from now on do nothing else. SIGHUP, the habit of logrotate, does nothing
/// either: files of the event log are found anew before each writing. For use inside of a runtime.
///
/// # Errors
/// The signals can't be caught.
pub(crate) fn stop() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // Caught once, a signal is no end any more, whether or not anybody waits for it.
    drop(signal(SignalKind::hangup())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
