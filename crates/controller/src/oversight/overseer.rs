//! The one task that knows the cluster, and what is to be written.

mod write;

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use model::{
    Change, Cluster, EndpointSlice, Kind, Object, ObjectId, ObjectName, Pod, Policy, PolicyBackends, View,
    resolve_policy,
};
use source::{
    Update,
    kubernetes::{AsSent, Kubernetes},
    publish::{Notices, Writer},
};
use tokio::{
    sync::{mpsc::Receiver, oneshot, watch},
    task::JoinSet,
};

use self::write::Done;
use super::{
    Config, Figures,
    claims::Claims,
    leader::Leader,
    pace::Pace,
    policy, random,
    slice::{Owner, Version},
    slices::{Moment, Slices},
    statuses::Statuses,
};

/// It turns so often if there is nothing to do: who does not is stuck.
const PULSE: Duration = Duration::from_secs(10);
/// Objects that are taken before anything is done about them.
const BATCH: usize = 64;

/// Oversees until `stop`.
pub(super) async fn oversee(
    config: &Config,
    identity: &str,
    source: Kubernetes,
    mut sent: Receiver<AsSent>,
    figures: Arc<Figures>,
    mut stop: oneshot::Receiver<()>,
) {
    let (writer, notices) = (source.writer(), source.notices());
    let (updates, mut received) = tokio::sync::mpsc::channel(super::WAITING);
    let (holds, mut held) = watch::channel(None);
    let (end, ended) = oneshot::channel();
    let leader = Leader::new(config, identity, writer.clone(), figures.clone());
    let leader = tokio::spawn(leader.run(holds, ended));
    let following = tokio::spawn(source.run(updates));
    let mut overseer = Overseer::new(&config.namespace, writer, notices, figures.clone());
    loop {
        figures.turned();
        overseer.turn(*held.borrow_and_update());
        let pulse = Instant::now() + PULSE;
        let wake = overseer.next().map_or(pulse, |at| at.min(pulse));
        tokio::select! {
            biased;
            _ = &mut stop => break,
            changed = held.changed() => if changed.is_err() { break },
            Some(done) = overseer.writes.join_next() => overseer.done(done),
            Some(it) = sent.recv() => {
                overseer.saw(&it);
                for _ in 0..BATCH {
                    let Ok(it) = sent.try_recv() else { break };
                    overseer.saw(&it);
                }
            }
            update = received.recv() => {
                let Some(update) = update else { break };
                if update == Update::Complete {
                    // What was sent before is there.
                    while let Ok(it) = sent.try_recv() {
                        overseer.saw(&it);
                    }
                }
                overseer.take(update);
                while let Ok(update) = received.try_recv() {
                    overseer.take(update);
                }
            }
            () = tokio::time::sleep_until(wake.into()) => {}
        }
    }
    // Nothing is written any more when the lease is given up.
    overseer.follow();
    following.abort();
    drop(end);
    if let Err(error) = leader.await {
        tracing::error!("holding the lease has ended: {error}");
    }
}

/// See the module.
struct Overseer {
    namespace: String,
    cluster: Cluster,
    /// Everything is known.
    is_complete: bool,
    /// Until when we are to write, if we are.
    held_until: Option<Instant>,
    slices: Slices,
    claims: Claims,
    statuses: Statuses,
    writer: Writer,
    writes: JoinSet<Done>,
    /// How many of them are of slices.
    slices_in_flight: usize,
    pace: Pace,
    notices: Notices,
    figures: Arc<Figures>,
}

impl Overseer {
    fn new(namespace: &str, writer: Writer, notices: Notices, figures: Arc<Figures>) -> Self {
        Self {
            namespace: namespace.to_owned(),
            cluster: Cluster::new(View::default()),
            is_complete: false,
            held_until: None,
            slices: Slices::new(namespace, random),
            claims: Claims::default(),
            statuses: Statuses::default(),
            writer,
            writes: JoinSet::new(),
            slices_in_flight: 0,
            pace: Pace::new(Instant::now()),
            notices,
            figures,
        }
    }

    fn leads(&self) -> bool {
        self.held_until.is_some()
    }

