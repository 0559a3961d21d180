//! Which kinds of object the server has, and in what they differ.

use serde_json::Value;

/// A kind of object and the resource it is served as. [`builtin`] has those of a real server that matter here; a
/// CustomResourceDefinition adds more when it is created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kind {
    pub(crate) group: String,
    /// Served versions; the first is preferred.
    pub(crate) versions: Vec<String>,
    pub(crate) kind: String,
    pub(crate) plural: String,
    pub(crate) singular: String,
    pub(crate) namespaced: bool,
    /// `/status` is a resource of its own; what is not it cannot change the status.
    pub(crate) status: bool,
    /// `metadata.generation` counts changes of what is neither metadata nor status.
    pub(crate) generation: bool,
    /// A PUT need not say which version it replaces.
    pub(crate) unconditional: bool,
    /// A PUT of what does not exist creates it.
    pub(crate) create_on_update: bool,
    /// DELETE answers with the object instead of a `Status`.
    pub(crate) returns_deleted: bool,
    /// DELETE only begins it: a pod goes when its kubelet says so.
    pub(crate) graceful: bool,
    /// From a CustomResourceDefinition.
    pub(crate) custom: bool,
    /// What field selectors may name besides name and namespace: dotted paths.
    pub(crate) selectable: Vec<String>,
}

impl Kind {
    /// A kind as most are: namespaced, without a status of its own. `resource` is the plural.
    pub fn new(api_version: &str, kind: &str, resource: &str) -> Self {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        Self {
            group: group.to_owned(),
            versions: vec![version.to_owned()],
            kind: kind.to_owned(),
            plural: resource.to_owned(),
            singular: kind.to_lowercase(),
            namespaced: true,
            status: false,
            generation: false,
            unconditional: true,
            create_on_update: false,
            returns_deleted: false,
            graceful: false,
            custom: false,
            selectable: Vec::new(),
        }
    }

    /// Without namespaces.
    pub fn cluster_wide(mut self) -> Self {
        self.namespaced = false;
        self
    }

    /// With a status that only `/status` writes.
    pub fn with_status(mut self) -> Self {
        self.status = true;
        self
    }

    fn selectable(mut self, paths: &[&str]) -> Self {
        self.selectable = paths.iter().map(|&path| path.to_owned()).collect();
        self
    }

    fn generation(mut self) -> Self {
        self.generation = true;
        self
    }

    fn conditional(mut self) -> Self {
        self.unconditional = false;
        self
    }

    fn create_on_update(mut self) -> Self {
        self.create_on_update = true;
        self
    }

    fn returns_deleted(mut self) -> Self {
        self.returns_deleted = true;
        self
    }

    fn graceful(mut self) -> Self {
        self.graceful = true;
        self
    }

    /// `v1`, `discovery.k8s.io/v1`: of the preferred version.
    pub(crate) fn api_version(&self) -> String {
        self.api_version_of(&self.versions[0])
    }

    pub(crate) fn api_version_of(&self, version: &str) -> String {
        if self.group.is_empty() { version.to_owned() } else { format!("{}/{version}", self.group) }
    }

    /// The kind that a CustomResourceDefinition defines, if it can be understood.
    pub(crate) fn of_definition(definition: &Value) -> Option<Self> {
        let spec = &definition["spec"];
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let served = || {
            let versions = spec["versions"].as_array().into_iter().flatten();
            versions.filter(|version| version["served"].as_bool() == Some(true))
        };
        let selectable = served().flat_map(|version| version["selectableFields"].as_array());
        let selectable = selectable.flatten().filter_map(|field| text(&field["jsonPath"]));
        let kind = text(&spec["names"]["kind"])?;
        let versions: Vec<String> = served().filter_map(|version| text(&version["name"])).collect();
        if versions.is_empty() {
            return None;
        }
        Some(Self {
            group: text(&spec["group"])?,
            versions,
            plural: text(&spec["names"]["plural"])?,
            singular: text(&spec["names"]["singular"]).unwrap_or_else(|| kind.to_lowercase()),
            namespaced: spec["scope"] == "Namespaced",
            status: served().any(|version| version["subresources"]["status"].is_object()),
            generation: true,
            unconditional: false,
            custom: true,
            selectable: selectable.map(|path| path.trim_start_matches('.').to_owned()).collect(),
            ..Self::new("v1", &kind, "")
        })
    }
}

/// The kinds of a real server that the agent, the controller and their manifests deal with.
pub(crate) fn builtin() -> Vec<Kind> {
    let admission = "admissionregistration.k8s.io/v1";
    let rbac = "rbac.authorization.k8s.io/v1";
    let event = ["reason", "type", "involvedObject.kind", "involvedObject.name", "involvedObject.namespace"];
    let regarding = ["reason", "type", "regarding.kind", "regarding.name", "regarding.namespace"];
    let pod =
        ["spec.nodeName", "spec.serviceAccountName", "spec.hostNetwork", "status.phase", "status.podIP"];
    let mut service_cidr = Kind::new("networking.k8s.io/v1", "ServiceCIDR", "servicecidrs");
    service_cidr.versions.push("v1beta1".to_owned());
    vec![
        Kind::new("v1", "Namespace", "namespaces").cluster_wide().with_status().returns_deleted(),
        Kind::new("v1", "Node", "nodes").cluster_wide().with_status().selectable(&["spec.unschedulable"]),
        Kind::new("v1", "Pod", "pods").with_status().returns_deleted().graceful().selectable(&pod),
        Kind::new("v1", "Service", "services")
            .with_status()
            .create_on_update()
            .returns_deleted()
            .selectable(&["spec.clusterIP", "spec.type"]),
        Kind::new("v1", "Event", "events").create_on_update().selectable(&event),
        Kind::new("v1", "ConfigMap", "configmaps"),
        Kind::new("v1", "Secret", "secrets").selectable(&["type"]),
        Kind::new("v1", "ServiceAccount", "serviceaccounts").returns_deleted(),
        Kind::new("discovery.k8s.io/v1", "EndpointSlice", "endpointslices").generation(),
        service_cidr.cluster_wide().with_status(),
        Kind::new("coordination.k8s.io/v1", "Lease", "leases").create_on_update().conditional(),
        Kind::new("events.k8s.io/v1", "Event", "events").create_on_update().selectable(&regarding),
        Kind::new("apps/v1", "DaemonSet", "daemonsets").with_status().generation(),
        Kind::new("apps/v1", "Deployment", "deployments").with_status().generation(),
        Kind::new("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets").with_status().generation(),
        Kind::new(rbac, "Role", "roles").create_on_update(),
        Kind::new(rbac, "RoleBinding", "rolebindings").create_on_update(),
        Kind::new(rbac, "ClusterRole", "clusterroles").cluster_wide().create_on_update(),
        Kind::new(rbac, "ClusterRoleBinding", "clusterrolebindings").cluster_wide().create_on_update(),
        Kind::new(admission, "ValidatingWebhookConfiguration", "validatingwebhookconfigurations")
            .cluster_wide()
            .generation()
            .conditional(),
        Kind::new(admission, "MutatingWebhookConfiguration", "mutatingwebhookconfigurations")
            .cluster_wide()
            .generation()
            .conditional(),
        Kind::new("apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions")
            .cluster_wide()
            .with_status()
            .generation()
            .conditional(),
    ]
}
