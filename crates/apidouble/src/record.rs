//! What was asked of a server, for tests that compare it with what was allowed or expected.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use crate::request::Verb;

/// A request that has been answered; a watch, when it was opened.
#[derive(Clone, Debug)]
pub struct Request {
    /// When the answer began.
    pub at: Instant,
    /// `GET`.
    pub method: String,
    /// `/api/v1/services`.
    pub path: String,
    /// Without the question mark.
    pub query: String,
    /// Who asked, `system:anonymous` if nobody knows.
    pub user: String,
    /// The header `User-Agent`.
    pub agent: String,
    /// What it was about, unless it was discovery or health.
    pub resource: Option<Resource>,
    /// Of the answer; 0 for none.
    pub status: u16,
}

/// What a request was about, in the words of RBAC rules.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Resource {
    pub verb: Verb,
    pub group: String,
    pub version: String,
    /// The plural.
    pub resource: String,
    pub subresource: Option<String>,
    pub namespace: Option<String>,
    pub name: Option<String>,
}

impl Request {
    /// It was this verb on this resource.
    pub fn is(&self, verb: Verb, resource: &str) -> bool {
        self.resource.as_ref().is_some_and(|about| about.verb == verb && about.resource == resource)
    }
}

/// All requests of a server.
#[derive(Debug, Default)]
pub struct Record(Mutex<Vec<Request>>);

impl Record {
    fn locked(&self) -> MutexGuard<'_, Vec<Request>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn push(&self, request: Request) {
        self.locked().push(request);
    }

    /// What was asked since the last [`clear`](Self::clear).
    pub fn requests(&self) -> Vec<Request> {
        self.locked().clone()
    }

    /// How often this was asked.
    pub fn count(&self, verb: Verb, resource: &str) -> usize {
        self.locked().iter().filter(|request| request.is(verb, resource)).count()
    }

    /// What rules would have to allow for all of it, each once: group, resource (`nodes/status`), verb.
    pub fn permissions(&self) -> BTreeSet<(String, String, &'static str)> {
        let requests = self.locked();
        let about = requests.iter().filter_map(|request| request.resource.as_ref());
        about
            .map(|about| {
                let resource = match &about.subresource {
                    Some(subresource) => format!("{}/{subresource}", about.resource),
                    None => about.resource.clone(),
                };
                (about.group.clone(), resource, about.verb.as_str())
            })
            .collect()
    }

    /// Forgets all of it.
    pub fn clear(&self) {
        self.locked().clear();
    }
}
