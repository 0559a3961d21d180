//! A cluster's API server, followed live.
//!
//! ```text
//! access      who we are and where the servers are: kubeconfig, or the service account of a pod
//! servers     several of them: the next one if one fails
//! resource    what is followed, and which part of it
//! sent        objects as a server sends them, where that is wanted
//! definition  whether a resource that needs a definition has one
//! line        what a server sends in a watch
//! mirror      what is known of one resource: from lines to changes
//! follow      one resource, for as long as anybody listens
//! fault       what goes wrong with a server
//! pause       how long until the next attempt
//! ```
//!
//! Each resource begins with all that there is (a streamed list where the server can, else in chunks) and goes on with what
//! changes. Whatever goes wrong, what is known stays: only what a complete list does not have, what a server says is
//! deleted, and what it says that nobody has defined, is deleted. After any interruption a server is asked how new it is
//! first: one that was restored from a backup is silent to who knows more than it does (kube-apiserver 1.36,
//! docs/testing.md), and is listed anew.

mod access;
mod definition;
mod fault;
mod follow;
mod line;
mod mirror;
mod pause;
mod resource;
mod sent;
mod servers;

use std::sync::Arc;

use tokio::{
    sync::mpsc::{self, Sender},
    task::JoinSet,
};

pub use access::{Access, chain};
pub(crate) use follow::News;
use follow::{Follower, Given};
use model::Kind;
pub(crate) use pause::{chance, scattered};
use resource::Resource;
pub use sent::AsSent;
pub(crate) use servers::Servers;

use crate::{
    Error, Problem, Update,
    publish::{Nodes, Notices, Publisher, VOICES, Writer},
};

/// News of resources that wait to be taken.
const WAITING: usize = 64;

/// A cluster's API server that can be followed.
#[derive(Debug)]
pub struct Kubernetes {
    servers: Arc<Servers>,
    resources: Vec<Resource>,
    publisher: Option<Publisher>,
    /// Who gets policies and slices as they were sent.
    as_sent: Option<Sender<AsSent>>,
}

impl Kubernetes {
    /// Reads what says where the API server is, and who we are; asks it nothing yet. Only pods of `node` are followed; none where it
    /// is none.
    ///
    /// # Errors
    ///
    /// [`Error::Access`].
    pub async fn open(access: Access, node: Option<&str>) -> Result<Self, Error> {
        let servers = Arc::new(Servers::open(access).await?);
        Ok(Self { servers, resources: Resource::all(node), publisher: None, as_sent: None })
    }

    /// The same for a controller, which is called `identity`: it follows all pods. Policies, and the slices that are made for
    /// them, it gets as they were sent; what was sent before an [`Update::Complete`] has been given to `as_sent` by then.
    ///
    /// # Errors
    ///
    /// [`Error::Access`].
    pub async fn for_controller(
        access: Access,
        identity: &str,
        as_sent: Sender<AsSent>,
    ) -> Result<Self, Error> {
        let servers = Arc::new(Servers::open(access).await?);
        let publisher = Some(Publisher::of_controller(identity));
        Ok(Self { servers, resources: Resource::of_controller(), publisher, as_sent: Some(as_sent) })
    }

    /// What writes to the same servers.
    pub fn writer(&self) -> Writer {
        Writer::new(self.servers.clone())
    }

    /// Writes to the cluster, too, if it has a Node of this name ([`crate::publish`]).
    pub fn publishing(self, node: &str) -> Self {
        Self { publisher: Some(Publisher::new(node)), ..self }
    }

    /// Where to give what is to be told of objects.
    pub fn notices(&self) -> Notices {
        self.publisher.as_ref().map(Publisher::notices).unwrap_or_default()
    }

    /// The URLs of the servers, the first that is asked first.
    pub fn urls(&self) -> Vec<String> {
        self.servers.urls()
    }

    /// Sends what the cluster holds, and then what changes, until nobody listens any more.
    pub async fn run(self, updates: Sender<Update>) {
        let (sender, mut news) = mpsc::channel(WAITING);
        let (mut followers, mut writers) = (JoinSet::new(), JoinSet::new());
        let count = self.resources.len();
        let mut problems: Vec<Vec<Problem>> = vec![Vec::new(); count + VOICES];
        let mut given = vec![Given::Part; count];
        let nodes_at = self.resources.iter().position(|resource| resource.kind == Kind::Node);
        let notices = self.notices();
        for (index, resource) in self.resources.into_iter().enumerate() {
            let kind = resource.kind;
            let follower =
                Follower::new(index, resource, self.servers.clone(), sender.clone(), notices.clone());
            let is_understood =
                matches!(kind, Kind::Service | Kind::Node | Kind::Pod | Kind::Namespace | Kind::ServiceCidr);
            followers.spawn(match self.as_sent.clone().filter(|_| !is_understood) {
                Some(to) => follower.passing_on(to).run(),
                None => follower.run(),
            });
        }
        let mut nodes: Option<Nodes> =
            self.publisher.and_then(|publisher| publisher.start(&self.servers, &sender, count, &mut writers));
        drop(sender);
        let (mut told_given, mut reported) = (Given::Part, Vec::new());
        loop {
            let (index, it) = tokio::select! {
                biased;
                Some(it) = news.recv() => it,
                // One of many that is missing would not be noticed.
                Some(Err(error)) = followers.join_next() => {
                    tracing::error!("following a resource has ended: {error}");
                    return;
                }
                else => return,
            };
            let mut told = Vec::new();
            match it {
                News::Changes(changes) => {
                    if let Some(nodes) = nodes.as_mut().filter(|_| nodes_at == Some(index)) {
                        nodes.take(&changes);
                    }
                    told.push(Update::Changes(changes));
                }
                News::Given(now) => {
                    given[index] = now;
                    if let Some(nodes) = nodes.as_mut().filter(|_| nodes_at == Some(index)) {
                        nodes.complete();
                    }
                    let of_all = given.iter().copied().min().unwrap_or_default();
                    for (reached, update) in [(Given::Enough, Update::Synced), (Given::All, Update::Complete)]
                    {
                        if told_given < reached && of_all >= reached {
                            told.push(update);
                        }
                    }
                    told_given = of_all;
                }
                News::Problems(now) => {
                    problems[index] = now;
                    // That a server does not answer is said by all. They are few, and so are those of objects.
                    let mut all: Vec<Problem> = Vec::new();
                    for problem in problems.iter().flatten() {
                        if !all.contains(problem) {
                            all.push(problem.clone());
                        }
                    }
                    if all != reported {
                        reported.clone_from(&all);
                        told.push(Update::Problems(all));
                    }
                }
            }
            for update in told {
                if updates.send(update).await.is_err() {
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
