//! Is anything left of services and sockets that are gone?

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use testkit::eventually;

use super::agents::Agents;
use crate::process::Host;

/// Maps that keep nothing of services: what clients there are, what is left alone, and what only the kernel fills.
const OTHERS: &[&str] = &["clients", "excluded"];

/// How much of each map is used: by the agent, and by what a reader of the kernel's maps finds.
///
/// # Errors
/// Somebody does not answer.
fn uses(host: &Host, agents: &Agents<'_>) -> Result<BTreeMap<String, u64>> {
    let status = agents.status().context("the agent does not answer")?;
    let mut uses: BTreeMap<String, u64> =
        status.maps.into_iter().map(|map| (format!("{} (status)", map.name), map.used)).collect();
    let answer = host.balancing(&["get", "maps", "-o", "json"])?;
    if answer.code != Some(0) {
        bail!("`balancing get maps` fails: {answer:?}");
    }
    let maps: Vec<Value> = serde_json::from_str(&answer.out).context("not JSON")?;
    for map in maps {
        if let (Some(name), Some(used)) = (map["name"].as_str(), map["used"].as_u64()) {
            uses.insert(format!("{name} (kernel)"), used);
        }
    }
    uses.retain(|name, _| !OTHERS.iter().any(|other| name.starts_with(other)));
    Ok(uses)
}

/// Waits until those maps for which `which` holds are empty.
///
/// # Errors
/// They are not within `patience`: what is in them.
pub fn wait(host: &Host, agents: &Agents<'_>, patience: Duration, which: fn(&str) -> bool) -> Result<()> {
    eventually(patience, || {
        let uses = uses(host, agents)?;
        if !uses.keys().any(|name| which(name)) {
            bail!("no such map is shown");
        }
        let left: Vec<String> = uses
            .iter()
            .filter(|(name, used)| **used > 0 && which(name))
            .map(|(name, used)| format!("{name}: {used}"))
            .collect();
        if left.is_empty() { Ok(()) } else { bail!("left after {patience:?}: {}", left.join(", ")) }
    })
}
