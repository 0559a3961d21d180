//! Who connects, for explanations.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    ops::ControlFlow,
    path::PathBuf,
};

use host::{Addresses, CgroupRoot, NetworkNamespace, container::Place, namespace::OpenNamespace};
use kernel::{Maps, Pins};
use serde::Serialize;

use crate::{Error, local::Pod};

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
    /// Which one that is.
    pub excluded_cgroup: Option<PathBuf>,
    /// The object by whose annotation it is; null if it is by none, or no agent runs that would know.
    pub opted_out_by: Option<String>,
}

impl Client {
    /// Policies of whose backends on the host's network it is one (P7), by the cgroups that it is in; in halves.
    ///
    /// # Errors
    /// The map can't be read.
    pub fn backend_of(&self, maps: &Maps) -> Result<BTreeSet<[u32; 2]>, Error> {
        let exempt = maps.exempt()?;
        let Ok(root) = CgroupRoot::discover(None) else { return Ok(BTreeSet::new()) };
        let ids = self.cgroup.ancestors().filter(|path| path.starts_with(root.path()));
        let clients: Vec<[u32; 2]> = ids
            .filter_map(|path| root.id_if_there(path))
            .map(|id| abi::policy::halves(id | abi::policy::ExemptKey::CGROUP))
            .collect();
        let own = exempt.into_iter().filter(|key| clients.contains(&key.client));
        Ok(own.map(|key| key.policy).collect())
    }
}

/// Addresses of each network namespace, by its cookie; of each family the preferred one first.
pub(crate) type Found = BTreeMap<u64, Vec<IpAddr>>;

/// Addresses and cookie of every network namespace that can be found.
pub(crate) fn find() -> Result<Found, host::Error> {
    let mut found = Found::new();
    let mut failed = None;
    host::namespace::visit(|namespace| {
        let inside = namespace.run(|| Ok((NetworkNamespace::own()?.cookie, Addresses::own()?.all())));
        match inside.and_then(|it: Result<_, host::Error>| it) {
            Ok((Some(cookie), addresses)) => drop(found.insert(cookie, addresses)),
            Ok((None, _)) => {}
            // One that can't be looked at hides no other.
            Err(error) => drop(failed.get_or_insert(error)),
        }
        ControlFlow::Continue(())
    })?;
    match failed {
        Some(error) if found.is_empty() => Err(error),
        _ => Ok(found),
    }
}

/// The addresses of every network namespace that can be found, by its cookie, the preferred ones first; empty where
/// nothing may be looked at.
pub fn addresses() -> BTreeMap<u64, Vec<IpAddr>> {
    find().unwrap_or_default()
}

/// The clock of [`abi::Affinity::used`], now.
pub fn monotonic() -> u64 {
    host::clock::monotonic()
}

impl Client {
    /// The client that `name` means: `host`, or a process id.
    ///
    /// # Errors
    /// It means neither, or there is no such process.
    pub fn identify(name: &str, pins: &Pins, maps: &Maps) -> Result<Self, Error> {
        let root = CgroupRoot::discover(None)?;
        if name == "host" {
            let cgroup = root.path().to_owned();
            return Self::at("host".into(), cgroup, host_netns(maps)?, &root, pins, maps);
        }
        let pid: u32 = name.parse().map_err(|_| Error::UnknownClient(name.into()))?;
        let own = OpenNamespace::of_process(pid)?.run(NetworkNamespace::own)??;
        Self::at(format!("process {pid}"), root.of_process(pid)?, own.cookie, &root, pins, maps)
    }

    /// The client that a pod of this node is: any process of it.
    ///
    /// # Errors
    /// It has no cgroup, which is where its processes would be.
    pub fn of_pod(name: &str, pod: &Pod, pins: &Pins, maps: &Maps) -> Result<Self, Error> {
        let root = CgroupRoot::discover(None)?;
        let no_cgroup =
            || Error::NoCgroup { name: name.into(), uid: pod.uid.clone(), root: root.path().to_owned() };
        let cgroup = root.pods().remove(&pod.uid).ok_or_else(no_cgroup)?;
        let host = host_netns(maps)?;
        let netns = if pod.host_network {
            host
        } else {
            let found = find()?.into_iter().filter(|(cookie, _)| Some(*cookie) != host);
            let of_pod = |ips: &Vec<IpAddr>| ips.iter().any(|ip| pod.ips.contains(ip));
            found.into_iter().find(|(_, ips)| of_pod(ips)).map(|(cookie, _)| cookie)
        };
        Self::at(format!("pod {name}"), cgroup, netns, &root, pins, maps)
    }

    /// UID of the pod whose cgroup it is that is left alone, if it is one's.
    pub fn excluded_pod(&self) -> Option<String> {
        let path = self.excluded_cgroup.as_ref()?.to_str()?;
        Place::of(path).pods.into_iter().next().map(|pod| pod.uid)
    }

    fn at(
        name: String,
        cgroup: PathBuf,
        netns_cookie: Option<u64>,
        root: &CgroupRoot,
        pins: &Pins,
        maps: &Maps,
    ) -> Result<Self, Error> {
        let excluded = maps.excluded()?;
        // Where the kernel can't tell who is in one, nobody is left alone.
        let can_exclude =
            !excluded.is_empty() && kernel::probe::optional_features() & abi::feature::ANCESTOR != 0;
        let excluded_cgroup = cgroup
            .ancestors()
            .take_while(|path| can_exclude && path.starts_with(root.path()))
            .find(|path| root.id(path).is_ok_and(|id| excluded.contains(&id)))
            .map(Into::into);
        let attached = kernel::attached(pins)?.into_iter().map(|hook| hook.cgroup_id).find(|id| *id != 0);
        let top = attached.map(|id| root.find_by_id(id)).transpose()?.flatten();
        let served = top.is_some_and(|top| cgroup.starts_with(top));
        let excluded = excluded_cgroup.is_some();
        Ok(Self { name, cgroup, served, netns_cookie, excluded, excluded_cgroup, opted_out_by: None })
    }
}

/// The cookie of the host's network namespace, where it is known.
fn host_netns(maps: &Maps) -> Result<Option<u64>, Error> {
    let host = maps.settings()?.host_netns;
    Ok(Some(host).filter(|cookie| *cookie != 0))
}
