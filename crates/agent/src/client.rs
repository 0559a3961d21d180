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
    /// Its cgroup; of the host, the root of all.
    pub cgroup: PathBuf,
    /// Its cgroup is below the one that the programs are attached to.
    pub served: bool,
}

impl Client {
    /// The client that `name` means: `host`, or a process id.
    ///
    /// # Errors
    /// It means neither, or there is no such process.
    pub fn identify(name: &str, pins: &Pins) -> Result<Self, Error> {
        let root = CgroupRoot::discover(None)?;
        let (name, cgroup) = if name == "host" {
            ("host".to_owned(), root.path().to_owned())
        } else {
            let pid: u32 = name.parse().map_err(|_| Error::UnknownClient(name.into()))?;
            (format!("process {pid}"), root.of_process(pid)?)
        };
        let attached = kernel::attached(pins)?.into_iter().map(|hook| hook.cgroup_id).find(|id| *id != 0);
        let top = attached.map(|id| root.find_by_id(id)).transpose()?.flatten();
        let served = top.is_some_and(|top| cgroup.starts_with(top));
        Ok(Self { name, cgroup, served })
    }
}
