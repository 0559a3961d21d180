//! The objects that decisions are made from.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, SocketAddr},
    ops::Deref,
    sync::Arc,
};

use ipnet::IpNet;

use crate::{
    annotation::{Annotation, NodeAnnotation},
    policy::Policy,
    texts::Texts,
};

pub use crate::service::{Service, ServicePort, ServiceType, TargetPort, TrafficDistribution, TrafficPolicy};

/// IP family of an address, a service's VIP or a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of `address`.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// Transport protocol. SCTP is out of scope (R28) and never gets this far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        })
    }
}

/// Name of a namespaced object. It is in a dozen tables at once, of sources, model and plan: clones share one text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName(Arc<NameParts>);

/// What an [`ObjectName`] consists of.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NameParts {
    /// Kubernetes namespace.
    pub namespace: Arc<str>,
    /// `metadata.name`.
    pub name: String,
}

impl ObjectName {
    /// `namespace/name`.
    pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<String>) -> Self {
        Self(Arc::new(NameParts { namespace: namespace.into(), name: name.into() }))
    }
}

impl Deref for ObjectName {
    type Target = NameParts;

    fn deref(&self) -> &NameParts {
        &self.0
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

/// One entry of a slice's `ports`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlicePort {
    /// Port name, `""` where unset.
    pub name: Arc<str>,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Target port; `None` and 0 mean that this entry names no port (R3).
    pub port: Option<u16>,
}

/// One entry of a slice's `endpoints`, conditions with their defaults applied (R4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// `addresses[0]` (R3).
    pub address: IpAddr,
    /// `conditions.ready ?? true`.
    pub ready: bool,
    /// `conditions.serving ?? true`.
    pub serving: bool,
    /// `conditions.terminating ?? false`.
    pub terminating: bool,
    /// `nodeName`.
    pub node: Option<Arc<str>>,
    /// `zone`.
    pub zone: Option<Arc<str>>,
    /// `hints.forZones[].name`.
    pub zone_hints: Vec<Arc<str>>,
    /// `hints.forNodes[].name`.
    pub node_hints: Vec<Arc<str>>,
    /// The pod behind it (`targetRef` of kind Pod).
    pub pod: Option<ObjectName>,
}

/// An EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSlice {
    /// Namespace and name.
    pub name: ObjectName,
    /// Value of the label `kubernetes.io/service-name`; `None` = belongs to no service.
    pub service: Option<String>,
    /// The policy that it was made for (P10); `None` = for none.
    pub policy: Option<ObjectId>,
    /// Has the label `service.kubernetes.io/headless` (R1: not ours).
    pub headless: bool,
    /// `addressType`.
    pub family: Family,
    /// `ports`.
    pub ports: Vec<SlicePort>,
    /// `endpoints`.
    pub endpoints: Vec<Endpoint>,
    /// When that happened which made it what it is, in nanoseconds since 1970: the annotation
    /// `endpoints.kubernetes.io/last-change-trigger-time`.
    pub triggered: Option<i64>,
}

/// A Node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// `metadata.name`.
    pub name: String,
    /// Labels; `topology.kubernetes.io/zone` is its zone.
    pub labels: BTreeMap<String, String>,
    /// `status.addresses` of type InternalIP.
    pub internal_ips: Vec<IpAddr>,
    /// `status.addresses` of type ExternalIP.
    pub external_ips: Vec<IpAddr>,
    /// `metadata.uid`, empty in most manifests.
    pub uid: String,
    /// `metadata.creationTimestamp` in seconds since 1970; 0 in most manifests.
    pub created: i64,
    /// Those that are about Balancing.
    pub annotations: BTreeMap<NodeAnnotation, Annotation>,
    /// It is being deleted, or will be soon: it has the taint `ToBeDeletedByClusterAutoscaler` (R25).
    pub leaving: bool,
}

impl Node {
    /// What the annotation `balancing.elf.io/nodeId` says, if it is an id.
    pub fn id(&self) -> Option<u32> {
        let text = &self.annotations.get(&NodeAnnotation::NodeId)?.value;
        // One number has one text.
        text.parse().ok().filter(|id: &u32| *id != 0 && id.to_string() == *text)
    }

