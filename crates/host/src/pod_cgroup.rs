//! Cgroups of pods, by the pods' UIDs.
//!
//! As the kubelet names them (kubernetes 1.36 pkg/kubelet/cm/pod_container_manager_linux.go, cgroup_manager_linux.go): `pod<uid>`
//! with the cgroupfs driver, `kubepods-burstable-pod<uid>.slice` with systemd's, where `-` in the UID becomes `_`. Where they
//! are depends on QoS classes and on whoever runs the kubelet: only names are looked at.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

use crate::{CgroupRoot, error::Result};

/// How deep pods' cgroups can be below the root: a kubelet in a container in a slice has them at 6.
const DEPTH: usize = 8;

/// Shortest UID: that of a static pod is an MD5 in hexadecimal digits; others have `-` in between.
const SHORTEST: usize = 32;

impl CgroupRoot {
    /// The cgroup of each pod, by its UID. What can't be read, or goes meanwhile, is left out.
    pub fn pods(&self) -> BTreeMap<String, PathBuf> {
        let mut found = BTreeMap::new();
        look(self.path(), DEPTH, &mut found);
        found
    }

    /// The cgroup at `path`, if it is there and has an id.
    pub fn id_if_there(&self, path: &Path) -> Option<u64> {
        let id: Result<u64> = self.id(path);
        id.ok()
    }
}

fn look(directory: &Path, depth: usize, found: &mut BTreeMap<String, PathBuf>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|it| it.is_dir())) {
        let path = entry.path();
        let (above, name) = (directory.file_name().and_then(OsStr::to_str), entry.file_name());
        let Some(name) = name.to_str().filter(|name| !has_no_pods(above.unwrap_or_default(), name)) else {
            continue;
        };
        match pod_uid(name) {
            Some(uid) => drop(found.insert(uid, path)),
            None if depth > 1 => look(&path, depth - 1, found),
            None => {}
        }
    }
}

/// What users' processes are in.
pub(crate) const USERS: &str = "user.slice";

/// Is the cgroup `name`, in one that is called `above`, somebody's who could give cgroups below it the names of pods? Users may
/// (systemd delegates theirs), and services may be; no kubelet makes pods below either. (Services of `machine.slice` are containers.)
pub(crate) fn has_no_pods(above: &str, name: &str) -> bool {
    let is_system = above.starts_with("system") && above.ends_with(".slice");
    name == USERS || is_system && name.ends_with(".service")
}

/// The UID of the pod whose cgroup has this name.
pub(crate) fn pod_uid(name: &str) -> Option<String> {
    let uid = match name.strip_suffix(".slice") {
        Some(slice) => slice.rsplit('-').next()?.strip_prefix("pod")?.replace('_', "-"),
        None => name.strip_prefix("pod")?.to_owned(),
    };
    let is_uid = uid.len() >= SHORTEST && uid.bytes().all(|c| c.is_ascii_hexdigit() || c == b'-');
    is_uid.then_some(uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "01234567-89ab-cdef-0123-456789abcdef";
    const STATIC: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn p7_pods_cgroups_are_known_by_their_names() {
        let slice = |class: &str, uid: &str| format!("kubepods{class}-pod{}.slice", uid.replace('-', "_"));
        for name in [format!("pod{UID}"), slice("", UID), slice("-burstable", UID), slice("-besteffort", UID)]
        {
            assert_eq!(pod_uid(&name).as_deref(), Some(UID), "{name}");
        }
        assert_eq!(pod_uid(&format!("kubelet-kubepods-pod{STATIC}.slice")).as_deref(), Some(STATIC));
        for name in [
            "kubepods",
            "kubepods.slice",
            "pod",
            "podman",
            "podinfo-0123456789abcdef0123456789ab",
            "user-1000.slice",
        ] {
            assert_eq!(pod_uid(name), None, "{name}");
        }
    }

    #[test]
    fn p7_pods_are_found_wherever_they_are_and_their_containers_are_not_looked_at() {
        let root = tempfile::tempdir().unwrap();
        let paths = [
            format!("kubepods/burstable/pod{UID}/container"),
            format!("kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{STATIC}.slice"),
            "system.slice/podman.service".to_owned(),
            // Anybody's.
            format!("user.slice/user-1000.slice/user@1000.service/pod{UID}"),
            format!("system.slice/runner.service/kubepods/pod{STATIC}"),
        ];
        for path in &paths {
            fs::create_dir_all(root.path().join(path)).unwrap();
        }
        let mut found = BTreeMap::new();
        look(root.path(), DEPTH, &mut found);
        let expected = [
            (STATIC.to_owned(), root.path().join(&paths[1])),
            (UID.to_owned(), root.path().join(format!("kubepods/burstable/pod{UID}"))),
        ];
        assert_eq!(found, expected.into());
        found.clear();
        look(root.path(), 2, &mut found);
        assert!(found.is_empty(), "deeper than it was to look");
    }
}
