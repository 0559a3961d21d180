//! Everything that is known of the cluster, and what each change touches.

mod dirty;
mod index;
mod pods;
mod policies;
mod policy;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    sync::{Arc, OnceLock},
};

pub use dirty::Dirty;
use pods::{Pods, Selectors};
use policies::Policies;
pub use policy::{Absence, PolicyBackend, PolicySelection, Probed, WhyNot};

use crate::{
    endpoints::{Candidate, candidates},
    object::{
        Change, EndpointSlice, Kind, Namespace, Node, Object, ObjectId, ObjectName, Pod, Service,
        ServiceCidr, ServicePortName, zone,
    },
    policy::Policy,
    resolve::{resolve, resolve_policy},
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
    /// P6: connections a second that policies take which do not say how many; 0 = any number.
    pub redirect_limit: u32,
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
    /// Names of the slices of each service and policy, which need not exist.
    slices_of: HashMap<ObjectId, BTreeSet<ObjectName>>,
    nodes: BTreeMap<String, Arc<Node>>,
    pods: Pods,
    selectors: Selectors,
    namespaces: BTreeMap<String, Arc<Namespace>>,
    cidrs: BTreeMap<String, Arc<ServiceCidr>>,
    policies: Policies,
    /// Addresses of policies that do not answer as they should, as they were last given.
    unhealthy: BTreeMap<ObjectId, BTreeSet<IpAddr>>,
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
            namespaces: BTreeMap::new(),
            cidrs: BTreeMap::new(),
            policies: Policies::default(),
            unhealthy: BTreeMap::new(),
        }
    }

    /// Applies a change and says what it touched.
    pub fn apply(&mut self, change: Change) -> Dirty {
        match change {
            Change::Upsert(object) => {
                let id = object.id();
                let name = id.name.clone();
                match object {
                    Object::Service(it) => self.set_service(name, Some(it)),
                    Object::EndpointSlice(it) => self.set_slice(name, Some(it)),
                    Object::Node(it) => self.set_node(name.name.clone(), Some(it)),
                    Object::Pod(it) => self.set_pod(&name, Some(it)),
                    Object::Namespace(it) => self.set_namespace(&name.name, Some(it)),
                    Object::ServiceCidr(it) => self.set_cidr(name.name.clone(), Some(it)),
                    Object::Policy(it) => self.set_policy(id, Some(it)),
                }
            }
            Change::Delete(id) => match id.kind {
                Kind::Service => self.set_service(id.name, None),
                Kind::EndpointSlice => self.set_slice(id.name, None),
                Kind::Node => self.set_node(id.name.name.clone(), None),
                Kind::Pod => self.set_pod(&id.name, None),
                Kind::Namespace => self.set_namespace(&id.name.name, None),
                Kind::ServiceCidr => self.set_cidr(id.name.name.clone(), None),
                Kind::LocalRedirectPolicy | Kind::BalancingPolicy => self.set_policy(id, None),
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
        dirty.policies.extend(self.policies.about(&name).cloned());
        dirty.services.insert(name);
        dirty
    }

    fn set_slice(&mut self, name: ObjectName, new: Option<Arc<EndpointSlice>>) -> Dirty {
        let mut dirty = Dirty::default();
        if self.slices.get(&name) == new.as_ref() {
            return dirty;
        }
        if let Some(owner) = self.slices.remove(&name).as_deref().and_then(owner_of) {
            if let Some(names) = self.slices_of.get_mut(&owner) {
                names.remove(&name);
                if names.is_empty() {
                    self.slices_of.remove(&owner);
                }
            }
            dirty.insert(owner);
        }
        if let Some(owner) = new.as_deref().and_then(owner_of) {
            self.slices_of.entry(owner.clone()).or_default().insert(name.clone());
            dirty.insert(owner);
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
            self.touch_selecting(pod, &mut dirty);
        }
        if let Some(pod) = self.pods.set(name, new) {
            self.touch_selecting(&pod, &mut dirty);
        }
        self.forget_resolved(&dirty);
        dirty
    }

    fn set_node(&mut self, name: String, new: Option<Arc<Node>>) -> Dirty {
        let mut dirty = Dirty::default();
        if self.nodes.get(&name) == new.as_ref() {
            return dirty;
        }
        dirty.nodes = true;
        let is_own = name == self.view.node;
        dirty.policies = self.policies.of_nodes(is_own).map(Policy::id).collect();
        let old_zone = self.zone_of(&name);
        match new {
            Some(node) => self.nodes.insert(name.clone(), node),
            None => self.nodes.remove(&name),
        };
        if self.zone_of(&name) != old_zone {
            dirty.all = is_own;
            for pod in self.pods.on_node(&name) {
                self.touch_selecting(pod, &mut dirty);
            }
            self.forget_resolved(&dirty);
        }
        dirty
    }

    /// Tables have nothing of it: it only says who they are for.
    fn set_namespace(&mut self, name: &str, new: Option<Arc<Namespace>>) -> Dirty {
        match new {
            Some(namespace) => self.namespaces.insert(name.to_owned(), namespace),
            None => self.namespaces.remove(name),
        };
        Dirty::default()
    }

    fn set_cidr(&mut self, name: String, new: Option<Arc<ServiceCidr>>) -> Dirty {
        let changed = self.cidrs.get(&name) != new.as_ref();
        match new {
            Some(cidr) => self.cidrs.insert(name, cidr),
            None => self.cidrs.remove(&name),
        };
        Dirty { cidrs: changed, ..Dirty::default() }
    }

    fn set_policy(&mut self, id: ObjectId, new: Option<Arc<Policy>>) -> Dirty {
        if self.policies.get(&id) == new.as_deref() {
            return Dirty::default();
        }
        self.policies.set(&id, new);
        Dirty { policies: [id].into(), ..Dirty::default() }
    }

    /// What this machine has found of policies' addresses: all those that do not answer as they should. It may say more than there
    /// is, or less: whoever asks them learns a little later than the cluster which there are.
    pub fn set_unhealthy(&mut self, unhealthy: BTreeMap<ObjectId, BTreeSet<IpAddr>>) -> Dirty {
        let old = std::mem::replace(&mut self.unhealthy, unhealthy);
        let both = old.keys().chain(self.unhealthy.keys());
        let policies = both.filter(|id| old.get(id) != self.unhealthy.get(id)).cloned().collect();
        Dirty { policies, ..Dirty::default() }
    }

    /// Touches the services and policies whose endpoints a pod takes part in.
    fn touch_selecting(&self, pod: &Pod, dirty: &mut Dirty) {
        let is_own = pod.node.as_deref() == Some(&self.view.node);
        let touches = |id: &&ObjectId| match id.kind {
            Kind::LocalRedirectPolicy => is_own,
            _ => self.view.resolve_selectors,
        };
        dirty.policies.extend(self.policies.selecting(pod).filter(touches).cloned());
        if self.view.resolve_selectors {
            let selects =
                |name: &&ObjectName| self.service(name).is_some_and(|s| s.selects(&pod.name, &pod.labels));
            dirty.services.extend(self.selectors.near(pod).filter(selects).cloned());
        }
    }

    fn forget_resolved(&mut self, dirty: &Dirty) {
        for name in &dirty.services {
            if let Some(entry) = self.services.get_mut(name) {
                entry.resolved.take();
            }
        }
        self.policies.forget_resolved(&dirty.policies);
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
        let owner = ObjectId::service(service.clone());
        self.given(&owner).chain(self.resolved(service))
    }

    fn given<'a>(&'a self, owner: &ObjectId) -> impl Iterator<Item = &'a EndpointSlice> + use<'a> {
        let names = self.slices_of.get(owner).into_iter().flatten();
        names.filter_map(|name| self.slices.get(name).map(Arc::as_ref))
    }

    /// The slices that hold the pods of a policy: of a BalancingPolicy those given (P10), and those that its selector resolves
    /// to; of a LocalRedirectPolicy those of this node (P4).
    pub fn slices_of_policy(&self, policy: &ObjectId) -> impl Iterator<Item = &EndpointSlice> {
        self.given(policy).chain(self.policies.resolved(policy, |policy| {
            let Some(backends) = policy.pods() else { return Vec::new() };
            let zone_of = |node: &str| self.zone_of(node);
            match policy.kind() {
                Kind::LocalRedirectPolicy => {
                    resolve_policy(policy, self.pods.on_node(&self.here().node), zone_of)
                }
                _ if self.view.resolve_selectors => {
                    resolve_policy(policy, self.pods.anywhere(&backends.selector), zone_of)
                }
                _ => Vec::new(),
            }
        }))
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

    /// The endpoints of a service port (R3), or of a backend port of a policy that selects pods.
    pub fn endpoints(&self, port: &ServicePortName) -> Vec<Candidate<'_>> {
        match port.kind {
            Kind::Service => candidates(port, self.slices_of(&port.service)),
            _ => candidates(port, self.slices_of_policy(&port.owner())),
        }
    }

    /// A policy.
    pub fn policy(&self, id: &ObjectId) -> Option<&Policy> {
        self.policies.get(id)
    }

    /// All policies, by kind and name.
    pub fn policies(&self) -> impl Iterator<Item = &Policy> {
        self.policies.iter()
    }

    /// The policies whose selectors pick a pod, of any node.
    pub fn policies_selecting<'a>(&'a self, pod: &'a Pod) -> impl Iterator<Item = &'a Policy> {
        self.policies.selecting(pod).filter_map(|id| self.policy(id))
    }

    /// The pods that a policy's selector picks, of all nodes, finished ones included.
    pub fn pods_selected<'a>(&'a self, policy: &'a Policy) -> impl Iterator<Item = &'a Pod> {
        let selector = policy.pods().map(|pods| &pods.selector);
        let near = selector.into_iter().flat_map(|selector| self.pods.anywhere(selector));
        near.filter(move |pod| selector.is_some_and(|selector| selector.matches(&pod.labels)))
    }

    /// The pods of a node.
    pub fn pods_on(&self, node: &str) -> impl Iterator<Item = &Pod> {
        self.pods.on_node(node)
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

    /// The Pods of this node; none, if this machine is none.
    pub fn own_pods(&self) -> impl Iterator<Item = &Pod> {
        self.pods.on_node(&self.view.node).filter(|_| self.view.outside.is_none())
    }

    /// The Pod or Namespace by whose annotation a pod's connections pass untranslated; `None` = they do not. What a pod says
    /// itself counts more.
    pub fn opted_out_by(&self, pod: &Pod) -> Option<ObjectId> {
        let namespace = || self.namespaces.get(&*pod.name.namespace);
        match pod.socket_lb {
            Some(socket_lb) => (!socket_lb).then(|| ObjectId { kind: Kind::Pod, name: pod.name.clone() }),
            None => namespace()
                .filter(|it| !it.socket_lb)
                .map(|it| ObjectId { kind: Kind::Namespace, name: ObjectName::new("", &it.name) }),
        }
    }

    /// All Pods by name.
    pub fn pods(&self) -> impl Iterator<Item = &Pod> {
        self.pods.iter()
    }

    /// How many Pods there are.
    pub fn pod_count(&self) -> usize {
        self.pods.len()
    }

    /// All ServiceCIDRs by name.
    pub fn cidrs(&self) -> impl Iterator<Item = &ServiceCidr> {
        self.cidrs.values().map(Arc::as_ref)
    }
}

fn owner_of(slice: &EndpointSlice) -> Option<ObjectId> {
    slice.owner().map(|(kind, namespace, name)| ObjectId { kind, name: ObjectName::new(namespace, name) })
}

#[cfg(test)]
mod tests;
