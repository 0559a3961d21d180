//! Facts of the kernel and the machine.

use host::{Capabilities, Capability, CgroupRoot, conflict, mount, name};
use kernel::{pins::MAPS, probe};
use serde_json::json;

use super::{pretty, text_of};
use crate::Config;

pub(super) fn versions() -> Result<String, String> {
    let layouts: serde_json::Map<String, serde_json::Value> =
        MAPS.iter().map(|map| (map.name.to_owned(), map.layout.into())).collect();
    pretty(&json!({
        "balancing": env!("CARGO_PKG_VERSION"),
        "kernel": name::kernel_release(),
        "mapLayouts": layouts,
    }))
}

pub(super) fn programs(config: &Config) -> Result<String, String> {
    let attached = kernel::attached(&config.bpffs).map_err(text_of)?;
    let ours: Vec<_> = attached
        .iter()
        .map(|it| json!({"hook": it.hook, "program": it.program_id, "cgroupId": it.cgroup_id}))
        .collect();
    let root = CgroupRoot::discover(None).map_err(text_of)?;
    let id = attached.iter().map(|it| it.cgroup_id).find(|id| *id != 0);
    let cgroup = match (id, &config.cgroup_root) {
        (Some(id), _) => root.find_by_id(id).map_err(text_of)?,
        (None, Some(chosen)) => Some(chosen.clone()),
        (None, None) => Some(root.path().to_owned()),
    };
    let strangers = match &cgroup {
        Some(cgroup) => kernel::strangers(&attached, cgroup).map_err(text_of)?,
        None => Vec::new(),
    };
    let others: Vec<_> = strangers
        .iter()
        .map(|it| json!({"hook": it.hook, "program": it.program_id, "name": it.name}))
        .collect();
    pretty(&json!({"cgroup": cgroup, "ours": ours, "others": others}))
}

pub(super) fn kernel() -> Result<String, String> {
    let capabilities = Capabilities::effective().map_err(text_of)?;
    let may: serde_json::Map<String, serde_json::Value> =
        Capability::ALL.iter().map(|it| (it.to_string(), capabilities.allow(*it).into())).collect();
    let features: Vec<_> = probe::features()
        .into_iter()
        .map(|it| json!({"name": it.name, "purpose": it.purpose, "problem": it.problem}))
        .collect();
    let conflicts: Vec<String> =
        conflict::conflicts().map_err(text_of)?.iter().map(ToString::to_string).collect();
    pretty(&json!({
        "release": name::kernel_release(),
        "capabilities": may,
        "features": features,
        "conflicts": conflicts,
    }))
}

/// Only those that matter here: others may tell what is nobody's business.
pub(super) fn mounts() -> Result<String, String> {
    let mounts = mount::mounts().map_err(text_of)?;
    let ours = mounts.iter().filter(|it| matches!(it.kind.as_str(), "cgroup" | "cgroup2" | "bpf"));
    Ok(ours.map(|it| format!("{}  {}  {}\n", it.kind, it.point.display(), it.root)).collect())
}
