//! Writes notices as Events.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use kube::{
    api::{GetParams, Patch, PatchParams, PostParams},
    core::Request,
};
use tokio::{sync::watch, time::Instant};

use super::{
    RARELY,
    back_off::BackOff,
    event,
    event::EventName,
    ledger::{Ledger, Moment, Task},
    nodes::Here,
    notice::{Notice, Taken},
    voice::Voice,
    write::{Failure, send},
};
use crate::kubernetes::{Servers, chance, scattered};

/// See the module.
pub(super) struct Recorder {
    node: String,
    servers: Arc<Servers>,
    here: watch::Receiver<Option<Here>>,
    taken: Taken,
    ledger: Ledger,
    voice: Voice,
    pause: BackOff,
    /// No earlier than this is anything written.
    not_before: Instant,
}

impl Recorder {
    pub(super) fn new(
        node: &str,
        servers: Arc<Servers>,
        here: watch::Receiver<Option<Here>>,
        taken: Taken,
        voice: Voice,
        counted: Duration,
    ) -> Self {
        let now = Instant::now();
        Self {
            node: node.to_owned(),
            servers,
            here,
            taken,
            ledger: Ledger::new(node, counted, now.into_std()),
            voice,
            pause: BackOff::new(),
            not_before: now,
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            // Until all nodes are known nobody knows whether this is one.
            let due = self.ledger.next().filter(|_| self.here.borrow().is_some());
            let at = due.map_or(self.not_before, |due| self.not_before.max(due.into()));
            tokio::select! {
                notice = self.taken.receiver.recv() => match notice {
                    Some(notice) => self.take(notice),
                    None => return,
                },
                changed = self.here.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                () = tokio::time::sleep_until(at), if due.is_some() => self.write().await,
            }
            self.voice.say([]).await;
        }
    }

    /// A host that is no node writes nothing.
    fn is_elsewhere(&self) -> bool {
        self.here.borrow().as_ref().is_some_and(|here| here.own.is_none())
    }

    fn take(&mut self, notice: Notice) {
        if self.is_elsewhere() {
            return;
        }
        let spread = self.here.borrow().as_ref().map_or(Duration::ZERO, Here::spread);
        let moment = Moment { now: Instant::now().into_std(), time: Timestamp::now() };
        if !self.ledger.take(notice, moment, spread.mul_f64(chance())) {
            self.taken.counts.add_dropped(1);
        }
    }

    async fn write(&mut self) {
        let now = || Instant::now().into_std();
        let Some((name, task)) = self.ledger.due(now()) else { return };
        if self.is_elsewhere() {
            return self.ledger.forget(&name);
        }
        let outcome = match &task {
            Task::Tell(notice, time) => self.tell(&name, notice, *time).await,
            Task::Count(count, time) => self.count(&name, *count, *time).await,
        };
        let failure = match outcome {
            Ok(count) => {
                self.voice.went_well();
                self.pause.reset();
                return self.ledger.is_written(&name, count, now());
            }
            Err(failure) => failure,
        };
        match failure {
            // It has expired.
            Failure::Missing if matches!(task, Task::Count(..)) => self.ledger.is_gone(&name, now()),
            // Its namespace is gone, or about to be; or it is one that no server takes.
            Failure::Missing | Failure::Refused(_) => {
                tracing::debug!("Event {}/{} is not to be written: {failure:?}", name.namespace, name.name);
                self.taken.counts.add_dropped(1);
                self.ledger.forget(&name);
            }
            Failure::Exists | Failure::Taken => self.wait(&name, None),
            Failure::Forbidden(text) => {
                self.voice.is_refused(format!(
                    "does not let us write Events: {text}; see docs/kubernetes.md for the right, or set --publish=false"
                ));
                self.not_before = Instant::now() + scattered(RARELY, chance());
            }
            Failure::Later(asked, text) => {
                self.voice.failed(format!("Events are not written yet: {text}"));
                self.wait(&name, asked);
            }
        }
    }

    fn wait(&mut self, name: &EventName, asked: Option<Duration>) {
        self.not_before = Instant::now() + self.pause.after_failure(asked);
        // Others go first.
        self.ledger.put_off(name, self.not_before.into_std());
    }

    /// Writes an Event, unless it is there; how often it was told by then. Whoever only looks costs the server less than who
    /// is told that it exists, and is not counted against what may be written.
    async fn tell(&self, name: &EventName, notice: &Notice, time: Timestamp) -> Result<u64, Failure> {
        let events = Request::new(name.collection());
        match send(&self.servers, events.get(&name.name, &GetParams::default())).await {
            Err(Failure::Missing) => {}
            there => return there.map(|event| event::count(&event)),
        }
        let event = event::event(name, notice, &self.node, time);
        match send(&self.servers, events.create(&PostParams::default(), event.to_string().into())).await {
            Ok(_) => self.taken.counts.add_written(),
            // Somebody was faster by a moment.
            Err(Failure::Exists) => {}
            Err(failure) => return Err(failure),
        }
        Ok(1)
    }

    /// Writes how often it was told.
    async fn count(&self, name: &EventName, count: u64, time: Timestamp) -> Result<u64, Failure> {
        let patch = Patch::Merge(event::series(count, time));
        let request = Request::new(name.collection()).patch(&name.name, &PatchParams::default(), &patch);
        send(&self.servers, request).await?;
        self.taken.counts.add_written();
        Ok(count)
    }
}

#[cfg(test)]
mod tests;
