//! A policy as a server sends it, and its status as it is written.

use api::policy::PolicyStatus;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{
    api::{Patch, PatchParams},
    core::{Request, request::Error},
};
use model::{Kind, Object, ObjectId, Policy};
use serde::Deserialize;
use serde_json::{Value, json};

use super::statuses::Known;

const API_VERSION: &str = "balancing.elf.io/v1beta1";
/// Who has written a field.
const FIELD_MANAGER: &str = "balancing-controller";
/// The conditions that are ours.
const CONDITIONS: [&str; 3] = ["Accepted", "Conflict", "BackendsReady"];

#[derive(Deserialize)]
struct Head {
    metadata: ObjectMeta,
    #[serde(default)]
    status: Option<PolicyStatus>,
}

/// What a server has sent: what is known of the policy, and what it says, if that makes sense.
pub(super) fn read(id: &ObjectId, text: &str) -> Result<(Known, Option<Policy>), serde_json::Error> {
    let mut known = known(serde_json::from_str(text)?);
    let (policy, problem) = match api::from_json(id.kind, text, &mut Vec::new()) {
        Ok(Some(Object::Policy(policy))) => (Some(std::sync::Arc::unwrap_or_clone(policy)), None),
        Ok(_) => (None, Some("it is no policy".to_owned())),
        Err(invalid) => (None, Some(format!("{}: {}", invalid.field, invalid.problem))),
    };
    known.problem = problem;
    Ok((known, policy))
}

/// What a server has answered to a write.
pub(super) fn answered(object: Value) -> Option<Known> {
    serde_json::from_value(object).ok().map(known)
}

fn known(head: Head) -> Known {
    let mut status = head.status.unwrap_or_default();
    // In their list they are in any order.
    status.conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
    Known {
        version: head.metadata.resource_version.unwrap_or_default().as_str().into(),
        uid: head.metadata.uid.unwrap_or_default(),
        generation: head.metadata.generation,
        status,
        problem: None,
    }
}

/// The request that writes a status. The UID says which policy is meant: none is made, and no other one is written to.
pub(super) fn write(
    id: &ObjectId,
    uid: &str,
    status: &PolicyStatus,
) -> Result<http::Request<Vec<u8>>, Error> {
    let plural = match id.kind {
        Kind::LocalRedirectPolicy => "localredirectpolicies",
        _ => "balancingpolicies",
    };
    let mut ours = status.clone();
    ours.conditions.retain(|condition| CONDITIONS.contains(&condition.type_.as_str()));
    let body = json!({
        "apiVersion": API_VERSION,
        "kind": id.kind.to_string(),
        "metadata": {"name": id.name.name, "uid": uid},
        "status": ours,
    });
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let policies = Request::new(format!("/apis/{API_VERSION}/{plural}"));
    policies.patch_subresource("status", &id.name.name, &params, &Patch::Apply(body))
}

#[cfg(test)]
mod tests {
    use model::ObjectName;

    use super::*;

    fn id() -> ObjectId {
        ObjectId { kind: Kind::BalancingPolicy, name: ObjectName::new("", "p") }
    }

    #[test]
    fn a_policy_that_makes_no_sense_is_known_all_the_same() {
        let mut policy = json!({
            "metadata": {"name": "p", "uid": "u", "generation": 3, "resourceVersion": "7"},
            "spec": {
                "frontend": {"addressMatcher": {"ip": "192.0.2.1", "toPorts": [{"port": "80", "protocol": "TCP"}]}},
                "backend": {"addressEndpoint": {"addresses": ["192.0.2.2"], "toPorts": [{"port": "80", "protocol": "TCP"}]}},
            },
            "status": {"backends": 1, "conditions": [
                {"type": "b", "status": "True", "reason": "B", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"},
                {"type": "a", "status": "True", "reason": "A", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"},
            ]},
        });
        let (known, read_policy) = read(&id(), &policy.to_string()).unwrap();
        assert_eq!((known.generation, known.uid.as_str(), &known.problem), (Some(3), "u", &None));
        assert_eq!(known.status.conditions[0].type_, "a");
        assert_eq!(read_policy.unwrap().name, "p");
        policy["spec"]["frontend"]["addressMatcher"]["ip"] = "nowhere".into();
        let (known, nothing) = read(&id(), &policy.to_string()).unwrap();
        let problem = known.problem.unwrap();
        assert!(nothing.is_none() && problem.starts_with("spec.frontend.addressMatcher.ip"), "{problem}");
    }

    #[test]
    fn only_what_is_ours_is_written() {
        let condition = |kind: &str| {
            json!({"type": kind, "status": "True", "reason": "A", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z"})
        };
        let status = json!({"backends": 1, "conditions": [condition("Accepted"), condition("Somebody")]});
        let request = write(&id(), "u", &serde_json::from_value(status).unwrap()).unwrap();
        let path = request.uri().path();
        assert_eq!(path, "/apis/balancing.elf.io/v1beta1/balancingpolicies/p/status");
        let body: Value = serde_json::from_slice(request.body()).unwrap();
        assert_eq!(body["status"]["conditions"].as_array().unwrap().len(), 1);
        assert_eq!(body["metadata"], json!({"name": "p", "uid": "u"}));
    }
}
