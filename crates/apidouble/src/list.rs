//! Lists: whole, in chunks, and as they were at an earlier version.

use std::sync::Arc;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::{
    kind::Kind,
    object::{Object, write_typed},
    request::{Form, Query},
    selector::Selector,
    status::{Answer, Status},
    store::Store,
};

/// What a list asks for.
#[derive(Clone, Debug)]
pub(crate) struct ListOptions {
    limit: Option<u64>,
    /// Where the page before ended: its version and its last key.
    start: Option<(u64, String)>,
    version: Version,
}

/// Which state of the objects is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    Newest,
    NotOlder(u64),
    Exact(u64),
}

impl ListOptions {
    pub(crate) fn parse(query: &Query) -> Answer<Self> {
        let forbidden = |field: &str, what: &str| {
            Err(Status::invalid("ListOptions", "meta.k8s.io", "", field, &format!("Forbidden: {what}")))
        };
        let (asked, matching) = (query.text("resourceVersion"), query.text("resourceVersionMatch"));
        let start = match query.text("continue") {
            "" => None,
            token => Some(read_token(token)?),
        };
        if query.has("sendInitialEvents") {
            return forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list");
        }
        if !matching.is_empty() {
            let field = "resourceVersionMatch";
            if asked.is_empty() {
                return forbidden(
                    field,
                    "resourceVersionMatch is forbidden unless resourceVersion is provided",
                );
            }
            if start.is_some() {
                return forbidden(field, "resourceVersionMatch is forbidden when continue is provided");
            }
            if matching == "Exact" && asked == "0" {
                let what = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
                return forbidden(field, what);
            }
        }
        if start.is_some() && !asked.is_empty() && asked != "0" {
            return Err(Status::bad_request(
                "specifying resource version is not allowed when using continue",
            ));
        }
        // Whoever takes any version gets what the server has in memory, all of it.
        let limit = query.number("limit")?.filter(|&limit| limit > 0 && asked != "0");
        let version = match (query.number("resourceVersion")?, matching) {
            (None | Some(0), _) => Version::Newest,
            (Some(version), "Exact") => Version::Exact(version),
            // A page of a version that was asked for is of that version, so that the next one can be.
            (Some(version), "") if limit.is_some() => Version::Exact(version),
            (Some(version), "" | "NotOlderThan") => Version::NotOlder(version),
            (Some(_), other) => {
                let what = format!(
                    "Unsupported value: {other:?}: supported values: \"Exact\", \"NotOlderThan\", \"\""
                );
                return Err(Status::invalid("ListOptions", "meta.k8s.io", "", "resourceVersionMatch", &what));
            }
        };
        Ok(Self { limit, start, version })
    }

    /// The list as it is sent.
    pub(crate) fn answer(
        &self,
        store: &Store,
        kind: &Kind,
        version: &str,
        selector: &Selector,
        form: Form,
    ) -> Answer<Vec<u8>> {
        let current = store.revision();
        let floor = store.floor(kind);
        let (at, after) = match (&self.start, self.version) {
            (Some((0, key)), _) => (current, Some(key.as_str())),
            (Some((at, key)), _) if *at < floor => {
                let message = "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.";
                let mut status = Status::expired(message);
                status.list_continue = Some(token(0, key).into());
                return Err(status);
            }
            (Some((at, key)), _) => (*at, Some(key.as_str())),
            (None, Version::Newest) => (current, None),
            (None, Version::NotOlder(wanted) | Version::Exact(wanted)) if wanted > current => {
                return Err(Status::too_large_version(wanted, current));
            }
            (None, Version::NotOlder(_)) => (current, None),
            (None, Version::Exact(wanted)) if wanted < floor => {
                return Err(Status::expired("The resourceVersion for the provided list is too old."));
            }
            (None, Version::Exact(wanted)) => (wanted, None),
        };
        if at > current {
            return Err(Status::too_large_version(at, current));
        }
        let limit = self.limit.map_or(usize::MAX, |limit| limit as usize);
        let page = store.page(kind, at, selector, after, limit);
        let mut metadata = json!({"resourceVersion": at.to_string()});
        if let Some((last, remaining)) = page.more {
            metadata["continue"] = token(at, &last).into();
            if selector.is_everything() {
                metadata["remainingItemCount"] = remaining.into();
            }
        }
        Ok(write_list(kind, version, &metadata, &page.items, form))
    }
}

fn write_list(kind: &Kind, version: &str, metadata: &Value, items: &[Arc<Object>], form: Form) -> Vec<u8> {
    let (list, api_version) = match form {
        Form::Whole => (format!("{}List", kind.kind), kind.api_version_of(version)),
        Form::Metadata => ("PartialObjectMetadataList".to_owned(), "meta.k8s.io/v1".to_owned()),
    };
    let size: usize = items.iter().map(|object| object.json.len() + 64).sum();
    let mut text = Vec::with_capacity(size + 256);
    text.extend_from_slice(
        format!("{{\"kind\":\"{list}\",\"apiVersion\":\"{api_version}\",\"metadata\":{metadata},\"items\":[")
            .as_bytes(),
    );
    for (at, object) in items.iter().enumerate() {
        if at > 0 {
            text.push(b',');
        }
        match form {
            // Items of built-in kinds do not say what they are; the list does.
            Form::Whole if !kind.custom => text.extend_from_slice(&object.json),
            _ => write_object(&mut text, kind, version, object, form),
        }
    }
    text.extend_from_slice(b"]}\n");
    text
}

/// Appends one object as it is sent by itself.
pub(crate) fn write_object(to: &mut Vec<u8>, kind: &Kind, version: &str, object: &Object, form: Form) {
    match form {
        Form::Whole => write_typed(to, &object.json, &kind.api_version_of(version), &kind.kind),
        Form::Metadata => {
            let metadata = json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
                "metadata": object.fields["metadata"]});
            to.extend_from_slice(metadata.to_string().as_bytes());
        }
    }
}

/// Version 0: whatever is newest.
fn token(version: u64, key: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(json!({"v": "meta.k8s.io/v1", "rv": version, "start": key}).to_string())
}

fn read_token(token: &str) -> Answer<(u64, String)> {
    let read = || {
        let json: Value = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
        Some((json["rv"].as_u64()?, json["start"].as_str()?.to_owned()))
    };
    read().ok_or_else(|| Status::bad_request("continue key is not valid: it cannot be read"))
}
