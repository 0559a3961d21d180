//! `sendto()` and `sendmsg()` of UDP.

use crate::{
    Decision, Env, Found, Socket, affinity, choose,
    decision::Choice,
    policy, resolve,
    sockets::{self, Kept, Known, PairRef, Seen, may_be},
};
use abi::{
    Key, Pair, Reason, Record, Verdict,
    frontend::backend_flag,
    slot::{Ids, STORED_PAIRS, pair_flag},
};
use core::cell::Cell;

/// Candidates that a second destination of a socket looks at to find a backend that no other destination of
/// the socket has: one more than a socket can have others, so that a free one is found if there is one.
const TRIES: u32 = STORED_PAIRS as u32 + 2;

/// Decides where a datagram goes. R8: one choice for each (socket, VIP:port), kept while the backend stays
/// usable. R10: nothing is remembered of what fails.
#[inline(always)]
pub fn sendmsg<E: Env, S: Socket>(env: &E, socket: &S, key: &Key) -> Decision {
    // A connected, IPv4-mapped socket: the kernel runs the IPv4 sendmsg hook for each send() and shows the address
    // that it is connected to, which must pass unchanged even if that is, or has become, somebody's VIP (R9).
    if socket.is_connected_to(&key.endpoint) {
        return Decision::none(Found::none(Reason::Connected), Reason::Connected);
    }
    let known = Known::of(socket);
    let (record, found) = resolve(env, socket, key, |record| held(env, socket, &known, record, key));
    if matches!(found.reason.verdict(), Verdict::Passed) {
        // The application itself speaks to a backend that it also reaches through a VIP: from now on replies
        // show the address that it used last.
        known.mark_direct(&key.endpoint);
    }
    let Some(record) = record else { return Decision::none(found, found.reason) };
    if !matches!(found.reason, Reason::Balanced) {
        return Decision::fail(found, &record, found.reason);
    }
    if let Some(pair) = sticky(env, socket, &known, &record, key) {
        let (endpoint, ids) = (pair.backend(), pair.ids());
        // Else another thread has just chosen anew for this socket, and so do we.
        if pair.is_unchanged() {
            return Decision::to(found, &record, endpoint, ids, Reason::Sticky);
        }
    }
    let mut choice = affinity::recalled(env, socket, &record, found.record);
    if !choice.is_some() {
        let fresh = choose_apart(env, &known, &record);
        choice = affinity::kept(env, socket, &record, found.record, fresh);
    }
    let (backend, reason) = choice.backend(env, &record);
    let Some(backend) = backend else { return Decision::fail(found, &record, reason) };
    let endpoint = backend.endpoint();
    let ids = Ids { backend: choice.backend, generation: backend.generation };
    let reason = match sockets::remember(socket, key, record.service, &endpoint, ids, found.pair_flag()) {
        Kept::Yes => found.told(reason),
        Kept::Evicting => Reason::PairForgotten,
        Kept::No => return Decision::fail(found, &record, Reason::NoMemory),
    };
    Decision::to(found, &record, endpoint, ids, reason)
}

/// The service port whose backend this socket has for a policy's frontend, if it is the policy's, or one below it that the
/// socket has fallen back to.
#[inline(always)]
fn held<E: Env, S: Socket>(env: &E, socket: &S, known: &Known<'_>, record: &Record, key: &Key) -> u32 {
    let service = Cell::new(policy::NOTHING_HELD);
    let may = |pair: &Pair| may_be(&pair.vip, &key.endpoint.address);
    known.find(may, |pair| {
        let is_right = pair.service == record.service || pair.meta.flags & pair_flag::FALLEN != 0;
        let stays = is_right && stays(env, socket, pair, key);
        if stays {
            service.set(pair.service);
        }
        stays
    });
    service.get()
}

/// Does what this socket has for this destination go on?
#[inline(always)]
fn stays<E: Env, S: Socket>(env: &E, socket: &S, pair: &Seen, key: &Key) -> bool {
    if pair.vip != key.endpoint {
        return false;
    }
    // What a connect made ends when the socket is disconnected.
    if pair.meta.flags & pair_flag::CONNECTED != 0 && !socket.is_connected() {
        return false;
    }
    let Some(backend) = env.backend(pair.ids.backend) else { return false };
    backend.generation == pair.ids.generation
        && backend.service == pair.service
        && backend.flags & backend_flag::USABLE != 0
}

/// The pair that this socket already has for this destination, while its backend is usable.
#[inline(always)]
fn sticky<'a, E: Env, S: Socket>(
    env: &E,
    socket: &S,
    known: &Known<'a>,
    record: &Record,
    key: &Key,
) -> Option<PairRef<'a>> {
    let may = |pair: &Pair| may_be(&pair.vip, &key.endpoint.address);
    known.find_and_use(may, |pair| pair.service == record.service && stays(env, socket, pair, key))
}

/// Chooses a backend, preferring one whose address no other destination of this socket has (R8): the reply's
/// source address is all that tells them apart.
#[inline(always)]
fn choose_apart<E: Env>(env: &E, known: &Known<'_>, record: &Record) -> Choice {
    if known.is_empty() {
        return choose(env, record, 1, |_| false);
    }
    let taken = known.backends();
    choose(env, record, TRIES, |candidate| taken.has(candidate))
}
