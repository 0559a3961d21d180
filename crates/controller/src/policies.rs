//! What the policies of the cluster claim, followed live.
//!
//! Of each only its claim is kept, read from whatever the object is: one that makes no sense is in nobody's way.

use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use api::policy::{BalancingPolicy, Claim, LocalRedirectPolicy};
use futures_util::StreamExt;
use kube::{
    Api, Resource,
    api::{ApiResource, DynamicObject},
    runtime::{
        WatchStreamExt,
        watcher::{Config, Event, watcher},
    },
};
use source::kubernetes::chain;
use tokio::{sync::watch, time::timeout};

use crate::{Error, Shared, complaint::Complaint};

/// A kind of policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    LocalRedirect,
    Balancing,
}

/// All of them.
pub(crate) const KINDS: [Kind; 2] = [Kind::LocalRedirect, Kind::Balancing];

impl Kind {
    fn resource(self) -> ApiResource {
        match self {
            Self::LocalRedirect => ApiResource::erase::<LocalRedirectPolicy>(&()),
            Self::Balancing => ApiResource::erase::<BalancingPolicy>(&()),
        }
    }

    fn name(self) -> String {
        match self {
            Self::LocalRedirect => LocalRedirectPolicy::kind(&()).into_owned(),
            Self::Balancing => BalancingPolicy::kind(&()).into_owned(),
        }
    }
}

type Claims = BTreeMap<String, Claim>;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Policies {
    /// By kind and name.
    claims: RwLock<[Claims; 2]>,
    /// Which kinds are known.
    known: watch::Sender<[bool; 2]>,
}

impl Policies {
    /// Are all known?
    pub(crate) fn are_known(&self) -> bool {
        *self.known.borrow() == [true; 2]
    }

    /// Comes to its end when all are known, or after `patience`. Are they?
    pub(crate) async fn known_within(&self, patience: Duration) -> bool {
        let mut known = self.known.subscribe();
        let waited = timeout(patience, known.wait_for(|known| *known == [true; 2])).await;
        matches!(waited, Ok(Ok(_)))
    }

    /// Lets somebody look at all.
    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut dyn Iterator<Item = &Claim>) -> T) -> T {
        let claims = self.claims.read().unwrap_or_else(PoisonError::into_inner);
        look(&mut claims.iter().flat_map(Claims::values))
    }

    fn change(&self, kind: Kind, change: impl FnOnce(&mut Claims)) {
        let mut claims = self.claims.write().unwrap_or_else(PoisonError::into_inner);
        change(&mut claims[kind as usize]);
    }
}

/// Follows those of a kind, for ever.
pub(crate) async fn follow(shared: Arc<Shared>, kind: Kind) -> Result<(), Error> {
    let api: Api<DynamicObject> = Api::all_with(shared.client.clone(), &kind.resource());
    let mut events = pin!(watcher(api, Config::default()).default_backoff());
    let policies = &shared.policies;
    let mut listed = Claims::new();
    let mut complaint = Complaint::about(format!("following policies of kind {}", kind.name()));
    loop {
        let event = events.next().await;
        if let Some(Ok(Event::InitDone | Event::Apply(_) | Event::Delete(_))) = event {
            complaint.right();
        }
        match event {
            Some(Ok(Event::Init)) => listed.clear(),
            Some(Ok(Event::InitApply(object))) => put(&mut listed, kind, object),
            Some(Ok(Event::InitDone)) => {
                policies.change(kind, |claims| *claims = std::mem::take(&mut listed));
                policies.known.send_if_modified(|known| !std::mem::replace(&mut known[kind as usize], true));
            }
            Some(Ok(Event::Apply(object))) => policies.change(kind, |claims| put(claims, kind, object)),
            Some(Ok(Event::Delete(object))) => {
                let name = object.metadata.name.unwrap_or_default();
                policies.change(kind, |claims| drop(claims.remove(&name)));
            }
            Some(Err(error)) => complaint.wrong(chain(&error)),
            None => return Err(Error::Ended("following policies")),
        }
    }
}

fn put(claims: &mut Claims, kind: Kind, object: DynamicObject) {
    let Ok(mut value) = serde_json::to_value(object) else { return };
    // Items of a list do not say it.
    value["kind"] = kind.name().into();
    if let Some(claim) = Claim::of(&value) {
        claims.insert(claim.name().to_owned(), claim);
    }
}
