//! Everything that is known of the cluster, and what each change touches.

mod dirty;
mod pods;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, OnceLock},
};

pub use dirty::Dirty;
use pods::{Pods, Selectors};

use crate::{
    endpoints::{Candidate, candidates},
    object::{
        Change, EndpointSlice, Kind, Node, Object, ObjectName, Pod, Service, ServiceCidr, ServicePortName,
        zone,
    },
    resolve::resolve,
    select::Here,
};

/// Who looks at the cluster, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Name of this node.
    pub node: String,
    /// R1: the one value of `service.kubernetes.io/service-proxy-name` whose services are ours; `None` =
    /// services without the label are.
    pub proxy_name: Option<String>,
    /// Whether to resolve selectors to endpoints: yes with manifests, no where an API server's controller
    /// does it. Slices that are given count as well, as hand-made slices do in Kubernetes.
    pub resolve_selectors: bool,
    /// P11: set where this machine is no node of the cluster.
    pub outside: Option<Outside>,
}

/// A machine outside of the cluster that uses its services.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outside {
    /// What would be the labels of its Node.
    pub labels: BTreeMap<String, String>,
    /// Whether it also resolves what nodes serve for the outside: node ports, load balancer VIPs and external IPs. Those
    /// lead to the nodes, where pods' addresses may lead nowhere.
    pub external: bool,
}

impl View {
    /// Whether node ports, load balancer VIPs and external IPs are resolved here.
    pub fn serves_external(&self) -> bool {
        self.outside.as_ref().is_none_or(|outside| outside.external)
    }

    /// R12: whether addresses of ServiceCIDRs that no service has are refused here. Where a proxy name is adopted, others serve
    /// the rest; outside of the cluster, whoever knows better.
    pub fn reserves_cidrs(&self) -> bool {
        self.proxy_name.is_none() && self.outside.is_none()
    }
}

/// The merged state of all sources. It depends on the objects only, not on the order in which they came.
#[derive(Clone, Debug)]
pub struct Cluster {
    view: View,
    services: BTreeMap<ObjectName, Entry>,
    slices: BTreeMap<ObjectName, Arc<EndpointSlice>>,
    /// Names of the slices that each service's label points at; the service need not exist.
    slices_of: HashMap<ObjectName, BTreeSet<ObjectName>>,
    nodes: BTreeMap<String, Arc<Node>>,
    pods: Pods,
    selectors: Selectors,
    cidrs: BTreeMap<String, Arc<ServiceCidr>>,
}

#[derive(Clone, Debug)]
struct Entry {
    service: Arc<Service>,
    /// Filled when asked for, emptied by changes: a service of n pods is resolved once, not n times, while
    /// its pods arrive.
    resolved: OnceLock<Vec<EndpointSlice>>,
}

impl Cluster {
    /// An empty cluster.
    pub fn new(view: View) -> Self {
        Self {
            view,
            services: BTreeMap::new(),
            slices: BTreeMap::new(),
            slices_of: HashMap::new(),
            nodes: BTreeMap::new(),
            pods: Pods::default(),
            selectors: Selectors::default(),
            cidrs: BTreeMap::new(),
        }
    }

    /// Applies a change and says what it touched.
    pub fn apply(&mut self, change: Change) -> Dirty {
        match change {
            Change::Upsert(object) => {
                let name = object.id().name;
                match object {
                    Object::Service(it) => self.set_service(name, Some(it)),
                    Object::EndpointSlice(it) => self.set_slice(name, Some(it)),
                    Object::Node(it) => self.set_node(name.name.clone(), Some(it)),
                    Object::Pod(it) => self.set_pod(&name, Some(it)),
                    Object::ServiceCidr(it) => self.set_cidr(name.name.clone(), Some(it)),
                }
            }
            Change::Delete(id) => match id.kind {
                Kind::Service => self.set_service(id.name, None),
                Kind::EndpointSlice => self.set_slice(id.name, None),
                Kind::Node => self.set_node(id.name.name.clone(), None),
                Kind::Pod => self.set_pod(&id.name, None),
                Kind::ServiceCidr => self.set_cidr(id.name.name.clone(), None),
            },
        }
    }

    /// Applies changes in turn and says what they touched together.
    pub fn apply_all(&mut self, changes: impl IntoIterator<Item = Change>) -> Dirty {
        let mut dirty = Dirty::default();
        for change in changes {
            dirty.merge(self.apply(change));
        }
        dirty
    }

    fn set_service(&mut self, name: ObjectName, new: Option<Arc<Service>>) -> Dirty {
        let mut dirty = Dirty::default();
        if self.service(&name) == new.as_deref() {
            return dirty;
        }
        self.selectors.set(&name, new.as_deref());
        match new {
            Some(service) => {
                self.services.insert(name.clone(), Entry { service, resolved: OnceLock::new() });
            }
            None => {
                self.services.remove(&name);
            }
        }
        dirty.services.insert(name);
        dirty
    }

    fn set_slice(&mut self, name: ObjectName, new: Option<Arc<EndpointSlice>>) -> Dirty {
        let mut dirty = Dirty::default();
        if self.slices.get(&name) == new.as_ref() {
            return dirty;
        }
        if let Some(service) = self.slices.remove(&name).as_deref().and_then(owner_of) {
            if let Some(names) = self.slices_of.get_mut(&service) {
                names.remove(&name);
                if names.is_empty() {
                    self.slices_of.remove(&service);
                }
            }
            dirty.services.insert(service);
        }
        if let Some(service) = new.as_deref().and_then(owner_of) {
            self.slices_of.entry(service.clone()).or_default().insert(name.clone());
            dirty.services.insert(service);
        }
        if let Some(slice) = new {
            self.slices.insert(name, slice);
        }
        dirty
    }

