//! What a write makes of an object: identity, generation, what a subresource may change, deletion in steps.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    kind::Kind,
    managed::now,
    object::{Fields, Object, meta, metadata_mut},
    status::{Answer, Status, qualified},
    store::Store,
};

/// What stays as it is whatever a client sends.
const IDENTITY: &[&str] = &[
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "namespace",
];

/// An object that a test stores: only what nobody writes by hand is added.
pub(crate) fn stored_as_is(
    kind: &Kind,
    namespace: Option<&str>,
    mut fields: Fields,
    current: Option<&Object>,
) -> Fields {
    let generation = next_generation(kind, current, &fields);
    let kept = |name: &str| current.and_then(|object| object.fields.get("metadata")?.get(name)).cloned();
    let metadata = metadata_mut(&mut fields);
    if let Some(namespace) = namespace {
        metadata.insert("namespace".to_owned(), namespace.into());
    }
    let fresh = [("uid", Uuid::new_v4().to_string()), ("creationTimestamp", now())];
    for (name, value) in fresh {
        if metadata.get(name).is_none_or(Value::is_null) {
            metadata.insert(name.to_owned(), kept(name).unwrap_or_else(|| value.into()));
        }
    }
    if let Some(generation) = generation {
        metadata.entry("generation").or_insert_with(|| generation.into());
    }
    if is_namespace(kind) {
        live(&mut fields);
    }
    fields
}

fn is_namespace(kind: &Kind) -> bool {
    kind.plural == "namespaces" && kind.group.is_empty()
}

/// What every namespace has: selectors find it by the label.
fn live(namespace: &mut Fields) {
    let name = meta(namespace, "name").unwrap_or_default().to_owned();
    metadata_mut(namespace).entry("labels").or_insert_with(|| json!({}))["kubernetes.io/metadata.name"] =
        name.into();
    namespace.entry("spec").or_insert_with(|| json!({"finalizers": ["kubernetes"]}));
    namespace.entry("status").or_insert_with(|| json!({"phase": "Active"}));
}

/// A new object as a client sent it, which has been given a name.
pub(crate) fn created(kind: &Kind, namespace: Option<&str>, mut fields: Fields) -> Fields {
    // A node reports itself, status and all.
    if kind.status && kind.plural != "nodes" {
        fields.remove("status");
    }
    let metadata = metadata_mut(&mut fields);
    IDENTITY.iter().for_each(|&name| {
        metadata.remove(name);
    });
    stored_as_is(kind, namespace, fields, None)
}

/// `sent` as the next version of `current`; `subresource` says which half of it counts.
pub(crate) fn updated(kind: &Kind, subresource: Option<&str>, current: &Object, mut sent: Fields) -> Fields {
    if subresource == Some("status") {
        let status = sent.remove("status");
        let metadata = sent.remove("metadata").unwrap_or_default();
        sent.clone_from(&current.fields);
        sent.remove("status");
        sent.extend(status.map(|status| ("status".to_owned(), status)));
        if kind.custom {
            // Of the metadata only who owns the status may change.
            let owners = metadata.get("managedFields").cloned();
            metadata_mut(&mut sent).extend(owners.map(|owners| ("managedFields".to_owned(), owners)));
        } else {
            sent.insert("metadata".to_owned(), metadata);
        }
    } else if kind.status {
        sent.remove("status");
        sent.extend(current.fields.get("status").map(|status| ("status".to_owned(), status.clone())));
    }
    let generation = next_generation(kind, Some(current), &sent);
    let metadata = metadata_mut(&mut sent);
    for &name in IDENTITY {
        metadata.remove(name);
        if let Some(value) = current.fields["metadata"].get(name) {
            metadata.insert(name.to_owned(), value.clone());
        }
    }
    if let Some(generation) = generation {
        metadata.insert("generation".to_owned(), generation.into());
    }
    sent
}

fn next_generation(kind: &Kind, current: Option<&Object>, next: &Fields) -> Option<u64> {
    let Some(current) = current else { return kind.generation.then_some(1) };
    let now = current.fields.get("metadata")?.get("generation")?.as_u64()?;
    let counts = |name: &&String| *name != "metadata" && (*name != "status" || !kind.status);
    let differs = current.fields.keys().chain(next.keys()).filter(counts);
    let differs = differs.filter(|name| current.fields.get(*name) != next.get(*name)).count() > 0;
    Some(if differs { now + 1 } else { now })
}

