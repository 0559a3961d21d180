//! The way back: the address that the application used, in place of the backend's (R9).

use crate::{
    Socket,
    sockets::{Known, give_up, may_be},
};
use abi::{Endpoint, Pair, Slot, slot::owner, slot::pair_flag};

/// `recvmsg()`: the address to show for a datagram from `from`; `None` = as it is.
#[inline(always)]
pub fn source<S: Socket>(socket: &S, from: &Endpoint) -> Option<Endpoint> {
    let known = Known::of(socket);
    // Where two destinations share a backend, the one used last (R8).
    let may = |pair: &Pair| may_be(&pair.backend, &from.address);
    known.latest(may, |pair| {
        let connected = pair.meta.flags & pair_flag::CONNECTED != 0;
        pair.backend == *from
            && pair.meta.flags & pair_flag::DIRECT == 0
            && (!connected || socket.is_connected())
    })
}

/// `getpeername()`: the address to show for the peer `backend`; `None` = as it is.
#[inline(always)]
pub fn peer<S: Socket>(socket: &S, backend: &Endpoint) -> Option<Endpoint> {
    let known = Known::of(socket);
    let may = |pair: &Pair| may_be(&pair.backend, &backend.address);
    let is_connected = |flags: u8| flags & pair_flag::CONNECTED != 0;
    let pair = known.find(may, |pair| is_connected(pair.meta.flags) && pair.backend == *backend)?;
    let vip = pair.vip();
    pair.is_unchanged().then_some(vip)
}

/// The socket of this cookie is gone: its slot is free. `slots` are the two of [`Socket::previous_slot`] and
/// [`Socket::slot`]; socket storage dies with the socket.
#[inline(always)]
pub fn release(cookie: u64, slots: [Option<&Slot>; 2]) {
    for slot in slots {
        let Some(slot) = slot else { continue };
        let held = slot.owner.load();
        if held & owner::COOKIE == cookie {
            give_up(slot);
        }
    }
}
