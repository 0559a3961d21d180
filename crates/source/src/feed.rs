//! One source, whichever it is.

use std::path::PathBuf;

use tokio::sync::mpsc::Sender;

use crate::{
    Error, Update,
    kubernetes::{Access, Kubernetes},
    manifests::Manifests,
};

/// Where objects are to come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// A directory of manifests.
    Manifests(PathBuf),
    /// A cluster's API server.
    Kubernetes(Access),
}

/// A source that can be followed.
#[derive(Debug)]
pub enum Feed {
    /// A directory of manifests.
    Manifests(Box<Manifests>),
    /// A cluster's API server.
    Kubernetes(Kubernetes),
}

impl Feed {
    /// Opens a source, for `node`.
    ///
    /// # Errors
    ///
    /// The directory can't be listed, or what says where the API server is can't be used. A server that does not answer is no
    /// error: it may later.
    pub async fn open(choice: &Choice, node: &str) -> Result<Self, Error> {
        Ok(match choice {
            Choice::Manifests(directory) => Self::Manifests(Box::new(Manifests::open(directory)?)),
            Choice::Kubernetes(access) => Self::Kubernetes(Kubernetes::open(access, node).await?),
        })
    }

    /// What it is, for people.
    pub fn name(&self) -> String {
        match self {
            Self::Manifests(manifests) => format!("manifests {}", manifests.directory().display()),
            Self::Kubernetes(kubernetes) => format!("API server {}", kubernetes.urls().join(", ")),
        }
    }

    /// Are selectors of services to be resolved here? In a cluster a controller does it, and gives slices.
    pub fn has_selectors(&self) -> bool {
        matches!(self, Self::Manifests(_))
    }

    /// Sends what there is, and then what changes, until nobody listens any more.
    pub async fn run(self, updates: Sender<Update>) {
        match self {
            Self::Manifests(manifests) => manifests.run(updates).await,
            Self::Kubernetes(kubernetes) => kubernetes.run(updates).await,
        }
    }
}
