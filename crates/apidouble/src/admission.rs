//! Webhooks: who is asked about a write, and what is made of the answers.

use std::time::Duration;

use base64::{Engine, prelude::BASE64_STANDARD};
use hyper::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    auth::User,
    cluster::Cluster,
    kind::Kind,
    object::{Fields, meta, typed},
    request::Place,
    selector::matches_labels,
    status::{Answer, Status},
    webhook::{Endpoint, call},
};

/// A write that is about to happen.
pub(crate) struct Write<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) kind: &'a Kind,
    pub(crate) place: &'a Place,
    pub(crate) user: &'a User,
    pub(crate) is_dry_run: bool,
    /// `CREATE`, `UPDATE`, `DELETE`.
    pub(crate) operation: &'static str,
    pub(crate) name: &'a str,
}

/// What webhooks are there: first those that change, then those that only judge.
const STAGES: &[(&str, bool)] =
    &[("mutatingwebhookconfigurations", true), ("validatingwebhookconfigurations", false)];

impl Write<'_> {
    /// `new` (nothing, for a deletion) as the cluster's webhooks let it pass.
    pub(crate) async fn admit(
        &self,
        old: Option<&Fields>,
        mut new: Option<Fields>,
    ) -> Answer<Option<Fields>> {
        if self.kind.group == "admissionregistration.k8s.io" {
            // What is broken must stay removable.
            return Ok(new);
        }
        for &(resource, mutates) in STAGES {
            for webhook in self.webhooks(resource) {
                let object = new.as_ref().or(old);
                if !self.concerns(&webhook, object) {
                    continue;
                }
                if let Some(patch) = self.ask(&webhook, old, new.as_ref(), mutates).await? {
                    new = new.map(|new| self.patched(&webhook, new, patch)).transpose()?;
                }
            }
        }
        Ok(new)
    }

    fn webhooks(&self, resource: &str) -> Vec<Value> {
        let configurations = self.cluster.list(resource).unwrap_or_default();
        let all =
            configurations.into_iter().flat_map(|mut configuration| match configuration["webhooks"].take() {
                Value::Array(webhooks) => webhooks,
                _ => Vec::new(),
            });
        all.collect()
    }

    fn concerns(&self, webhook: &Value, object: Option<&Fields>) -> bool {
        let rules = webhook["rules"].as_array().into_iter().flatten();
        let labels = object
            .and_then(|object| object.get("metadata"))
            .map_or(&Value::Null, |metadata| &metadata["labels"]);
        let namespace =
            self.place.namespace.as_deref().and_then(|name| self.cluster.get("namespaces", None, name));
        let in_namespace = match &namespace {
            Some(namespace) => {
                matches_labels(&webhook["namespaceSelector"], &namespace["metadata"]["labels"])
            }
            None => true,
        };
        rules.into_iter().any(|rule| self.fits(rule))
            && matches_labels(&webhook["objectSelector"], labels)
            && in_namespace
    }

    fn fits(&self, rule: &Value) -> bool {
        let has = |list: &str, wanted: &str| {
            rule[list].as_array().into_iter().flatten().any(|one| one == "*" || one == wanted)
        };
        let subresource = self.place.subresource.as_deref().unwrap_or_default();
        let resources = rule["resources"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let mut resources = resources.map(|text| text.split_once('/').unwrap_or((text, "")));
        let scope = match rule["scope"].as_str() {
            Some("Namespaced") => self.kind.namespaced,
            Some("Cluster") => !self.kind.namespaced,
            _ => true,
        };
        scope
            && has("operations", self.operation)
            && has("apiGroups", &self.place.group)
            && has("apiVersions", &self.place.version)
            && resources.any(|(resource, sub)| {
                (resource == "*" || resource == self.place.plural) && (sub == "*" || sub == subresource)
            })
    }

    /// The patch that a webhook wants, if any; or its refusal.
    async fn ask(
        &self,
        webhook: &Value,
        old: Option<&Fields>,
        new: Option<&Fields>,
        mutates: bool,
    ) -> Answer<Option<Value>> {
        let uid = Uuid::new_v4().to_string();
        let review = self.review(&uid, old, new);
        let timeout = Duration::from_secs(webhook["timeoutSeconds"].as_u64().unwrap_or(10));
        let answer = match Endpoint::of(self.cluster, &webhook["clientConfig"]) {
            Ok(endpoint) => tokio::time::timeout(timeout, call(&endpoint, review))
                .await
                .unwrap_or_else(|_| Err("context deadline exceeded".to_owned())),
            Err(error) => Err(error),
        };
        let name = webhook["name"].as_str().unwrap_or_default();
        let response = match answer.and_then(|answer| check(answer, &uid, mutates)) {
            Ok(response) => response,
            Err(_) if webhook["failurePolicy"] == "Ignore" => return Ok(None),
            Err(error) => return Err(failed(name, &error)),
        };
        if response["allowed"] == true {
            return patch(&response).map_err(|error| failed(name, &error));
        }
        Err(denied(name, &response["status"]))
    }

    fn review(&self, uid: &str, old: Option<&Fields>, new: Option<&Fields>) -> Value {
        let Place { group, version, plural, .. } = self.place;
        let api_version = self.kind.api_version_of(version);
        let object = |fields: Option<&Fields>| {
            fields.map_or(Value::Null, |fields| typed(fields, &api_version, &self.kind.kind))
        };
        let kind = json!({"group": group, "version": version, "kind": self.kind.kind});
        let resource = json!({"group": group, "version": version, "resource": plural});
        let mut request = json!({
            "uid": uid, "kind": kind, "resource": resource, "requestKind": kind, "requestResource": resource,
            "name": self.name, "operation": self.operation,
            "userInfo": {"username": self.user.name, "groups": self.user.groups},
            "object": object(new), "oldObject": object(old), "dryRun": self.is_dry_run, "options": null,
        });
        if let Some(namespace) = &self.place.namespace {
            request["namespace"] = namespace.as_str().into();
        }
        if let Some(subresource) = &self.place.subresource {
            request["subResource"] = subresource.as_str().into();
        }
        json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request})
    }

    fn patched(&self, webhook: &Value, new: Fields, patch: Value) -> Answer<Fields> {
        let name = webhook["name"].as_str().unwrap_or_default();
        let mut object = typed(&new, &self.kind.api_version_of(&self.place.version), &self.kind.kind);
        let applied = serde_json::from_value(patch).map_err(|error| error.to_string()).and_then(
            |patch: json_patch::Patch| {
                json_patch::patch(&mut object, &patch).map_err(|error| error.to_string())
            },
        );
        match (applied, object) {
            (Ok(()), Value::Object(mut fields)) => {
                fields.remove("apiVersion");
                fields.remove("kind");
                Ok(fields)
            }
            (Err(error), _) => Err(failed(name, &error)),
            (Ok(()), _) => Err(failed(name, "its patch leaves no object")),
        }
    }
}

