//! R8: how many destinations a socket has room for, whatever became of those that it had.

extern crate std;

use super::{
    datagrams::many_vips,
    world::{Application, at, udp},
};
use abi::Reason;
use datapath::memory::{MemorySocket, Slots};

#[test]
fn r8_nine_destinations_are_kept_and_the_tenth_says_that_it_evicts() {
    let (tables, vips) = many_vips(12);
    let slots = Slots::new(4);
    let socket = MemorySocket::new(1, &slots);
    for (vip, backend) in &vips[..9] {
        assert_eq!((socket.send(&tables, vip).reason, socket.from(backend)), (Reason::Balanced, at(vip)));
    }
    for (vip, backend) in &vips[..9] {
        assert_eq!((socket.send(&tables, vip).reason, socket.from(backend)), (Reason::Sticky, at(vip)));
    }
    let evicts = |first: Reason| {
        for (number, (vip, backend)) in vips[9..].iter().enumerate() {
            let reason = if number == 0 { first } else { Reason::Balanced };
            assert_eq!((socket.send(&tables, vip).reason, socket.from(backend)), (reason, at(vip)));
            let known = vips.iter().filter(|(vip, backend)| socket.from(backend) == at(vip)).count();
            assert_eq!(known, 9, "one goes for each that comes");
        }
    };
    // It says so once, and again when it begins anew.
    evicts(Reason::PairForgotten);
    socket.dial(&tables, udp(&vips[0].0));
    socket.peer.set(None);
    for (vip, _) in &vips[..9] {
        socket.send(&tables, vip);
    }
    evicts(Reason::PairForgotten);
}

#[test]
fn r8_eight_destinations_are_kept_without_the_slot() {
    let (tables, vips) = many_vips(9);
    let slots = Slots::new(1);
    let (owner, socket) = (MemorySocket::new(1, &slots), MemorySocket::new(2, &slots));
    owner.send(&tables, &vips[0].0);
    for (vip, _) in &vips[..8] {
        assert_eq!(socket.send(&tables, vip).reason, Reason::Balanced);
    }
    assert!(vips[..8].iter().all(|(vip, backend)| socket.from(backend) == at(vip)));
    assert_eq!(socket.send(&tables, &vips[8].0).reason, Reason::PairForgotten);
}

#[test]
fn r8_the_pair_of_a_connection_is_never_evicted() {
    for slot_is_taken in [false, true] {
        let (tables, vips) = many_vips(40);
        let slots = Slots::new(1);
        let owner = MemorySocket::new(1, &slots);
        if slot_is_taken {
            owner.send(&tables, &vips[0].0);
        }
        let socket = MemorySocket::new(2, &slots);
        let connected = socket.dial(&tables, udp(&vips[0].0)).backend;
        for (vip, backend) in &vips[1..] {
            let reason = socket.send(&tables, vip).reason;
            assert!([Reason::Balanced, Reason::PairForgotten].contains(&reason), "{reason:?}");
            assert_eq!(socket.from(backend), at(vip));
            assert_eq!(socket.named(&connected), Some(at(&vips[0].0)));
        }
    }
}

#[test]
fn r8_a_connection_that_is_over_takes_no_room() {
    for slot_is_taken in [false, true] {
        let (tables, vips) = many_vips(10);
        let slots = Slots::new(1);
        let (owner, socket) = (MemorySocket::new(1, &slots), MemorySocket::new(2, &slots));
        if slot_is_taken {
            owner.send(&tables, &vips[9].0);
        }
        socket.dial(&tables, udp(&vips[9].0));
        socket.hang_up();
        let room = if slot_is_taken { 8 } else { 9 };
        for (vip, _) in &vips[..room] {
            assert_eq!(socket.send(&tables, vip).reason, Reason::Balanced, "R8: at least 8 pairs a socket");
        }
        assert!(vips[..room].iter().all(|(vip, backend)| socket.from(backend) == at(vip)));
    }
}

#[test]
fn r8_a_destination_that_gets_another_backend_takes_no_more_room() {
    let (mut tables, vips) = many_vips(9);
    let slots = Slots::new(1);
    let socket = MemorySocket::new(1, &slots);
    for _ in 0..3 {
        for (vip, _) in &vips {
            assert_eq!(socket.send(&tables, vip).reason, Reason::Balanced);
        }
        for (vip, backend) in &vips {
            assert_eq!((socket.send(&tables, vip).reason, socket.from(backend)), (Reason::Sticky, at(vip)));
        }
        // Each index is given to another endpoint.
        tables.backends.values_mut().for_each(|backend| backend.generation += 1);
    }
}

#[test]
fn r8_the_only_destination_gets_another_backend_without_memory() {
    let (mut tables, vips) = many_vips(1);
    let slots = Slots::new(1);
    let mut socket = MemorySocket::new(1, &slots);
    socket.no_storage = true;
    for _ in 0..3 {
        assert_eq!(socket.send(&tables, &vips[0].0).reason, Reason::Balanced);
        tables.backends.values_mut().for_each(|backend| backend.generation += 1);
    }
}

#[test]
fn r8_with_too_many_destinations_none_is_ever_refused() {
    let (tables, vips) = many_vips(12);
    let slots = Slots::new(1);
    let socket = MemorySocket::new(1, &slots);
    for _ in 0..40 {
        for (vip, backend) in &vips {
            let decision = socket.send(&tables, vip);
            assert_eq!((decision.backend, socket.from(backend)), (*backend, at(vip)), "{decision:?}");
        }
    }
}
