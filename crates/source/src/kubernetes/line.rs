//! What a server sends: lists, and the lines of a watch (kubernetes 1.36
//! staging/src/k8s.io/apimachinery/pkg/apis/meta/v1/{watch,types}.go).

use std::{borrow::Cow, collections::BTreeMap, time::Duration};

use serde::Deserialize;
use serde_json::value::RawValue;

/// What is needed of any object before it is known whether it is news.
#[derive(Debug, Deserialize)]
pub(super) struct Head<'a> {
    #[serde(borrow)]
    pub(super) metadata: Metadata<'a>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Metadata<'a> {
    #[serde(borrow, default)]
    pub(super) namespace: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(super) name: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(super) resource_version: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(super) uid: Cow<'a, str>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

/// An object as it was sent.
#[derive(Debug)]
pub(super) struct Sent<'a> {
    pub(super) head: Metadata<'a>,
    pub(super) text: &'a str,
}

impl<'a> Sent<'a> {
    pub(super) fn read(text: &'a str) -> Result<Self, serde_json::Error> {
        let Head { metadata } = serde_json::from_str(text)?;
        Ok(Self { head: metadata, text })
    }
}

/// A line of a watch.
#[derive(Debug)]
pub(super) enum Line<'a> {
    /// It is there, and looks like this now.
    Put(Sent<'a>),
    /// It is gone, or no longer what we asked for.
    Deleted(Sent<'a>),
    /// Nothing has happened up to a version.
    Bookmark {
        version: Cow<'a, str>,
        /// All that there was has been sent.
        is_all: bool,
    },
    /// The server ends the watch.
    Failed(Failure),
}

/// `Status`, as far as it matters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Failure {
    pub(super) code: u16,
    pub(super) reason: String,
    pub(super) message: String,
    details: Option<Details>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Details {
    retry_after_seconds: Option<u64>,
}

impl Failure {
    pub(super) fn new(code: u16, reason: &str, message: &str, retry_after: Option<u64>) -> Self {
        let details = retry_after.map(|seconds| Details { retry_after_seconds: Some(seconds) });
        Self { code, reason: reason.into(), message: message.into(), details }
    }

    /// The version that was asked for is too old; or newer than the server is.
    pub(super) fn is_of_version(&self) -> bool {
        self.code == 410
            || matches!(self.reason.as_str(), "Expired" | "Gone")
            || self.message.contains("Too large resource version")
    }

    pub(super) fn retry_after(&self) -> Option<Duration> {
        self.details.as_ref()?.retry_after_seconds.map(Duration::from_secs)
    }
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    object: &'a RawValue,
}

impl<'a> Line<'a> {
    /// # Errors
    /// It is no JSON of this form: a part of a line, mostly.
    pub(super) fn read(text: &'a str) -> Result<Self, serde_json::Error> {
        let Envelope { kind, object } = serde_json::from_str(text)?;
        let object = object.get();
        Ok(match &*kind {
            "ADDED" | "MODIFIED" => Self::Put(Sent::read(object)?),
            "DELETED" => Self::Deleted(Sent::read(object)?),
            "BOOKMARK" => {
                let Head { metadata } = serde_json::from_str(object)?;
                let annotations = metadata.annotations.unwrap_or_default();
                let is_all = annotations.get("k8s.io/initial-events-end").is_some_and(|it| it == "true");
                Self::Bookmark { version: metadata.resource_version, is_all }
            }
            "ERROR" => Self::Failed(serde_json::from_str(object)?),
            other => Self::Failed(Failure::new(0, "", &format!("a watch event of type {other:?}"), None)),
        })
    }
}

/// A part of a list.
#[derive(Deserialize)]
pub(super) struct Chunk<'a> {
    #[serde(borrow)]
    pub(super) metadata: ChunkMetadata<'a>,
    #[serde(borrow, default)]
    pub(super) items: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ChunkMetadata<'a> {
    #[serde(borrow, default)]
    pub(super) resource_version: Cow<'a, str>,
    /// Where the next part begins; empty = this was the last.
    #[serde(borrow, default, rename = "continue")]
    pub(super) rest: Cow<'a, str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_what_they_say() {
        let put = r#"{"type":"ADDED","object":{"metadata":{"name":"a","namespace":"n","resourceVersion":"7"},"x":[1]}}"#;
        let Line::Put(sent) = Line::read(put).unwrap() else { panic!() };
        assert_eq!((&*sent.head.namespace, &*sent.head.name, &*sent.head.resource_version), ("n", "a", "7"));
        assert!(sent.text.ends_with(r#""x":[1]}"#));
        let end = r#"{"type":"BOOKMARK","object":{"kind":"Service","metadata":{"resourceVersion":"9",
            "annotations":{"k8s.io/initial-events-end":"true"}}}}"#;
        assert!(
            matches!(Line::read(end).unwrap(), Line::Bookmark { version, is_all: true } if version == "9")
        );
        let plain = r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"9"}}}"#;
        assert!(matches!(Line::read(plain).unwrap(), Line::Bookmark { is_all: false, .. }));
        assert!(Line::read(&put[..40]).is_err());
    }

    #[test]
    fn versions_that_can_not_be_had_are_known() {
        let gone = r#"{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired","message":"too old"}}"#;
        let Line::Failed(failure) = Line::read(gone).unwrap() else { panic!() };
        assert!(failure.is_of_version());
        let ahead = Failure::new(504, "Timeout", "Too large resource version: 9, current: 5", Some(1));
        assert!(ahead.is_of_version());
        assert_eq!(ahead.retry_after(), Some(Duration::from_secs(1)));
        assert!(!Failure::new(500, "InternalError", "", None).is_of_version());
    }
}
