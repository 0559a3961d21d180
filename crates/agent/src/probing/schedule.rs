//! Who is asked next, and what comes of the answers. No clock, no network: both are told.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use model::{ObjectId, Probe};

use super::{
    Found, Wanted,
    question::{Answer, Failure},
    standing::{Standing, longest, spaced},
};

/// Questions a second that an agent asks at most, of all policies.
pub(super) const A_SECOND: u32 = 250;
/// Timers are late by a little: as much of it is made up for.
const LATE: Duration = Duration::from_millis(20);

/// An address of a policy.
type Target = (ObjectId, IpAddr);

/// A question to be asked.
#[derive(Clone, Debug)]
pub(super) struct Question {
    target: Arc<Target>,
    /// Later questions have higher ones.
    number: u64,
    /// Who is asked.
    pub(super) address: SocketAddr,
    /// How.
    pub(super) probe: Probe,
}

#[cfg(test)]
impl Question {
    /// One outside of any schedule.
    pub(super) fn to(address: SocketAddr, probe: Probe) -> Self {
        let policy = ObjectId { kind: model::Kind::BalancingPolicy, name: model::ObjectName::new("", "p") };
        Self { target: Arc::new((policy, address.ip())), number: 0, address, probe }
    }
}

/// An address is no longer what it was.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) policy: ObjectId,
    pub(super) address: SocketAddr,
    /// Why it is unhealthy; `None` = it is healthy again.
    pub(super) failure: Option<Failure>,
}

/// See the module.
pub(super) struct Schedule {
    targets: BTreeMap<Arc<Target>, (Standing, Instant)>,
    /// The same by when they are due.
    due: BTreeSet<(Instant, Arc<Target>)>,
    /// When the next question may be asked at the soonest.
    free: Option<Instant>,
    /// Number of the next question.
    next: u64,
    /// 0 to 1, at random.
    chance: fn() -> f64,
}

impl Schedule {
    pub(super) fn new(chance: fn() -> f64) -> Self {
        Self { targets: BTreeMap::new(), due: BTreeSet::new(), free: None, next: 0, chance }
    }

    /// These are to be asked from now on. What is known of those that stay, stays.
    pub(super) fn want(&mut self, wanted: &Wanted, now: Instant) {
        let is_wanted =
            |(policy, ip): &Target| wanted.get(policy).is_some_and(|it| it.addresses.contains(ip));
        let due = &mut self.due;
        self.targets.retain(|target, (_, at)| {
            let stays = is_wanted(target);
            if !stays {
                due.remove(&(*at, target.clone()));
            }
            stays
        });
        for (policy, probed) in wanted {
            for ip in &probed.addresses {
                self.want_one((policy.clone(), *ip), &probed.probe, now);
            }
        }
    }

    fn want_one(&mut self, target: Target, probe: &Probe, now: Instant) {
        // Not all at once, and each as soon as if it had just been asked.
        let first = now + spaced(probe, (self.chance)()).mul_f64((self.chance)());
        match self.targets.get_mut(&target) {
            None => {
                let target = Arc::new(target);
                self.due.insert((first, target.clone()));
                self.targets.insert(target, (Standing::new(probe.clone(), self.next), first));
            }
            Some((standing, at)) if standing.probe != *probe => {
                standing.edit(probe.clone(), self.next);
                if first < *at {
                    let target = Arc::new(target);
                    self.due.remove(&(*at, target.clone()));
                    self.due.insert((first, target));
                    *at = first;
                }
            }
            Some(_) => {}
        }
    }

    /// When somebody is to be asked next.
    pub(super) fn next(&self) -> Option<Instant> {
        let (due, _) = self.due.first()?;
        Some(self.free.map_or(*due, |free| free.max(*due)))
    }

    /// The question that is due, if one is.
    pub(super) fn take(&mut self, now: Instant) -> Option<Question> {
        self.next().filter(|next| *next <= now)?;
        let (_, target) = self.due.pop_first()?;
        let (standing, at) = self.targets.get_mut(&target)?;
        *at = now + spaced(&standing.probe, (self.chance)());
        self.due.insert((*at, target.clone()));
        let free = self.free.map_or(now, |free| free.max(now - LATE));
        self.free = Some(free + Duration::from_secs(1) / A_SECOND);
        let (number, probe) = (self.next, standing.probe.clone());
        self.next += 1;
        Some(Question { address: SocketAddr::new(target.1, probe.port), target, number, probe })
    }

    /// Takes an answer.
    pub(super) fn answered(&mut self, question: &Question, answer: &Answer) -> Option<Change> {
        if matches!(answer, Err(Failure::Unasked(_))) {
            return None;
        }
        let (standing, _) = self.targets.get_mut(&question.target)?;
        let turns = standing.answered(question.number, answer.is_ok());
        let (policy, address) = (&question.target.0, question.address);
        turns.then(|| Change { policy: policy.clone(), address, failure: answer.clone().err() })
    }

    /// What is known.
    pub(super) fn found(&self) -> Found {
        let mut found = Found { targets: self.targets.len(), ..Found::default() };
        let mut a_second = 0.0;
        for (target, (standing, _)) in &self.targets {
            a_second += longest(&standing.probe).as_secs_f64().recip();
            if !standing.is_healthy {
                found.unhealthy.entry(target.0.clone()).or_default().insert(target.1);
            }
        }
        found.too_many = (a_second > f64::from(A_SECOND)).then_some(a_second.ceil() as u32);
        found
    }
}

#[cfg(test)]
mod tests;
