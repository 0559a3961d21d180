//! The objects that one or more servers serve, and what a test does to them directly.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::{
    auth::{Accounts, User},
    kind::Kind,
    object::{Fields, key, meta, typed},
    store::{Snapshot, Store},
    tls::{Authority, Identity},
    write,
};

/// A cluster's objects. Clones are the same cluster; several [`crate::Server`]s may serve one, as the API servers of
/// a control plane do.
///
/// What a test writes here goes past admission, authorization and the limits of a client: any object, status
/// included, is stored as it is given. Resources are named `services`, or `leases.coordination.k8s.io` where the
/// plural alone is ambiguous.
#[derive(Clone, Debug)]
pub struct Cluster(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Mutex<Store>,
    accounts: Accounts,
    authority: OnceLock<Authority>,
    /// Where Services are, by namespace and name.
    routes: Mutex<HashMap<(String, String), SocketAddr>>,
    /// Counts orders to send bookmarks.
    bookmark: watch::Sender<u64>,
    bookmark_every: Mutex<Duration>,
    /// Streamed lists are not said to be complete.
    lists_held: watch::Sender<bool>,
}

impl Default for Cluster {
    fn default() -> Self {
        Self::new()
    }
}

impl Cluster {
    /// A cluster as it is after its first start: namespaces, and nothing in them.
    pub fn new() -> Self {
        let cluster = Self(Arc::new(Inner {
            store: Mutex::new(Store::new()),
            accounts: Accounts::default(),
            authority: OnceLock::new(),
            routes: Mutex::default(),
            bookmark: watch::Sender::new(0),
            bookmark_every: Mutex::new(Duration::from_secs(60)),
            lists_held: watch::Sender::new(false),
        }));
        for name in ["default", "kube-node-lease", "kube-public", "kube-system"] {
            let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
            cluster.put(namespace).unwrap_or_else(|error| unreachable!("a namespace is known: {error:#}"));
        }
        cluster
    }

    pub(crate) fn store(&self) -> MutexGuard<'_, Store> {
        self.0.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who may log in.
    pub fn accounts(&self) -> &Accounts {
        &self.0.accounts
    }

    /// Who signs the certificates of this cluster's servers and clients.
    pub(crate) fn authority(&self) -> Result<&Authority> {
        if let Some(authority) = self.0.authority.get() {
            return Ok(authority);
        }
        let made = Authority::create()?;
        Ok(self.0.authority.get_or_init(|| made))
    }

    /// The certificate that clients need to trust the servers, PEM.
    pub fn ca(&self) -> Result<String> {
        Ok(self.authority()?.pem.clone())
    }

    /// A client certificate with which `user` can log in to servers with TLS.
    pub fn issue(&self, user: User) -> Result<Identity> {
        let (identity, der) = self.authority()?.client(&user.name, &user.groups)?;
        self.accounts().allow_certificate(&der, user);
        Ok(identity)
    }

    /// A certificate for a server of this cluster that is called by these names and addresses: a webhook's.
    pub fn issue_server(&self, names: &[&str]) -> Result<Identity> {
        self.authority()?.server(names)
    }

    /// Webhooks of the Service `namespace`/`name` are at `address`: the servers have no service proxy.
    pub fn route(&self, namespace: &str, name: &str, address: SocketAddr) {
        let mut routes = self.0.routes.lock().unwrap_or_else(PoisonError::into_inner);
        routes.insert((namespace.to_owned(), name.to_owned()), address);
    }

    pub(crate) fn routed(&self, namespace: &str, name: &str) -> Option<SocketAddr> {
        let routes = self.0.routes.lock().unwrap_or_else(PoisonError::into_inner);
        routes.get(&(namespace.to_owned(), name.to_owned())).copied()
    }

    /// Serves one more kind.
    pub fn register(&self, kind: Kind) {
        self.store().register(kind);
    }

    /// Creates or replaces an object; gives it as it is now.
    pub fn put(&self, object: Value) -> Result<Value> {
        let mut store = self.store();
        let (kind, fields) = resolve(&store, object)?;
        let name = meta(&fields, "name").context("the object has no metadata.name")?;
        let namespace = kind.namespaced.then(|| meta(&fields, "namespace").unwrap_or("default").to_owned());
        let namespace = namespace.as_deref();
        let key = key(namespace, name);
        let current = store.get(&kind, &key);
        let mut fields = write::stored_as_is(&kind, namespace, fields, current.as_deref());
        write::define(&mut store, &kind, &mut fields);
        let object = store.commit(&kind, &key, Some(fields)).context("its kind has no table")?;
        Ok(typed(&object.fields, &kind.api_version(), &kind.kind))
    }

