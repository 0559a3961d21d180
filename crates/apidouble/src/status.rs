//! What the API server answers when it does not do what was asked: an object of kind `Status`.

use std::borrow::Cow;

use hyper::StatusCode;
use serde_json::{Value, json};

/// A refusal, or another answer that is no object.
#[derive(Clone, Debug)]
pub(crate) struct Status {
    pub(crate) code: StatusCode,
    reason: Cow<'static, str>,
    message: String,
    details: Option<Value>,
    /// Seconds, for the header of this name and for `details`.
    pub(crate) retry_after: Option<u64>,
    /// Where a list can go on.
    pub(crate) list_continue: Option<Box<str>>,
}

/// What a verb gives, or why not.
pub(crate) type Answer<T> = Result<T, Status>;

impl Status {
    pub(crate) fn new(code: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason: reason.into(),
            message: message.into(),
            details: None,
            retry_after: None,
            list_continue: None,
        }
    }

    /// A refusal in somebody else's words.
    pub(crate) fn said(code: StatusCode, reason: &str, message: String) -> Self {
        Self { reason: Cow::Owned(reason.to_owned()), ..Self::new(code, "", message) }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    pub(crate) fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized")
    }

    pub(crate) fn forbidden(message: impl Into<String>, resource: &str, group: &str, name: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, "Forbidden", message).about(resource, group, name)
    }

    /// No such path.
    pub(crate) fn no_page() -> Self {
        Self::new(StatusCode::NOT_FOUND, "NotFound", "the server could not find the requested resource")
            .with_details(json!({}))
    }

    pub(crate) fn not_found(resource: &str, group: &str, name: &str) -> Self {
        let message = format!("{} {name:?} not found", qualified(resource, group));
        Self::new(StatusCode::NOT_FOUND, "NotFound", message).about(resource, group, name)
    }

    pub(crate) fn already_exists(resource: &str, group: &str, name: &str) -> Self {
        let message = format!("{} {name:?} already exists", qualified(resource, group));
        Self::new(StatusCode::CONFLICT, "AlreadyExists", message).about(resource, group, name)
    }

    pub(crate) fn is_already_exists(&self) -> bool {
        self.reason == "AlreadyExists"
    }

    pub(crate) fn conflict(resource: &str, group: &str, name: &str, why: &str) -> Self {
        let message =
            format!("Operation cannot be fulfilled on {} {name:?}: {why}", qualified(resource, group));
        Self::new(StatusCode::CONFLICT, "Conflict", message).about(resource, group, name)
    }

    /// 422: `field` of an object of this kind is not as it must be.
    pub(crate) fn invalid(kind: &str, group: &str, name: &str, field: &str, what: &str) -> Self {
        let (what, reason) = match what.strip_prefix("Forbidden: ") {
            Some(_) => (what, "FieldValueForbidden"),
            None if what.starts_with("Required value") => (what, "FieldValueRequired"),
            None => (what, "FieldValueInvalid"),
        };
        let subject = if group.is_empty() { kind.to_owned() } else { format!("{kind}.{group}") };
        let mut status = Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "Invalid",
            format!("{subject} {name:?} is invalid: {field}: {what}"),
        );
        status.details = Some(json!({"name": name, "group": group, "kind": kind,
            "causes": [{"reason": reason, "message": what, "field": field}]}));
        status
    }

    /// 410: what was asked for is older than what is kept.
    pub(crate) fn expired(message: impl Into<String>) -> Self {
        Self::new(StatusCode::GONE, "Expired", message)
    }

    /// 504: a version was asked for that is not there yet.
    pub(crate) fn too_large_version(asked: u64, current: u64) -> Self {
        let mut status = Self::new(
            StatusCode::GATEWAY_TIMEOUT,
            "Timeout",
            format!("Timeout: Too large resource version: {asked}, current: {current}"),
        );
        status.details = Some(json!({"retryAfterSeconds": 1, "causes": [
            {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]}));
        status.retry_after = Some(1);
        status
    }

    pub(crate) fn unsupported_media(what: &str) -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "UnsupportedMediaType",
            format!(
                "the body of the request was in an unknown format - accepted media types include: {what}"
            ),
        )
    }

    pub(crate) fn method_not_allowed() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        )
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message)
    }

    pub(crate) fn with_details(mut self, details: Value) -> Self {
        self.details = Some(details);
        self
    }

    pub(crate) fn with_retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        let details = self.details.get_or_insert_with(|| json!({}));
        details["retryAfterSeconds"] = seconds.into();
        self
    }

    fn about(mut self, resource: &str, group: &str, name: &str) -> Self {
        let mut details = json!({"name": name, "kind": resource});
        if !group.is_empty() {
            details["group"] = group.into();
        }
        self.details = Some(details);
        self
    }

    /// The object, as it is sent.
    pub(crate) fn to_value(&self) -> Value {
        let mut value = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code.as_u16(),
        });
        if let Some(token) = &self.list_continue {
            value["metadata"]["continue"] = token.as_ref().into();
        }
        if let Some(details) = &self.details {
            value["details"] = details.clone();
        }
        value
    }
}

/// `services`, `leases.coordination.k8s.io`.
pub(crate) fn qualified(resource: &str, group: &str) -> String {
    if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") }
}
