//! Too little memory.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::PATIENCE;

/// A memory cgroup with a limit; removed when dropped.
pub struct Limited(PathBuf, &'static str);

impl Limited {
    /// With room for so many bytes.
    ///
    /// # Errors
    /// There is no memory controller.
    pub fn new(bytes: u64) -> Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let own = fs::read_to_string("/proc/self/cgroup")?;
        let v1 = mounts.lines().find(|line| {
            line.split_once(" - cgroup ")
                .is_some_and(|(_, rest)| rest.split([',', ' ']).any(|it| it == "memory"))
        });
        let unique = format!("balancing-test-{}-memory", std::process::id());
        let (directory, file) = match v1 {
            Some(line) => {
                let own = own.lines().find_map(|line| line.split_once(":memory:")).context("its cgroup")?.1;
                let point = line.split(' ').nth(4).context("its mount point")?;
                (Path::new(point).join(own.trim_start_matches('/')).join(unique), "memory.limit_in_bytes")
            }
            None => {
                let root = testkit::cgroup::mount_point()?;
                // Already so nearly everywhere.
                let _ = fs::write(root.join("cgroup.subtree_control"), "+memory");
                (root.join(unique), "memory.max")
            }
        };
        fs::create_dir(&directory)?;
        let limited = Self(directory, file);
        fs::write(limited.0.join(limited.1), bytes.to_string())
            .context("this needs the memory controller")?;
        Ok(limited)
    }

    /// What a shell runs to be in it.
    pub fn join(&self) -> String {
        format!("echo $$ > {}/cgroup.procs", self.0.display())
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        // Those who were in it have ended, but what they were charged for may take a moment.
        let _ = testkit::eventually(PATIENCE, || fs::remove_dir(&self.0));
    }
}
