//! Who of several controllers writes: whoever holds the Lease.
//!
//! As client-go's (1.36 tools/leaderelection/leaderelection.go): the times in a Lease are never compared with a clock. A holder
//! counts from when it began to ask for the renewal that was granted, and stops early; others count from when they saw the
//! Lease change last, and wait for all of its time. So two clocks that disagree, or one that jumps, matter to nobody.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

/// How long things take around a Lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// How long it is good for, in whole seconds.
    pub lasts: Duration,
    /// How long its holder relies on it: what it has sent until then arrives before anybody else begins.
    pub held: Duration,
    /// How often it is looked at, or renewed.
    pub period: Duration,
}

impl Default for Times {
    /// As client-go's users have it.
    fn default() -> Self {
        let [lasts, held, period] = [15, 10, 2].map(Duration::from_secs);
        Self { lasts, held, period }
    }
}

/// A Lease that is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    version: String,
    holder: String,
    seconds: u64,
    acquired: Option<String>,
    transitions: i64,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    holder_identity: Option<String>,
    lease_duration_seconds: Option<u64>,
    acquire_time: Option<String>,
    lease_transitions: Option<i64>,
}

impl Record {
    /// Of a Lease as a server sends it. What makes no sense is nobody's.
    pub(super) fn read(lease: &Value) -> Self {
        let spec: Spec = serde_json::from_value(lease["spec"].clone()).unwrap_or_default();
        Self {
            version: lease["metadata"]["resourceVersion"].as_str().unwrap_or_default().into(),
            holder: spec.holder_identity.unwrap_or_default(),
            seconds: spec.lease_duration_seconds.unwrap_or_default(),
            acquired: spec.acquire_time,
            transitions: spec.lease_transitions.unwrap_or_default(),
        }
    }
}

/// What to do about the Lease.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    /// There is none: make one.
    Create(Value),
    /// Take it, or renew it.
    Replace(Value),
    /// Somebody else holds it.
    Wait,
}

/// One controller's part in it.
#[derive(Debug)]
pub(super) struct Election {
    namespace: String,
    name: String,
    /// Who we are, for as long as this process lives.
    identity: String,
    times: Times,
    /// What was seen last, and since when it is so.
    seen: Option<(Record, Instant)>,
    held_until: Option<Instant>,
}

