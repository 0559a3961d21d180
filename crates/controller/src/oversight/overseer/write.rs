//! Writing slices and statuses, and what comes of it.

use std::time::Instant;

use jiff::Timestamp;
use kube::{
    api::{DeleteParams, GetParams, PostParams, Preconditions},
    core::{Request, request::Error as RequestError},
};
use model::ObjectId;
use serde_json::Value;
use source::publish::{Failure, Notice, Regarding, Scope, Severity};
use tokio::task::JoinError;

use super::{Overseer, moment};
use crate::oversight::{
    policy,
    slices::{Action, Task},
    status::Standing,
    statuses::Known,
};

/// Writes that are under way at most: of slices, and of statuses.
const SLICES: usize = 16;
const STATUSES: usize = 4;

/// What has come of a write.
pub(super) enum Done {
    Slice(Box<Task>, Result<Value, Failure>),
    Status(ObjectId, Result<Value, Failure>),
}

impl Overseer {
    pub(super) fn has_room_for_slices(&self) -> bool {
        self.slices_in_flight < SLICES
    }

    pub(super) fn has_room_for_statuses(&self) -> bool {
        self.statuses_in_flight() < STATUSES
    }

    fn statuses_in_flight(&self) -> usize {
        self.writes.len() - self.slices_in_flight
    }

    pub(super) fn write_slices(&mut self) {
        let now = Instant::now();
        let room = SLICES.saturating_sub(self.slices_in_flight).min(self.pace.room(now));
        let tasks = self.slices.take(room, now);
        self.pace.take(tasks.len(), now);
        for task in tasks {
            self.slices_in_flight += 1;
            let (request, writer) = (request(&self.namespace, &task), self.writer.clone());
            self.writes.spawn(async move {
                let outcome = writer.send(request).await;
                Done::Slice(Box::new(task), outcome)
            });
        }
    }

    pub(super) fn write_statuses(&mut self) {
        let now = Instant::now();
        let room = STATUSES.saturating_sub(self.statuses_in_flight()).min(self.pace.room(now));
        let mut left = room;
        // Many are looked at and few are news.
        while left > 0 {
            let ids = self.statuses.take(left, now);
            if ids.is_empty() {
                return;
            }
            left -= ids.into_iter().filter(|id| self.write_status(id, now)).count();
        }
    }

    /// Was there something to write?
    fn write_status(&mut self, id: &ObjectId, now: Instant) -> bool {
        let Some(known) = self.statuses.known(id) else { return false };
        let standing = match (&known.problem, self.cluster.policy(id)) {
            (Some(problem), _) => Standing::invalid(problem),
            (None, Some(policy)) => Standing::of(policy, &self.cluster, &self.claims),
            (None, None) => return false,
        };
        let status = standing.status(&known.status, known.generation, Timestamp::now());
        if status == known.status {
            return false;
        }
        self.tell(id, &standing, known);
        let (request, writer) = (policy::write(id, &known.uid, &status), self.writer.clone());
        self.statuses.begin(id, now);
        self.pace.take(1, now);
        let id = id.clone();
        self.writes.spawn(async move {
            let outcome = writer.send(request).await;
            Done::Status(id, outcome)
        });
        true
    }

    /// Tells people of what was not so before.
    fn tell(&self, id: &ObjectId, standing: &Standing, known: &Known) {
        for finding in standing.findings.iter().filter(|it| it.is_trouble) {
            let was_so = known.status.conditions.iter().any(|it| {
                it.type_ == finding.kind && it.reason == finding.reason && it.message == finding.message
            });
            if !was_so {
                self.notices.tell(Notice {
                    regarding: Regarding { object: id.clone(), uid: known.uid.clone() },
                    reason: finding.reason,
                    note: finding.message.clone(),
                    severity: Severity::Warning,
                    scope: Scope::Cluster,
                });
            }
        }
    }

    pub(super) fn done(&mut self, done: Result<Done, JoinError>) {
        let now = moment();
        match done {
            Ok(Done::Slice(task, outcome)) => {
                self.slices_in_flight -= 1;
                self.figures.wrote("slice", &outcome);
                if let Err(Failure::Forbidden(text) | Failure::Refused(text) | Failure::Later(_, text)) =
                    &outcome
                {
                    tracing::warn!(
                        "EndpointSlice {}/{} is not written yet: {text}",
                        self.namespace,
                        task.name
                    );
                }
                if let Some(first) = self.slices.done(&task, outcome, now) {
                    self.figures.took(now.now.saturating_duration_since(first));
                }
            }
            Ok(Done::Status(id, outcome)) => {
                self.figures.wrote("status", &outcome);
                if let Err(Failure::Forbidden(text) | Failure::Refused(text) | Failure::Later(_, text)) =
                    &outcome
                {
                    tracing::warn!("the status of {id} is not written yet: {text}");
                }
                self.statuses.done(&id, outcome.map(policy::answered), now.now);
            }
            // A panic: what it was about is looked at again by whoever leads next.
            Err(error) => {
                tracing::error!("a write has ended: {error}");
                self.follow();
            }
        }
    }
}

fn request(namespace: &str, task: &Task) -> Result<http::Request<Vec<u8>>, RequestError> {
    let slices = Request::new(format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"));
    match &task.action {
        Action::Create(body) => slices.create(&PostParams::default(), body.to_string().into()),
        Action::Update(body) => slices.replace(&task.name, &PostParams::default(), body.to_string().into()),
        Action::Delete(version) => {
            let preconditions = Preconditions { resource_version: Some(version.text.clone()), uid: None };
            slices.delete(&task.name, &DeleteParams::default().preconditions(preconditions))
        }
        Action::Look => slices.get(&task.name, &GetParams::default()),
    }
}