/// Nothing but times and versions differs.
pub(crate) fn is_same(before: &Fields, after: &Fields, with_managers: bool) -> bool {
    let plain = |fields: &Fields| {
        let mut fields = fields.clone();
        let metadata = metadata_mut(&mut fields);
        metadata.remove("resourceVersion");
        if !with_managers {
            metadata.remove("managedFields");
        }
        for entry in metadata.get_mut("managedFields").and_then(Value::as_array_mut).into_iter().flatten() {
            entry["time"] = Value::Null;
        }
        fields
    };
    plain(before) == plain(after)
}

/// Which version of which object a client means.
#[derive(Clone, Debug, Default)]
pub(crate) struct Preconditions {
    pub(crate) uid: Option<String>,
    pub(crate) version: Option<String>,
}

impl Preconditions {
    /// Of an object that a client sent.
    pub(crate) fn of(fields: &Fields) -> Self {
        let text = |name| meta(fields, name).filter(|text| !text.is_empty()).map(str::to_owned);
        Self { uid: text("uid"), version: text("resourceVersion").filter(|version| version != "0") }
    }

    pub(crate) fn check(&self, kind: &Kind, current: &Object) -> Answer<()> {
        let name = meta(&current.fields, "name").unwrap_or_default();
        let conflict = |why: &str| Err(Status::conflict(&kind.plural, &kind.group, name, why));
        let uid = meta(&current.fields, "uid").unwrap_or_default();
        match &self.uid {
            Some(wanted) if wanted != uid => {
                let why =
                    format!("Precondition failed: UID in precondition: {wanted}, UID in object meta: {uid}");
                return conflict(&why);
            }
            _ => {}
        }
        match &self.version {
            Some(version) if *version != current.revision.to_string() => conflict(
                "the object has been modified; please apply your changes to the latest version and try again",
            ),
            _ => Ok(()),
        }
    }
}

/// What a deletion does first.
pub(crate) enum Deletion {
    /// The object goes.
    Now,
    /// It is marked, and goes when its last finalizer does, or its kubelet says so.
    Marked(Fields),
    /// It was marked before.
    Already,
}

/// Deletes `current`; `grace` seconds are what the client asked for.
pub(crate) fn deleted(kind: &Kind, current: &Object, grace: Option<u64>) -> Deletion {
    let fields = &current.fields;
    let metadata = &fields["metadata"];
    let grace = match kind.graceful && fields.get("spec").is_some_and(|spec| spec["nodeName"].is_string()) {
        true => grace.or(fields["spec"]["terminationGracePeriodSeconds"].as_u64()).unwrap_or(30),
        false => 0,
    };
    let is_held = is_held(fields);
    if !is_held && grace == 0 {
        return Deletion::Now;
    }
    if metadata["deletionTimestamp"].is_string() {
        return Deletion::Already;
    }
    let mut marked = fields.clone();
    let metadata = metadata_mut(&mut marked);
    let when = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(grace.min(1 << 30) as i64);
    metadata.insert("deletionTimestamp".to_owned(), when.strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into());
    metadata.insert("deletionGracePeriodSeconds".to_owned(), grace.into());
    if let Some(generation) = metadata.get("generation").and_then(Value::as_u64) {
        metadata.insert("generation".to_owned(), (generation + 1).into());
    }
    if is_namespace(kind) {
        marked.insert("status".to_owned(), json!({"phase": "Terminating"}));
    }
    Deletion::Marked(marked)
}

/// By finalizers: those that all objects can have, and those of namespaces.
fn is_held(fields: &Fields) -> bool {
    let some = |finalizers: &Value| finalizers.as_array().is_some_and(|list| !list.is_empty());
    some(&fields["metadata"]["finalizers"])
        || fields.get("spec").is_some_and(|spec| some(&spec["finalizers"]))
}

/// An object that was marked for deletion and that nothing holds any longer.
pub(crate) fn is_released(kind: &Kind, fields: &Fields) -> bool {
    let metadata = &fields["metadata"];
    let waits =
        kind.graceful && metadata["deletionGracePeriodSeconds"].as_u64().is_some_and(|grace| grace > 0);
    metadata["deletionTimestamp"].is_string() && !is_held(fields) && !waits
}

