//! One version of an object: its fields, and its JSON made once for all who list and watch it.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value, json};

/// The fields of an object. Kept without `apiVersion` and `kind`, which depend on how it is asked for.
pub(crate) type Fields = Map<String, Value>;

/// An object as it was at one resource version.
#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) fields: Fields,
    pub(crate) revision: u64,
    /// Of `fields`.
    pub(crate) json: Bytes,
}

impl Object {
    /// `fields` with the resource version `revision`.
    pub(crate) fn new(mut fields: Fields, revision: u64) -> Arc<Self> {
        metadata_mut(&mut fields).insert("resourceVersion".to_owned(), revision.to_string().into());
        let json = serde_json::to_vec(&fields).map(Bytes::from).unwrap_or_default();
        Arc::new(Self { fields, revision, json })
    }

    /// The same with another resource version: what a watch says of an object that is gone.
    pub(crate) fn at(&self, revision: u64) -> Arc<Self> {
        Self::new(self.fields.clone(), revision)
    }
}

/// `metadata`, made if it is not there.
pub(crate) fn metadata_mut(fields: &mut Fields) -> &mut Fields {
    let metadata = fields.entry("metadata").or_insert_with(|| json!({}));
    if !metadata.is_object() {
        *metadata = json!({});
    }
    match metadata {
        Value::Object(metadata) => metadata,
        _ => unreachable!("was made an object above"),
    }
}

/// A text of `metadata`.
pub(crate) fn meta<'a>(fields: &'a Fields, name: &str) -> Option<&'a str> {
    fields.get("metadata")?.get(name)?.as_str()
}

/// The key under which an object is kept: they are listed in this order, as in etcd.
pub(crate) fn key(namespace: Option<&str>, name: &str) -> String {
    match namespace {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name.to_owned(),
    }
}

/// `fields` as an object with `apiVersion` and `kind`.
pub(crate) fn typed(fields: &Fields, api_version: &str, kind: &str) -> Value {
    let mut fields = fields.clone();
    fields.insert("apiVersion".to_owned(), api_version.into());
    fields.insert("kind".to_owned(), kind.into());
    Value::Object(fields)
}

/// Appends the JSON of `object` with `apiVersion` and `kind`.
pub(crate) fn write_typed(to: &mut Vec<u8>, json: &[u8], api_version: &str, kind: &str) {
    // What is kept always has metadata, so the brace is never followed by its end.
    to.extend_from_slice(format!("{{\"kind\":\"{kind}\",\"apiVersion\":\"{api_version}\",").as_bytes());
    to.extend_from_slice(&json[1..]);
}
