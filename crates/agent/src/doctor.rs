//! What `balancing doctor` looks at: does this machine have what Balancing needs?

use std::path::Path;

use host::{Capabilities, Capability, CgroupRoot, bpffs, conflict, name};
use serde::Serialize;

use crate::Error;

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What.
    pub check: String,
    /// How it is.
    pub result: Outcome,
    /// In words; what to do, where something is to be done.
    pub detail: String,
}

/// How a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// As it should be.
    Ok,
    /// Worth knowing.
    Warning,
    /// Balancing will not work.
    Missing,
}

fn finding(check: impl Into<String>, result: Outcome, detail: impl Into<String>) -> Finding {
    Finding { check: check.into(), result, detail: detail.into() }
}

/// Looks at everything. `cgroup` is the one that is to be served, if it is not the root.
///
/// # Errors
/// /proc can't be read.
pub fn findings(cgroup: Option<&Path>) -> Result<Vec<Finding>, Error> {
    let mut findings = vec![finding("kernel", Outcome::Ok, name::kernel_release())];
    let missing = Capabilities::effective()?.missing(&Capability::NEEDED);
    let may_load = missing.is_empty();
    findings.push(if may_load {
        finding("rights", Outcome::Ok, "may load and attach programs")
    } else {
        let names: Vec<String> = missing.iter().map(ToString::to_string).collect();
        finding(
            "rights",
            Outcome::Missing,
            format!("{} lacking: run as root, or give it that", names.join(", ")),
        )
    });
    findings.push(match CgroupRoot::discover(cgroup) {
        Ok(root) => finding("cgroup2", Outcome::Ok, root.path().display().to_string()),
        Err(error) => finding("cgroup2", Outcome::Missing, error.to_string()),
    });
    let mounted = bpffs::is_mounted(Path::new(bpffs::DEFAULT))?;
    findings.push(if mounted {
        finding("bpffs", Outcome::Ok, bpffs::DEFAULT)
    } else {
        finding("bpffs", Outcome::Warning, format!("{} is none; the agent mounts it", bpffs::DEFAULT))
    });
    if may_load {
        findings.extend(kernel::probe::features().into_iter().map(|feature| match feature.problem {
            None => finding(feature.name, Outcome::Ok, feature.purpose),
            Some(problem) => {
                let outcome = if feature.optional.is_some() { Outcome::Warning } else { Outcome::Missing };
                finding(feature.name, outcome, format!("{problem}; it is for {}", feature.purpose))
            }
        }));
    }
    let conflicts = conflict::conflicts()?;
    if conflicts.is_empty() {
        findings.push(finding("conflicts", Outcome::Ok, "no kube-proxy or other socket load balancer runs"));
    }
    findings.extend(
        conflicts.into_iter().map(|conflict| finding("conflict", Outcome::Warning, conflict.to_string())),
    );
    Ok(findings)
}