    /// Value of the label `topology.kubernetes.io/zone`.
    pub fn zone(&self) -> Option<&str> {
        zone(&self.labels)
    }
}

pub(crate) fn zone(labels: &BTreeMap<String, String>) -> Option<&str> {
    labels.get("topology.kubernetes.io/zone").map(String::as_str)
}

/// A named port of a pod's containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerPort {
    /// Port name.
    pub name: String,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Number, 1-65535.
    pub port: u16,
}

/// A Pod, as far as endpoints and client identity need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Namespace and name.
    pub name: ObjectName,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// `spec.nodeName`.
    pub node: Option<Arc<str>>,
    /// `metadata.uid`, of static pods the one that their cgroups have; empty in most manifests.
    pub uid: String,
    /// `spec.hostNetwork`: it has its node's addresses.
    pub host_network: bool,
    /// `status.podIPs`.
    pub ips: Vec<IpAddr>,
    /// Condition `Ready` is True.
    pub ready: bool,
    /// `status.phase` is Succeeded or Failed.
    pub finished: bool,
    /// `metadata.deletionTimestamp` is set.
    pub terminating: bool,
    /// Named ports of containers and restartable init containers.
    pub ports: Vec<ContainerPort>,
    /// Its containers of all kinds: init, ordinary, ephemeral.
    pub containers: Vec<Container>,
    /// Its annotation [`SOCKET_LB`](crate::annotation::SOCKET_LB): whether service addresses are resolved for it; `None` = its
    /// namespace says, or else they are.
    pub socket_lb: Option<bool>,
}

/// A container of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// As runtimes call it, of the one that runs and those before it that the status has; empty before the first runs.
    pub ids: Vec<String>,
}

/// A Namespace that says something of its pods. All others have no effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// `metadata.name`.
    pub name: String,
    /// Its annotation [`SOCKET_LB`](crate::annotation::SOCKET_LB), for those of its pods that have none.
    pub socket_lb: bool,
}

/// A ServiceCIDR.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceCidr {
    /// `metadata.name`.
    pub name: String,
    /// `spec.cidrs`.
    pub cidrs: Vec<IpNet>,
}

/// Any object that a source can bring. Source and model hold the same one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// A Service.
    Service(Arc<Service>),
    /// An EndpointSlice.
    EndpointSlice(Arc<EndpointSlice>),
    /// A Node.
    Node(Arc<Node>),
    /// A Pod.
    Pod(Arc<Pod>),
    /// A Namespace.
    Namespace(Arc<Namespace>),
    /// A ServiceCIDR.
    ServiceCidr(Arc<ServiceCidr>),
    /// A LocalRedirectPolicy or BalancingPolicy.
    Policy(Arc<Policy>),
}

impl Object {
    /// Has texts that other objects have too be one, as long as nobody else holds the object. Endpoints are ten or a
    /// hundred times as many as services, and their nodes and zones few.
    pub fn share_texts(&mut self, texts: &mut Texts) {
        match self {
            Self::Service(service) => {
                let ports = Arc::get_mut(service).into_iter().flat_map(|it| &mut it.ports);
                ports.for_each(|port| texts.share(&mut port.name));
            }
            Self::EndpointSlice(slice) => {
                let Some(slice) = Arc::get_mut(slice) else { return };
                slice.ports.iter_mut().for_each(|port| texts.share(&mut port.name));
                for it in &mut slice.endpoints {
                    let hints = it.zone_hints.iter_mut().chain(&mut it.node_hints);
                    it.node.iter_mut().chain(&mut it.zone).chain(hints).for_each(|text| texts.share(text));
                }
            }
            Self::Pod(pod) => {
                let nodes = Arc::get_mut(pod).into_iter().flat_map(|it| &mut it.node);
                nodes.for_each(|node| texts.share(node));
            }
            Self::Node(_) | Self::Namespace(_) | Self::ServiceCidr(_) | Self::Policy(_) => {}
        }
    }
}

impl From<Service> for Object {
    fn from(service: Service) -> Self {
        Self::Service(Arc::new(service))
    }
}

impl From<EndpointSlice> for Object {
    fn from(slice: EndpointSlice) -> Self {
        Self::EndpointSlice(Arc::new(slice))
    }
}

