//! What services and policies get: sums over clients and backends, which are never labels, of so many of them and no more.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use abi::Reason;
use jiff::Timestamp;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet},
};

use super::reading::Writer;
use crate::{
    Usage,
    event::{Policy, Service},
    usage::Count,
};

/// What stands for all that have no series of their own.
const OTHER: &str = "(other)";
/// Who has had nothing for so long gives its place to another.
const IDLE: Duration = Duration::from_secs(3600);

/// What has been used so far.
#[derive(Debug)]
pub(super) struct Traffic {
    sums: Mutex<Sums>,
}

#[derive(Debug)]
struct Sums {
    services: Ranked<OfService>,
    policies: Ranked<OfPolicy>,
    /// What was last told of policies, by reason.
    told: BTreeMap<(OfPolicy, &'static str), u64>,
}

/// What a policy has not taken so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fallen {
    /// The policy.
    pub policy: Policy,
    /// It had no backend.
    pub fallbacks: u64,
    /// It had reached its limit.
    pub spills: u64,
    /// The client was one of its own backends.
    pub own: u64,
}

/// The labels of a service port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, EncodeLabelSet)]
struct OfService {
    namespace: String,
    service: String,
    port: String,
}

/// The labels of a policy.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, EncodeLabelSet)]
struct OfPolicy {
    kind: String,
    policy: String,
}

/// Who may be counted.
trait Labels: Clone + Ord {
    fn other() -> Self;
}

impl Labels for OfService {
    fn other() -> Self {
        Self { namespace: OTHER.into(), service: OTHER.into(), port: OTHER.into() }
    }
}

impl Labels for OfPolicy {
    fn other() -> Self {
        Self { kind: OTHER.into(), policy: OTHER.into() }
    }
}

impl From<&Service> for OfService {
    fn from(it: &Service) -> Self {
        Self { namespace: it.namespace.clone(), service: it.name.clone(), port: it.port.clone() }
    }
}

impl From<&Policy> for OfPolicy {
    fn from(it: &Policy) -> Self {
        Self { kind: it.kind.clone(), policy: it.name.clone() }
    }
}

/// Sums by labels, of so many and the rest.
#[derive(Debug)]
struct Ranked<L> {
    most: usize,
    own: BTreeMap<L, Sum>,
}

/// What one of them has had.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Sum {
    connections: u64,
    failures: BTreeMap<String, u64>,
    fallen: BTreeMap<String, u64>,
    localities: BTreeMap<String, u64>,
    used: Timestamp,
}

impl<L: Labels> Ranked<L> {
    /// Where to count for `of`.
    fn of(&mut self, of: L, now: Timestamp) -> Option<&mut Sum> {
        if self.most == 0 {
            return None;
        }
        let other = L::other();
        let is_full = self.own.len() - usize::from(self.own.contains_key(&other)) >= self.most;
        let labels = if !is_full || self.own.contains_key(&of) || self.give_way(now) { of } else { other };
        let sum = match self.own.entry(labels) {
            Entry::Vacant(entry) => entry.insert(Sum::default()),
            Entry::Occupied(entry) => entry.into_mut(),
        };
        sum.used = now;
        Some(sum)
    }

    /// Who has been idle longest goes, if that is long enough.
    fn give_way(&mut self, now: Timestamp) -> bool {
        let other = L::other();
        let idle = self.own.iter().filter(|(labels, _)| **labels != other).min_by_key(|(_, sum)| sum.used);
        let idle = idle.filter(|(_, sum)| now.duration_since(sum.used).unsigned_abs() > IDLE);
        let idle = idle.map(|(labels, _)| labels.clone());
        idle.is_some_and(|labels| self.own.remove(&labels).is_some())
    }
}

impl Sum {
    fn decided(&mut self, verdict: &str, reason: &str, count: u64) {
        match verdict {
            "translated" => self.connections += count,
            "passed" => {}
            _ => *self.failures.entry(reason.to_owned()).or_default() += count,
        }
        if matches!(reason, "fallback" | "spilled" | "own-backend") {
            *self.fallen.entry(reason.to_owned()).or_default() += count;
        }
    }
}

impl Traffic {
    /// Of so many service ports, and so many policies; 0 = none, not even the rest.
    pub(super) fn new(most: usize) -> Self {
        let services = Ranked { most, own: BTreeMap::new() };
        let policies = Ranked { most, own: BTreeMap::new() };
        Self { sums: Mutex::new(Sums { services, policies, told: BTreeMap::new() }) }
    }

