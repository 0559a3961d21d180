//! R9: sockets live on, and what they were is not what they are.

extern crate std;

use super::{
    datagrams::many_vips,
    world::{Application, at, tables, tcp, udp},
};
use abi::{Key, Reason, TCP, UDP};
use datapath::memory::{MemorySocket, Slots, Tables};

const VIP: &str = "10.96.0.1:80";
const OTHER: &str = "10.96.0.2:80";
const EMPTY: &str = "10.96.0.3:80";
const BACKEND: &str = "10.1.0.1:80";

/// [`VIP`] and [`OTHER`] on one backend, [`EMPTY`] on none.
fn shared() -> Tables {
    tables(&[(VIP, &[BACKEND]), (OTHER, &[BACKEND]), (EMPTY, &[])])
}

/// Runs `test` with a socket that has its slot, and with one whose slot is another's.
fn in_slot_and_in_storage(test: impl Fn(&Tables, &MemorySocket<'_>)) {
    let (tables, slots) = (shared(), Slots::new(1));
    let socket = MemorySocket::new(1, &slots);
    test(&tables, &socket);
    socket.release();
    let owner = MemorySocket::new(2, &slots);
    owner.dial(&tables, tcp(VIP));
    test(&tables, &MemorySocket::new(3, &slots));
    assert_eq!(owner.named(&at(BACKEND)), Some(at(VIP)));
}

#[test]
fn r9_a_vip_then_af_unspec_then_the_backend_itself() {
    in_slot_and_in_storage(|tables, socket| {
        socket.dial(tables, udp(VIP));
        assert_eq!(socket.named(&at(BACKEND)), Some(at(VIP)));
        socket.hang_up();
        assert_eq!(socket.dial(tables, udp(BACKEND)).reason, Reason::NotAService);
        assert_eq!(socket.named(&at(BACKEND)), None);
        assert_eq!(socket.from(&at(BACKEND)), at(BACKEND));
    });
}

#[test]
fn r9_a_vip_then_af_unspec_then_sendto_the_backend_itself() {
    in_slot_and_in_storage(|tables, socket| {
        socket.dial(tables, udp(VIP));
        socket.hang_up();
        // Nothing was sent yet, but what the connection knew is over.
        assert_eq!(socket.from(&at(BACKEND)), at(BACKEND));
        assert_eq!(socket.send(tables, BACKEND).reason, Reason::NotAService);
        assert_eq!(socket.from(&at(BACKEND)), at(BACKEND));
        // The VIP by sendto is a choice of its own.
        assert_eq!(socket.send(tables, VIP).reason, Reason::Balanced);
        assert_eq!(socket.from(&at(BACKEND)), at(VIP));
        assert_eq!(socket.send(tables, VIP).reason, Reason::Sticky);
    });
}

#[test]
fn r9_a_connected_vip_then_directly_connected_without_af_unspec() {
    in_slot_and_in_storage(|tables, socket| {
        socket.dial(tables, udp(VIP));
        socket.dial(tables, udp(BACKEND));
        assert_eq!(socket.named(&at(BACKEND)), None);
        assert_eq!(socket.from(&at(BACKEND)), at(BACKEND));
        assert_eq!(socket.send(tables, BACKEND).reason, Reason::Connected);
    });
}

#[test]
fn r9_a_refused_vip_then_a_direct_address() {
    for protocol in [TCP, UDP] {
        in_slot_and_in_storage(|tables, socket| {
            let dial = |to| socket.dial(tables, Key { endpoint: at(to), protocol });
            // Refused by us, and refused by the backend (which no hook sees).
            assert_eq!(dial(EMPTY).reason, Reason::NoEndpoints);
            assert_eq!(dial(VIP).reason, Reason::Balanced);
            socket.hang_up();
            assert_eq!(dial(BACKEND).reason, Reason::NotAService);
            assert_eq!(socket.named(&at(BACKEND)), None);
        });
    }
}

#[test]
fn r9_one_vip_after_another() {
    for protocol in [TCP, UDP] {
        in_slot_and_in_storage(|tables, socket| {
            for vip in [VIP, OTHER, VIP, VIP, OTHER] {
                let decision = socket.dial(tables, Key { endpoint: at(vip), protocol });
                assert_eq!(decision.backend, at(BACKEND));
                assert_eq!(socket.named(&at(BACKEND)), Some(at(vip)));
                assert_eq!(socket.from(&at(BACKEND)), at(vip));
            }
        });
    }
}

#[test]
fn r9_connect_forgets_what_sendto_knew() {
    in_slot_and_in_storage(|tables, socket| {
        for vip in [VIP, OTHER] {
            socket.send(tables, vip);
        }
        socket.dial(tables, udp("192.0.2.1:53"));
        assert_eq!(socket.from(&at(BACKEND)), at(BACKEND));
        assert_eq!(socket.named(&at(BACKEND)), None);
        socket.hang_up();
        assert_eq!(socket.from(&at(BACKEND)), at(BACKEND));
        assert_eq!(socket.send(tables, VIP).reason, Reason::Balanced);
    });
}

#[test]
fn r9_forgetting_one_socket_leaves_its_neighbour_alone() {
    let (tables, slots) = (shared(), Slots::new(1));
    let (owner, other) = (MemorySocket::new(1, &slots), MemorySocket::new(2, &slots));
    owner.dial(&tables, udp(VIP));
    other.dial(&tables, udp(OTHER));
    other.dial(&tables, udp("192.0.2.1:53"));
    assert_eq!(owner.named(&at(BACKEND)), Some(at(VIP)));
    other.dial(&tables, udp(OTHER));
    owner.dial(&tables, udp("192.0.2.1:53"));
    assert_eq!((owner.named(&at(BACKEND)), other.named(&at(BACKEND))), (None, Some(at(OTHER))));
}

#[test]
fn r9_what_was_forgotten_in_storage_does_not_come_back_when_it_is_used_again() {
    let (tables, vips) = many_vips(4);
    for slot_is_taken in [false, true] {
        let slots = Slots::new(1);
        let (owner, socket) = (MemorySocket::new(1, &slots), MemorySocket::new(2, &slots));
        if slot_is_taken {
            owner.send(&tables, &vips[0].0);
        }
        for two in [&vips[..2], &vips[2..]] {
            for (vip, backend) in two {
                assert_eq!((socket.send(&tables, vip).backend, socket.from(backend)), (*backend, at(vip)));
            }
            let known = vips.iter().filter(|(_, backend)| socket.from(backend) != *backend).count();
            assert_eq!(known, 2);
            socket.dial(&tables, udp("192.0.2.1:53"));
            socket.hang_up();
        }
    }
}
