//! What `balancing doctor` looks at: does this machine have what Balancing needs?

use std::path::Path;

use host::{Capabilities, Capability, CgroupRoot, KubeProxy, bpffs, conflict, name, netfilter};
use serde::Serialize;

use crate::{Config, Error, status::Owner};

/// What this version leaves undone where it replaces kube-proxy.
pub const UNSERVED: &str = "replaceKubeProxy: connections that begin on this node are served; packets from other machines to node \
    ports, load balancer VIPs and external IPs are not served by this version";

/// What kube-proxy has left here, if that can be seen.
pub fn leftovers() -> Option<String> {
    let found = netfilter::of_kube_proxy().unwrap_or_default();
    let names: Vec<String> = found.into_iter().collect();
    (!names.is_empty()).then(|| {
        format!(
            "{} of kube-proxy: packets from other machines still go where these lead, to endpoints that may be gone; where it is \
             replaced, run `kube-proxy --cleanup` once",
            names.join(", ")
        )
    })
}

/// Who serves what on this machine.
pub fn owners(config: &Config, kube_proxy: &KubeProxy) -> Vec<Owner> {
    let owner = |what: &str, (who, served)| Owner { what: what.into(), who, served };
    let us = || ("balancing".to_owned(), true);
    let proxy = || match kube_proxy.is_there() {
        true => (kube_proxy.to_string(), true),
        false => ("nobody that can be seen from here".into(), false),
    };
    let begins_here = owner("connections that begin here", us());
    if config.outside_cluster {
        return vec![begins_here];
    }
    let (outside, contract) = match config.replace_kube_proxy {
        true => (("nobody: not in this version".into(), false), us()),
        false => (proxy(), proxy()),
    };
    vec![
        begins_here,
        owner("packets from outside", outside),
        owner("a node's health checks and sysctls", contract),
    ]
}

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

/// Looks at everything, for an agent with this configuration.
///
/// # Errors
/// /proc can't be read.
pub fn findings(config: &Config) -> Result<Vec<Finding>, Error> {
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
    findings.push(match CgroupRoot::discover(config.cgroup_root.as_deref()) {
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
    // Beside us it is welcome, for what comes from other machines.
    let mut conflicts = conflict::conflicts()?;
    conflicts.retain(|it| config.replace_kube_proxy || it.program != conflict::KUBE_PROXY);
    if conflicts.is_empty() {
        findings.push(finding("conflicts", Outcome::Ok, "nobody else who would do the same runs"));
    }
    findings.extend(
        conflicts.into_iter().map(|conflict| finding("conflict", Outcome::Warning, conflict.to_string())),
    );
    if config.replace_kube_proxy {
        findings.extend(leftovers().map(|left| finding("kube-proxy", Outcome::Warning, left)));
    }
    findings.extend(owners(config, &KubeProxy::look()?).into_iter().map(|owner| {
        let result = if owner.served { Outcome::Ok } else { Outcome::Warning };
        finding("served by", result, format!("{}: {}", owner.what, owner.who))
    }));
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_serves_is_said() {
        let none = KubeProxy::default();
        let some = KubeProxy { pid: Some(7), ..KubeProxy::default() };
        for (replaces, seen, served, words) in [
            (false, &none, [true, false, false], "nobody that can be seen"),
            (false, &some, [true, true, true], "kube-proxy (pid 7)"),
            (true, &none, [true, false, true], "not in this version"),
            (true, &some, [true, false, true], "not in this version"),
        ] {
            let config = Config { replace_kube_proxy: replaces, ..Config::default() };
            let owners = owners(&config, seen);
            assert_eq!(owners.iter().map(|owner| owner.served).collect::<Vec<_>>(), served, "{owners:?}");
            assert!(owners[1].who.contains(words), "{owners:?}");
            assert_eq!(owners[0].who, "balancing");
        }
        let host = Config { outside_cluster: true, ..Config::default() };
        assert_eq!(owners(&host, &none).len(), 1, "the rest is for nodes");
    }
}
