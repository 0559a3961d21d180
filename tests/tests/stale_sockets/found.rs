//! Stale sockets are found wherever they are: in other namespaces, and without a slot of their own.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use balancing_tests::{
    process::{Host, PATIENCE, web},
    socket::Socket,
};
use kernel::{Maps, Pins};
use model::Protocol;
use testkit::{Family, Namespace};

use super::{
    machine::{Resident, another_pod, pod_address, start, vip},
    sockets::{are_closed_since, connected, connected_in, stay},
};

#[test]
fn r8_sockets_are_found_in_every_namespace() {
    let (host, _pod, _agent) = start("namespaces", &[]);
    let pods: Vec<Arc<Namespace>> = (0..4).map(|_| another_pod("pod")).collect();
    // The last is one that nothing leads to but the sockets in it.
    let _residents: Vec<Resident> = pods.iter().take(3).map(Resident::of).collect();
    let to = |family| vip(family, 10);
    let stale: Vec<Socket> = pods
        .iter()
        .flat_map(|pod| Family::ALL.map(|family| connected_in(&host, pod, family, to(family))))
        .collect();
    let direct: Vec<(Socket, SocketAddr)> = pods
        .iter()
        .map(|pod| {
            (connected_in(&host, pod, Family::V4, pod_address(Family::V4, 1)), pod_address(Family::V4, 1))
        })
        .collect();
    drop(pods);
    let begun = Instant::now();
    host.write("web.yaml", web::manifest("web", 10, &[2])).unwrap();
    are_closed_since(begun, &stale);
    stay(&direct);
}

/// A socket whose cookie leads to the same slot as `cookie` does. It is not connected.
fn sharing_slot(host: &Host, family: Family, cookie: u64) -> Socket {
    let slots = u64::from(abi::slot::SLOTS);
    host.run(|| {
        let end = Instant::now() + PATIENCE * 4;
        loop {
            let socket = Socket::open(Protocol::Udp, family).unwrap();
            if socket.cookie().unwrap() % slots == cookie % slots {
                return socket;
            }
            assert!(Instant::now() < end, "no cookie leads there");
        }
    })
}

#[test]
fn r8_sockets_that_found_their_slot_taken_are_closed_too() {
    let (host, _pod, agent) = start("overflow", &[]);
    host.write("same.yaml", web::manifest("same", 30, &[1])).unwrap();
    agent.wait_status("both services", |status| status.frontends == 8).unwrap();
    let first = connected(&host, Family::V4, vip(Family::V4, 10));
    let cookie = first.cookie().unwrap();
    let mut stale = vec![first];
    let mut others = Vec::new();
    for (family, low) in [(Family::V4, 10), (Family::Mapped, 10), (Family::V6, 10), (Family::Mapped, 30)] {
        let socket = sharing_slot(&host, family, cookie);
        socket.connect(vip(family, low)).unwrap();
        assert_eq!(socket.peer().unwrap(), vip(family, low));
        if low == 10 { stale.push(socket) } else { others.push((socket, vip(family, low))) }
    }
    assert_eq!(Maps::open(&Pins::new(host.pins())).unwrap().slots_used().unwrap(), 1);
    let begun = Instant::now();
    host.write("web.yaml", web::manifest("web", 10, &[2])).unwrap();
    are_closed_since(begun, &stale);
    stay(&others);
    assert_eq!(agent.status().unwrap().sockets_destroyed, stale.len() as u64);
}