/// The name of a new object: what it says, or one made of `generateName`.
pub(crate) fn name(kind: &Kind, fields: &mut Fields) -> Answer<String> {
    if let Some(name) = meta(fields, "name").filter(|name| !name.is_empty()) {
        return Ok(name.to_owned());
    }
    let Some(prefix) = meta(fields, "generateName").filter(|prefix| !prefix.is_empty()) else {
        let what = "Required value: name or generateName is required";
        return Err(Status::invalid(&kind.kind, &kind.group, "", "metadata.name", what));
    };
    let name = format!("{prefix}{}", &Uuid::new_v4().simple().to_string()[..5]);
    metadata_mut(fields).insert("name".to_owned(), name.as_str().into());
    Ok(name)
}

/// Takes `apiVersion` and `kind` off a body and checks them and where it says it belongs.
pub(crate) fn body(
    kind: &Kind,
    version: &str,
    namespace: Option<&str>,
    name: Option<&str>,
    body: Value,
) -> Answer<Fields> {
    let Value::Object(mut fields) = body else {
        return Err(Status::bad_request("the body is no object"));
    };
    let (api_version, of) = (fields.remove("apiVersion"), fields.remove("kind"));
    let text = |value: &Option<Value>| value.as_ref().and_then(Value::as_str).unwrap_or_default().to_owned();
    let expected = kind.api_version_of(version);
    if text(&of) != kind.kind || text(&api_version) != expected {
        return Err(Status::bad_request(format!(
            "the API version and kind in the data ({}, {}) do not match what is served here ({expected}, {})",
            text(&api_version),
            text(&of),
            kind.kind
        )));
    }
    let sent = meta(&fields, "namespace").filter(|sent| !sent.is_empty());
    if namespace.is_some() && sent.is_some() && sent != namespace {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    let sent = meta(&fields, "name").filter(|sent| !sent.is_empty());
    match (name, sent) {
        (Some(name), Some(sent)) if name != sent => {
            return Err(Status::bad_request(format!(
                "the name of the object ({sent}) does not match the name on the URL ({name})"
            )));
        }
        (Some(name), _) => {
            metadata_mut(&mut fields).insert("name".to_owned(), name.into());
        }
        (None, _) => {}
    }
    Ok(fields)
}

/// A CustomResourceDefinition is served as soon as it is stored, and says so.
pub(crate) fn define(store: &mut Store, kind: &Kind, fields: &mut Fields) {
    if kind.plural != "customresourcedefinitions" {
        return;
    }
    let definition = Value::Object(fields.clone());
    let Some(defined) = Kind::of_definition(&definition) else { return };
    let condition = |name: &str, reason: &str| json!({"type": name, "status": "True", "reason": reason, "message": "", "lastTransitionTime": now()});
    if fields.get("status").is_none_or(|status| status["conditions"].is_null()) {
        let status = json!({
            "acceptedNames": definition["spec"]["names"], "storedVersions": [defined.versions[0]],
            "conditions": [condition("NamesAccepted", "NoConflicts"), condition("Established", "InitialNamesAccepted")],
        });
        fields.insert("status".to_owned(), status);
    }
    store.register(defined);
}

/// A new object needs its namespace, and one that will stay.
pub(crate) fn check_namespace(store: &Store, kind: &Kind, namespace: Option<&str>, name: &str) -> Answer<()> {
    let Some(namespace) = namespace else { return Ok(()) };
    let namespaces = store.served("", "v1", "namespaces");
    let found = namespaces.and_then(|kind| store.get(&kind, namespace));
    let found = found.ok_or_else(|| Status::not_found("namespaces", "", namespace))?;
    if meta(&found.fields, "deletionTimestamp").is_none() {
        return Ok(());
    }
    let (resource, group) = (&kind.plural, &kind.group);
    let message = format!(
        "{} {name:?} is forbidden: unable to create new content in namespace {namespace} because it is being terminated",
        qualified(resource, group)
    );
    Err(Status::forbidden(message, resource, group, name))
}

/// `Success` for an object that is gone.
pub(crate) fn success(kind: &Kind, fields: &Fields) -> Value {
    let mut details = json!({"name": meta(fields, "name"), "kind": kind.plural, "uid": meta(fields, "uid")});
    if !kind.group.is_empty() {
        details["group"] = kind.group.as_str().into();
    }
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}

/// 422: no version was given where one is needed.
pub(crate) fn version_is_missing(kind: &Kind, name: &str) -> Status {
    let subject = qualified(&kind.plural, &kind.group);
    let what = "Invalid value: 0: must be specified for an update";
    Status::invalid(&subject, "", name, "metadata.resourceVersion", what)
}