impl From<Node> for Object {
    fn from(node: Node) -> Self {
        Self::Node(Arc::new(node))
    }
}

impl From<Pod> for Object {
    fn from(pod: Pod) -> Self {
        Self::Pod(Arc::new(pod))
    }
}

impl From<Namespace> for Object {
    fn from(namespace: Namespace) -> Self {
        Self::Namespace(Arc::new(namespace))
    }
}

impl From<ServiceCidr> for Object {
    fn from(cidr: ServiceCidr) -> Self {
        Self::ServiceCidr(Arc::new(cidr))
    }
}

impl From<Policy> for Object {
    fn from(policy: Policy) -> Self {
        Self::Policy(Arc::new(policy))
    }
}

/// Which object: kind and name (namespace empty for cluster-scoped kinds).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId {
    /// The kind.
    pub kind: Kind,
    /// Namespace (empty if cluster-scoped) and name.
    pub name: ObjectName,
}

impl ObjectId {
    /// A Service.
    pub fn service(name: ObjectName) -> Self {
        Self { kind: Kind::Service, name }
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// Kinds of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// v1 Service.
    Service,
    /// discovery.k8s.io/v1 EndpointSlice.
    EndpointSlice,
    /// v1 Node.
    Node,
    /// v1 Pod.
    Pod,
    /// v1 Namespace.
    Namespace,
    /// networking.k8s.io/v1 ServiceCIDR.
    ServiceCidr,
    /// balancing.elf.io/v1beta1 LocalRedirectPolicy.
    LocalRedirectPolicy,
    /// balancing.elf.io/v1beta1 BalancingPolicy.
    BalancingPolicy,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::Node => "Node",
            Self::Pod => "Pod",
            Self::Namespace => "Namespace",
            Self::ServiceCidr => "ServiceCIDR",
            Self::LocalRedirectPolicy => "LocalRedirectPolicy",
            Self::BalancingPolicy => "BalancingPolicy",
        })
    }
}

impl Object {
    /// Kind and name.
    pub fn id(&self) -> ObjectId {
        let (kind, name) = match self {
            Self::Service(o) => (Kind::Service, o.name.clone()),
            Self::EndpointSlice(o) => (Kind::EndpointSlice, o.name.clone()),
            Self::Pod(o) => (Kind::Pod, o.name.clone()),
            Self::Node(o) => (Kind::Node, ObjectName::new("", &o.name)),
            Self::Namespace(o) => (Kind::Namespace, ObjectName::new("", &o.name)),
            Self::ServiceCidr(o) => (Kind::ServiceCidr, ObjectName::new("", &o.name)),
            Self::Policy(o) => return o.id(),
        };
        ObjectId { kind, name }
    }
}

/// What a source says happened to one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is there, and looks like this now.
    Upsert(Object),
    /// It is gone.
    Delete(ObjectId),
}

/// One service port in one family (R2), or a backend port of a policy: what has an id in the kernel's maps.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServicePortName {
    /// The Service or policy.
    pub service: ObjectName,
    /// Port name, `""` where unset.
    pub port: Arc<str>,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Family of the VIP and its backends.
    pub family: Family,
    /// Service, LocalRedirectPolicy or BalancingPolicy.
    pub kind: Kind,
}

impl ServicePortName {
    /// Whose it is.
    pub fn owner(&self) -> ObjectId {
        ObjectId { kind: self.kind, name: self.service.clone() }
    }
}

impl fmt::Display for ServicePortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kind == Kind::Service {
            write!(f, "{}:{}/{}", self.service, self.port, self.protocol)
        } else {
            write!(f, "{} {}:{}/{}", self.kind, self.service, self.port, self.protocol)
        }
    }
}

/// A backend that selection has looked at, with what the kernel tables and explanations need of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Where it listens.
    pub address: SocketAddr,
    /// R4: an existing flow may stay on it.
    pub usable: bool,
    /// Neither ready nor new: chosen only because nothing better is left.
    pub terminating: bool,
    /// Its node.
    pub node: Option<Arc<str>>,
    /// Its pod.
    pub pod: Option<ObjectName>,
}

#[cfg(test)]
mod tests;