impl Election {
    pub(super) fn new(namespace: &str, name: &str, identity: &str, times: Times) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
            identity: identity.into(),
            times,
            seen: None,
            held_until: None,
        }
    }

    /// Until when it is ours, if it is.
    pub(super) fn held_until(&self, now: Instant) -> Option<Instant> {
        self.held_until.filter(|until| *until > now)
    }

    /// Who holds it, as far as is known.
    pub(super) fn holder(&self) -> Option<&str> {
        self.seen.as_ref().map(|(record, _)| record.holder.as_str()).filter(|holder| !holder.is_empty())
    }

    /// What to do about what is there.
    pub(super) fn look(&mut self, there: Option<Record>, now: Instant, time: Timestamp) -> Step {
        let Some(there) = there else {
            (self.seen, self.held_until) = (None, None);
            return Step::Create(self.lease(None, time));
        };
        if self.seen.as_ref().is_none_or(|(seen, _)| *seen != there) {
            self.seen = Some((there.clone(), now));
        }
        let since = self.seen.as_ref().map_or(now, |(_, since)| *since);
        if there.holder != self.identity {
            self.held_until = None;
            let lasts = Duration::from_secs(there.seconds);
            if !there.holder.is_empty() && now.saturating_duration_since(since) < lasts {
                return Step::Wait;
            }
        }
        Step::Replace(self.lease(Some(&there), time))
    }

    /// It was granted what was asked for at `asked`.
    pub(super) fn granted(&mut self, lease: &Value, asked: Instant) {
        let record = Record::read(lease);
        self.held_until = (record.holder == self.identity).then(|| asked + self.times.held);
        self.seen = Some((record, asked));
    }

    /// A Lease that is nobody's, so that the next one need not wait; none where it is not ours.
    pub(super) fn release(&mut self, time: Timestamp) -> Option<Value> {
        let (record, _) = self.seen.as_ref().filter(|(record, _)| record.holder == self.identity)?;
        let mut lease = self.lease(Some(record), time);
        lease["spec"]["holderIdentity"] = "".into();
        lease["spec"]["leaseDurationSeconds"] = 1.into();
        self.held_until = None;
        Some(lease)
    }

    fn lease(&self, there: Option<&Record>, time: Timestamp) -> Value {
        let now = time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string();
        let is_ours = there.is_some_and(|it| it.holder == self.identity);
        let acquired = there.filter(|_| is_ours).and_then(|it| it.acquired.clone());
        let transitions = there.map_or(0, |it| it.transitions + i64::from(!is_ours));
        let mut metadata = json!({"name": self.name, "namespace": self.namespace});
        if let Some(there) = there {
            metadata["resourceVersion"] = there.version.as_str().into();
        }
        json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": metadata,
            "spec": {
                "holderIdentity": self.identity,
                "leaseDurationSeconds": self.times.lasts.as_secs().max(1),
                "acquireTime": acquired.unwrap_or_else(|| now.clone()),
                "renewTime": now,
                "leaseTransitions": transitions,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A Lease in a server, and when it is.
    struct World {
        start: Instant,
        lease: Option<Value>,
        version: u64,
    }

    impl World {
        fn new() -> Self {
            Self { start: Instant::now(), lease: None, version: 0 }
        }

        fn at(&self, seconds: u64) -> Instant {
            self.start + Duration::from_secs(seconds)
        }

        fn store(&mut self, mut lease: Value) -> Value {
            self.version += 1;
            lease["metadata"]["resourceVersion"] = self.version.to_string().into();
            self.lease = Some(lease.clone());
            lease
        }

        /// Looks, and does what it says. Is it held then?
        fn turn(&mut self, election: &mut Election, seconds: u64, clock: i64) -> bool {
            let now = self.at(seconds);
            let there = self.lease.as_ref().map(Record::read);
            match election.look(there, now, Timestamp::from_second(clock).unwrap()) {
                Step::Wait => {}
                Step::Create(lease) | Step::Replace(lease) => {
                    let stored = self.store(lease);
                    election.granted(&stored, now);
                }
            }
            election.held_until(now).is_some()
        }
    }

    fn election(identity: &str) -> Election {
        Election::new("system", "controller", identity, Times::default())
    }

    #[test]
    fn one_holds_it_and_another_takes_over_when_it_is_not_renewed() {
        let (mut world, mut a, mut b) = (World::new(), election("a"), election("b"));
        assert!(world.turn(&mut a, 0, 0));
        for second in 1..20 {
            assert!(!world.turn(&mut b, second, 0), "{second}");
            assert!(world.turn(&mut a, second, 0));
        }
        // The other one is killed after 19 s.
        let took = (20..60).find(|second| world.turn(&mut b, *second, 0)).unwrap();
        assert_eq!(took, 20 + 15);
        assert_eq!(b.holder(), Some("b"));
        assert_eq!(world.lease.as_ref().unwrap()["spec"]["leaseTransitions"], 1);
        assert!(!world.turn(&mut a, 60, 0), "whoever comes back waits");
    }

    #[test]
    fn it_is_given_up_before_anybody_may_take_it() {
        let (mut world, mut a) = (World::new(), election("a"));
        world.turn(&mut a, 0, 0);
        let last = world.at(9);
        assert!(a.held_until(last).is_some() && a.held_until(world.at(10)).is_none());
        let Times { lasts, held, period } = Times::default();
        assert!(held + period < lasts);
    }

    #[test]
    fn clocks_that_disagree_or_jump_change_nothing() {
        let (mut world, mut a, mut b) = (World::new(), election("a"), election("b"));
        world.turn(&mut a, 0, 1_000_000);
        for second in 1..60 {
            let jumps = if second % 2 == 0 { 1_000_000_000 } else { 0 };
            assert!(!world.turn(&mut b, second, jumps));
            assert!(world.turn(&mut a, second, 2_000_000_000 - jumps));
        }
    }

    #[test]
    fn who_ends_well_leaves_it_to_the_next_at_once() {
        let (mut world, mut a, mut b) = (World::new(), election("a"), election("b"));
        world.turn(&mut a, 0, 0);
        assert!(!world.turn(&mut b, 1, 0));
        let lease = a.release(Timestamp::UNIX_EPOCH).unwrap();
        assert!(a.held_until(world.at(1)).is_none());
        world.store(lease);
        assert!(world.turn(&mut b, 2, 0));
        assert_eq!(b.release(Timestamp::UNIX_EPOCH).unwrap()["spec"]["holderIdentity"], "");
        assert_eq!(election("c").release(Timestamp::UNIX_EPOCH), None);
    }

    #[test]
    fn a_lease_that_vanishes_or_makes_no_sense_is_made_anew() {
        let (mut world, mut a) = (World::new(), election("a"));
        world.turn(&mut a, 0, 0);
        world.lease = None;
        assert!(world.turn(&mut a, 1, 0));
        world.store(json!({"metadata": {}, "spec": {"holderIdentity": 7}}));
        assert!(world.turn(&mut election("b"), 2, 0));
    }

    #[test]
    fn a_grant_that_is_somebody_else_s_is_none() {
        let (mut world, mut a) = (World::new(), election("a"));
        world.turn(&mut a, 0, 0);
        let other = election("b").lease(None, Timestamp::UNIX_EPOCH);
        a.granted(&other, world.at(1));
        assert_eq!(a.held_until(world.at(1)), None);
    }
}
