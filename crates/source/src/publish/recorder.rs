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
    name: String,
    servers: Arc<Servers>,
    /// Of an agent: whether it is on a node. A controller always writes.
    here: Option<watch::Receiver<Option<Here>>>,
    taken: Taken,
    ledger: Ledger,
    voice: Voice,
    pause: BackOff,
    /// No earlier than this is anything written.
    not_before: Instant,
}

impl Recorder {
    pub(super) fn new(
        name: &str,
        servers: Arc<Servers>,
        taken: Taken,
        voice: Voice,
        counted: Duration,
    ) -> Self {
        let now = Instant::now();
        Self {
            name: name.to_owned(),
            servers,
            here: None,
            taken,
            ledger: Ledger::new(name, counted, now.into_std()),
            voice,
            pause: BackOff::new(),
            not_before: now,
        }
    }

    /// Of an agent: it writes if it is on a node.
    pub(super) fn of_node(self, here: watch::Receiver<Option<Here>>) -> Self {
        Self { here: Some(here), ..self }
    }

    pub(super) async fn run(mut self) {
        loop {
            // Until all nodes are known nobody knows whether this is one.
            let due = self.ledger.next().filter(|_| self.is_anywhere());
            let at = due.map_or(self.not_before, |due| self.not_before.max(due.into()));
            tokio::select! {
                notice = self.taken.receiver.recv() => match notice {
                    Some(notice) => self.take(notice),
                    None => return,
                },
                changed = changed(&mut self.here) => {
                    if changed.is_err() {
                        return;
                    }
                }
                () = tokio::time::sleep_until(at), if due.is_some() => self.write().await,
            }
            self.voice.say([]).await;
        }
    }

    /// It is known whether this is a node.
    fn is_anywhere(&self) -> bool {
        self.here.as_ref().is_none_or(|here| here.borrow().is_some())
    }

    /// A host that is no node writes nothing.
    fn is_elsewhere(&self) -> bool {
        self.look(|here| here.own.is_none()).unwrap_or_default()
    }

    fn look<T>(&self, at: impl FnOnce(&Here) -> T) -> Option<T> {
        self.here.as_ref().and_then(|here| here.borrow().as_ref().map(at))
    }

    fn take(&mut self, notice: Notice) {
        if self.is_elsewhere() {
            return;
        }
        let spread = self.look(Here::spread).unwrap_or_default();
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
        let event = event::event(name, notice, self.reporter(), &self.name, time);
        match send(&self.servers, events.create(&PostParams::default(), event.to_string().into())).await {
            Ok(_) => self.taken.counts.add_written(),
            // Somebody was faster by a moment.
            Err(Failure::Exists) => {}
            Err(failure) => return Err(failure),
        }
        Ok(1)
    }

    /// Who says so.
    fn reporter(&self) -> &'static str {
        if self.here.is_some() { event::AGENT } else { event::CONTROLLER }
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

async fn changed(here: &mut Option<watch::Receiver<Option<Here>>>) -> Result<(), watch::error::RecvError> {
    match here {
        Some(here) => here.changed().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
