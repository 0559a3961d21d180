//! `balancing doctor`.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use host::{Capabilities, Capability, CgroupRoot, bpffs, conflict, name};
use serde::Serialize;

use crate::output::{Format, Row, list, print};

/// Look whether this machine has what Balancing needs, and say what to do where it has not
#[derive(Args)]
#[command(after_help = "Example:\n  balancing doctor\n\nExit codes: 0 all there, 1 something is missing.")]
pub(crate) struct Options {
    /// The cgroup that is to be served [default: the root of the cgroup2 mount]
    #[arg(long, value_name = "DIR", env = "BALANCING_CGROUP_ROOT")]
    cgroup_root: Option<PathBuf>,
    /// Form of the listing
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

#[derive(Serialize)]
struct Finding {
    check: String,
    result: Outcome,
    detail: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Ok,
    Warning,
    Missing,
}

impl Row for Finding {
    const HEADS: &'static [&'static str] = &["CHECK", "RESULT", "DETAIL"];
    const NARROW: usize = 3;

    fn cells(&self) -> Vec<String> {
        let result = match self.result {
            Outcome::Ok => "ok",
            Outcome::Warning => "warning",
            Outcome::Missing => "MISSING",
        };
        vec![self.check.clone(), result.into(), self.detail.clone()]
    }
}

impl Options {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let findings = findings(self.cgroup_root.as_deref())?;
        list(&findings, self.output, "")?;
        let missing = findings.iter().filter(|finding| finding.result == Outcome::Missing).count();
        if matches!(self.output, Format::Table | Format::Wide) {
            print(&match missing {
                0 => "\nThis machine has what Balancing needs.".to_owned(),
                count => format!(
                    "\n{count} things are missing; Balancing will not work here until they are there."
                ),
            })?;
        }
        Ok(if missing == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn finding(check: impl Into<String>, result: Outcome, detail: impl Into<String>) -> Finding {
    Finding { check: check.into(), result, detail: detail.into() }
}

fn findings(cgroup: Option<&std::path::Path>) -> anyhow::Result<Vec<Finding>> {
    let mut findings = vec![finding("kernel", Outcome::Ok, name::kernel_release())];
    let missing = Capabilities::effective()?.missing(&[Capability::Bpf, Capability::NetAdmin]);
    let may_load = missing.is_empty() || Capabilities::effective()?.allow(Capability::SysAdmin);
    findings.push(if may_load {
        finding("rights", Outcome::Ok, "may load and attach programs")
    } else {
        let names: Vec<String> = missing.iter().map(ToString::to_string).collect();
        finding("rights", Outcome::Missing, format!("{} lacking: run as root", names.join(", ")))
    });
    findings.push(match CgroupRoot::discover(cgroup) {
        Ok(root) => finding("cgroup2", Outcome::Ok, root.path().display().to_string()),
        Err(error) => finding("cgroup2", Outcome::Missing, error.to_string()),
    });
    let mounted = bpffs::is_mounted(std::path::Path::new(bpffs::DEFAULT))?;
    findings.push(if mounted {
        finding("bpffs", Outcome::Ok, bpffs::DEFAULT)
    } else {
        finding("bpffs", Outcome::Warning, format!("{} is none; the agent mounts it", bpffs::DEFAULT))
    });
    if may_load {
        findings.extend(kernel::probe::features().into_iter().map(|feature| match feature.problem {
            None => finding(feature.name, Outcome::Ok, feature.purpose),
            Some(problem) => {
                finding(feature.name, Outcome::Missing, format!("{problem}; needed for {}", feature.purpose))
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
