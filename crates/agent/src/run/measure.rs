//! What metrics are told each second: what the task knows and nobody else can read.

use std::time::{Duration, Instant};

use host::KubeProxy;
use jiff::Timestamp;
use model::Policy;
use observe::{event, metrics::Fallen};

use super::Agent;
use crate::{answer, room, status::MapUse};

/// How often everything is looked through that is wrong, and counted that is known: that takes longer the more there is.
const EVERY: Duration = Duration::from_secs(15);

/// When that is due.
#[derive(Debug)]
pub(super) struct Due(Instant);

impl Due {
    pub(super) fn now() -> Self {
        Self(Instant::now())
    }
}

impl Agent {
    pub(super) fn measure(&mut self) {
        self.measure_policies();
        let now = Instant::now();
        if self.measuring.0 > now {
            return;
        }
        self.measuring.0 = now + EVERY;
        let hooks = self.hooks().unwrap_or_default();
        let mut maps = self.tables();
        maps.extend(room::of_others(self.reconciler.store()));
        let kube_proxy = if self.config.replace_kube_proxy {
            KubeProxy::look().unwrap_or_default()
        } else {
            KubeProxy::default()
        };
        let (problems, _) = self.findings(&hooks, &maps, self.paused, &kube_proxy);
        self.contract.metrics().known(problems.len(), &answer::objects(self.reconciler.cluster()));
    }

    /// What policies have left to others; the programs count it.
    fn measure_policies(&self) {
        let mut policies = self.reconciler.cluster().policies().peekable();
        if policies.peek().is_none() {
            return;
        }
        let Ok(counted) = self.reconciler.store().policies() else { return };
        let fallen = |policy: &Policy| {
            let id = policy.id();
            let words = counted.get(&plan::policy_number(&id))?;
            Some(Fallen {
                policy: event::Policy { kind: id.kind.to_string(), name: id.name.name.clone() },
                fallbacks: words.fallbacks,
                spills: words.spills,
                own: words.own,
            })
        };
        let all: Vec<Fallen> = policies.filter_map(fallen).collect();
        self.contract.metrics().fell(&all, Timestamp::now());
    }

    /// How full the tables are.
    pub(super) fn tables(&self) -> Vec<MapUse> {
        let table = self.reconciler.table();
        room::of_tables(&table.usage(), &table.capacity(), &self.config.most())
    }
}
