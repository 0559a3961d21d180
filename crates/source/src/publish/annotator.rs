//! Keeps this node's annotations as they are to be.

use std::{sync::Arc, time::Duration};

use kube::{
    api::{Patch, PatchParams},
    core::Request,
};
use model::{Node, NodeAnnotation};
use serde_json::{Map, Value, json};
use tokio::{sync::watch, time::Instant};

use super::{
    RARELY,
    annotations::Wanted,
    back_off::BackOff,
    nodes::Here,
    notice::{Notice, Notices, Regarding, Scope, Severity},
    voice::Voice,
    write::{Failure, send},
};
use crate::kubernetes::{Servers, chance, scattered};

/// What was written comes back by the watch. If it does not within this, somebody has to look what there is.
const UNSEEN: Duration = Duration::from_secs(10);

/// See the module.
pub(super) struct Annotator {
    servers: Arc<Servers>,
    here: watch::Receiver<Option<Here>>,
    notices: Notices,
    voice: Voice,
    pause: BackOff,
    /// No earlier than this is anything written.
    not_before: Option<Instant>,
    /// What was tried last, for which UID.
    tried: Option<(String, Wanted)>,
    /// What was told of this node.
    told: Option<Wanted>,
}

impl Annotator {
    pub(super) fn new(
        servers: Arc<Servers>,
        here: watch::Receiver<Option<Here>>,
        notices: Notices,
        voice: Voice,
    ) -> Self {
        Self {
            servers,
            here,
            notices,
            voice,
            pause: BackOff::new(),
            not_before: None,
            tried: None,
            told: None,
        }
    }

    pub(super) async fn run(mut self) {
        let mut at = None;
        loop {
            tokio::select! {
                changed = self.here.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                () = tokio::time::sleep_until(at.unwrap_or_else(Instant::now)), if at.is_some() => {}
            }
            at = self.look().await;
        }
    }

    /// Writes if there is something to write; when to look again, if nothing changes.
    async fn look(&mut self) -> Option<Instant> {
        let here = self.here.borrow_and_update().clone().unwrap_or_default();
        let Some((own, wanted)) = &here.own else {
            self.voice.went_well();
            self.voice.say([]).await;
            return None;
        };
        self.tell(own, wanted);
        let next = if wanted.is_in_force(own) {
            self.voice.went_well();
            self.pause.reset();
            (self.not_before, self.tried) = (None, None);
            None
        } else {
            let now = Instant::now();
            // Another decision does not wait for what became of the last.
            if self.tried.as_ref().is_some_and(|(uid, tried)| (uid, tried) != (&own.uid, wanted)) {
                (self.not_before, self.tried) = (None, None);
            }
            // All agents of a cluster may begin at once.
            let due = *self.not_before.get_or_insert_with(|| now + here.spread().mul_f64(chance()));
            if due <= now { Some(self.write(own, wanted).await) } else { Some(due) }
        };
        self.not_before = next;
        let about = |(which, problem): (&NodeAnnotation, &String)| {
            (format!("Node {}", own.name), bad(*which, problem))
        };
        self.voice.say(wanted.problems.iter().map(about)).await;
        next
    }

    /// When to look again.
    async fn write(&mut self, own: &Node, wanted: &Wanted) -> Instant {
        self.tried = Some((own.uid.clone(), wanted.clone()));
        let params = PatchParams::apply(api::FIELD_MANAGER);
        let patch = Patch::Apply(applied(own, wanted));
        let request = Request::new("/api/v1/nodes").patch(&own.name, &params, &patch);
        let pause = match send(&self.servers, request).await {
            Ok(_) => {
                self.voice.went_well();
                self.pause.reset();
                UNSEEN
            }
            // Somebody has been faster, or the node is another one now: there will be news.
            Err(Failure::Taken | Failure::Exists | Failure::Missing) => self.pause.after_failure(None),
            Err(Failure::Forbidden(text) | Failure::Refused(text)) => {
                self.voice.is_refused(format!(
                    "does not let us write the annotations of Node {}: {text}; see docs/kubernetes.md for the right, or \
                     set --publish=false",
                    own.name
                ));
                scattered(RARELY, chance())
            }
            Err(Failure::Later(asked, text)) => {
                self.voice
                    .failed(format!("the annotations of Node {} are not written yet: {text}", own.name));
                self.pause.after_failure(asked)
            }
        };
        Instant::now() + pause
    }

    /// Of an administrator's values that make no sense.
    fn tell(&mut self, own: &Node, wanted: &Wanted) {
        let before = self.told.replace(wanted.clone()).unwrap_or_default();
        for (which, problem) in &wanted.problems {
            if before.problems.get(which) != Some(problem) {
                self.notices.tell(Notice {
                    regarding: Regarding::node(&own.name, &own.uid),
                    reason: "InvalidAnnotation",
                    note: bad(*which, problem),
                    severity: Severity::Warning,
                    scope: Scope::Node,
                });
            }
        }
    }
}

fn bad(which: NodeAnnotation, problem: &str) -> String {
    format!(
        "annotation {which}: {problem}; it stays as it is: correct it, or remove it to have the agent write it"
    )
}

/// What is applied. The UID says which node is meant: no other one is written to, and none is made.
fn applied(own: &Node, wanted: &Wanted) -> Value {
    let annotations: Map<String, Value> =
        wanted.ours.iter().map(|(which, text)| (which.to_string(), text.as_str().into())).collect();
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": own.name, "uid": own.uid, "annotations": annotations},
    })
}
