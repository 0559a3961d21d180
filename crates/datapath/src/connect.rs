//! `connect()`: TCP and connected UDP.

use crate::{
    Decision, Env, Socket, choose,
    decision::Choice,
    look_up,
    sockets::{self, Kept},
};
use abi::{Key, Reason, UDP, slot::pair_flag};

/// Decides where a `connect()` goes. R7, R8 (a fresh choice each time), R9 (remembers what was asked for),
/// R10 and R11 (what fails, fails at once and leaves nothing behind).
#[inline(always)]
pub fn connect<E: Env, S: Socket>(env: &E, socket: &S, key: &Key) -> Decision {
    let paused = env.settings().paused != 0;
    let (record, reason) = if paused { (None, Reason::Paused) } else { look_up(env, key) };
    let choice = match &record {
        Some(record) => choose(env, record, 1, |_| false),
        None => Choice::none(reason),
    };
    // Also for what is no service (R9): a connect to AF_UNSPEC runs no hook, and a refused TCP socket may
    // connect again with the same cookie. But a connected UDP socket whose new connect fails stays connected
    // (kernel 6.18 net/ipv4/datagram.c is not reached), and goes on answering with its peer.
    if !(choice.reason.verdict().is_failure() && socket.is_connected()) {
        sockets::forget(socket);
    }
    let Some(record) = record else { return Decision::none(choice.reason) };
    if !choice.is_some() {
        return Decision::fail(&record, choice.reason);
    }
    let reason = match sockets::remember(socket, key, record.service, &choice, pair_flag::CONNECTED) {
        Kept::Yes => Reason::Balanced,
        Kept::Evicting => Reason::PairForgotten,
        // Replies would come from an address that the application never used: many drop them (pitfall 9).
        Kept::No if key.protocol == UDP => return Decision::fail(&record, Reason::NoMemory),
        Kept::No => Reason::NotRemembered,
    };
    Decision::to(&record, &choice, reason)
}
