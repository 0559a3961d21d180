//! Policies' own backends, who must reach what the policy takes from others (P7).

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use abi::policy::ExemptKey;
use host::CgroupRoot;
use model::{ObjectId, Policy};
use plan::{Deletes, Difference};

use super::Agent;
use crate::{
    Error,
    client::{Found, find},
    exempt::{Exempt, Places, exempt, on_host_network},
    pod_cgroups::PodCgroups,
    reconcile::strays,
};

/// What can fail.
const EXEMPTING: &str = "leaving policies' own backends alone (P7)";

/// From one look to the next that waits for nobody, while some backend is not known: it may be one that can't be known.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Who is exempt from which policy, and how that is known.
pub(super) struct Exemptions {
    /// What the last look has found; `None` = there was none.
    places: Option<Places>,
    /// Of pods on the host's network.
    cgroups: PodCgroups,
    /// Of policies that have pods of this node.
    policies: BTreeMap<ObjectId, Exempt>,
    /// What the map holds; `None` = not known.
    written: Option<BTreeSet<ExemptKey>>,
    looked: Option<Instant>,
}

impl Exemptions {
    /// Of what is below `root`, where the programs are attached.
    pub(super) fn below(root: CgroupRoot) -> Self {
        Self {
            places: None,
            cgroups: PodCgroups::below(root),
            policies: BTreeMap::new(),
            written: None,
            looked: None,
        }
    }

    /// Whether some policy has pods of this node, so that namespaces are to be known.
    pub(super) fn matter(&self) -> bool {
        !self.policies.is_empty()
    }
}

impl Agent {
    /// Some policies, or what they depend on, have changed: their own backends are known before they are in force.
    pub(super) fn exempt_touched(&mut self, touched: &BTreeSet<ObjectId>) {
        self.exempt(touched);
        let unknown = |it: &Exempt| !it.unknown.is_empty();
        let some_are = touched.iter().any(|id| self.exemptions.policies.get(id).is_some_and(unknown));
        let is_due = self.exemptions.looked.is_none_or(|at| at.elapsed() >= LOOK_AGAIN);
        if some_are && is_due {
            match find() {
                Ok(found) => self.exempt_found(&found),
                Err(error) => self.failed(EXEMPTING, &error),
            }
        }
        self.write_exempt();
    }

    /// The network namespaces of the machine are these.
    pub(super) fn exempt_found(&mut self, found: &Found) {
        let host = self.reconciler.store().settings().map_or(0, |settings| settings.host_netns);
        let namespaces = found.iter().filter(|(cookie, _)| **cookie != host);
        let places = Places {
            namespaces: namespaces.flat_map(|(cookie, ips)| ips.iter().map(|ip| (*ip, *cookie))).collect(),
            cgroups: self.exemptions.cgroups.find(&on_host_network(self.reconciler.cluster())),
        };
        self.exemptions.looked = Some(Instant::now());
        if self.exemptions.places.as_ref() != Some(&places) {
            self.exemptions.places = Some(places);
            let all: BTreeSet<ObjectId> = self.reconciler.cluster().policies().map(Policy::id).collect();
            self.exempt(&all);
        }
        self.write_exempt();
    }

    fn exempt(&mut self, touched: &BTreeSet<ObjectId>) {
        let none = Places::default();
        let Self { reconciler, exemptions, .. } = self;
        let places = exemptions.places.as_ref().unwrap_or(&none);
        for id in touched {
            match exempt(reconciler.cluster(), id, places) {
                nobody if nobody == Exempt::default() => drop(exemptions.policies.remove(id)),
                exempt => drop(exemptions.policies.insert(id.clone(), exempt)),
            }
        }
    }

    /// Whether the map holds what was written to it; what does not is set right at once.
    pub(super) fn audit_exempt(&mut self) -> Option<Difference> {
        let written = self.exemptions.written.as_ref()?;
        match self.reconciler.store().set_exempt(written) {
            Ok(kept) => strays("exempt", kept),
            Err(error) => {
                self.failed(EXEMPTING, &error);
                None
            }
        }
    }

    fn write_exempt(&mut self) {
        let all = self.exemptions.policies.values();
        let keys: BTreeSet<ExemptKey> = all.clone().flat_map(|it| &it.keys).copied().collect();
        let unknown: BTreeSet<&str> = all.flat_map(|it| &it.unknown).map(String::as_str).collect();
        let unknown = (!unknown.is_empty()).then(|| {
            let names: Vec<&str> = unknown.into_iter().collect();
            format!(
                "network namespace or cgroup not found, so that they are redirected to themselves: {}",
                names.join(", ")
            )
        });
        // Before the first look nothing is known, least of all that somebody is not exempt any more; but where no policy has
        // pods here, whoever an agent before had.
        let is_sure =
            self.exemptions.places.is_some() || self.deletes == Deletes::Allowed && !self.exemptions.matter();
        if is_sure && self.exemptions.written.as_ref() != Some(&keys) {
            match self.reconciler.store().set_exempt(&keys).map_err(Error::from) {
                Ok(kept) => {
                    self.exemptions.written = (kept.left_out == 0).then_some(keys);
                    if kept.left_out > 0 {
                        let text = format!("{} of them have no room in the map exempt", kept.left_out);
                        self.failures.insert(EXEMPTING, text);
                        return;
                    }
                }
                Err(error) => return self.failed(EXEMPTING, &error),
            }
        }
        match unknown.filter(|_| self.exemptions.places.is_some()) {
            Some(text) => drop(self.failures.insert(EXEMPTING, text)),
            None => drop(self.failures.remove(EXEMPTING)),
        }
    }
}
