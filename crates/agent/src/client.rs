//! Who connects, for explanations.

use std::path::PathBuf;

use host::CgroupRoot;
use kernel::Pins;
use serde::Serialize;

use crate::Error;

/// A client, and whether the programs see it at all: nothing else depends on it yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Client {
    /// As people call it.
    pub name: String,
    /// Its cgroup, where it is a process.
    pub cgroup: Option<PathBuf>,
    /// Its cgroup is below the one that the programs are attached to.
    pub served: bool,
}

impl Client {
    /// The client that `name` means: `host`, or a process id.
    ///
    /// # Errors
    /// It means neither, or there is no such process.
    pub fn identify(name: &str, pins: &Pins) -> Result<Self, Error> {
        if name == "host" {
            return Ok(Self { name: name.into(), cgroup: None, served: true });
        }
        let pid: u32 = name.parse().map_err(|_| Error::UnknownClient(name.into()))?;
        let root = CgroupRoot::discover(None)?;
        let cgroup = root.of_process(pid)?;
        let attached = kernel::attached(pins)?.into_iter().map(|hook| hook.cgroup_id).find(|id| *id != 0);
        let top = attached.map(|id| root.find_by_id(id)).transpose()?.flatten();
        let served = top.is_some_and(|top| cgroup.starts_with(top));
        Ok(Self { name: format!("process {pid}"), cgroup: Some(cgroup), served })
    }
}
