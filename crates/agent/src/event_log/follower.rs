//! Who gets each new line, and exactly how many it was too slow for.

use std::{io::ErrorKind, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    sync::broadcast::{
        Receiver,
        error::{RecvError, TryRecvError},
    },
    time::timeout,
};

use super::{batch::Batch, lost_line};

/// A reader of the log. Lines wait for it in the channel, as many as that holds.
pub(crate) struct Follower {
    coming: Receiver<Arc<str>>,
    node: String,
    at: String,
}

impl Follower {
    /// Lines that it misses are told of as missing `at` that place.
    pub(crate) fn new(coming: Receiver<Arc<str>>, node: &str, at: &str) -> Self {
        Self { coming, node: node.into(), at: at.into() }
    }

    /// Waits for lines and adds those that there are; how many are missing among them. `None` = there will be no more.
    pub(crate) async fn next(&mut self, batch: &mut Batch) -> Option<u64> {
        let first = self.coming.recv().await;
        self.add(first, batch)
    }

    /// The same on a thread.
    pub(crate) fn next_blocking(&mut self, batch: &mut Batch) -> Option<u64> {
        let first = self.coming.blocking_recv();
        self.add(first, batch)
    }

    /// Adds what there is without waiting; how many are missing among them.
    pub(crate) fn more(&mut self, batch: &mut Batch) -> u64 {
        let mut missing = 0;
        while !batch.is_large() {
            match self.coming.try_recv() {
                Ok(line) => batch.push(&line),
                Err(TryRecvError::Lagged(lost)) => missing += self.miss(lost, batch),
                // If it is closed, who waits for the next one is told.
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        missing
    }

    fn add(&mut self, first: Result<Arc<str>, RecvError>, batch: &mut Batch) -> Option<u64> {
        let missing = match first {
            Ok(line) => {
                batch.push(&line);
                0
            }
            Err(RecvError::Lagged(lost)) => self.miss(lost, batch),
            Err(RecvError::Closed) => return None,
        };
        Some(missing + self.more(batch))
    }

    fn miss(&self, lost: u64, batch: &mut Batch) -> u64 {
        if let Ok(line) = serde_json::to_string(&lost_line(&self.node, lost, &self.at)) {
            batch.push(&line);
        }
        lost
    }

    /// Writes all that comes to `out`, and says how many lines were written and are missing each time. It fails with
    /// [`ErrorKind::TimedOut`] where `out` takes nothing for longer than `patience`.
    pub(crate) async fn pass_on(
        mut self,
        out: &mut (impl AsyncWrite + Unpin),
        patience: Duration,
        mut say: impl FnMut(u64, u64),
    ) -> std::io::Result<()> {
        let mut batch = Batch::default();
        while let Some(missing) = self.next(&mut batch).await {
            say(0, missing);
            while !batch.rest().is_empty() {
                let bytes = timeout(patience, out.write(batch.rest())).await??;
                if bytes == 0 {
                    return Err(ErrorKind::WriteZero.into());
                }
                say(batch.wrote(bytes), 0);
            }
        }
        Ok(())
    }
}
