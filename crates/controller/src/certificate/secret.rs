//! Certificates that controllers make themselves, in a Secret that all of them share.
//!
//! Nobody leads: each looks at the Secret whenever it changes and once in a while, and writes what is due, on condition that it is
//! still what was looked at. Of two that write at once one succeeds, and the other takes what that has written.

use std::{
    collections::BTreeMap,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use k8s_openapi::{ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Api,
    api::PostParams,
    runtime::{WatchStreamExt, watcher::watch_object},
};
use source::kubernetes::chain;
use tokio::time::{MissedTickBehavior, interval};

use super::stock::{Data, Step, Stock};
use crate::{Error, Shared, complaint::Complaint, shared::FIELD_MANAGER};

/// The Secret, and what is in it.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// For which names and addresses.
    pub(crate) names: Vec<String>,
    /// How often the clock is looked at. No sooner is what was just put in force replaced at once, or controllers whose clocks
    /// differ would do nothing else.
    pub(crate) every: Duration,
}

/// Looks after the Secret, for ever.
pub(crate) async fn keep(shared: Arc<Shared>, place: Place) -> Result<(), Error> {
    let api: Api<Secret> = Api::namespaced(shared.client.clone(), &place.namespace);
    let mut changes = pin!(watch_object(api.clone(), &place.name).default_backoff());
    let mut told = shared.told.subscribe();
    let mut ticks = interval(place.every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut complaint = Complaint::about(format!("following {place}"));
    let mut keeper = Keeper { shared, api, place, seen: None, begun: None };
    loop {
        tokio::select! {
            change = changes.next() => match change {
                Some(Ok(secret)) => {
                    complaint.right();
                    keeper.seen = Some(secret);
                }
                Some(Err(error)) => {
                    complaint.wrong(chain(&error));
                    continue;
                }
                None => return Err(Error::Ended("following the certificate's Secret")),
            },
            _ = ticks.tick() => {}
            changed = told.changed() => if changed.is_err() { return Err(Error::Ended("telling API servers")) },
        }
        keeper.turn().await;
    }
}

struct Keeper {
    shared: Arc<Shared>,
    api: Api<Secret>,
    place: Place,
    /// None: not known yet. None in it: there is none.
    seen: Option<Option<Secret>>,
    /// When something was put in force at once.
    begun: Option<Instant>,
}

impl Keeper {
    async fn turn(&mut self) {
        let Some(secret) = &self.seen else { return };
        let stock = secret.as_ref().map(|secret| Stock::read(&data(secret)));
        let stock = match stock {
            Some(Ok(stock)) => Some(stock),
            Some(Err(error)) => {
                tracing::warn!(
                    "{} holds no certificate that can be served, and gets a new one: {error}",
                    self.place
                );
                None
            }
            None => None,
        };
        // What there is counts for others, whatever we think of it.
        if let Some(stock) = &stock {
            self.serve(stock);
        }
        let now = self.shared.clock.now();
        let is_told = stock.as_ref().is_some_and(|stock| *self.shared.told.borrow() == Some(stock.bundle()));
        let step = Stock::step(stock.as_ref(), &self.place.names, now, is_told);
        if step == Step::Keep || (step == Step::Begin && stock.is_some() && self.has_just_begun()) {
            return;
        }
        let after = match Stock::after(stock, step, &self.place.names, now) {
            Ok(Some(after)) => after,
            Ok(None) => return,
            Err(error) => return tracing::error!("{error}"),
        };
        match self.write(secret.as_ref(), &after).await {
            Ok(written) => {
                let what = match step {
                    Step::Begin => "a new certificate is in force",
                    Step::Prepare => "a certificate is prepared that will be in force next",
                    Step::Advance | Step::Keep => "the next certificate is in force",
                };
                tracing::info!("{what}, until {}: {}", after.in_force.valid.to, self.place);
                if step == Step::Begin {
                    self.begun = Some(Instant::now());
                }
                self.seen = Some(Some(written));
                self.serve(&after);
            }
            // Another was faster: what it wrote comes as a change.
            Err(kube::Error::Api(status)) if status.code == 409 => {
                tracing::debug!("{} was written by another controller", self.place);
            }
            Err(error) => tracing::error!("writing {}: {}", self.place, chain(&error)),
        }
    }

    fn serve(&self, stock: &Stock) {
        self.shared.serve(&stock.in_force);
        self.shared.trust(stock.bundle());
    }

    fn has_just_begun(&self) -> bool {
        let has = self.begun.is_some_and(|begun| begun.elapsed() < self.place.every);
        if has {
            tracing::error!(
                "{} does not count, though it was made just now: do the clocks of controllers differ?",
                self.place
            );
        }
        has
    }

    async fn write(&self, before: Option<&Secret>, stock: &Stock) -> kube::Result<Secret> {
        let options = PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() };
        let data: BTreeMap<String, ByteString> =
            stock.data().into_iter().map(|(key, text)| (key, ByteString(text.into_bytes()))).collect();
        match before {
            Some(before) => {
                let secret = Secret { data: Some(data), string_data: None, ..before.clone() };
                self.api.replace(&self.place.name, &options, &secret).await
            }
            None => {
                let metadata = ObjectMeta {
                    name: Some(self.place.name.clone()),
                    namespace: Some(self.place.namespace.clone()),
                    ..ObjectMeta::default()
                };
                let type_ = Some("kubernetes.io/tls".to_owned());
                self.api
                    .create(&options, &Secret { metadata, type_, data: Some(data), ..Secret::default() })
                    .await
            }
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secret {}/{}", self.namespace, self.name)
    }
}

fn data(secret: &Secret) -> Data {
    let data = secret.data.iter().flatten();
    let text =
        |(key, bytes): (&String, &ByteString)| (key.clone(), String::from_utf8_lossy(&bytes.0).into_owned());
    data.map(text).collect()
}
