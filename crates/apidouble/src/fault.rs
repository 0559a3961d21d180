//! What a server does wrong, and to whom: switched while it runs.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use hyper::StatusCode;

use crate::{
    request::{Place, Verb},
    status::Status,
};

/// Which requests a fault is for; what is not said is any.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    verbs: Vec<Verb>,
    resource: Option<String>,
}

impl Filter {
    /// All requests, discovery and health included.
    pub fn everything() -> Self {
        Self::default()
    }

    /// This verb.
    pub fn verb(verb: Verb) -> Self {
        Self { verbs: vec![verb], resource: None }
    }

    /// This resource, by its plural.
    pub fn resource(resource: &str) -> Self {
        Self { verbs: Vec::new(), resource: Some(resource.to_owned()) }
    }

    /// One more verb, or the first.
    pub fn and_verb(mut self, verb: Verb) -> Self {
        self.verbs.push(verb);
        self
    }

    fn matches(&self, about: Option<(Verb, &Place)>) -> bool {
        let Some((verb, place)) = about else { return self.verbs.is_empty() && self.resource.is_none() };
        (self.verbs.is_empty() || self.verbs.contains(&verb))
            && self.resource.as_ref().is_none_or(|resource| *resource == place.plural)
    }
}

/// What goes wrong.
#[derive(Clone, Debug)]
pub enum Fault {
    /// 410: the version that was asked for is gone. To a watch it is told by an event.
    Gone,
    /// 409: somebody else has changed it.
    Conflict,
    /// 403.
    Forbidden,
    /// 404, as of what is not served.
    NotFound,
    /// 429, to come back after so many seconds.
    TooManyRequests(u64),
    /// 500.
    InternalError,
    /// 503.
    Unavailable,
    /// 422 to lists that are asked for as streams, as servers say that don't have them. All else is well.
    NoStreams,
    /// The answer comes later.
    Late(Duration),
    /// No answer, and the connection stays.
    Silent,
    /// The connection is reset instead of an answer.
    Reset,
    /// The body ends after so many bytes, and with it the connection.
    Cut(usize),
    /// The body comes in pieces of so many bytes, with pauses between them.
    Slow(usize, Duration),
    /// The body is no JSON.
    Garbage,
}

impl Fault {
    /// The answer, where the fault is one.
    pub(crate) fn status(&self) -> Option<Status> {
        Some(match self {
            Self::Gone => Status::expired("too old resource version: 1 (2)"),
            Self::Conflict => Status::new(
                StatusCode::CONFLICT,
                "Conflict",
                "Operation cannot be fulfilled: the object has been modified; please apply your changes to the latest \
                 version and try again",
            ),
            Self::Forbidden => {
                Status::new(StatusCode::FORBIDDEN, "Forbidden", "forbidden: a policy denies it")
            }
            Self::NotFound => Status::no_page(),
            Self::TooManyRequests(seconds) => Status::new(
                StatusCode::TOO_MANY_REQUESTS,
                "TooManyRequests",
                "the server has received too many requests and has asked us to try again later",
            )
            .with_retry_after(*seconds),
            Self::InternalError => Status::internal("Internal error occurred: etcdserver: request timed out"),
            Self::Unavailable => Status::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "ServiceUnavailable",
                "the server is currently unable to handle the request",
            ),
            Self::NoStreams => Status::invalid(
                "ListOptions",
                "meta.k8s.io",
                "",
                "sendInitialEvents",
                "Forbidden: sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled",
            ),
            _ => return None,
        })
    }
}

/// Names a fault that was switched on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultId(u64);

#[derive(Debug)]
struct Rule {
    id: FaultId,
    filter: Filter,
    fault: Fault,
    /// How often still; `None`: until it is switched off.
    left: Option<u32>,
    hits: u64,
}

/// The faults of a server. Of several that fit a request, the one switched on last counts.
#[derive(Debug, Default)]
pub struct Faults {
    rules: Mutex<Vec<Rule>>,
    next: AtomicU64,
}

impl Faults {
    fn locked(&self) -> MutexGuard<'_, Vec<Rule>> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, filter: Filter, fault: Fault, left: Option<u32>) -> FaultId {
        let id = FaultId(self.next.fetch_add(1, Ordering::Relaxed));
        self.locked().push(Rule { id, filter, fault, left, hits: 0 });
        id
    }

    /// From now on, until it is switched off.
    pub fn on(&self, filter: Filter, fault: Fault) -> FaultId {
        self.add(filter, fault, None)
    }

    /// For the next so many requests.
    pub fn times(&self, times: u32, filter: Filter, fault: Fault) -> FaultId {
        self.add(filter, fault, Some(times))
    }

    /// How many requests it has met.
    pub fn hits(&self, id: FaultId) -> u64 {
        self.locked().iter().find(|rule| rule.id == id).map_or(0, |rule| rule.hits)
    }

    /// Ends one.
    pub fn off(&self, id: FaultId) {
        self.locked().retain(|rule| rule.id != id);
    }

    /// Ends all.
    pub fn clear(&self) {
        self.locked().clear();
    }

    /// What goes wrong with a request.
    pub(crate) fn meet(&self, about: Option<(Verb, &Place)>) -> Option<Fault> {
        let mut rules = self.locked();
        let rule = rules.iter_mut().rev().find(|rule| rule.left != Some(0) && rule.filter.matches(about))?;
        rule.hits += 1;
        if let Some(left) = &mut rule.left {
            *left -= 1;
        }
        Some(rule.fault.clone())
    }
}
