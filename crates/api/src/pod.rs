//! v1 Pod.

use std::net::IpAddr;

use k8s_openapi::{
    api::core::v1::{self, Container},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use model::{ContainerPort, Kind, Pod};

use crate::{
    Invalid, Notice,
    field::{Field, set},
    identity::identify,
    socket_lb::socket_lb,
};

/// A Pod, as far as endpoints and client identity need it.
///
/// # Errors
///
/// [`Invalid`] for a bad name, address or named port.
pub fn from_pod(it: &v1::Pod, notices: &mut Vec<Notice>) -> Result<Pod, Invalid> {
    let id = identify(Kind::Pod, &it.metadata)?;
    let spec = it.spec.as_ref();
    let status = it.status.as_ref();
    let condition = |wanted: &str| {
        let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        conditions.iter().any(|condition| condition.type_ == wanted && condition.status == "True")
    };
    let mut ports = Vec::new();
    if let Some(spec) = spec {
        add_ports(&Field::of(&id, "spec.containers"), &spec.containers, |_| true, &mut ports)?;
        add_ports(
            &Field::of(&id, "spec.initContainers"),
            spec.init_containers.as_deref().unwrap_or_default(),
            // Sidecars: only these run beside the others.
            |container| container.restart_policy.as_deref() == Some("Always"),
            &mut ports,
        )?;
    }
    Ok(Pod {
        labels: it.metadata.labels.clone().unwrap_or_default(),
        node: spec.and_then(|spec| set(&spec.node_name)).map(Into::into),
        uid: uid(&it.metadata),
        host_network: spec.and_then(|spec| spec.host_network).unwrap_or_default(),
        ips: ips(&Field::of(&id, "status"), status)?,
        ready: condition("Ready"),
        finished: matches!(status.and_then(|s| s.phase.as_deref()), Some("Succeeded" | "Failed")),
        terminating: it.metadata.deletion_timestamp.is_some(),
        ports,
        containers: containers(spec, status),
        socket_lb: socket_lb(&id, &it.metadata, notices),
        name: id.name,
    })
}

/// The UID as cgroups have it: of static pods not that of the mirror that an API server shows (kubernetes 1.36
/// pkg/kubelet/types/pod_update.go `ConfigMirrorAnnotationKey`).
fn uid(metadata: &ObjectMeta) -> String {
    let mirror = metadata.annotations.as_ref().and_then(|all| all.get("kubernetes.io/config.mirror"));
    mirror.or(metadata.uid.as_ref()).cloned().unwrap_or_default()
}

/// All containers that the pod is to have, and what its status calls them.
fn containers(spec: Option<&v1::PodSpec>, status: Option<&v1::PodStatus>) -> Vec<model::Container> {
    let Some(spec) = spec else { return Vec::new() };
    let inits = spec.init_containers.iter().flatten().map(|it| &it.name);
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(|it| &it.name);
    let names = inits.chain(spec.containers.iter().map(|it| &it.name)).chain(ephemeral);
    let of_kinds = |status: &'_ v1::PodStatus| {
        [&status.init_container_statuses, &status.container_statuses, &status.ephemeral_container_statuses]
            .into_iter()
            .flatten()
            .flatten()
            .cloned()
            .collect::<Vec<v1::ContainerStatus>>()
    };
    let statuses = status.map(of_kinds).unwrap_or_default();
    names
        .map(|name| {
            let own = statuses.iter().filter(|status| status.name == *name);
            let ids = own.flat_map(|status| {
                let ended = |state: &Option<v1::ContainerState>| {
                    state.as_ref()?.terminated.as_ref()?.container_id.clone()
                };
                [status.container_id.clone(), ended(&status.state), ended(&status.last_state)]
            });
            // `containerd://0123…`: the runtime, and what it calls the container.
            let mut ids: Vec<String> =
                ids.flatten().filter_map(|id| Some(id.split_once("://")?.1.to_owned())).collect();
            ids.sort_unstable();
            ids.dedup();
            model::Container { name: name.clone(), ids }
        })
        .collect()
}

fn ips(at: &Field<'_>, status: Option<&v1::PodStatus>) -> Result<Vec<IpAddr>, Invalid> {
    let Some(status) = status else { return Ok(Vec::new()) };
    match status.pod_ips.as_deref() {
        Some(list) if !list.is_empty() => {
            let at = at.field("podIPs");
            at.items(list).map(|(at, it)| at.field("ip").ip(&it.ip)).collect()
        }
        _ => set(&status.pod_ip).into_iter().map(|ip| at.field("podIP").ip(ip)).collect(),
    }
}

fn add_ports(
    at: &Field<'_>,
    containers: &[Container],
    counts: impl Fn(&Container) -> bool,
    ports: &mut Vec<ContainerPort>,
) -> Result<(), Invalid> {
    for (at, container) in at.items(containers).filter(|(_, container)| counts(container)) {
        let at = at.field("ports");
        for (at, port) in at.items(container.ports.as_deref().unwrap_or_default()) {
            let Some(name) = set(&port.name) else { continue };
            let number = at.field("containerPort").port(port.container_port)?;
            if let Some(protocol) = at.field("protocol").protocol(set(&port.protocol))? {
                ports.push(ContainerPort { name: name.to_owned(), protocol, port: number });
            }
        }
    }
    Ok(())
}
