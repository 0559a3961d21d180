//! What the agent says of itself.

use std::collections::BTreeMap;

use host::KubeProxy;
use kernel::Maps;
use model::Node;
use plan::Deletes;
use source::Severity;

use super::Agent;
use crate::{
    answer,
    config::EventLevel,
    doctor, room,
    status::{HealthChecks, Hook, MapUse, Source, Status},
};

impl Agent {
    pub(super) fn status(&self) -> Status {
        let cluster = self.reconciler.cluster();
        let store = self.reconciler.store();
        let usage = self.reconciler.table().usage();
        let mut maps = self.tables();
        maps.extend(room::of_others(store));
        let settings = store.settings().unwrap_or_default();
        let hooks = self.hooks().unwrap_or_default();
        // What can't be seen is not there, as far as we are concerned.
        let kube_proxy = KubeProxy::look().unwrap_or_default();
        let probed = self.probing.found();
        let (problems, notices) = self.findings(&hooks, &maps, settings.paused != 0, &kube_proxy);
        Status {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            uptime_seconds: self.started.elapsed().as_secs(),
            node: self.config.node_name.clone(),
            outside: cluster.view().outside.is_some(),
            node_id: cluster.node(&self.config.node_name).and_then(Node::id),
            zone: cluster.here().zone,
            cgroup: self.cgroup.display().to_string(),
            hooks,
            sources: vec![Source { name: self.source.clone(), synced: self.synced }],
            objects: answer::objects(cluster),
            frontends: (usage.frontends4 + usage.frontends6) as usize,
            backends: usage.backends as usize,
            maps,
            decisions: decisions(store),
            paused: settings.paused != 0,
            events: EventLevel::from_settings(&settings).to_string(),
            opted_out: self.exclusion.opted_out(),
            health_checks: HealthChecks { addresses: probed.targets, unhealthy: probed.unhealthy() },
            published: self.telling.told(),
            events_lost: store.events_lost().unwrap_or_default(),
            events_suppressed: self.log.suppressed(),
            event_followers: self.followers.count(),
            event_sinks: self.log.sinks(),
            rounds: self.rounds,
            audit_differences: self.audit_differences,
            sockets_destroyed: self.sockets.destroyed,
            slots_freed: self.sockets.freed,
            owners: doctor::owners(&self.config, &kube_proxy),
            problems,
            notices,
        }
    }

    /// What is wrong now, and what has no effect here though it is valid.
    pub(super) fn findings(
        &self,
        hooks: &[Hook],
        maps: &[MapUse],
        paused: bool,
        kube_proxy: &KubeProxy,
    ) -> (Vec<String>, Vec<String>) {
        let cluster = self.reconciler.cluster();
        let mut problems: Vec<String> = Vec::new();
        if !self.synced {
            problems.push(format!("{} has not been read completely yet", self.source));
        }
        if self.synced && self.deletes == Deletes::Held {
            problems.push("nothing is deleted until everything has been read well once".into());
        }
        if self.synced {
            problems.extend(answer::held(&self.reconciler));
        }
        let view = cluster.view();
        if self.synced && !view.resolve_selectors && view.outside.is_none() && cluster.own_node().is_none() {
            problems.push(format!(
                "the cluster has no Node {:?}: give its name by --node-name, or --outside-cluster if this machine is none",
                view.node
            ));
        }
        problems.extend(self.exclusion.impossible(!self.config.exclude_cgroup.is_empty()));
        let off = hooks.iter().filter(|hook| hook.program.is_none()).count();
        if self.synced && off > 0 {
            problems.push(format!("{off} hooks have no program"));
        }
        if paused {
            problems.push("paused: connections pass untranslated; `balancing resume` ends that".into());
        }
        problems.extend(self.growing.iter().map(ToString::to_string));
        problems.extend(self.failures.iter().map(|(activity, error)| format!("{activity}: {error}")));
        let (others, unlike): (Vec<_>, Vec<_>) =
            self.strangers.iter().partition(|stranger| stranger.name.is_none() || stranger.is_ours());
        problems.extend(others.into_iter().map(|stranger| self.about(stranger)));
        problems
            .extend(self.sockets.problem.iter().map(|problem| format!("looking after sockets: {problem}")));
        problems.extend(self.contract.problems(kube_proxy));
        problems.extend(self.refused.iter().map(answer::refused));
        problems.extend(answer::conflicts(self.reconciler.desired()));
        let event_sinks = self.log.sinks();
        let troubles = event_sinks.iter().filter_map(|sink| sink.problem.as_ref().map(|it| (&sink.name, it)));
        problems.extend(troubles.map(|(name, problem)| format!("writing events to {name}: {problem}")));
        let full = maps.iter().filter(|map| map.percent() >= MapUse::WARN_PERCENT);
        problems.extend(full.map(|map| format!("map {} is {} % full", map.name, map.percent())));
        let (errors, notices): (Vec<_>, Vec<_>) =
            self.sources.iter().partition(|problem| problem.severity == Severity::Error);
        problems.extend(errors.iter().map(ToString::to_string));
        let mut notices: Vec<String> = notices.iter().map(ToString::to_string).collect();
        notices.extend(unlike.into_iter().map(|stranger| self.about(stranger)));
        notices.extend(answer::crowded(cluster));
        notices.extend(self.contract.notices());
        notices.extend(self.probing.found().notice());
        notices.extend(self.probed_frontends());
        notices
            .extend(self.unwatched.iter().map(|problem| format!("{}: {problem}", super::round::UNWATCHED)));
        (problems, notices)
    }
}

/// Decisions so far, over all hooks and families; the frequent first.
fn decisions(maps: &Maps) -> Vec<(String, u64)> {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for (_, _, reason, count) in maps.decisions().unwrap_or_default() {
        *counts.entry(reason.name()).or_default() += count;
    }
    let mut counts: Vec<(String, u64)> = counts.into_iter().map(|(name, n)| (name.to_owned(), n)).collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counts
}