/// The response in an answer, if it is one to this question.
fn check(mut answer: Value, uid: &str, mutates: bool) -> Result<Value, String> {
    if answer["kind"] != "AdmissionReview" || answer["apiVersion"] != "admission.k8s.io/v1" {
        let got = format!("{}, Kind={}", answer["apiVersion"], answer["kind"]);
        return Err(format!(
            "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got {got}"
        ));
    }
    let response = answer["response"].take();
    if response.is_null() {
        return Err("webhook response was absent".to_owned());
    }
    if response["uid"] != uid {
        return Err(format!("expected response.uid={uid:?}, got {}", response["uid"]));
    }
    let patches = !response["patch"].is_null() || !response["patchType"].is_null();
    if patches && !mutates {
        return Err("validating webhook may not return response.patch".to_owned());
    }
    Ok(response)
}

fn patch(response: &Value) -> Result<Option<Value>, String> {
    let Some(patch) = response["patch"].as_str() else { return Ok(None) };
    if response["patchType"] != "JSONPatch" {
        return Err(format!("webhook returned invalid response.patchType of {}", response["patchType"]));
    }
    let bytes = BASE64_STANDARD.decode(patch).map_err(|error| error.to_string())?;
    serde_json::from_slice(&bytes).map(Some).map_err(|error| error.to_string())
}

fn failed(name: &str, error: &str) -> Status {
    Status::internal(format!("Internal error occurred: failed calling webhook {name:?}: {error}"))
}

fn denied(name: &str, status: &Value) -> Status {
    let by = format!("admission webhook {name:?} denied the request");
    let text = |field: &str| status[field].as_str().filter(|text| !text.is_empty());
    let message = match text("message").or(text("reason")) {
        Some(why) => format!("{by}: {why}"),
        None => format!("{by} without explanation"),
    };
    let code = status["code"].as_u64().and_then(|code| u16::try_from(code).ok()).unwrap_or(0).max(400);
    let code = StatusCode::from_u16(code).unwrap_or(StatusCode::BAD_REQUEST);
    Status::said(code, text("reason").unwrap_or_default(), message)
}

/// The name that a review has: that of the object, or what its name is made of.
pub(crate) fn name(fields: &Fields) -> &str {
    meta(fields, "name").unwrap_or_default()
}
