//! What a test turns on a running server, and what it reads off.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
};

use tokio::sync::watch;

/// How a connection or watch ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ending {
    /// As at the end of its time: complete as far as it goes.
    #[default]
    Clean,
    /// By a reset of the connection.
    Reset,
}

/// Orders and counters that connections and watches share.
#[derive(Debug, Default)]
pub(crate) struct Control {
    /// Counts orders to end all watches cleanly.
    watches: watch::Sender<u64>,
    /// Counts orders to end all connections, and how.
    connections: watch::Sender<(u64, Ending)>,
    /// Whether the port is open.
    pub(crate) listening: watch::Sender<bool>,
    /// The server goes away.
    pub(crate) stopped: watch::Sender<bool>,
    /// 1 while the port is open.
    pub(crate) ports: AtomicUsize,
    pub(crate) open_watches: AtomicUsize,
    pub(crate) open_connections: AtomicUsize,
    pub(crate) accepted: AtomicU64,
    pub(crate) bytes_sent: AtomicU64,
}

impl Control {
    pub(crate) fn end_watches(&self) {
        self.watches.send_modify(|count| *count += 1);
    }

    pub(crate) fn end_connections(&self, how: Ending) {
        self.connections.send_modify(|order| *order = (order.0 + 1, how));
    }

    pub(crate) fn connections(&self) -> watch::Receiver<(u64, Ending)> {
        self.connections.subscribe()
    }
}

/// A watch that is counted as long as it is open.
#[derive(Debug)]
pub(crate) struct OpenWatch {
    control: Arc<Control>,
    ended: watch::Receiver<u64>,
}

impl OpenWatch {
    pub(crate) fn new(control: &Arc<Control>) -> Self {
        control.open_watches.fetch_add(1, Relaxed);
        Self { control: control.clone(), ended: control.watches.subscribe() }
    }

    /// Returns when all watches are ordered to end.
    pub(crate) async fn ended(&mut self) {
        // The sender lives in what this holds.
        let _ = self.ended.changed().await;
    }
}

impl Drop for OpenWatch {
    fn drop(&mut self) {
        self.control.open_watches.fetch_sub(1, Relaxed);
    }
}
