//! The parts that ask this very machine. They need root.
#![allow(clippy::unwrap_used)]

use std::{fs, process::Command};

use host::{CgroupRoot, NetworkNamespace, bpffs};
use testkit::{Cgroup, Namespace, require_root};

#[test]
fn cgroups_are_found_by_path_id_and_process() {
    require_root();
    let root = CgroupRoot::discover(None).unwrap();
    let outer = Cgroup::create().unwrap();
    let inner = outer.child("pod").unwrap();
    let id = root.id(inner.path()).unwrap();
    assert_eq!(id, inner.id().unwrap());
    assert_eq!(root.find_by_id(id).unwrap().as_deref(), Some(inner.path()));
    let mut child = inner.spawn(Command::new("sleep").arg("100")).unwrap();
    assert_eq!(root.of_process(child.id()).unwrap(), inner.path());
    child.kill().unwrap();
    child.wait().unwrap();
    drop(inner);
    assert_eq!(root.find_by_id(id).unwrap(), None);
    assert_eq!(CgroupRoot::discover(Some(outer.path())).unwrap().path(), outer.path());
}

#[test]
fn namespaces_are_told_apart() {
    require_root();
    let namespace = Namespace::create("other").unwrap();
    let (own, other) = (NetworkNamespace::own().unwrap(), namespace.run(NetworkNamespace::own).unwrap());
    // A security module may forbid to look at process 1, even to root.
    if let Some(shared) = own.is_shared_with_init() {
        assert_eq!((shared, other.is_shared_with_init()), (true, Some(false)));
    }
    assert_ne!(own.inode, other.inode);
    assert_ne!(own.cookie, other.cookie);
    assert_eq!(host::namespace::inode_of_process(std::process::id()).unwrap(), own.inode);
}

#[test]
fn a_bpffs_is_mounted_once() {
    require_root();
    let directory = tempfile::tempdir().unwrap();
    assert!(!bpffs::is_mounted(directory.path()).unwrap());
    assert_eq!(bpffs::ensure(directory.path()).unwrap(), bpffs::Mounted::Now);
    let again = bpffs::ensure(directory.path());
    rustix::mount::unmount(directory.path(), rustix::mount::UnmountFlags::DETACH).unwrap();
    assert_eq!(again.unwrap(), bpffs::Mounted::Before);
    // What somebody mounted there is never covered.
    rustix::mount::mount("none", directory.path(), "tmpfs", rustix::mount::MountFlags::empty(), None)
        .unwrap();
    let refused = bpffs::ensure(directory.path());
    rustix::mount::unmount(directory.path(), rustix::mount::UnmountFlags::DETACH).unwrap();
    assert!(matches!(refused, Err(host::Error::NotBpffs { .. })), "{refused:?}");
    let missing = bpffs::ensure(&directory.path().join("missing")).unwrap_err().to_string();
    assert!(missing.starts_with("statfs on /"), "{missing}");
}

#[test]
fn root_may_do_everything() {
    require_root();
    let missing = host::Capabilities::effective().unwrap().missing(&host::Capability::ALL);
    assert_eq!(missing, []);
    assert!(fs::exists("/proc/1/comm").unwrap());
    assert!(host::conflict::conflicts().is_ok());
}