    /// Looks who leads, and does what is to be done. `held`: until when the lease is ours.
    fn turn(&mut self, held: Option<Instant>) {
        let now = Instant::now();
        match held.filter(|until| *until > now && self.is_complete) {
            None if self.leads() => {
                tracing::warn!("another controller may write from now on");
                self.follow();
            }
            None => {}
            Some(until) => {
                let begins = !self.leads();
                self.held_until = Some(until);
                if begins {
                    self.lead();
                }
            }
        }
        if self.leads() {
            self.slices.settle(moment());
            self.write_slices();
            self.write_statuses();
        }
        self.figures.slices(self.slices.count(), self.slices.waiting());
    }

    /// When something is to be done.
    fn next(&self) -> Option<Instant> {
        let until = self.held_until?;
        let open = self.pace.next(Instant::now());
        let slices = self.slices.next().filter(|_| self.has_room_for_slices());
        let statuses = self.statuses.next().filter(|_| self.has_room_for_statuses());
        slices.into_iter().chain(statuses).map(|at| at.max(open)).chain([until]).min()
    }

    /// Begins to write.
    fn lead(&mut self) {
        tracing::info!("this controller writes slices and statuses from now on");
        self.figures.leads(true);
        self.slices.start();
        let policies: Vec<Policy> = self.cluster.policies().cloned().collect();
        for policy in &policies {
            self.pack(policy);
        }
        let ids: Vec<ObjectId> = self.statuses.ids().cloned().collect();
        for id in &ids {
            self.statuses.touch(id, Instant::now());
            self.spare(id);
        }
        self.slices.sweep();
    }

    /// Writes nothing any more: what is under way is dropped.
    fn follow(&mut self) {
        self.figures.leads(false);
        self.held_until = None;
        self.writes = JoinSet::new();
        self.slices_in_flight = 0;
        self.slices.stop();
        self.statuses.stop();
    }

    /// Slices of a policy that nobody has understood yet stay as they are.
    fn spare(&mut self, id: &ObjectId) {
        if let Some(known) = self.statuses.known(id)
            && id.kind == Kind::BalancingPolicy
            && self.cluster.policy(id).is_none()
        {
            self.slices.spare(Owner { name: id.name.name.clone(), uid: known.uid.clone() });
        }
    }

    /// Has all that a policy selects be in slices.
    fn pack(&mut self, policy: &Policy) {
        if !matches!(policy.backends, PolicyBackends::Pods(..)) {
            if policy.kind() == Kind::BalancingPolicy {
                self.slices.remove_policy(&policy.name);
            }
            return;
        }
        let endpoints = resolve_policy(policy, self.cluster.pods_selected(policy), |node| self.zone(node));
        let owner = Owner { name: policy.name.clone(), uid: policy.uid.clone() };
        self.slices.set_policy(owner, endpoints);
    }

    fn zone(&self, node: &str) -> Option<String> {
        self.cluster.node(node)?.zone().map(str::to_owned)
    }

    fn take(&mut self, update: Update) {
        match update {
            Update::Changes(changes) => {
                changes.into_iter().for_each(|change| self.apply(change));
                self.figures.pods(self.cluster.pod_count());
            }
            // What has not been sent is really not there.
            Update::Complete => {
                self.is_complete = true;
                tracing::info!("{} pods are followed", self.cluster.pod_count());
            }
            Update::Synced => {}
            Update::Problems(problems) => {
                problems.iter().for_each(|problem| tracing::warn!("{problem}"));
            }
        }
    }

    /// A change of a pod, node or service.
    fn apply(&mut self, change: Change) {
        let id = match &change {
            Change::Upsert(object) => object.id(),
            Change::Delete(id) => id.clone(),
        };
        match id.kind {
            Kind::Pod => self.apply_pod(&id.name, change),
            Kind::Node => self.apply_node(&id.name.name, change),
            _ => {
                let dirty = self.cluster.apply(change);
                dirty.policies.iter().for_each(|id| self.claim(id));
            }
        }
    }

