//! What a request asks for, from its method, path, query and headers.

use std::sync::Arc;

use hyper::{HeaderMap, Method, Uri, header};

use crate::{
    kind::Kind,
    selector::Selector,
    status::{Answer, Status},
    store::Store,
};

/// What is done to a resource: the words of RBAC rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
    DeleteCollection,
}

impl Verb {
    const ALL: &[Self] = &[
        Self::Get,
        Self::List,
        Self::Watch,
        Self::Create,
        Self::Update,
        Self::Patch,
        Self::Delete,
        Self::DeleteCollection,
    ];

    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|verb| verb.as_str() == text)
    }

    /// As in a rule.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
        }
    }
}

/// The resource that a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) plural: String,
    pub(crate) namespace: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) subresource: Option<String>,
}

impl Place {
    /// `None`: the path is not of a resource, but of discovery or health.
    pub(crate) fn parse(path: &str) -> Option<Self> {
        let steps: Vec<&str> = path.split('/').filter(|step| !step.is_empty()).collect();
        let (group, version, rest) = match steps.as_slice() {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return None,
        };
        let (namespace, rest) = match rest {
            // A namespace is an object too, with subresources.
            ["namespaces", _, "status" | "finalize"] => (None, rest),
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (Some(*namespace), rest),
            _ => (None, rest),
        };
        let mut rest = rest.iter().map(|&step| step.to_owned());
        Some(Self {
            group: group.to_owned(),
            version: version.to_owned(),
            plural: rest.next()?,
            namespace: namespace.map(str::to_owned),
            name: rest.next(),
            subresource: rest.next(),
        })
    }

    pub(crate) fn verb(&self, method: &Method, query: &Query) -> Option<Verb> {
        let is_watch = query.flag("watch");
        Some(match (method, &self.name) {
            // `watch` of one object by its path is not understood by a real server either.
            (&Method::GET | &Method::HEAD, Some(_)) => Verb::Get,
            (&Method::GET | &Method::HEAD, None) if is_watch => Verb::Watch,
            (&Method::GET | &Method::HEAD, None) => Verb::List,
            (&Method::POST, _) => Verb::Create,
            (&Method::PUT, Some(_)) => Verb::Update,
            (&Method::PATCH, Some(_)) => Verb::Patch,
            (&Method::DELETE, Some(_)) => Verb::Delete,
            (&Method::DELETE, None) => Verb::DeleteCollection,
            _ => return None,
        })
    }

    /// The same, naming the one object that a field selector leaves: rules that name objects count for it.
    pub(crate) fn named_by(mut self, query: &Query) -> Self {
        let fields = query.text("fieldSelector").split(',');
        let name = fields.filter_map(|term| term.strip_prefix("metadata.name=")).next_back();
        if self.name.is_none() {
            self.name = name.map(|name| name.trim_start_matches('=').to_owned());
        }
        self
    }

    /// The kind that is served here.
    pub(crate) fn kind(&self, store: &Store) -> Answer<Arc<Kind>> {
        let kind = store.served(&self.group, &self.version, &self.plural).ok_or_else(Status::no_page)?;
        let known = match self.subresource.as_deref() {
            None => true,
            Some("status") => kind.status,
            Some(_) => false,
        };
        let fits = kind.namespaced == self.namespace.is_some() || self.name.is_none();
        if known && fits { Ok(kind) } else { Err(Status::no_page()) }
    }
}

/// The query of a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn of(uri: &Uri) -> Self {
        let pairs = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
        Self(pairs.map(|(name, value)| (name.into_owned(), value.into_owned())).collect())
    }

    /// Empty where it is not there.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.0.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| known == name)
    }

    pub(crate) fn flag(&self, name: &str) -> bool {
        self.has(name) && matches!(self.text(name), "true" | "1" | "")
    }

    pub(crate) fn number(&self, name: &str) -> Answer<Option<u64>> {
        match self.text(name) {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| {
                Status::bad_request(format!("{name}: {text:?} is not a number that can be understood here"))
            }),
        }
    }

    pub(crate) fn selector(&self, kind: &Kind, place: &Place) -> Answer<Selector> {
        let (labels, fields) = (self.text("labelSelector"), self.text("fieldSelector"));
        Selector::parse(kind, place.namespace.as_deref(), labels, fields)
    }
}

/// How objects are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Whole,
    /// Only their metadata.
    Metadata,
}

impl Form {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if accept.contains("as=PartialObjectMetadata") { Self::Metadata } else { Self::Whole }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_resources() {
        let parse = |path| {
            Place::parse(path).map(|place| {
                let text = |part: Option<String>| part.unwrap_or_default();
                [
                    place.group,
                    place.version,
                    place.plural,
                    text(place.namespace),
                    text(place.name),
                    text(place.subresource),
                ]
            })
        };
        let of = |words: [&str; 6]| Some(words.map(str::to_owned));
        assert_eq!(parse("/api/v1/services"), of(["", "v1", "services", "", "", ""]));
        assert_eq!(parse("/api/v1/namespaces"), of(["", "v1", "namespaces", "", "", ""]));
        assert_eq!(parse("/api/v1/namespaces/a"), of(["", "v1", "namespaces", "", "a", ""]));
        assert_eq!(parse("/api/v1/namespaces/a/status"), of(["", "v1", "namespaces", "", "a", "status"]));
        assert_eq!(parse("/api/v1/namespaces/a/pods/b/status"), of(["", "v1", "pods", "a", "b", "status"]));
        assert_eq!(
            parse("/apis/discovery.k8s.io/v1/namespaces/a/endpointslices"),
            of(["discovery.k8s.io", "v1", "endpointslices", "a", "", ""])
        );
        assert_eq!((parse("/api"), parse("/apis/apps/v1"), parse("/healthz")), (None, None, None));
    }
}
