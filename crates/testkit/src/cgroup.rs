//! Cgroups that programs under test are attached to.
//!
//! They are *threaded* cgroups where the machine allows it, so that single threads can be inside: tests in
//! one process then run side by side, each with its own programs. A socket belongs to the cgroup that its
//! creator was in: enter first, then create sockets. Threads and processes inherit their parent's cgroup.

use std::{
    fs,
    io::{self, Write},
    os::unix::{fs::MetadataExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow};

use crate::leftover::{orphans, unique_name};

/// A cgroup of its own below the cgroup2 mount. Dropping it moves what is inside to its parent and removes it.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    threaded: bool,
}

impl Cgroup {
    /// Makes a cgroup with a unique name directly below the cgroup2 mount.
    pub fn create() -> Result<Self> {
        let root = mount_point()?;
        for orphan in orphans(&root) {
            remove(&orphan);
        }
        Self::make(root.join(unique_name()))
    }

    /// Makes a cgroup `name` inside this one. Drop it before its parent.
    pub fn child(&self, name: &str) -> Result<Self> {
        Self::make(self.path.join(name))
    }

    fn make(path: PathBuf) -> Result<Self> {
        fs::create_dir(&path).with_context(|| format!("mkdir {}: needs root", path.display()))?;
        // Not possible in some containers: then whole processes can still enter.
        let threaded = fs::write(path.join("cgroup.type"), "threaded").is_ok();
        Ok(Self { path, threaded })
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its id, as `bpf_get_current_cgroup_id` gives it.
    pub fn id(&self) -> Result<u64> {
        Ok(fs::metadata(&self.path).with_context(|| format!("stat {}", self.path.display()))?.ino())
    }

    /// Moves this whole process inside.
    pub fn enter(&self) -> Result<()> {
        self.adopt(std::process::id())
    }

    /// Moves process `pid` inside, with all its threads.
    pub fn adopt(&self, pid: u32) -> Result<()> {
        write(&self.path.join("cgroup.procs"), pid)
            .with_context(|| format!("move process {pid} to {}", self.path.display()))
    }

    /// Moves only the calling thread inside. Threads that it starts from now on are inside too.
    pub fn enter_thread(&self) -> Result<()> {
        if !self.threaded {
            return Err(anyhow!(
                "{} cannot hold single threads (no threaded cgroups here): use enter() or spawn()",
                self.path.display()
            ));
        }
        let threads = self.path.join("cgroup.threads");
        // 0 is the writer itself.
        let entered = match write(&threads, 0) {
            // All threads of a process must be below one domain. Ours is elsewhere (a login session, say).
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                let root = mount_point()?;
                write(&root.join("cgroup.procs"), std::process::id())
                    .with_context(|| format!("move this process to {}", root.display()))?;
                write(&threads, 0)
            }
            entered => entered,
        };
        entered.with_context(|| format!("move this thread to {}", self.path.display()))
    }

    /// Runs `work` inside, on a thread of its own; the caller stays where it is.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            if let Err(error) = self.enter_thread() {
                panic!("{error:#}");
            }
            work()
        };
        crate::netns::on_thread(inside)
    }

    /// Starts `command` inside: it is there before it executes its first instruction.
    pub fn spawn(&self, command: &mut Command) -> Result<Child> {
        self.contain(command)?;
        command.spawn().with_context(|| format!("start {command:?} in {}", self.path.display()))
    }

    /// Makes `command` start inside, whenever it is started.
    pub fn contain(&self, command: &mut Command) -> Result<()> {
        let procs = self.path.join("cgroup.procs");
        let procs = fs::OpenOptions::new()
            .write(true)
            .open(&procs)
            .with_context(|| format!("open {}", procs.display()))?;
        // SAFETY: between fork and exec only write(2) is called, on a descriptor that was opened before.
        unsafe { command.pre_exec(move || (&procs).write_all(b"0")) };
        Ok(())
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

fn write(file: &Path, id: u32) -> io::Result<()> {
    // One write(2): the kernel parses each by itself. The file exists, and must not be created.
    fs::OpenOptions::new().write(true).open(file)?.write_all(id.to_string().as_bytes())
}

/// Moves everything out of the cgroup `path` and those below it, and removes them.
fn remove(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    let Some(parent) = path.parent() else { return };
    let deadline = Instant::now() + Duration::from_secs(2);
    while let Err(error) = fs::remove_dir(path) {
        if error.raw_os_error() != Some(libc::EBUSY) || Instant::now() > deadline {
            return;
        }
        // cgroup.threads also lists the threads of a cgroup that is not threaded.
        for thread in fs::read_to_string(path.join("cgroup.threads")).unwrap_or_default().lines() {
            let Ok(thread) = thread.parse() else { continue };
            let alone = write(&parent.join("cgroup.threads"), thread);
            let _ = alone.or_else(|_| write(&parent.join("cgroup.procs"), thread));
        }
        // A process that just ended stays inside until it is reaped.
        thread::sleep(Duration::from_millis(5));
    }
}

/// Where cgroup2 is mounted: not always /sys/fs/cgroup.
pub fn mount_point() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("read /proc/self/mountinfo")?;
    find_mount(&mounts).context("no cgroup2 is mounted: mount -t cgroup2 none /sys/fs/cgroup/unified")
}

fn find_mount(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        // Only a mount of the hierarchy's (visible) root holds everything.
        let mut fields = before.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        (root == "/" && after.starts_with("cgroup2 ")).then(|| point.into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_is_found_on_hybrid_hosts() {
        let mountinfo = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
            32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n\
            41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:7 - cgroup2 cgroup2 rw\n";
        assert_eq!(find_mount(mountinfo), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(find_mount("31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"), None);
    }
}
