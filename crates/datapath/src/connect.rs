//! `connect()`: TCP and connected UDP.

use crate::{
    Decision, Env, Socket, affinity, choose,
    decision::Choice,
    policy, resolve,
    sockets::{self, Kept},
};
use abi::{
    Key, Reason, UDP,
    slot::{Ids, pair_flag},
};

/// Decides where a `connect()` goes. R7, R8 (a fresh choice each time), R9 (remembers what was asked for),
/// R10 to R12 (what fails, fails at once and leaves nothing behind), R23.
#[inline(always)]
pub fn connect<E: Env, S: Socket>(env: &E, socket: &S, key: &Key) -> Decision {
    let (record, found) = resolve(env, socket, key, |_| policy::NOTHING_HELD);
    let (mut backend, mut reason) = (None, found.reason);
    let mut index = 0;
    if let Some(record) = &record
        && matches!(found.reason, Reason::Balanced)
    {
        let mut choice = affinity::recalled(env, socket, record, found.record);
        if !choice.is_some() {
            let fresh: Choice = choose(env, record, 1, |_| false);
            choice = affinity::kept(env, socket, record, found.record, fresh);
        }
        index = choice.backend;
        (backend, reason) = choice.backend(env, record);
    }
    // Also for what is no service (R9): a connect to AF_UNSPEC runs no hook, and a refused TCP socket may
    // connect again with the same cookie. But a connected UDP socket whose new connect fails stays connected
    // (kernel 6.18 net/ipv4/datagram.c is not reached), and goes on answering with its peer.
    if !(reason.verdict().is_failure() && socket.is_connected()) {
        sockets::forget(socket);
    }
    let Some(record) = record else { return Decision::none(found, reason) };
    let Some(backend) = backend else { return Decision::fail(found, &record, reason) };
    let (endpoint, ids) = (backend.endpoint(), Ids { backend: index, generation: backend.generation });
    let flags = pair_flag::CONNECTED | found.pair_flag();
    let reason = match sockets::remember(socket, key, record.service, &endpoint, ids, flags) {
        Kept::Yes => found.told(reason),
        Kept::Evicting => Reason::PairForgotten,
        // Replies would come from an address that the application never used: many drop them (pitfall 9).
        Kept::No if key.protocol == UDP => {
            return Decision::fail(found, &record, Reason::NoMemory);
        }
        Kept::No => Reason::NotRemembered,
    };
    Decision::to(found, &record, endpoint, ids, reason)
}
