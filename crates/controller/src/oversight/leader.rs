//! Holds the lease, or waits for it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use kube::{
    api::{GetParams, PostParams},
    core::Request,
};
use serde_json::Value;
use source::publish::{Failure, Writer};
use tokio::{
    sync::{oneshot, watch},
    time::timeout,
};

use super::{
    Config, Figures,
    lease::{Election, Record, Step},
};

/// For how long the end waits for the lease to be given up.
const FAREWELL: Duration = Duration::from_secs(2);

/// See the module.
pub(super) struct Leader {
    election: Election,
    writer: Writer,
    figures: Arc<Figures>,
    collection: String,
    name: String,
    period: Duration,
    /// For an answer.
    patience: Duration,
    /// What went wrong last, so that it is said once.
    trouble: Option<String>,
}

impl Leader {
    pub(super) fn new(config: &Config, identity: &str, writer: Writer, figures: Arc<Figures>) -> Self {
        let Config { namespace, lease, times, .. } = config;
        Self {
            election: Election::new(namespace, lease, identity, *times),
            writer,
            figures,
            collection: format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"),
            name: lease.clone(),
            period: times.period,
            // Two may be lost, and the third is in time.
            patience: times.held / 4,
            trouble: None,
        }
    }

    /// Says until when it is ours, until `end`; then it is nobody's.
    pub(super) async fn run(mut self, held: watch::Sender<Option<Instant>>, mut end: oneshot::Receiver<()>) {
        loop {
            tokio::select! {
                biased;
                _ = &mut end => break,
                () = self.turn() => {}
            }
            let until = self.election.held_until(Instant::now());
            if held.borrow().is_some() != until.is_some() {
                let holder = self.election.holder().unwrap_or("nobody");
                tracing::info!("the lease {} is held by {holder}", self.name);
            }
            held.send_replace(until);
            tokio::select! {
                biased;
                _ = &mut end => break,
                () = tokio::time::sleep(self.period) => {}
            }
        }
        held.send_replace(None);
        if let Some(lease) = self.election.release(Timestamp::now()) {
            let released = self.replace(&lease);
            if !matches!(timeout(FAREWELL, released).await, Ok(Ok(_))) {
                tracing::warn!("the lease {} is not given up: others wait for its end", self.name);
            }
        }
    }

    async fn turn(&mut self) {
        // Both questions count from here: what was granted late is held no longer.
        let asked = Instant::now();
        let outcome = timeout(self.patience, self.ask(asked)).await;
        let outcome = outcome.unwrap_or_else(|_| Err(Failure::Later(None, "does not answer in time".into())));
        match outcome {
            Ok(granted) => {
                if let Some(lease) = granted {
                    self.election.granted(&lease, asked);
                    self.figures.wrote("lease", &Ok(()));
                }
                self.trouble = None;
            }
            // Somebody was faster.
            Err(Failure::Exists | Failure::Taken) => {}
            Err(failure) => {
                self.figures.wrote("lease", &Err::<(), _>(failure.clone()));
                let trouble = format!("{failure:?}");
                if self.trouble.as_ref() != Some(&trouble) {
                    tracing::warn!("the lease {} can't be had or renewed: {trouble}", self.name);
                    self.trouble = Some(trouble);
                }
            }
        }
    }

    async fn ask(&mut self, asked: Instant) -> Result<Option<Value>, Failure> {
        let leases = Request::new(&self.collection);
        let there = match self.writer.send(leases.get(&self.name, &GetParams::default())).await {
            Ok(lease) => Some(Record::read(&lease)),
            Err(Failure::Missing) => None,
            Err(failure) => return Err(failure),
        };
        match self.election.look(there, asked, Timestamp::now()) {
            Step::Wait => Ok(None),
            Step::Create(lease) => {
                let request = leases.create(&PostParams::default(), lease.to_string().into());
                self.writer.send(request).await.map(Some)
            }
            Step::Replace(lease) => self.replace(&lease).await.map(Some),
        }
    }

    async fn replace(&self, lease: &Value) -> Result<Value, Failure> {
        let leases = Request::new(&self.collection);
        self.writer.send(leases.replace(&self.name, &PostParams::default(), lease.to_string().into())).await
    }
}
