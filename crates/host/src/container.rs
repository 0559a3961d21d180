//! Whose processes a cgroup has, by its path: pods, containers, systemd's units.
//!
//! | driver | runtime | last parts of the path |
//! |---|---|---|
//! | systemd | containerd | `kubepods-burstable-pod<uid>.slice/cri-containerd-<id>.scope` |
//! | systemd | CRI-O | `kubepods-burstable-pod<uid>.slice/crio-<id>.scope`, and below it `container` |
//! | systemd | docker | `kubepods-burstable-pod<uid>.slice/docker-<id>.scope` |
//! | cgroupfs | containerd, docker | `kubepods/burstable/pod<uid>/<id>` |
//! | cgroupfs | CRI-O | `kubepods/burstable/pod<uid>/crio-<id>` |
//! | differs from the kubelet's | containerd | `kubepods-burstable-pod<uid>.slice:cri-containerd:<id>` |
//!
//! (kubernetes 1.36 pkg/kubelet/cm/cgroup_manager_linux.go; containerd 2.1 internal/cri/server/container_create_linux.go
//! `getCgroupsPath`; cri-o 1.33 internal/config/cgmgr.) Guaranteed pods have no class in between. In a `-` of systemd's names
//! there is `_` in UIDs.

use std::{collections::BTreeSet, fs};

use crate::pod_cgroup::{USERS, has_no_pods, pod_uid};

/// What runtimes put before a container's id.
const RUNTIMES: [&str; 5] = ["cri-containerd-", "crio-", "docker-", "libpod-", "nerdctl-"];

/// Shortest id of a container; those of all runtimes have 64 hexadecimal digits.
const SHORTEST: usize = 32;

/// Units of systemd that processes are in.
const UNITS: [&str; 3] = [".service", ".scope", ".slice"];

/// A container of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct InPod {
    /// UID of the pod.
    pub uid: String,
    /// The container's id; `None` for what is in the pod and in no container.
    pub container: Option<String>,
}

/// Whose a cgroup is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The pods that it is in, the outermost first: a node may be a container of another's pod.
    ///
    /// Whoever may make cgroups below its own can give them any name, so of the pods that somebody knows the outermost counts:
    /// above its own it makes none. Pods of a node that is a container are known to the agent there, and that container's pod
    /// only to the agent outside. What remains: who may make cgroups elsewhere, as root of the machine does and services to
    /// which systemd has delegated theirs (by the names that one kind of set-up has there, see below), may pass for any pod.
    pub pods: Vec<InPod>,
    /// The innermost container's id, of whatever runtime.
    pub container: Option<String>,
    /// The innermost unit of systemd, or else the last name; `/` at the root.
    pub host: String,
}

impl Place {
    /// From a path below the root of the hierarchy.
    pub fn of(path: &str) -> Self {
        let names: Vec<&str> = path.split('/').filter(|name| !name.is_empty()).collect();
        let (mut pods, mut is_anybodys, mut is_users) = (Vec::new(), true, false);
        for (at, name) in names.iter().enumerate() {
            let above = at.checked_sub(1).and_then(|above| names.get(above)).copied().unwrap_or_default();
            is_users |= *name == USERS;
            is_anybodys &= !has_no_pods(above, name);
            // One name for both, where containerd has the cgroupfs driver and the kubelet systemd's: below containerd's unit.
            let (pod, inner) = match name.split_once(':') {
                Some((pod, rest)) if is_anybodys || above.ends_with(".service") && !is_users => {
                    (pod, rest.rsplit(':').next().and_then(container_id))
                }
                None if is_anybodys => (*name, names.get(at + 1).and_then(|name| container_id(name))),
                _ => continue,
            };
            pods.extend(pod_uid(pod).map(|uid| InPod { uid, container: inner }));
        }
        let container = names.iter().rev().find_map(|name| container_id(name));
        let unit = names.iter().rev().find(|name| UNITS.iter().any(|unit| name.ends_with(unit)));
        let host = unit.or(names.last()).map_or("/", |name| name).to_owned();
        Self { pods, container, host }
    }
}

