//! Who is left alone: cgroups that are configured, and those of pods that an annotation opts out.

use std::{collections::BTreeSet, path::PathBuf, time::Instant};

use abi::feature;
use host::CgroupRoot;
use model::{Change, Kind, Object, SOCKET_LB};
use plan::Deletes;
use tokio::sync::oneshot;

use super::{Agent, pace};
use crate::{Error, local, opt_out::OptOuts, pod_cgroups::PodCgroups, status};

/// What can fail.
const EXCLUDING: &str = "leaving cgroups alone (excludeCgroup)";
const OPTING_OUT: &str = "leaving pods alone (annotation balancing.elf.io/socket-lb)";

/// See the module.
#[derive(Debug)]
pub(super) struct Exclusion {
    opt_outs: OptOuts,
    cgroups: PodCgroups,
    /// Pods or namespaces have changed.
    is_stale: bool,
    /// What the map holds; `None` = not known.
    written: Option<BTreeSet<u64>>,
    /// The kernel can't tell who is in which cgroup.
    is_impossible: bool,
}

impl Exclusion {
    /// Of what is below `root`, where the programs are attached.
    pub(super) fn below(root: CgroupRoot) -> Self {
        Self {
            opt_outs: OptOuts::default(),
            cgroups: PodCgroups::below(root),
            is_stale: false,
            written: None,
            is_impossible: kernel::probe::optional_features() & feature::ANCESTOR == 0,
        }
    }

    /// Objects have changed.
    pub(super) fn see(&mut self, changes: &[Change]) {
        self.is_stale |= changes.iter().any(|change| match change {
            Change::Upsert(object) => matches!(object, Object::Pod(_) | Object::Namespace(_)),
            Change::Delete(id) => matches!(id.kind, Kind::Pod | Kind::Namespace),
        });
    }

    /// What is known now is all that there is.
    pub(super) fn complete(&mut self) {
        self.is_stale = true;
    }

    /// When cgroups of pods are to be looked for; `None`: none is missing.
    pub(super) fn due(&self) -> Option<Instant> {
        self.opt_outs.due()
    }

    /// What `status` says of pods.
    pub(super) fn opted_out(&self) -> status::OptedOut {
        let (pods, found) = self.opt_outs.count();
        status::OptedOut { pods, found }
    }

    /// What has no effect because of the kernel; `configured`: `--exclude-cgroup` is given.
    pub(super) fn impossible(&self, configured: bool) -> Option<String> {
        let asked = [(configured, "excludeCgroup"), (self.opt_outs.count().0 > 0, SOCKET_LB)];
        let asked: Vec<&str> = asked.into_iter().filter(|(is, _)| *is).map(|(_, what)| what).collect();
        (self.is_impossible && !asked.is_empty()).then(|| {
            format!(
                "{} has no effect, its clients are balanced like all others: this kernel lacks \
                 bpf_get_current_ancestor_cgroup_id",
                asked.join(" and ")
            )
        })
    }

    /// Follows pods' cgroups: the known ones cost a look at each, missing ones a walk.
    fn find(&mut self, now: Instant) {
        self.opt_outs.place(&self.cgroups.ids(), now);
        if self.opt_outs.due().is_some_and(|due| due <= now) {
            let begun = pace::cpu();
            self.cgroups.look_for(&self.opt_outs.uids());
            self.opt_outs.looked(now, pace::cpu().saturating_sub(begun));
            self.opt_outs.place(&self.cgroups.ids(), now);
        }
    }
}

impl Agent {
    /// Pods or namespaces may have changed: who is to be left alone is, before anybody in its cgroup connects.
    pub(super) fn exclude_changed(&mut self) {
        if self.exclusion.is_stale {
            self.look_at_excluded();
        }
    }

    /// Keeps the list of cgroups that are left alone: one may come, go, and come again with another id.
    pub(super) fn look_at_excluded(&mut self) {
        match self.try_exclude() {
            Ok(0) => drop(self.failures.remove(EXCLUDING)),
            Ok(left_out) => {
                let text = format!(
                    "{left_out} of them have no room in the map excluded, and are balanced like all others"
                );
                self.failed_with(EXCLUDING, text);
            }
            Err(error) => self.failed(EXCLUDING, &error),
        }
        match self.exclusion.opt_outs.problem(Instant::now()) {
            Some(text) => self.failed_with(OPTING_OUT, text),
            None => drop(self.failures.remove(OPTING_OUT)),
        }
    }

    /// How many have no room.
    fn try_exclude(&mut self) -> Result<usize, Error> {
        let Self { config, exclusion, reconciler, .. } = self;
        let now = Instant::now();
        if std::mem::take(&mut exclusion.is_stale) {
            exclusion.opt_outs.follow(reconciler.cluster(), now);
        }
        // Before anything that can fail, since it says when this is tried again.
        exclusion.find(now);
        let mut cgroups = configured(&config.exclude_cgroup)?;
        cgroups.extend(exclusion.opt_outs.cgroups());
        let store = reconciler.store();
        // What an agent before has left there may be of pods that are not known yet (R27).
        if self.deletes == Deletes::Held || !exclusion.opt_outs.are_known() {
            cgroups.extend(store.excluded()?);
        }
        if exclusion.written.as_ref() == Some(&cgroups) {
            return Ok(0);
        }
        let left_out = store.set_excluded(&cgroups)?;
        let (pods, _) = exclusion.opt_outs.count();
        tracing::info!(count = cgroups.len(), pods, "cgroups that are left alone");
        exclusion.written = (left_out == 0).then_some(cgroups);
        Ok(left_out)
    }

    /// By whose annotation a pod is left alone.
    pub(super) fn tell_opted_out(&self, uid: &str, reply: oneshot::Sender<Option<local::OptedOut>>) {
        let pod = self.exclusion.opt_outs.pod(uid);
        let told = pod.map(|(pod, by)| local::OptedOut { pod: pod.to_string(), by: by.to_string() });
        // Who no longer listens is no error.
        drop(reply.send(told));
    }
}

/// Ids of the cgroups at these paths, below the mount, that are there.
fn configured(paths: &[PathBuf]) -> Result<BTreeSet<u64>, Error> {
    let mut cgroups = BTreeSet::new();
    if !paths.is_empty() {
        let root = CgroupRoot::discover(None)?;
        for path in paths {
            let absolute = if path.starts_with(root.path()) {
                path.clone()
            } else {
                root.path().join(path.strip_prefix("/").unwrap_or(path))
            };
            cgroups.extend(root.id(&absolute));
        }
    }
    Ok(cgroups)
}