    fn apply_pod(&mut self, name: &ObjectName, change: Change) {
        let new = match &change {
            Change::Upsert(Object::Pod(pod)) => Some(pod.clone()),
            _ => None,
        };
        let mut touched = BTreeSet::new();
        if let Some(old) = self.cluster.pod(name) {
            if new.as_deref() == Some(old) {
                return;
            }
            touched.extend(self.cluster.policies_selecting(old).map(Policy::id));
        }
        if let Some(pod) = &new {
            touched.extend(self.cluster.policies_selecting(pod).map(Policy::id));
        }
        self.cluster.apply(change);
        for id in &touched {
            self.statuses.touch(id, Instant::now());
            self.pack_pod(id, name, new.as_deref());
        }
    }

    /// Has what one pod gives to a policy be in slices.
    fn pack_pod(&mut self, id: &ObjectId, name: &ObjectName, pod: Option<&Pod>) {
        if !self.leads() || id.kind != Kind::BalancingPolicy {
            return;
        }
        let Some(policy) = self.cluster.policy(id) else { return };
        let endpoints: Vec<EndpointSlice> = resolve_policy(policy, pod, |node| self.zone(node));
        self.slices.set_pod(&id.name.name, name, endpoints);
    }

    fn apply_node(&mut self, name: &str, change: Change) {
        let zone = self.zone(name);
        let dirty = self.cluster.apply(change);
        dirty.policies.iter().for_each(|id| self.statuses.touch(id, Instant::now()));
        if self.zone(name) != zone && self.leads() {
            let pods: Vec<Pod> = self.cluster.pods_on(name).cloned().collect();
            for pod in &pods {
                let ids: Vec<ObjectId> = self.cluster.policies_selecting(pod).map(Policy::id).collect();
                ids.iter().for_each(|id| self.pack_pod(id, &pod.name, Some(pod)));
            }
        }
    }

    /// A policy, or a slice, as it was sent.
    fn saw(&mut self, it: &AsSent) {
        let AsSent { object, version, text } = it;
        match (object.kind, text) {
            (Kind::EndpointSlice, Some(_)) if *object.name.namespace != *self.namespace => {
                tracing::warn!(
                    "{object} is of a controller in another namespace; agents use it: delete it if there is none any more"
                );
            }
            (Kind::EndpointSlice, text) => {
                self.slices.saw(&object.name, version, text.as_deref(), moment());
            }
            (_, Some(text)) => self.saw_policy(object, text),
            (_, None) => {
                if self.statuses.gone(object, &Version::from(&**version)) {
                    self.cluster.apply(Change::Delete(object.clone()));
                    if object.kind == Kind::BalancingPolicy {
                        self.slices.remove_policy(&object.name.name);
                    }
                    self.claim(object);
                    self.count_policies(object.kind);
                }
            }
        }
    }

    fn saw_policy(&mut self, id: &ObjectId, text: &str) {
        let (known, policy) = match policy::read(id, text) {
            Ok(read) => read,
            Err(error) => return tracing::warn!("{id}: {error}"),
        };
        let is_another = self.statuses.known(id).is_some_and(|before| before.uid != known.uid);
        if !self.statuses.saw(id, known, Instant::now()) {
            return;
        }
        self.count_policies(id.kind);
        if is_another {
            self.cluster.apply(Change::Delete(id.clone()));
        }
        match policy {
            Some(policy) => {
                let dirty = self.cluster.apply(Change::Upsert(Object::from(policy.clone())));
                if !dirty.is_empty() {
                    self.claim(id);
                    if self.leads() {
                        self.pack(&policy);
                    }
                }
            }
            None if self.leads() => self.spare(id),
            None => {}
        }
    }

    fn count_policies(&self, kind: Kind) {
        self.figures.policies(kind, self.statuses.ids().filter(|id| id.kind == kind).count());
    }

    /// What a policy asks for may have changed, or what that means.
    fn claim(&mut self, id: &ObjectId) {
        let policy = self.cluster.policy(id);
        let redirects = policy.map(|policy| self.cluster.redirects(policy)).unwrap_or_default();
        let touched = self.claims.set(id, policy.map(|policy| (policy, redirects.as_slice())));
        for id in touched.iter().chain([id]) {
            self.statuses.touch(id, Instant::now());
        }
    }
}

fn moment() -> Moment {
    Moment { now: Instant::now(), time: Timestamp::now() }
}
