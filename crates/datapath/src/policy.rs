//! Frontends of policies: which level decides about a connection (P1, P5 to P7).

use crate::{Caller, Env, Found, limit};
use abi::{
    Key, Reason,
    frontend::{level, record_flag},
    reason::fallen,
    slot::pair_flag,
};

/// Rounds in which what has been found must not change meanwhile.
const ROUNDS: u32 = 2;

/// No service port, of which a socket could have a backend: ids begin with 0.
pub const NOTHING_HELD: u32 = u32::MAX;

/// Levels, from the first that decides.
const LEVELS: [u8; 3] = [level::FIRST, level::BALANCING, level::SERVICE];

impl Found {
    /// What the reason is for a backend that was chosen: that a policy did not take it, if it was chosen afresh.
    #[inline(always)]
    pub const fn told(&self, reason: Reason) -> Reason {
        match (reason, self.fallen) {
            (Reason::Balanced, fallen::NO_BACKEND) => Reason::Fallback,
            (Reason::Balanced, fallen::LIMIT) => Reason::Spilled,
            _ => reason,
        }
    }

    /// The flag of the pair that is remembered.
    #[inline(always)]
    pub(crate) const fn pair_flag(&self) -> u8 {
        if self.fallen == fallen::NO { 0 } else { pair_flag::FALLEN }
    }
}

/// Finds the record that decides about a connection of `caller` to a frontend of a policy; of a socket that has a backend of
/// the service port `held` there already, the one that it stays with.
#[inline(always)]
pub(crate) fn resolve<E: Env, C: Caller>(env: &E, caller: &C, key: &Key, held: u32) -> Found {
    if held != NOTHING_HELD {
        let found = env.stay(key, held);
        if !matches!(found.reason, Reason::NotAService) {
            return found;
        }
    }
    let found = env.redirect(caller, key);
    if matches!(found.reason, Reason::NotAService) { below(env, caller.netns(), key, found) } else { found }
}

/// Where a socket stays that has a backend of the service port `held` at a policy's frontend already: its datagrams are no
/// connections (P6). [`Reason::NotAService`]: no level of the frontend is of that service port any more.
#[inline(always)]
pub fn stay<E: Env>(env: &E, key: &Key, held: u32) -> Found {
    for at in LEVELS {
        let found = env.find(&key.at(at));
        if env.record(found.record).is_some_and(|record| record.service == held) {
            let fallen = if at == level::FIRST { fallen::NO } else { fallen::STAYED };
            return Found { fallen, ..found };
        }
    }
    Found::none(Reason::NotAService)
}

/// Which policy of a frontend decides about a connection of `caller`, or whether none does: [`Reason::NotAService`], with the
/// record of the first that has stood back, if any.
#[inline(always)]
pub fn redirect<E: Env, C: Caller>(env: &E, caller: &C, key: &Key) -> Found {
    let mut found = Found::none(Reason::BrokenTable);
    for _ in 0..ROUNDS {
        let before = env.find(key);
        found = walk(env, caller, key);
        // Levels below a policy go once nothing above leads to them any more: who saw them go sees that.
        if env.find(key).record == before.record {
            break;
        }
    }
    found
}

#[inline(always)]
fn walk<E: Env, C: Caller>(env: &E, caller: &C, key: &Key) -> Found {
    let mut why = fallen::NO;
    let mut first = Found::NO_RECORD;
    for at in LEVELS {
        let found = env.find(&key.at(at));
        if at != level::SERVICE && matches!(found.reason, Reason::NotAService) {
            continue;
        }
        let is_policy = env.record(found.record).is_some_and(|it| it.flags & record_flag::POLICY != 0);
        if !is_policy {
            break;
        }
        if first == Found::NO_RECORD {
            first = found.record;
        }
        let not = env.stands_back(caller, found.record);
        if not == fallen::NO {
            return Found { fallen: why, ..found };
        }
        // That it is its own backend's is said only where it is all that there is to say.
        if why == fallen::NO || why == fallen::OWN_BACKEND {
            why = not;
        }
    }
    Found { reason: Reason::NotAService, record: first, fallen: why }
}

/// What becomes of a connection that no policy takes: [`redirect`] has found `above`.
#[inline(always)]
fn below<E: Env>(env: &E, netns: u64, key: &Key, above: Found) -> Found {
    // Without a policy it has changed since it was looked up first, and is what it is now.
    let at = if above.record == Found::NO_RECORD { level::FIRST } else { level::SERVICE };
    let without = env.unusual(netns, &key.at(at));
    if above.record == Found::NO_RECORD || !matches!(without.reason, Reason::NotAService) {
        return Found { fallen: above.fallen, ..without };
    }
    // It may be a real address, which the policy's own backend means (P7); to all others it is nowhere (R10).
    let is_own = above.fallen == fallen::OWN_BACKEND;
    Found { reason: if is_own { Reason::OwnBackend } else { Reason::NoEndpoints }, ..above }
}

/// Why the policy of this record does not take a connection of `caller`: one of [`fallen`]. If it does, it counts as one of
/// those that it takes in this second.
#[inline(always)]
pub fn stands_back<E: Env, C: Caller>(env: &E, caller: &C, index: u32) -> u8 {
    let Some(record) = env.record(index) else { return fallen::NO_BACKEND };
    let is_own = env.exempts(record.policy, caller.netns())
        || env.settings().exempt_cgroups != 0 && caller.is_backend_of(record.policy);
    let why = if is_own {
        fallen::OWN_BACKEND
    } else if record.local.len == 0 {
        fallen::NO_BACKEND
    } else if record.limit != 0 && !env.take(index) {
        fallen::LIMIT
    } else {
        return fallen::NO;
    };
    if let Some(policy) = env.policy(record.policy) {
        let counter = match why {
            fallen::OWN_BACKEND => &policy.own,
            fallen::LIMIT => &policy.spills,
            _ => &policy.fallbacks,
        };
        counter.add(1);
    }
    why
}

/// Takes one of the connections a second that the policy of a record has (P6), if there is one left.
#[inline(always)]
pub fn take<E: Env>(env: &E, index: u32) -> bool {
    // The agent makes the ring before the record. One that is gone limits nothing.
    let Some(record) = env.record(index) else { return true };
    let Some(ring) = env.limit(record.policy, record.limit) else { return true };
    limit::take(&ring, record.limit, env.now_exactly())
}
