//! R23: a client keeps its backend.

use crate::{Caller, Env, decision::Choice};
use abi::{Affinity, Reason, Record, frontend::backend_flag::LIVE, slot::Ids};

const SECOND: u64 = 1_000_000_000;

/// No backend: generations begin with 1.
const NONE: Ids = Ids { backend: 0, generation: 0 };

/// The backend of `record`, which has this `index`, that this client has had lately.
#[inline(always)]
pub fn recalled<E: Env, C: Caller>(env: &E, caller: &C, record: &Record, index: u32) -> Choice {
    if record.affinity == 0 {
        return Choice::none(Reason::NoEndpoints);
    }
    let ids = env.recall(caller.netns(), index);
    Choice::known(if ids == NONE { Reason::NoEndpoints } else { Reason::Affinity }, ids.backend)
}

/// The client keeps `choice` from now on, if the service has affinity; another connection of the same client may have
/// been quicker, whose choice it is then.
#[inline(always)]
pub fn kept<E: Env, C: Caller>(env: &E, caller: &C, record: &Record, index: u32, choice: Choice) -> Choice {
    if record.affinity == 0 || !choice.is_some() {
        return choice;
    }
    let ids = env.keep(caller.netns(), index, choice.backend);
    if ids == NONE {
        return Choice { reason: Reason::AffinityFull, ..choice };
    }
    Choice::known(choice.reason, ids.backend)
}

/// Is the backend `ids` in the list of `record` now?
#[inline(always)]
fn is_listed<E: Env>(env: &E, record: &Record, ids: Ids) -> bool {
    let Some(backend) = env.backend(ids.backend) else { return false };
    let wanted = LIVE | record.member_flag();
    backend.generation == ids.generation
        && backend.service == record.service
        && backend.flags & wanted == wanted
}

/// What is remembered of this client and the service port of a record, if it has not expired and is in the record's
/// list now; it counts as used. Generation 0: nothing.
#[inline(always)]
pub fn recall<E: Env>(env: &E, client: u64, record: u32) -> Ids {
    let Some(record) = env.record(record) else { return NONE };
    recall_for(env, client, &record, env.now())
}

/// Are the words of an entry those of this client and service port?
#[inline(always)]
fn is_of(entry: &Affinity, client: u64, service: u32) -> bool {
    entry.client.load() == client && entry.service.load() == u64::from(service)
}

#[inline(always)]
fn recall_for<E: Env>(env: &E, client: u64, record: &Record, now: u64) -> Ids {
    let Some(entry) = env.affinity(client, record.service) else { return NONE };
    let (ids, used) = (Ids::unpack(entry.ids.load()), entry.used.load());
    // After the rest: see `abi::client::Affinity`. Another client's entry is none.
    if !is_of(&entry, client, record.service) {
        return NONE;
    }
    // Strictly after: at the very moment it still counts.
    if now.saturating_sub(used) > u64::from(record.affinity) * SECOND {
        return NONE;
    }
    if !is_listed(env, record, ids) {
        return NONE;
    }
    // All CPUs that this client connects from would write that line with each connection; the clock ticks in milliseconds.
    if used != now {
        entry.used.store(now);
    }
    ids
}

/// Remembers a backend for this client and the service port of a record. What counts from now on: that, or what another
/// connection of the same client was quicker to remember. Generation 0: there is no room.
#[inline(always)]
pub fn keep<E: Env>(env: &E, client: u64, record: u32, backend: u32) -> Ids {
    let generation = env.backend(backend).map_or(0, |backend| backend.generation);
    let ids = Ids { backend, generation };
    let Some(record) = env.record(record) else { return ids };
    let now = env.now();
    if !env.remember(client, record.service, ids, now) {
        return NONE;
    }
    // It is there now, made by this call or before.
    let kept = recall_for(env, client, &record, now);
    if kept != NONE {
        return kept;
    }
    // From another time: it has expired, or its backend is in the list no more.
    let Some(entry) = env.affinity(client, record.service) else { return ids };
    let old = entry.ids.load();
    // Not into an entry that has become another client's.
    if is_of(&entry, client, record.service) && entry.ids.replace(old, ids.pack()) {
        entry.used.store(now);
    }
    ids
}