/// The id of the container whose cgroup has this name.
fn container_id(name: &str) -> Option<String> {
    let name = name.rsplit(':').next()?;
    let name = name.strip_suffix(".scope").unwrap_or(name);
    let id = RUNTIMES.iter().find_map(|runtime| name.strip_prefix(runtime)).unwrap_or(name);
    (id.len() >= SHORTEST && id.bytes().all(|c| c.is_ascii_hexdigit())).then(|| id.to_owned())
}

/// The path in any other hierarchy of the cgroup that a process is in, which says whose it is where runtimes make no
/// cgroups in that of cgroup2 (hybrid hosts, cgroupfs driver); `None` if it is in no pod's, or gone.
pub fn v1_path(pid: u32) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    in_v1(&text).map(str::to_owned)
}

/// UIDs of the pods that processes are in by other hierarchies than that of cgroup2; none where there are no others.
pub fn pods_in_v1() -> BTreeSet<String> {
    let others = |text: String| text.lines().any(|line| !line.starts_with("0:"));
    if !fs::read_to_string("/proc/self/cgroup").is_ok_and(others) {
        return BTreeSet::new();
    }
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let pods = pids.filter_map(v1_path).flat_map(|path| Place::of(&path).pods);
    pods.map(|pod| pod.uid).collect()
}

