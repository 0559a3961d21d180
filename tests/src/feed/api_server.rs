//! The agent's own source follows an API server, and who asks is told what it gave.
//!
//! Nobody sleeps. An object of each kind that means nothing, the marker, is written last, and what the source gives is
//! read until it has given all of them: the changes of one kind come in the order in which they were made.
//!
//! Lists are held until the scenario says that the sources have synced: objects come, and that these are all does not.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use apidouble::{Cluster, Login, Server};
use model::{Change, Kind, ObjectId, SOCKET_LB};
use serde_json::{Value, json};
use source::{
    Update,
    kubernetes::{Access, Kubernetes},
};
use tokio::{
    runtime::{Builder, Runtime},
    sync::mpsc::{self, Receiver},
    time::timeout,
};

use super::{Feed, controller::Controller};
use crate::{
    chart::definitions,
    scenario::{deletion, upserts},
};

/// How long the source may take for anything: far longer than it does.
const PATIENCE: Duration = Duration::from_secs(10);
/// Name of the markers.
const MARKER: &str = "marker";
/// What the source follows, and how the API calls it.
const RESOURCES: [(Kind, &str); 8] = [
    (Kind::Service, "services"),
    (Kind::EndpointSlice, "endpointslices"),
    (Kind::Node, "nodes"),
    (Kind::Pod, "pods"),
    (Kind::Namespace, "namespaces"),
    (Kind::ServiceCidr, "servicecidrs"),
    (Kind::LocalRedirectPolicy, "localredirectpolicies"),
    (Kind::BalancingPolicy, "balancingpolicies"),
];
/// Nobody outside of the cluster asks for these (P11).
const LOCAL: [Kind; 3] = [Kind::Pod, Kind::Namespace, Kind::LocalRedirectPolicy];

/// See the module.
pub struct ApiServer {
    /// None: the agent's machine is none.
    node: Option<String>,
    server: Server,
    controller: Controller,
    following: Option<Following>,
    /// What was there before a restart. Whatever of it comes before the sources have synced is the same object, not
    /// one that was deleted and created again.
    before: BTreeMap<[String; 3], Value>,
}

/// A source that runs.
struct Following {
    /// Its own, of one thread: it runs while it is waited for, and ends with this.
    runtime: Runtime,
    updates: Receiver<Update>,
    /// Lists come to their end.
    may_sync: bool,
    has_synced: bool,
}

impl ApiServer {
    /// A cluster that has no objects but the definitions of policies, for the agent of `node`, or of a machine that is none.
    ///
    /// # Errors
    /// No port is free.
    pub fn new(node: Option<&str>) -> Result<Self> {
        let cluster = Cluster::new();
        cluster.put_all(definitions()?)?;
        cluster.hold_lists(true);
        Ok(Self {
            node: node.map(str::to_owned),
            server: Server::plain(&cluster)?,
            controller: Controller::new(),
            following: None,
            before: BTreeMap::new(),
        })
    }

    fn cluster(&self) -> &Cluster {
        self.server.cluster()
    }

    /// Puts an object there, and waits for nothing.
    ///
    /// # Errors
    /// It is of no kind that is served.
    pub fn put(&self, object: Value) -> Result<()> {
        self.cluster().put(object).map(drop)
    }

    /// What a cluster's controller does about changes.
    fn control(&mut self, changes: Vec<Change>) -> Result<()> {
        let work = self.controller.work(changes);
        self.cluster().put_all(work.put)?;
        work.remove
            .into_iter()
            .try_for_each(|name| self.remove(&ObjectId { kind: Kind::EndpointSlice, name }))
    }

    fn remove(&self, ObjectId { kind, name }: &ObjectId) -> Result<()> {
        let resource = RESOURCES.iter().find(|(it, _)| it == kind).context("no resource of that kind")?.1;
        let namespace = Some(&*name.namespace).filter(|namespace| !namespace.is_empty());
        self.cluster().remove(resource, namespace, &name.name).map(drop)
    }

    /// The source that runs; it begins when it is asked for first, so that what is there then comes as a list.
    fn following(&mut self) -> Result<&mut Following> {
        let following = match self.following.take() {
            Some(following) => following,
            None => Following::begin(&self.server, self.node.as_deref())?,
        };
        Ok(self.following.insert(following))
    }

    /// What the source gives until it has given all that was written so far.
    fn settle(&mut self) -> Result<Vec<Change>> {
        let mut changes = Vec::new();
        // A source that has just begun is given what was there by name, the marker anywhere among it. The second marker
        // is written after that, and comes after all of it.
        for _ in 0..2 {
            self.following()?;
            let node = self.node.as_deref().unwrap_or_default();
            self.cluster().put_all(RESOURCES.iter().map(|(kind, _)| marker(*kind, node)))?;
            changes.extend(self.until_marked()?);
        }
        Ok(changes)
    }

