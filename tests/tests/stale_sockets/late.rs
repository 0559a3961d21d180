//! Sockets that became stale when the agent had looked already, or when none ran, are closed as well.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::Instant,
};

use balancing_tests::{
    process::{Host, PATIENCE, web},
    socket::Socket,
};
use kernel::{Maps, Pins};
use model::Protocol;
use testkit::Family;

use super::{
    machine::{pod_address, serve, start, vip},
    sockets::{LOOKED, are_closed_since, connected, is_connected, stay},
};

#[test]
fn r8_a_connect_that_was_on_its_way_does_not_escape() {
    let (host, _pod, agent) = start("flight", &[]);
    let _servers = serve(&host, &[1, 2]);
    let stop = AtomicBool::new(false);
    let sockets: Vec<Socket> = host.run(|| {
        thread::scope(|scope| {
            let clients: Vec<_> = [Family::V4, Family::Mapped]
                .map(|family| {
                    let stop = &stop;
                    scope.spawn(move || {
                        let mut sockets = Vec::new();
                        while !stop.load(Relaxed) && sockets.len() < 4000 {
                            let socket = Socket::open(Protocol::Udp, family).unwrap();
                            socket.connect(vip(family, 10)).unwrap();
                            sockets.push(socket);
                        }
                        sockets
                    })
                })
                .into();
            for turn in 0..10u8 {
                let rounds = agent.status().unwrap().rounds;
                host.write("web.yaml", web::manifest("web", 10, &[1 + turn % 2])).unwrap();
                if turn > 0 {
                    agent.wait_status("a round", |status| status.rounds > rounds).unwrap();
                }
            }
            stop.store(true, Relaxed);
            clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
        })
    });
    testkit::wait::until(PATIENCE, "only sockets on backend 2 to be left", || {
        sockets
            .iter()
            .filter(|socket| is_connected(socket))
            .all(|socket| socket.ask(None).is_ok_and(|answer| answer.backend == pod_address(Family::V4, 2)))
    });
    assert!(agent.status().unwrap().sockets_destroyed > 0);
}

/// The same for sure: a slot that becomes stale when the agent has looked already, as one does that is written late.
#[test]
fn r8_what_becomes_stale_a_moment_later_is_closed_too() {
    let (host, _pod, agent) = start("later", &[]);
    let lows = 30..35u8;
    let name = |low: u8| format!("late-{low}");
    for low in lows.clone() {
        host.write(&format!("{}.yaml", name(low)), web::manifest(&name(low), low, &[1])).unwrap();
    }
    agent.wait_status("all services", |status| status.frontends == 24).unwrap();
    // On a machine that has much else to do, "a moment later" may be too late for the agent's last look.
    let closed = lows.zip([2, 1].into_iter().cycle()).any(|(low, backend)| {
        let first = [connected(&host, Family::V4, vip(Family::V4, 10))];
        let late = connected(&host, Family::V4, vip(Family::V4, low));
        host.write("web.yaml", web::manifest("web", 10, &[backend])).unwrap();
        testkit::wait::until(PATIENCE, "the first socket to be closed", || !is_connected(&first[0]));
        retire(&host, &name(low), false);
        let seen = || if is_connected(&late) { Err(()) } else { Ok(()) };
        testkit::eventually(LOOKED, seen).is_ok()
    });
    assert!(closed);
}

#[test]
fn r27_what_happened_while_no_agent_ran_is_made_good() {
    let (host, _pod, mut agent) = start("down", &[]);
    host.write("same.yaml", web::manifest("same", 30, &[1])).unwrap();
    agent.wait_status("both services", |status| status.frontends == 8).unwrap();
    let stale = Family::ALL.map(|family| connected(&host, family, vip(family, 10)));
    let others = Family::ALL.map(|family| (connected(&host, family, vip(family, 30)), vip(family, 30)));
    agent.kill().unwrap();
    host.write("web.yaml", web::manifest("web", 10, &[2])).unwrap();
    assert!(stale.iter().all(is_connected), "nobody is there to close them");
    let agent = host.agent(&[]).unwrap();
    are_closed_since(Instant::now(), &stale);
    stay(&others);
    agent.wait_status("the count", |status| status.sockets_destroyed == 3).unwrap();
    // And what the tables say already, but nobody has acted on.
    let mut agent = agent;
    let late = connected(&host, Family::V4, vip(Family::V4, 30));
    agent.signal(rustix::process::Signal::STOP).unwrap();
    agent.kill().unwrap();
    retire(&host, "same", true);
    let _agent = host.agent(&[]).unwrap();
    are_closed_since(Instant::now(), &[late]);
}

/// Marks the backends of a service as unusable in the tables, which no agent hears of; and deletes its manifest, or not.
fn retire(host: &Host, service: &str, delete: bool) {
    use kernel::TableStore;
    let mut maps = Maps::open(&Pins::new(host.pins())).unwrap();
    let contents = maps.read().unwrap();
    let ids: Vec<u32> = contents
        .names
        .iter()
        .filter(|(_, name)| abi::Name::text(&name.service) == service)
        .map(|(id, _)| *id)
        .collect();
    let retired: Vec<(u32, abi::Backend)> = contents
        .backends
        .into_iter()
        .filter(|(_, backend)| ids.contains(&backend.service) && backend.flags != 0)
        .map(|(index, backend)| (index, abi::Backend { flags: 0, ..backend }))
        .collect();
    assert!(!retired.is_empty());
    maps.put_backends(&retired).unwrap();
    if delete {
        host.remove(&format!("{service}.yaml")).unwrap();
    }
}
