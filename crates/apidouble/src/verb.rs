//! The verbs that write: read, compute, admit, commit; again if somebody was faster.

use std::sync::Arc;

use hyper::StatusCode;
use serde_json::Value;

use crate::{
    admission,
    apply::apply,
    auth::User,
    cluster::Cluster,
    event,
    kind::Kind,
    managed::{Manager, track_update},
    object::{Fields, Object, key, meta, metadata_mut, typed},
    patch::{self, patched},
    request::{Place, Query},
    selector::Selector,
    status::{Answer, Status},
    write::{self, Deletion, Preconditions},
};

/// How often a write is computed anew because another one came first.
const TRIES: usize = 10;

/// Somebody's write to a resource.
pub(crate) struct Writer<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) kind: Arc<Kind>,
    pub(crate) place: &'a Place,
    pub(crate) query: &'a Query,
    /// The manager's name where the query has none.
    pub(crate) agent: &'a str,
    pub(crate) user: &'a User,
}

/// An object after a write, or what else there is to say of it.
pub(crate) enum Written {
    Object(StatusCode, Arc<Object>),
    Other(Value),
}

/// How a commit ended.
enum Commit {
    Done(Arc<Object>),
    /// The object has changed since it was read.
    Raced,
}

impl Writer<'_> {
    fn key(&self, name: &str) -> String {
        key(self.place.namespace.as_deref(), name)
    }

    fn read(&self, name: &str) -> Option<Arc<Object>> {
        self.cluster.store().get(&self.kind, &self.key(name))
    }

    fn missing(&self, name: &str) -> Status {
        Status::not_found(&self.kind.plural, &self.kind.group, name)
    }

    fn is_dry_run(&self) -> bool {
        self.query.has("dryRun")
    }

    fn manager(&self, applies: bool) -> Manager {
        let name = match self.query.text("fieldManager") {
            "" => self.agent.split('/').next().filter(|name| !name.is_empty()).unwrap_or("unknown"),
            name => name,
        };
        Manager {
            name: name.to_owned(),
            applies,
            subresource: self.place.subresource.clone(),
            api_version: self.kind.api_version_of(&self.place.version),
        }
    }

    pub(crate) async fn create(&self, body: Value) -> Answer<Written> {
        if self.place.name.is_some() {
            return Err(Status::method_not_allowed());
        }
        let namespace = self.place.namespace.as_deref();
        let fields = write::body(&self.kind, &self.place.version, namespace, None, body)?;
        if meta(&fields, "resourceVersion").is_some_and(|version| !version.is_empty()) {
            return Err(Status::internal("resourceVersion should not be set on objects to be created"));
        }
        self.create_fields(fields, true).await
    }

    async fn create_fields(&self, mut fields: Fields, tracked: bool) -> Answer<Written> {
        let namespace = self.place.namespace.as_deref();
        let name = write::name(&self.kind, &mut fields)?;
        let mut fields = write::created(&self.kind, namespace, fields);
        if tracked {
            track_update(None, &mut fields, self.manager(false));
        }
        let fields = self.admit("CREATE", None, Some(fields)).await?.unwrap_or_default();
        event::check(&self.kind, namespace, None, &fields)?;
        let mut store = self.cluster.store();
        write::check_namespace(&store, &self.kind, namespace, &name)?;
        if store.get(&self.kind, &self.key(&name)).is_some() {
            return Err(Status::already_exists(&self.kind.plural, &self.kind.group, &name));
        }
        if self.is_dry_run() {
            return Ok(Written::Object(StatusCode::CREATED, Object::new(fields, 0)));
        }
        let mut fields = fields;
        write::define(&mut store, &self.kind, &mut fields);
        let created = store.commit(&self.kind, &self.key(&name), Some(fields));
        Ok(Written::Object(StatusCode::CREATED, created.ok_or_else(Status::no_page)?))
    }

    pub(crate) async fn update(&self, name: &str, body: Value) -> Answer<Written> {
        let namespace = self.place.namespace.as_deref();
        let sent = write::body(&self.kind, &self.place.version, namespace, Some(name), body)?;
        let conditions = Preconditions::of(&sent);
        for _ in 0..TRIES {
            let Some(current) = self.read(name) else {
                if self.kind.create_on_update && self.place.subresource.is_none() {
                    return self.create_fields(sent, true).await;
                }
                return Err(self.missing(name));
            };
            if conditions.version.is_none() && !self.kind.unconditional {
                return Err(write::version_is_missing(&self.kind, name));
            }
            conditions.check(&self.kind, &current)?;
            if let Commit::Done(object) = self.replace(&current, sent.clone(), true).await? {
                return Ok(Written::Object(StatusCode::OK, object));
            }
        }
        Err(self.contended(name))
    }

    pub(crate) async fn patch(&self, name: &str, form: patch::Form, patch: Value) -> Answer<Written> {
        let is_apply = form == patch::Form::Apply;
        if is_apply && !self.query.has("fieldManager") {
            let what = "Required value: is required for apply patch";
            return Err(Status::invalid("PatchOptions", "meta.k8s.io", "", "fieldManager", what));
        }
        for _ in 0..TRIES {
            let current = self.read(name);
            let next = match (&current, is_apply) {
                (None, false) => return Err(self.missing(name)),
                (None, true) if self.place.subresource.is_some() => return Err(self.missing(name)),
                (_, true) => self.applied(current.as_deref(), name, patch.clone())?,
                (Some(current), false) => {
                    let api_version = self.kind.api_version_of(&self.place.version);
                    let object = typed(&current.fields, &api_version, &self.kind.kind);
                    let patched = patched(object, patch.clone(), form)?;
                    let namespace = self.place.namespace.as_deref();
                    write::body(&self.kind, &self.place.version, namespace, Some(name), patched)?
                }
            };
            let Some(current) = current else {
                match self.create_fields(next, false).await {
                    Err(status) if status.is_already_exists() => continue,
                    written => return written,
                }
            };
            Preconditions::of(&next).check(&self.kind, &current)?;
            if let Commit::Done(object) = self.replace(&current, next, !is_apply).await? {
                return Ok(Written::Object(StatusCode::OK, object));
            }
        }
        Err(self.contended(name))
    }

    /// What server-side apply makes of an object.
    fn applied(&self, current: Option<&Object>, name: &str, wanted: Value) -> Answer<Fields> {
        let namespace = self.place.namespace.as_deref();
        let mut wanted = write::body(&self.kind, &self.place.version, namespace, Some(name), wanted)?;
        let conditions = Preconditions::of(&wanted);
        match (current, &conditions.uid) {
            (Some(current), Some(uid)) if meta(&current.fields, "uid") != Some(uid) => {
                let what = format!("Invalid value: {uid:?}: field is immutable");
                return Err(Status::invalid(&self.kind.kind, &self.kind.group, name, "metadata.uid", &what));
            }
            (Some(current), _) => conditions.check(&self.kind, current)?,
            // Whoever says which object is meant does not want another one.
            (None, Some(uid)) => {
                let why = format!(
                    "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
                );
                return Err(Status::conflict(&self.kind.plural, &self.kind.group, name, &why));
            }
            (None, None) => {}
        }
        if wanted["metadata"].get("managedFields").is_some_and(|fields| !fields.is_null()) {
            return Err(Status::bad_request("metadata.managedFields must be nil"));
        }
        // Neither half of an object can be applied through the other.
        match (self.place.subresource.as_deref(), self.kind.status) {
            (Some("status"), _) => wanted.retain(|name, _| name == "status" || name == "metadata"),
            (_, true) => {
                wanted.remove("status");
            }
            _ => {}
        }
        let manager = self.manager(true);
        apply(current.map(|object| &object.fields), &wanted, manager, self.query.flag("force"))
    }

    /// Writes `sent` over `current`, if that is still what is there.
    async fn replace(&self, current: &Arc<Object>, sent: Fields, tracked: bool) -> Answer<Commit> {
        let subresource = self.place.subresource.as_deref();
        let mut next = write::updated(&self.kind, subresource, current, sent);
        if tracked {
            let kept = current.fields["metadata"].get("managedFields").cloned();
            let metadata = metadata_mut(&mut next);
            metadata.remove("managedFields");
            metadata.extend(kept.map(|kept| ("managedFields".to_owned(), kept)));
            track_update(Some(&current.fields), &mut next, self.manager(false));
        }
        let mut next = self.admit("UPDATE", Some(current), Some(next)).await?.unwrap_or_default();
        event::check(&self.kind, self.place.namespace.as_deref(), Some(&current.fields), &next)?;
        if write::is_same(&current.fields, &next, !tracked) {
            return Ok(Commit::Done(current.clone()));
        }
        let name = meta(&current.fields, "name").unwrap_or_default();
        let mut store = self.cluster.store();
        let now = store.get(&self.kind, &self.key(name));
        if now.is_none_or(|now| now.revision != current.revision) {
            return Ok(Commit::Raced);
        }
        if self.is_dry_run() {
            return Ok(Commit::Done(Object::new(next, current.revision)));
        }
        let next = if write::is_released(&self.kind, &next) {
            None
        } else {
            write::define(&mut store, &self.kind, &mut next);
            Some(next)
        };
        let object = store.commit(&self.kind, &self.key(name), next);
        Ok(Commit::Done(object.ok_or_else(Status::no_page)?))
    }

    pub(crate) async fn delete(&self, name: &str, options: &Value) -> Answer<Written> {
        let text = |field: &str| options["preconditions"][field].as_str().map(str::to_owned);
        let conditions = Preconditions { uid: text("uid"), version: text("resourceVersion") };
        let grace = match self.query.number("gracePeriodSeconds")? {
            Some(seconds) => Some(seconds),
            None => options["gracePeriodSeconds"].as_u64(),
        };
        for _ in 0..TRIES {
            let current = self.read(name).ok_or_else(|| self.missing(name))?;
            conditions.check(&self.kind, &current)?;
            self.admit("DELETE", Some(&current), None).await?;
            let deletion = write::deleted(&self.kind, &current, grace);
            let mut store = self.cluster.store();
            let now = store.get(&self.kind, &self.key(name));
            if now.is_none_or(|now| now.revision != current.revision) {
                continue;
            }
            let is_dry_run = self.is_dry_run() || options["dryRun"].is_array();
            return Ok(match deletion {
                Deletion::Already => Written::Object(StatusCode::OK, current),
                Deletion::Marked(marked) if is_dry_run => {
                    Written::Object(StatusCode::OK, Object::new(marked, current.revision))
                }
                Deletion::Marked(marked) => {
                    let object = store.commit(&self.kind, &self.key(name), Some(marked));
                    Written::Object(StatusCode::OK, object.ok_or_else(Status::no_page)?)
                }
                Deletion::Now => {
                    if !is_dry_run {
                        store.commit(&self.kind, &self.key(name), None);
                    }
                    match self.kind.returns_deleted {
                        true => Written::Object(StatusCode::OK, current),
                        false => Written::Other(write::success(&self.kind, &current.fields)),
                    }
                }
            });
        }
        Err(self.contended(name))
    }

    /// Deletes all that `selector` means; gives them as they were.
    pub(crate) async fn delete_all(&self, selector: &Selector, options: &Value) -> Answer<Vec<Arc<Object>>> {
        let page = {
            let store = self.cluster.store();
            store.page(&self.kind, store.revision(), selector, None, usize::MAX)
        };
        for object in &page.items {
            let name = meta(&object.fields, "name").unwrap_or_default();
            let place = Place {
                namespace: meta(&object.fields, "namespace").map(str::to_owned),
                name: Some(name.to_owned()),
                ..self.place.clone()
            };
            let one = Writer { kind: self.kind.clone(), place: &place, ..*self };
            match one.delete(name, options).await {
                Err(status) if status.code == StatusCode::NOT_FOUND => {}
                done => drop(done?),
            }
        }
        Ok(page.items)
    }

    fn contended(&self, name: &str) -> Status {
        let why =
            "the object has been modified; please apply your changes to the latest version and try again";
        Status::conflict(&self.kind.plural, &self.kind.group, name, why)
    }

    /// What the cluster's webhooks make of a write.
    async fn admit(
        &self,
        operation: &'static str,
        old: Option<&Object>,
        new: Option<Fields>,
    ) -> Answer<Option<Fields>> {
        let old = old.map(|object| &object.fields);
        let name = new.as_ref().or(old).map_or("", admission::name).to_owned();
        let write = admission::Write {
            cluster: self.cluster,
            kind: &self.kind,
            place: self.place,
            user: self.user,
            is_dry_run: self.is_dry_run(),
            operation,
            name: &name,
        };
        write.admit(old, new).await
    }
}
