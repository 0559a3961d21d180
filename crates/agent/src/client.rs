//! Who connects, for explanations.

use std::path::PathBuf;

use host::{CgroupRoot, NetworkNamespace, namespace::OpenNamespace};
use kernel::{Maps, Pins};
use serde::Serialize;

use crate::Error;

/// A client, as the programs know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Client {
    /// As people call it.
    pub name: String,
    /// Its cgroup; of the host, the root of all.
    pub cgroup: PathBuf,
    /// Its cgroup is below the one that the programs are attached to.
    pub served: bool,
    /// Cookie of its network namespace (R22, R23); null before Linux 5.14.
    pub netns_cookie: Option<u64>,
    /// It is in a cgroup that is left alone.
    pub excluded: bool,
}

impl Client {
    /// The client that `name` means: `host`, or a process id.
    ///
    /// # Errors
    /// It means neither, or there is no such process.
    pub fn identify(name: &str, pins: &Pins, maps: &Maps) -> Result<Self, Error> {
        let root = CgroupRoot::discover(None)?;
        let (name, cgroup, netns_cookie) = if name == "host" {
            let host = maps.settings()?.host_netns;
            ("host".to_owned(), root.path().to_owned(), Some(host).filter(|cookie| *cookie != 0))
        } else {
            let pid: u32 = name.parse().map_err(|_| Error::UnknownClient(name.into()))?;
            let own = OpenNamespace::of_process(pid)?.run(NetworkNamespace::own)??;
            (format!("process {pid}"), root.of_process(pid)?, own.cookie)
        };
        let excluded = maps.excluded()?;
        let excluded = cgroup
            .ancestors()
            .take_while(|path| path.starts_with(root.path()))
            .any(|path| root.id(path).is_ok_and(|id| excluded.contains(&id)));
        let attached = kernel::attached(pins)?.into_iter().map(|hook| hook.cgroup_id).find(|id| *id != 0);
        let top = attached.map(|id| root.find_by_id(id)).transpose()?.flatten();
        let served = top.is_some_and(|top| cgroup.starts_with(top));
        Ok(Self { name, cgroup, served, netns_cookie, excluded })
    }
}