    fn sums(&self) -> MutexGuard<'_, Sums> {
        // Whoever panicked left nothing half done.
        self.sums.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what is new since the reading before.
    pub(super) fn add(&self, usage: &Usage) {
        let now = usage.time.unwrap_or(Timestamp::UNIX_EPOCH);
        let sums = &mut *self.sums();
        for it in usage.clients.iter().filter(|it| is_new(&it.count)) {
            for sum in sums.of(it.service.as_ref(), it.policy.as_ref(), now) {
                sum.decided(&it.verdict, &it.reason, it.count.recent);
            }
        }
        for it in usage.backends.iter().filter(|it| is_new(&it.count)) {
            for sum in sums.of(it.service.as_ref(), it.policy.as_ref(), now) {
                *sum.localities.entry(it.locality.name().to_owned()).or_default() += it.count.recent;
            }
        }
    }

    /// Takes in what all policies have not taken so far. Less than before: the programs count anew.
    pub(super) fn fell(&self, all: &[Fallen], now: Timestamp) {
        let sums = &mut *self.sums();
        let before = std::mem::take(&mut sums.told);
        for it in all {
            let totals = [
                (Reason::Fallback, it.fallbacks),
                (Reason::Spilled, it.spills),
                (Reason::OwnBackend, it.own),
            ];
            for (reason, total) in totals.map(|(reason, total)| (reason.name(), total)) {
                let key = (OfPolicy::from(&it.policy), reason);
                let last = before.get(&key).copied().filter(|last| *last <= total).unwrap_or_default();
                if total > last
                    && let Some(sum) = sums.policies.of(key.0.clone(), now)
                {
                    *sum.fallen.entry(reason.to_owned()).or_default() += total - last;
                }
                sums.told.insert(key, total);
            }
        }
    }
}

fn is_new(count: &Count) -> bool {
    count.recent > 0
}

impl Sums {
    /// Where to count what one of these has had: both, where both are said.
    fn of<'a>(
        &'a mut self,
        service: Option<&Service>,
        policy: Option<&Policy>,
        now: Timestamp,
    ) -> impl Iterator<Item = &'a mut Sum> {
        let service = service.and_then(|it| self.services.of(it.into(), now));
        let policy = policy.and_then(|it| self.policies.of(it.into(), now));
        service.into_iter().chain(policy)
    }
}

/// The metrics of one kind of owner, and what is said of them.
struct Names {
    connections: (&'static str, &'static str),
    failures: (&'static str, &'static str),
    fallen: (&'static str, &'static str),
    backends: (&'static str, &'static str),
}

const SERVICES: Names = Names {
    connections: (
        "balancing_service_connections",
        "Connections and first datagrams of clients here that a service port's backend got",
    ),
    failures: ("balancing_service_failures", "Those that failed, by reason"),
    fallen: ("balancing_service_fallen", "Those that a policy left to the service, by reason"),
    backends: (
        "balancing_service_backend_connections",
        "Where the chosen backends were, seen from this node",
    ),
};

const POLICIES: Names = Names {
    connections: (
        "balancing_policy_connections",
        "Connections and first datagrams of clients here that a policy's backend got",
    ),
    failures: ("balancing_policy_failures", "Those that failed at a policy, by reason"),
    fallen: ("balancing_policy_fallen", "Those that a policy did not take, by reason"),
    backends: (
        "balancing_policy_backend_connections",
        "Where the chosen backends of a policy were, seen from this node",
    ),
};

/// Writes the sums of all by the values of one further label.
fn by<L: EncodeLabelSet + Clone>(
    write: &mut Writer<'_>,
    (name, help): (&str, &str),
    all: &Ranked<L>,
    label: &'static str,
    values: fn(&Sum) -> &BTreeMap<String, u64>,
) -> fmt::Result {
    let series = all.own.iter().flat_map(|(of, sum)| {
        values(sum).iter().map(|(value, count)| ((of.clone(), [(label, value.clone())]), *count))
    });
    write.counters(name, help, series)
}

fn write_all<L: EncodeLabelSet + Clone>(
    write: &mut Writer<'_>,
    names: &Names,
    all: &Ranked<L>,
) -> fmt::Result {
    let (name, help) = names.connections;
    write.counters(name, help, all.own.iter().map(|(of, sum)| (of.clone(), sum.connections)))?;
    by(write, names.failures, all, "reason", |sum| &sum.failures)?;
    by(write, names.fallen, all, "reason", |sum| &sum.fallen)?;
    by(write, names.backends, all, "locality", |sum| &sum.localities)
}

impl Collector for Traffic {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (sums, write) = (self.sums(), &mut Writer(encoder));
        write_all(write, &SERVICES, &sums.services)?;
        write_all(write, &POLICIES, &sums.policies)
    }
}

#[cfg(test)]
pub(super) mod tests;
