//! Telling API servers whom to trust: `caBundle` of each webhook, in both configurations of our name.
//!
//! A configuration that is made anew, or that an upgrade has written without it, gets it within a moment. Where somebody else
//! tells them, as cert-manager does, nothing is written.

use std::{pin::pin, sync::Arc, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use futures_util::StreamExt;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use kube::{
    Api,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
    runtime::{WatchStreamExt, watcher::watch_object},
};
use serde_json::{Value, json};
use source::kubernetes::chain;
use tokio::time::sleep;

use crate::{Error, Shared, complaint::Complaint, shared::FIELD_MANAGER};

/// How long until what could not be written is tried again, unless something changes.
const RETRY: Duration = Duration::from_secs(15);

/// Tells both configurations, for ever.
pub(crate) async fn tell(shared: Arc<Shared>, name: String) -> Result<(), Error> {
    let resources = [
        ApiResource::erase::<MutatingWebhookConfiguration>(&()),
        ApiResource::erase::<ValidatingWebhookConfiguration>(&()),
    ];
    let [mutating, validating] =
        resources.map(|resource| Api::<DynamicObject>::all_with(shared.client.clone(), &resource));
    let mut changes = [
        watch_object(mutating.clone(), &name).default_backoff().boxed(),
        watch_object(validating.clone(), &name).default_backoff().boxed(),
    ];
    let [of_mutating, of_validating] = &mut changes;
    let mut wanted = shared.trusted.subscribe();
    // None: not known yet.
    let mut seen: [Option<Option<Value>>; 2] = [None, None];
    let mut complaints = ["Mutating", "Validating"]
        .map(|kind| Complaint::about(format!("following {kind}WebhookConfiguration {name}")));
    let mut retry = pin!(sleep(RETRY));
    let mut is_pending = false;
    loop {
        let (index, change) = tokio::select! {
            change = of_mutating.next() => (0, change),
            change = of_validating.next() => (1, change),
            changed = wanted.changed() => match changed {
                Ok(()) => (2, None),
                Err(_) => return Err(Error::Ended("looking after the certificate")),
            },
            () = &mut retry, if is_pending => (2, None),
        };
        match change {
            Some(Ok(it)) => {
                complaints[index].right();
                seen[index] = Some(it.and_then(|it| serde_json::to_value(it).ok()));
            }
            Some(Err(error)) => {
                complaints[index].wrong(chain(&error));
                continue;
            }
            None if index < 2 => return Err(Error::Ended("following webhook configurations")),
            None => {}
        }
        let bundle = wanted.borrow_and_update().clone();
        let (Some(bundle), [Some(first), Some(second)]) = (bundle, &seen) else { continue };
        is_pending = false;
        for (api, configuration) in [(&mutating, first), (&validating, second)] {
            let patch = configuration.as_ref().and_then(|it| patch(it, &bundle));
            if let Some(patch) = patch {
                is_pending = true;
                write(api, &name, patch).await;
            }
        }
        if is_pending {
            retry.set(sleep(RETRY));
        } else {
            shared.told.send_if_modified(|told| {
                let is_new = told.as_ref() != Some(&bundle);
                *told = Some(bundle);
                is_new
            });
        }
    }
}

async fn write(api: &Api<DynamicObject>, name: &str, patch: json_patch::Patch) {
    let options = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
    let kind = &api.resource_url();
    match api.patch(name, &options, &Patch::<()>::Json(patch)).await {
        Ok(_) => tracing::info!("API servers are told whom to trust: {kind}/{name}"),
        // It has changed meanwhile, and comes again.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409 | 422) => {
            tracing::debug!("telling API servers whom to trust: {kind}/{name}: {}", status.message);
        }
        Err(error) => {
            tracing::error!("telling API servers whom to trust: {kind}/{name}: {}", chain(&error));
        }
    }
}

/// What gives each webhook of a configuration this bundle; none: they have it.
fn patch(configuration: &Value, bundle: &str) -> Option<json_patch::Patch> {
    let bundle = BASE64_STANDARD.encode(bundle);
    let webhooks = configuration["webhooks"].as_array().into_iter().flatten().enumerate();
    let wrong = webhooks.filter(|(_, webhook)| webhook["clientConfig"]["caBundle"] != *bundle);
    let mut patch: Vec<Value> = wrong
        .map(|(index, _)| {
            json!({"op": "add", "path": format!("/webhooks/{index}/clientConfig/caBundle"), "value": bundle})
        })
        .collect();
    if patch.is_empty() {
        return None;
    }
    let version = &configuration["metadata"]["resourceVersion"];
    patch.insert(0, json!({"op": "test", "path": "/metadata/resourceVersion", "value": version}));
    serde_json::from_value(Value::Array(patch)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_written_and_only_to_what_was_seen() {
        let bundle = BASE64_STANDARD.encode("new");
        let configuration = json!({
            "metadata": {"resourceVersion": "7"},
            "webhooks": [
                {"name": "a", "clientConfig": {"caBundle": bundle}},
                {"name": "b", "clientConfig": {"caBundle": "b2xk"}},
                {"name": "c", "clientConfig": {"service": {}}},
            ],
        });
        let patch = patch(&configuration, "new").unwrap();
        let value = |index: usize| json!({"op": "add", "path": format!("/webhooks/{index}/clientConfig/caBundle"), "value": bundle});
        let test = json!({"op": "test", "path": "/metadata/resourceVersion", "value": "7"});
        assert_eq!(serde_json::to_value(&patch).unwrap(), json!([test, value(1), value(2)]));
        let mut told = configuration;
        json_patch::patch(&mut told, &patch).unwrap();
        assert!(super::patch(&told, "new").is_none());
        assert!(super::patch(&json!({"webhooks": null}), "new").is_none());
    }
}
