//! When changes are in force: the pinned maps are read again and again, by the code that the kernel's programs run.
//!
//! Changes of one resource arrive in the order in which they were made, so the oldest is waited for, and then the next.

use std::{
    collections::VecDeque,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::mpsc::{Receiver, TryRecvError},
    thread,
    time::{Duration, Instant},
};

use abi::Key;
use anyhow::{Context, Result, bail};
use datapath::{Env, look_up};
use kernel::{LiveTables, Maps, Pins};

/// Between two looks.
const PACE: Duration = Duration::from_micros(500);
/// How long a change may take; and how often it is asked whether the maps are still those that are pinned.
const PATIENCE: Duration = Duration::from_secs(60);
const REOPEN: Duration = Duration::from_secs(1);

/// An endpoint that is to be chosen from, or no longer.
pub(super) struct Expected {
    /// When the API server got to know.
    pub(super) since: Instant,
    /// The service's address.
    pub(super) vip: SocketAddr,
    pub(super) endpoint: Ipv4Addr,
    pub(super) is_there: bool,
}

/// How long each change took that comes through `changes`, until nobody sends any more.
pub(super) fn latencies(pins: &Pins, changes: &Receiver<Expected>) -> Result<Vec<Duration>> {
    let mut maps = Maps::open_read_only(pins)?;
    let mut opened = Instant::now();
    let mut waiting = VecDeque::new();
    let mut took = Vec::new();
    loop {
        let is_over = loop {
            match changes.try_recv() {
                Ok(change) => waiting.push_back(change),
                Err(TryRecvError::Empty) => break false,
                Err(TryRecvError::Disconnected) => break true,
            }
        };
        while let Some(change) = waiting.front() {
            if !is_seen(&maps, change)? {
                break;
            }
            took.push(change.since.elapsed());
            waiting.pop_front();
        }
        match waiting.front() {
            None if is_over => return Ok(took),
            Some(change) if change.since.elapsed() > PATIENCE => {
                let (vip, endpoint) = (change.vip, change.endpoint);
                bail!("a change of {vip}, endpoint {endpoint}, is not in force after {PATIENCE:?}");
            }
            // Tables that were full are others now.
            Some(_) if opened.elapsed() > REOPEN => {
                maps = Maps::open_read_only(pins)?;
                opened = Instant::now();
            }
            _ => {}
        }
        thread::sleep(PACE);
    }
}

fn is_seen(maps: &Maps, change: &Expected) -> Result<bool> {
    let live = LiveTables::new(maps);
    let key = Key { endpoint: change.vip.into(), protocol: abi::TCP };
    let has = match look_up(&live, &key).0 {
        Some(record) => (record.local.start..record.local.start + record.local.len)
            .filter_map(|position| live.listed(position))
            .any(|listed| listed.endpoint().socket_addr().ip() == IpAddr::V4(change.endpoint)),
        None => false,
    };
    match live.error() {
        Some(error) => Err(error).context("read the maps"),
        None => Ok(has == change.is_there),
    }
}
