//! One source, whichever it is.

use std::{path::PathBuf, thread};

use tokio::{
    runtime,
    sync::{
        mpsc::{self, Receiver, Sender},
        oneshot,
    },
};

use crate::{
    Error, Update,
    kubernetes::{Access, Kubernetes},
    manifests::Manifests,
    publish::Notices,
};

/// Where objects are to come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// A directory of manifests.
    Manifests(PathBuf),
    /// A cluster's API server.
    Kubernetes(Access),
}

/// A source that is followed.
#[derive(Debug)]
pub struct Feed {
    /// What it is, for people.
    pub name: String,
    /// Are selectors of services to be resolved by who listens? In a cluster a controller does it, and gives slices.
    pub has_selectors: bool,
    /// What there is, and then what changes.
    pub updates: Receiver<Update>,
    /// Where to give what is to be told of objects. Without a cluster it is passed over.
    pub notices: Notices,
}

/// Updates that wait to be taken.
const WAITING: usize = 64;

impl Feed {
    /// Opens a source, for `node` (none: a machine outside of the cluster), and follows it until nobody listens any more: in a thread of its own, since plugins that say
    /// who we are are waited for, and nobody else is to wait for them. `publishes`: a cluster that has a Node of that name is
    /// written to as well.
    ///
    /// # Errors
    ///
    /// The directory can't be listed, or what says where the API server is can't be used. A server that does not answer is no
    /// error: it may later.
    pub async fn start(choice: Choice, node: Option<String>, publishes: bool) -> Result<Self, Error> {
        let (updates, received) = mpsc::channel(WAITING);
        let (opened, outcome) = oneshot::channel();
        let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Thread)?;
        let follow = async move {
            match Open::new(&choice, node.as_deref(), publishes).await {
                Ok(open) => {
                    if opened.send(Ok((open.name(), open.has_selectors(), open.notices()))).is_ok() {
                        open.run(updates).await;
                    }
                }
                // Who no longer listens wants no error.
                Err(error) => drop(opened.send(Err(error))),
            }
        };
        let thread = thread::Builder::new().name("source".into());
        thread.spawn(move || runtime.block_on(follow)).map_err(Error::Thread)?;
        let ended = |_| Error::Thread(std::io::Error::other("it ended at once"));
        let (name, has_selectors, notices) = outcome.await.map_err(ended)??;
        Ok(Self { name, has_selectors, updates: received, notices })
    }
}

/// A source that can be followed.
enum Open {
    Manifests(Box<Manifests>),
    Kubernetes(Kubernetes),
}

impl Open {
    async fn new(choice: &Choice, node: Option<&str>, publishes: bool) -> Result<Self, Error> {
        Ok(match choice {
            Choice::Manifests(directory) => Self::Manifests(Box::new(Manifests::open(directory)?)),
            Choice::Kubernetes(access) => {
                let kubernetes = Kubernetes::open(access.clone(), node).await?;
                Self::Kubernetes(match node.filter(|_| publishes) {
                    Some(node) => kubernetes.publishing(node),
                    None => kubernetes,
                })
            }
        })
    }

    fn name(&self) -> String {
        match self {
            Self::Manifests(manifests) => format!("manifests {}", manifests.directory().display()),
            Self::Kubernetes(kubernetes) => format!("API server {}", kubernetes.urls().join(", ")),
        }
    }

    fn has_selectors(&self) -> bool {
        matches!(self, Self::Manifests(_))
    }

    fn notices(&self) -> Notices {
        match self {
            Self::Manifests(_) => Notices::default(),
            Self::Kubernetes(kubernetes) => kubernetes.notices(),
        }
    }

    async fn run(self, updates: Sender<Update>) {
        match self {
            Self::Manifests(manifests) => manifests.run(updates).await,
            Self::Kubernetes(kubernetes) => kubernetes.run(updates).await,
        }
    }
}