fn in_v1(text: &str) -> Option<&str> {
    let paths = text.lines().filter_map(|line| match line.splitn(3, ':').collect::<Vec<_>>()[..] {
        [number, _, path] if number != "0" => Some(path),
        _ => None,
    });
    paths.into_iter().find(|path| !Place::of(path).pods.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "01234567-89ab-cdef-0123-456789abcdef";
    const STATIC: &str = "fedcba9876543210fedcba9876543210";
    const ID: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    const NODE: &str = "88d4266fd4e6338d13b845fcf289579d209c897823b9217da3e161936f031589";

    fn in_pod(uid: &str, container: Option<&str>) -> InPod {
        InPod { uid: uid.into(), container: container.map(Into::into) }
    }

    #[test]
    fn pods_and_containers_of_all_runtimes_drivers_and_classes() {
        let under = UID.replace('-', "_");
        let mut paths = Vec::new();
        for class in ["", "-burstable", "-besteffort"] {
            let above = if class.is_empty() { String::new() } else { format!("/kubepods{class}.slice") };
            let slice = format!("/kubepods.slice{above}/kubepods{class}-pod{under}.slice");
            for scope in ["cri-containerd", "crio", "docker"] {
                paths.push(format!("{slice}/{scope}-{ID}.scope"));
            }
            paths.push(format!("{slice}/crio-{ID}.scope/container"));
            let directory = class.replace('-', "/");
            for name in [ID.to_owned(), format!("crio-{ID}")] {
                paths.push(format!("/kubepods{directory}/pod{UID}/{name}"));
            }
            paths.push(format!(
                "/system.slice/containerd.service/kubepods{class}-pod{under}.slice:cri-containerd:{ID}"
            ));
            // What systemd or another runtime makes inside of a container.
            paths.push(format!("{slice}/cri-containerd-{ID}.scope/init.scope"));
        }
        for path in paths {
            assert_eq!(Place::of(&path).pods, [in_pod(UID, Some(ID))], "{path}");
        }
    }

    #[test]
    fn static_pods_have_uids_without_dashes() {
        let path = format!("/kubepods.slice/kubepods-pod{STATIC}.slice/cri-containerd-{ID}.scope");
        assert_eq!(Place::of(&path).pods, [in_pod(STATIC, Some(ID))]);
    }

    #[test]
    fn a_node_that_is_a_container_has_pods_of_its_own() {
        let under = UID.replace('-', "_");
        // kind: docker with the systemd driver, and with cgroupfs.
        for outer in [format!("/system.slice/docker-{NODE}.scope"), format!("/docker/{NODE}")] {
            let path = format!(
                "{outer}/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/\
                 kubelet-kubepods-burstable-pod{under}.slice/cri-containerd-{ID}.scope"
            );
            let place = Place::of(&path);
            assert_eq!((place.pods, place.container.as_deref()), (vec![in_pod(UID, Some(ID))], Some(ID)));
        }
        // A kind cluster in a pod.
        let path = format!("/kubepods/pod{STATIC}/{NODE}/kubelet/kubepods/besteffort/pod{UID}/{ID}");
        assert_eq!(Place::of(&path).pods, [in_pod(STATIC, Some(NODE)), in_pod(UID, Some(ID))]);
    }

    #[test]
    fn who_makes_cgroups_below_a_users_or_a_services_makes_no_pods() {
        let under = UID.replace('-', "_");
        for above in [
            "/user.slice/user-1000.slice/user@1000.service",
            "/user.slice/user-1000.slice/user@1000.service/app.slice/x.service",
            "/user.slice/user-1000.slice/session-3.scope",
            "/system.slice/ci-runner.service",
            "/system.slice/system-ci.slice/runner@1.service/jobs",
        ] {
            for pod in [
                format!("pod{UID}/{ID}"),
                format!("kubepods/burstable/pod{UID}/{ID}"),
                format!("kubepods.slice/kubepods-pod{under}.slice/cri-containerd-{ID}.scope"),
            ] {
                assert_eq!(Place::of(&format!("{above}/{pod}")).pods, [], "{above}/{pod}");
            }
        }
        let user = format!(
            "/user.slice/user-1000.slice/user@1000.service/kubepods-pod{under}.slice:cri-containerd:{ID}"
        );
        assert_eq!(Place::of(&user).pods, []);
        // Nodes that are containers of systemd's.
        for node in ["/machine.slice/systemd-nspawn@n1.service/payload", "/lxc.payload.n1"] {
            assert_eq!(
                Place::of(&format!("{node}/kubepods/pod{UID}/{ID}")).pods,
                [in_pod(UID, Some(ID))],
                "{node}"
            );
        }
    }

    #[test]
    fn what_is_in_no_pod_is_known_by_its_unit() {
        let docker = format!("/system.slice/docker-{ID}.scope");
        for (path, host, container) in [
            ("/system.slice/sshd.service", "sshd.service", None),
            ("/user.slice/user-1000.slice/session-3.scope", "session-3.scope", None),
            ("/system.slice/nginx.service/workers", "nginx.service", None),
            ("/init.scope", "init.scope", None),
            ("/batch/job1", "job1", None),
            ("/", "/", None),
            (docker.as_str(), docker.rsplit('/').next().unwrap(), Some(ID)),
        ] {
            let place = Place::of(path);
            assert_eq!((place.host.as_str(), place.container.as_deref()), (host, container), "{path}");
            assert!(place.pods.is_empty(), "{path}");
        }
        let conmon = format!("/kubepods/pod{UID}/crio-conmon-{ID}.scope");
        assert_eq!(Place::of(&conmon).pods, [in_pod(UID, None)], "it is not in the container");
        assert_eq!(Place::of(&format!("/kubepods/pod{UID}")).pods, [in_pod(UID, None)]);
    }

    #[test]
    fn hybrid_hosts_have_pods_in_other_hierarchies() {
        let text =
            format!("11:memory:/kubepods/pod{UID}/{ID}\n1:name=systemd:/x\n0::/system.slice/a.service\n");
        assert_eq!(in_v1(&text), Some(format!("/kubepods/pod{UID}/{ID}").as_str()));
        assert_eq!(in_v1(&format!("1:name=systemd:/x\n0::/kubepods/pod{UID}/{ID}\n")), None);
    }
}
