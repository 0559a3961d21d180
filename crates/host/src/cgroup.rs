//! The cgroup2 mount, and cgroups by path, by id and by process.

use std::{
    collections::VecDeque,
    fs, io,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::{Component, Path, PathBuf},
};

use rustix::fs::statfs;

use crate::{
    error::{Error, Result, read},
    mount::{Mount, mounts},
};

/// File system magic of cgroup2, linux/magic.h.
const CGROUP2_SUPER_MAGIC: i64 = 0x6367_7270;

/// Directories that a look-up by id visits at most where the kernel cannot answer it directly. A node of the
/// largest clusters has some thousands.
const WALK_LIMIT: usize = 100_000;

/// The root of the cgroup2 hierarchy as this process sees it. Programs attached here see every socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupRoot {
    path: PathBuf,
    /// Where below it this process's cgroup namespace begins: processes' cgroups are told as seen from there.
    namespace: PathBuf,
}

impl CgroupRoot {
    /// `chosen` if given, else what the mount table has. Either must be cgroup2; nothing is ever mounted.
    pub fn discover(chosen: Option<&Path>) -> Result<Self> {
        let path = match chosen {
            Some(path) => path.to_path_buf(),
            None => find(&mounts()?)?,
        };
        let status = statfs(&path).map_err(|source| Error::Call {
            call: "statfs",
            object: path.display().to_string(),
            source: source.into(),
            next: "`findmnt -t cgroup2` lists what --cgroup-root can be",
        })?;
        // Also after the mount table said so: another file system may be mounted over it.
        if status.f_type != CGROUP2_SUPER_MAGIC {
            return Err(Error::NotCgroup2 { path });
        }
        let mut root = Self { path, namespace: PathBuf::new() };
        // Containers have their own part of the hierarchy besides the host's.
        let own = own_part(&mounts()?).and_then(|own| root.id(&own).ok());
        let own = own.and_then(|id| root.find_by_id(id).ok()?);
        if let Some(below) = own.as_deref().and_then(|own| own.strip_prefix(&root.path).ok()) {
            root.namespace = below.to_path_buf();
        }
        Ok(root)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The id of the cgroup at `path`, as programs get it from `bpf_get_current_cgroup_id`.
    pub fn id(&self, path: &Path) -> Result<u64> {
        // On 64-bit kernels the id is the inode number.
        fs::metadata(path)
            .map(|status| status.ino())
            .map_err(|source| Error::Read { path: path.into(), source })
    }

    /// The directory of the cgroup with this id; `None` when there is none (any more).
    pub fn find_by_id(&self, id: u64) -> Result<Option<PathBuf>> {
        match self.open_by_id(id) {
            Ok(directory) => {
                let link = format!("/proc/self/fd/{}", directory.as_raw_fd());
                let path =
                    fs::read_link(&link).map_err(|source| Error::Read { path: link.into(), source })?;
                // A cgroup that is just being removed, or one outside of what is mounted here.
                Ok(path.starts_with(&self.path).then_some(path).filter(|path| path.exists()))
            }
            Err(error) if matches!(error.raw_os_error(), Some(libc::ESTALE | libc::ENOENT)) => Ok(None),
            // Not permitted, or a kernel that does not do this for cgroups.
            Err(_) => Ok(self.walk_for_id(id, WALK_LIMIT)),
        }
    }

    /// Opens a cgroup by the file handle that the kernel would give for it: one call instead of a walk.
    fn open_by_id(&self, id: u64) -> io::Result<OwnedFd> {
        /// `struct file_handle` of file systems based on kernfs, exportfs.h: the handle is the id.
        #[repr(C)]
        struct Handle {
            bytes: u32,
            kind: i32,
            id: [u8; 8],
        }
        const FILEID_KERNFS: i32 = 0xfe;
        let root = fs::File::open(&self.path)?;
        let mut handle = Handle { bytes: 8, kind: FILEID_KERNFS, id: id.to_ne_bytes() };
        // SAFETY: the handle is as long as it says; the kernel only reads it.
        let opened = unsafe {
            libc::open_by_handle_at(
                root.as_raw_fd(),
                (&raw mut handle).cast(),
                libc::O_PATH | libc::O_CLOEXEC | libc::O_DIRECTORY,
            )
        };
        if opened < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was returned just now, and nobody else has it.
        Ok(unsafe { OwnedFd::from_raw_fd(opened) })
    }

    /// Looks for the cgroup level by level, so that the limit cuts off the deepest ones.
    fn walk_for_id(&self, id: u64, limit: usize) -> Option<PathBuf> {
        let mut waiting = VecDeque::from([self.path.clone()]);
        for _ in 0..limit {
            let directory = waiting.pop_front()?;
            if fs::metadata(&directory).is_ok_and(|status| status.ino() == id) {
                return Some(directory);
            }
            // It may be gone by now.
            let entries = fs::read_dir(&directory).into_iter().flatten().flatten();
            waiting.extend(
                entries.filter(|e| e.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()),
            );
        }
        None
    }

    /// The cgroup that process `pid` is in.
    pub fn of_process(&self, pid: u32) -> Result<PathBuf> {
        let text = read(format!("/proc/{pid}/cgroup"))?;
        let path = parse_membership(&text)
            .ok_or(Error::Malformed { file: "/proc/PID/cgroup", what: "line `0::` for cgroup2" })?;
        Ok(self.path.join(seen_from(&self.namespace, path)))
    }
}

/// The cgroup2 mount that shows the most: containers may see the host's hierarchy besides their own part.
pub fn find(mounts: &[Mount]) -> Result<PathBuf> {
    let best = mounts
        .iter()
        .filter(|mount| mount.kind == "cgroup2")
        .filter_map(|mount| Some((levels_above(&mount.root)?, &mount.point)))
        // Of equal ones the shortest: bind mounts are usually deeper.
        .max_by_key(|(levels, point)| (*levels, std::cmp::Reverse(point.as_os_str().len())));
    match best {
        Some((_, point)) => Ok(point.clone()),
        None => Err(Error::NoCgroup2 { only_v1: mounts.iter().any(|mount| mount.kind == "cgroup") }),
    }
}

/// A mount of what this process's cgroup namespace begins with, if another shows more.
fn own_part(mounts: &[Mount]) -> Option<PathBuf> {
    let mut cgroups = mounts.iter().filter(|mount| mount.kind == "cgroup2");
    let more = cgroups.clone().any(|mount| levels_above(&mount.root).is_some_and(|levels| levels > 0));
    cgroups.find(|mount| more && mount.root == "/").map(|mount| mount.point.clone())
}

/// The cgroup that is called `path` in the cgroup namespace that begins at `namespace`: `../x` is one beside that.
fn seen_from(namespace: &Path, path: &str) -> PathBuf {
    let mut seen = namespace.to_path_buf();
    for component in Path::new(path).components() {
        match component {
            Component::ParentDir => {
                seen.pop();
            }
            Component::Normal(name) => seen.push(name),
            _ => {}
        }
    }
    seen
}

/// How far above this process's cgroup namespace a mount begins: 0 for `/`, 2 for `/../..`; `None` for a part
/// of the hierarchy such as `/kubepods`.
fn levels_above(root: &str) -> Option<usize> {
    let mut levels = 0;
    for component in Path::new(root).components() {
        match component {
            Component::RootDir => {}
            Component::ParentDir => levels += 1,
            _ => return None,
        }
    }
    Some(levels)
}

/// `a/b` from the line `0::/a/b` of `/proc/PID/cgroup`. A cgroup that was removed has ` (deleted)` there.
fn parse_membership(text: &str) -> Option<&str> {
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Some(path.strip_suffix(" (deleted)").unwrap_or(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mount::parse;

    const UNIFIED: &str = "24 29 0:22 / /proc rw,nosuid shared:5 - proc proc rw\n\
        29 24 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate\n\
        35 24 0:32 / /sys/fs/bpf rw,nosuid shared:9 - bpf bpf rw,mode=700\n";
    const HYBRID: &str = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
        32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
    const ONLY_V1: &str = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
        32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n";
    const POD: &str = "900 890 0:26 / /sys/fs/cgroup ro,nosuid - cgroup2 cgroup2 rw\n\
        901 890 0:26 /../../../.. /host/cgroup rw,nosuid - cgroup2 cgroup2 rw\n\
        902 890 0:26 /../../../../system.slice /host/a rw - cgroup2 cgroup2 rw\n";

    #[test]
    fn cgroup2_only() {
        assert_eq!(find(&parse(UNIFIED)).unwrap(), Path::new("/sys/fs/cgroup"));
    }

    #[test]
    fn hybrid() {
        assert_eq!(find(&parse(HYBRID)).unwrap(), Path::new("/sys/fs/cgroup/unified"));
    }

    #[test]
    fn v1_only_is_an_error_with_a_way_out() {
        let error = find(&parse(ONLY_V1)).unwrap_err().to_string();
        assert!(error.contains("only cgroup v1") && error.contains("mount -t cgroup2"), "{error}");
        assert!(!find(&[]).unwrap_err().to_string().contains("v1"), "no hierarchy at all");
    }

    #[test]
    fn in_a_pod_the_hosts_hierarchy_wins_over_its_own() {
        assert_eq!(find(&parse(POD)).unwrap(), Path::new("/host/cgroup"));
    }

    #[test]
    fn a_part_of_the_hierarchy_is_not_its_root() {
        let part = "29 24 0:26 /kubepods /mnt rw - cgroup2 cgroup2 rw\n";
        assert!(matches!(find(&parse(part)), Err(Error::NoCgroup2 { only_v1: false })));
    }

    #[test]
    fn another_file_system_is_refused() {
        let error = CgroupRoot::discover(Some(Path::new("/proc"))).unwrap_err();
        assert!(matches!(error, Error::NotCgroup2 { .. }), "{error}");
        let error = CgroupRoot::discover(Some(Path::new("/nowhere"))).unwrap_err().to_string();
        assert!(error.starts_with("statfs on /nowhere: No such file"), "{error}");
    }

    #[test]
    fn membership() {
        let text = "9:name=systemd:/\n0::/kubepods.slice/a.scope\n";
        assert_eq!(parse_membership(text), Some("kubepods.slice/a.scope"));
        assert_eq!(parse_membership("0::/gone (deleted)\n"), Some("gone"));
        assert_eq!(parse_membership("0::/\n"), Some(""));
        assert_eq!(parse_membership("4:memory:/a\n"), None);
    }

    #[test]
    fn a_container_sees_other_cgroups_from_its_own() {
        assert_eq!(own_part(&parse(POD)).unwrap(), Path::new("/sys/fs/cgroup"));
        assert_eq!(own_part(&parse(UNIFIED)), None);
        for (namespace, path, seen) in [
            ("", "system.slice/a", "system.slice/a"),
            ("kubepods/pod1/agent", "", "kubepods/pod1/agent"),
            ("kubepods/pod1/agent", "child", "kubepods/pod1/agent/child"),
            ("kubepods/pod1/agent", "../../pod2/web", "kubepods/pod2/web"),
            ("kubepods/pod1/agent", "../../../system.slice", "system.slice"),
        ] {
            assert_eq!(seen_from(Path::new(namespace), path), Path::new(seen), "{path}");
        }
    }

    #[test]
    fn the_walk_is_bounded() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/b/c");
        fs::create_dir_all(&path).unwrap();
        let root = CgroupRoot { path: directory.path().to_path_buf(), namespace: PathBuf::new() };
        let id = root.id(&path).unwrap();
        assert_eq!(root.walk_for_id(id, 4), Some(path));
        assert_eq!(root.walk_for_id(id, 3), None);
    }
}