    fn until_marked(&mut self) -> Result<Vec<Change>> {
        let is_node = self.node.is_some();
        let mut missing: BTreeSet<Kind> =
            RESOURCES.iter().map(|(kind, _)| *kind).filter(|kind| is_node || !LOCAL.contains(kind)).collect();
        let following = self.following()?;
        let mut given = Vec::new();
        while !missing.is_empty() {
            for change in following.next().with_context(|| format!("the changes of {missing:?}"))? {
                match change {
                    Change::Upsert(object) if object.id().name.name == MARKER => {
                        missing.remove(&object.id().kind);
                    }
                    change => given.push(change),
                }
            }
        }
        Ok(given)
    }
}

impl Following {
    fn begin(server: &Server, node: Option<&str>) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let kubeconfig = directory.path().join("kubeconfig");
        fs::write(&kubeconfig, server.kubeconfig(&Login::Anonymous)?)?;
        let access = Access { kubeconfig: Some(kubeconfig), api_servers: Vec::new() };
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let source = runtime.block_on(Kubernetes::open(access, node))?;
        let (sender, updates) = mpsc::channel(16);
        runtime.spawn(source.run(sender));
        Ok(Self { runtime, updates, may_sync: false, has_synced: false })
    }

    /// The changes of the next update; none if it is another one.
    fn next(&mut self) -> Result<Vec<Change>> {
        let update = self.runtime.block_on(async { timeout(PATIENCE, self.updates.recv()).await });
        match update.context("are not given in time")?.context("are not given: the source has ended")? {
            Update::Changes(changes) => return Ok(changes),
            Update::Synced => {
                ensure!(self.may_sync, "the source has synced, and no list has come to its end");
                self.has_synced = true;
            }
            Update::Complete => ensure!(self.has_synced, "complete, and not synced"),
            Update::Problems(problems) => bail!("the source has problems: {problems:?}"),
        }
        Ok(Vec::new())
    }
}

impl Feed for ApiServer {
    fn apply(&mut self, manifests: &str) -> Result<Vec<Change>> {
        let mut objects: Vec<Value> = serde_saphyr::from_multiple(manifests).context("read manifests")?;
        for object in &mut objects {
            let Some(before) = self.before.get(&name_of(object)) else { continue };
            for field in ["uid", "creationTimestamp"] {
                if object["metadata"][field].is_null() {
                    object["metadata"][field] = before["metadata"][field].clone();
                }
            }
        }
        self.cluster().put_all(objects)?;
        self.control(upserts(manifests)?)?;
        self.settle()
    }

    fn delete(&mut self, names: &[String]) -> Result<Vec<Change>> {
        let changes = names.iter().map(|name| deletion(name)).collect::<Result<Vec<_>>>()?;
        for change in &changes {
            if let Change::Delete(id) = change {
                self.remove(id)?;
            }
        }
        self.control(changes)?;
        self.settle()
    }

    fn sync(&mut self) -> Result<Vec<Change>> {
        self.before.clear();
        self.cluster().hold_lists(false);
        let following = self.following()?;
        following.may_sync = true;
        let mut given = Vec::new();
        while !following.has_synced {
            given.extend(following.next().context("that the source has synced")?);
        }
        Ok(given)
    }

    fn restart(&mut self) -> Result<()> {
        self.following = None;
        for (_, resource) in RESOURCES {
            for object in self.cluster().list(resource)? {
                let namespace = object["metadata"]["namespace"].as_str();
                let [_, _, name] = name_of(&object);
                self.cluster().remove(resource, namespace, &name)?;
                self.before.insert(name_of(&object), object);
            }
        }
        self.controller = Controller::new();
        self.cluster().hold_lists(true);
        Ok(())
    }
}

/// Kind, namespace and name.
fn name_of(object: &Value) -> [String; 3] {
    let metadata = &object["metadata"];
    let namespace = metadata["namespace"].as_str().unwrap_or("default");
    [object["kind"].as_str(), Some(namespace), metadata["name"].as_str()]
        .map(|it| it.unwrap_or_default().to_owned())
}

/// Pods that are nowhere.
fn pods() -> Value {
    json!({"endpointSelector": {"matchLabels": {"marker": "nobody"}}, "toPorts": [{"port": "1", "protocol": "TCP"}]})
}

/// An object that means nothing, and that an agent of `node` is told of.
fn marker(kind: Kind, node: &str) -> Value {
    let metadata = json!({"name": MARKER});
    match kind {
        Kind::Service => {
            json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"clusterIP": "None"}})
        }
        Kind::EndpointSlice => json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata,
            "addressType": "IPv4", "endpoints": [],
        }),
        Kind::Node => json!({"apiVersion": "v1", "kind": "Node", "metadata": metadata}),
        Kind::Pod => json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"nodeName": node, "containers": []},
        }),
        Kind::Namespace => json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": MARKER, "annotations": {SOCKET_LB: "true"}},
        }),
        Kind::ServiceCidr => {
            json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": metadata})
        }
        Kind::LocalRedirectPolicy | Kind::BalancingPolicy => json!({
            "apiVersion": "balancing.elf.io/v1beta1", "kind": kind.to_string(), "metadata": metadata,
            "spec": {
                "frontend": {"serviceMatcher": {"serviceName": MARKER, "namespace": MARKER}},
                "backend": match kind {
                    Kind::LocalRedirectPolicy => pods(),
                    _ => json!({"serviceEndpoint": pods()}),
                },
            },
        }),
    }
}