    fn set_pod(&mut self, name: &ObjectName, new: Option<Arc<Pod>>) -> Dirty {
        let mut dirty = Dirty::default();
        if self.pods.get(name) == new.as_deref() {
            return dirty;
        }
        if let Some(pod) = &new {
            dirty.services.extend(self.selecting(pod));
        }
        if let Some(pod) = self.pods.set(name, new) {
            dirty.services.extend(self.selecting(&pod));
        }
        self.forget_resolved(&dirty.services);
        dirty
    }

    fn set_node(&mut self, name: String, new: Option<Arc<Node>>) -> Dirty {
        let mut dirty = Dirty::default();
        if self.nodes.get(&name) == new.as_ref() {
            return dirty;
        }
        dirty.nodes = true;
        let old_zone = self.zone_of(&name);
        match new {
            Some(node) => self.nodes.insert(name.clone(), node),
            None => self.nodes.remove(&name),
        };
        if self.zone_of(&name) != old_zone {
            dirty.all = name == self.view.node;
            dirty.services = self.pods.on_node(&name).flat_map(|pod| self.selecting(pod)).collect();
            self.forget_resolved(&dirty.services);
        }
        dirty
    }

    fn set_cidr(&mut self, name: String, new: Option<Arc<ServiceCidr>>) -> Dirty {
        let changed = self.cidrs.get(&name) != new.as_ref();
        match new {
            Some(cidr) => self.cidrs.insert(name, cidr),
            None => self.cidrs.remove(&name),
        };
        Dirty { cidrs: changed, ..Dirty::default() }
    }

    /// The services whose endpoints a pod takes part in.
    fn selecting(&self, pod: &Pod) -> Vec<ObjectName> {
        if !self.view.resolve_selectors {
            return Vec::new();
        }
        self.selectors
            .near(pod)
            .filter(|name| self.service(name).is_some_and(|s| s.selects(&pod.name, &pod.labels)))
            .cloned()
            .collect()
    }

    fn forget_resolved(&mut self, services: &BTreeSet<ObjectName>) {
        for name in services {
            if let Some(entry) = self.services.get_mut(name) {
                entry.resolved.take();
            }
        }
    }

    fn zone_of(&self, node: &str) -> Option<String> {
        self.nodes.get(node)?.zone().map(str::to_owned)
    }

    /// The node that selects.
    pub fn here(&self) -> Here {
        match &self.view.outside {
            // Nothing is local there: no node has an empty name.
            Some(outside) => Here { node: String::new(), zone: zone(&outside.labels).map(str::to_owned) },
            None => Here { node: self.view.node.clone(), zone: self.zone_of(&self.view.node) },
        }
    }

    /// The Node that this machine is, if it is one and known.
    pub fn own_node(&self) -> Option<&Node> {
        self.node(&self.view.node).filter(|_| self.view.outside.is_none())
    }

    /// Who looks, and how.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// R1: whether we are to proxy `service`.
    pub fn is_ours(&self, service: &Service) -> bool {
        service.is_proxied_by(self.view.proxy_name.as_deref())
    }

    /// A Service, ours or not.
    pub fn service(&self, name: &ObjectName) -> Option<&Service> {
        self.services.get(name).map(|entry| &*entry.service)
    }

    /// All Services by name, ours or not (R12 needs both).
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.services.values().map(|entry| &*entry.service)
    }

    /// The slices that hold endpoints of a service: those given, by name, then those that its selector
    /// resolves to.
    pub fn slices_of(&self, service: &ObjectName) -> impl Iterator<Item = &EndpointSlice> {
        let given = self.slices_of.get(service).into_iter().flatten();
        given.filter_map(|name| self.slices.get(name).map(Arc::as_ref)).chain(self.resolved(service))
    }

    /// A slice that was given.
    pub fn slice(&self, name: &ObjectName) -> Option<&EndpointSlice> {
        self.slices.get(name).map(Arc::as_ref)
    }

    fn resolved(&self, service: &ObjectName) -> &[EndpointSlice] {
        match self.services.get(service) {
            Some(entry) if self.view.resolve_selectors => entry.resolved.get_or_init(|| {
                resolve(&entry.service, self.pods.near(&entry.service), |node| self.zone_of(node))
            }),
            _ => &[],
        }
    }

    /// The endpoints of a service port (R3).
    pub fn endpoints(&self, port: &ServicePortName) -> Vec<Candidate<'_>> {
        candidates(port, self.slices_of(&port.service))
    }

    /// A Node.
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.get(name).map(Arc::as_ref)
    }

    /// All Nodes by name.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values().map(Arc::as_ref)
    }

    /// A Pod.
    pub fn pod(&self, name: &ObjectName) -> Option<&Pod> {
        self.pods.get(name)
    }

    /// All Pods by name.
    pub fn pods(&self) -> impl Iterator<Item = &Pod> {
        self.pods.iter()
    }

    /// All ServiceCIDRs by name.
    pub fn cidrs(&self) -> impl Iterator<Item = &ServiceCidr> {
        self.cidrs.values().map(Arc::as_ref)
    }
}

fn owner_of(slice: &EndpointSlice) -> Option<ObjectName> {
    slice.owner().map(|(namespace, name)| ObjectName::new(namespace, name))
}

#[cfg(test)]
mod tests;