    /// Creates or replaces each document of `objects`.
    pub fn put_all(&self, objects: impl IntoIterator<Item = Value>) -> Result<()> {
        objects.into_iter().try_for_each(|object| self.put(object).map(drop))
    }

    /// Deletes an object at once, whatever its finalizers say; gives its last state.
    pub fn remove(&self, resource: &str, namespace: Option<&str>, name: &str) -> Result<Value> {
        let mut store = self.store();
        let kind = find(&store, resource)?;
        let object = store.commit(&kind, &key(namespace, name), None);
        let object = object.with_context(|| format!("there is no {resource} {namespace:?} {name:?}"))?;
        Ok(typed(&object.fields, &kind.api_version(), &kind.kind))
    }

    /// An object as it is now.
    pub fn get(&self, resource: &str, namespace: Option<&str>, name: &str) -> Option<Value> {
        let store = self.store();
        let kind = find(&store, resource).ok()?;
        let object = store.get(&kind, &key(namespace, name))?;
        Some(typed(&object.fields, &kind.api_version(), &kind.kind))
    }

    /// All objects of a resource, by namespace and name.
    pub fn list(&self, resource: &str) -> Result<Vec<Value>> {
        let store = self.store();
        let kind = find(&store, resource)?;
        let page = store.page(&kind, store.revision(), &Default::default(), None, usize::MAX);
        Ok(page.items.iter().map(|object| typed(&object.fields, &kind.api_version(), &kind.kind)).collect())
    }

    /// The resource version of the last write.
    pub fn revision(&self) -> u64 {
        self.store().revision()
    }

    /// Forgets all earlier versions: watches and lists from before get 410.
    pub fn compact(&self) {
        self.store().compact();
    }

    /// How many changes of each kind are remembered (10,000 if not said).
    pub fn keep(&self, changes: usize) {
        self.store().keep = changes;
    }

    /// Everything as it is now.
    pub fn snapshot(&self) -> Snapshot {
        self.store().snapshot()
    }

    /// Goes back to an earlier moment, resource versions included, as a control plane that was restored from a
    /// backup of etcd. Open watches end.
    pub fn restore(&self, snapshot: &Snapshot) {
        self.store().restore(snapshot);
    }

    /// Sends a bookmark to each watch that wants them.
    pub fn bookmark(&self) {
        self.0.bookmark.send_modify(|count| *count += 1);
    }

    /// How often bookmarks are sent by themselves (every minute if not said); for watches from now on.
    pub fn bookmark_every(&self, period: Duration) {
        *self.0.bookmark_every.lock().unwrap_or_else(PoisonError::into_inner) = period;
    }

    /// From now on a list that is streamed as a watch does not come to its end: what there is, and what happens, is
    /// sent, and that this was all is not, as by a server that is behind. Until it is switched off: then they all end.
    pub fn hold_lists(&self, held: bool) {
        self.0.lists_held.send_replace(held);
    }

    pub(crate) fn lists_held(&self) -> watch::Receiver<bool> {
        self.0.lists_held.subscribe()
    }

    pub(crate) fn bookmarks(&self) -> (watch::Receiver<u64>, Duration) {
        let period = *self.0.bookmark_every.lock().unwrap_or_else(PoisonError::into_inner);
        (self.0.bookmark.subscribe(), period)
    }
}

/// The kind that `resource` names.
fn find(store: &Store, resource: &str) -> Result<Arc<Kind>> {
    let (plural, group) = match resource.split_once('.') {
        Some((plural, group)) => (plural, Some(group)),
        None => (resource, None),
    };
    let matches = |kind: &&Arc<Kind>| kind.plural == plural && group.is_none_or(|group| kind.group == group);
    store.kinds().iter().find(matches).cloned().with_context(|| format!("no resource {resource:?} is served"))
}

/// The kind of an object, and its fields without that.
fn resolve(store: &Store, object: Value) -> Result<(Arc<Kind>, Fields)> {
    let Value::Object(mut fields) = object else { bail!("not an object: {object}") };
    let mut take = |name: &str| match fields.remove(name) {
        Some(Value::String(text)) => Ok(text),
        _ => bail!("the object has no {name}"),
    };
    let (api_version, name) = (take("apiVersion")?, take("kind")?);
    let matches = |kind: &&Arc<Kind>| {
        kind.kind == name && kind.versions.iter().any(|version| kind.api_version_of(version) == api_version)
    };
    let kind = store.kinds().iter().find(matches);
    Ok((kind.with_context(|| format!("no kind {name} of {api_version} is served"))?.clone(), fields))
}
