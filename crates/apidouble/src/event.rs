//! What Events of events.k8s.io must say, and what may be changed in them (kubernetes 1.36
//! pkg/apis/core/validation/events.go).

use serde_json::Value;

use crate::{
    kind::Kind,
    object::{Fields, meta},
    status::{Answer, Status},
};

/// Fields that a patch may not change: all but the series.
const FIXED: &[&str] = &[
    "regarding",
    "reason",
    "note",
    "type",
    "eventTime",
    "action",
    "related",
    "reportingController",
    "reportingInstance",
];
/// Bytes of a note.
const LONGEST_NOTE: usize = 1024;
/// Bytes of all other texts.
const LONGEST: usize = 128;

/// Refuses an Event that a server would refuse; all other kinds pass. `before` is what it replaces.
pub(crate) fn check(
    kind: &Kind,
    namespace: Option<&str>,
    before: Option<&Fields>,
    event: &Fields,
) -> Answer<()> {
    if (kind.group.as_str(), kind.kind.as_str()) != ("events.k8s.io", "Event") {
        return Ok(());
    }
    let invalid = |field: &str, what: &str| {
        let name = meta(event, "name").unwrap_or_default();
        Err(Status::invalid(&kind.kind, &kind.group, name, field, what))
    };
    let text = |field: &str| event.get(field).and_then(Value::as_str).unwrap_or_default();
    for field in ["eventTime", "reason", "action", "reportingController", "reportingInstance"] {
        if text(field).is_empty() {
            return invalid(field, "Required value");
        }
        if text(field).len() > LONGEST {
            return invalid(field, "Invalid value: can have at most 128 characters");
        }
    }
    let is_name = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    if !text("reportingController").chars().all(is_name) {
        return invalid("reportingController", "Invalid value: must be a qualified name");
    }
    if text("note").len() > LONGEST_NOTE {
        return invalid("note", "Invalid value: can have at most 1024 characters");
    }
    if !matches!(text("type"), "Normal" | "Warning") {
        return invalid("type", "Invalid value: must be Normal or Warning");
    }
    let of = event.get("regarding").and_then(|regarding| regarding["namespace"].as_str()).unwrap_or_default();
    if of.is_empty() && namespace != Some("default") {
        return invalid("regarding.namespace", "Invalid value: does not match event.namespace");
    }
    if let Some(series) = event.get("series").filter(|series| !series.is_null()) {
        if series["count"].as_u64().is_none_or(|count| count < 2) {
            return invalid("series.count", "Invalid value: should be at least 2");
        }
        if !series["lastObservedTime"].is_string() {
            return invalid("series.lastObservedTime", "Required value");
        }
    }
    let changed =
        before.and_then(|before| FIXED.iter().find(|field| before.get(**field) != event.get(**field)));
    match changed {
        Some(field) => invalid(field, "Invalid value: field is immutable"),
        None => Ok(()),
    }
}
