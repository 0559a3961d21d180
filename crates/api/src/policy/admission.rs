//! What is said of a policy that is to be written, beside those that there are: by the webhook, and of files.
//!
//! Pure: who knows the others gives them. Two policies that meet only later, for a service gets just the address that another
//! policy names, are no matter of this: the older keeps it, and the newer's status says so (P1).

use serde_json::{Value, json};

use super::{
    check::{check, invalid, text},
    claim::{Claim, SERVICE_ID, SERVICE_ID_AT, service_id},
};
use crate::Invalid;

/// A JSON patch (RFC 6902) that gives a policy what it lacks: a `serviceId`. None: it lacks nothing.
///
/// `former` is what it was before an update, whose id it keeps. A new one follows from kind and name, so that a policy that is
/// made again, or by two controllers at once, gets the same; the next free one, if another has that. An update that leaves alone
/// what [`validate`] judges is left alone: with an id it would be judged.
pub fn default<'a>(
    policy: &Value,
    former: Option<&Value>,
    others: impl IntoIterator<Item = &'a Claim>,
) -> Option<Value> {
    if !is_to_be_judged(policy, former) || policy.pointer(SERVICE_ID_AT).is_some() {
        return None;
    }
    let kept = former.and_then(|former| text(former, SERVICE_ID_AT)).and_then(service_id);
    let id = kept.unwrap_or_else(|| {
        let own = Claim::of(policy);
        let is_own = |other: &Claim| own.as_ref().is_some_and(|own| own.is_same(other));
        let taken = others.into_iter().filter(|other| !is_own(other)).filter_map(|other| other.id).collect();
        free(policy, taken)
    });
    let mut patch = Vec::new();
    if !policy.pointer("/metadata/annotations").is_some_and(Value::is_object) {
        patch.push(json!({"op": "add", "path": "/metadata/annotations", "value": {}}));
    }
    patch.push(json!({"op": "add", "path": SERVICE_ID_AT, "value": id.to_string()}));
    Some(Value::Array(patch))
}

/// All that is wrong with a policy that is to be written, each with its field and what would be right. Empty: let it pass.
///
/// `former` is what it was before an update. An update that leaves alone what is judged here passes, whatever that is, and so
/// does any of a policy that is being deleted: neither old mistakes nor new rules keep one from going. What it had before it
/// keeps, even if another has come by the same: whoever has a frontend must be able to change the rest.
pub fn validate<'a>(
    policy: &Value,
    former: Option<&Value>,
    others: impl IntoIterator<Item = &'a Claim>,
) -> Vec<Invalid> {
    if !is_to_be_judged(policy, former) {
        return Vec::new();
    }
    let mut wrong = check(policy);
    wrong.extend(wrong_id(policy));
    if let Some(claim) = Claim::of(policy) {
        let own = claim.beyond(former.and_then(Claim::of).as_ref());
        for other in others.into_iter().filter(|other| !own.is_same(other)) {
            wrong.extend(conflicts(policy, &own, other));
        }
    }
    wrong
}

/// Is there anything for [`default`] and [`validate`] to do? If not, others need not be known.
pub fn is_to_be_judged(policy: &Value, former: Option<&Value>) -> bool {
    let is_going = text(policy, "/metadata/deletionTimestamp").is_some();
    let is_as_before = |former: &Value| {
        policy.get("spec") == former.get("spec")
            && policy.pointer(SERVICE_ID_AT) == former.pointer(SERVICE_ID_AT)
    };
    !is_going && !former.is_some_and(is_as_before)
}

/// By FNV-1a of kind and name.
fn free(policy: &Value, taken: std::collections::HashSet<u32>) -> u32 {
    let name = text(policy, "/metadata/name").or_else(|| text(policy, "/metadata/generateName"));
    let words = [text(policy, "/kind").unwrap_or_default(), "/", name.unwrap_or_default()];
    let bytes = words.iter().flat_map(|word| word.bytes());
    let mut id = bytes.fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    while id == 0 || taken.contains(&id) {
        id = id.wrapping_add(1);
    }
    id
}

fn field_of_id() -> String {
    format!("metadata.annotations[{SERVICE_ID}]")
}

fn wrong_id(policy: &Value) -> Option<Invalid> {
    let given = policy.pointer(SERVICE_ID_AT)?;
    if given.as_str().and_then(service_id).is_some() {
        return None;
    }
    let problem = format!("{given} must be a number from 0 to {}, or left out: one is chosen then", u32::MAX);
    Some(invalid(policy, field_of_id(), problem))
}

fn conflicts(policy: &Value, own: &Claim, other: &Claim) -> Vec<Invalid> {
    let mut wrong = Vec::new();
    if let Some(id) = own.id.filter(|id| other.id == Some(*id)) {
        let problem =
            format!("{id} is that of {other}; use another number, or leave it out: one is chosen then");
        wrong.push(invalid(policy, field_of_id(), problem));
    }
    if let Some(what) = own.contested(other) {
        let problem = format!(
            "{what} is what {other} is for already; ask for something else, or change or delete that first"
        );
        wrong.push(invalid(policy, "spec.frontend".into(), problem));
    }
    wrong
}

#[cfg(test)]
mod tests;
