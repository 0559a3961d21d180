//! A machine with pods and an agent, the addresses of its services and backends, and servers at those.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        mpsc::{Sender, channel},
    },
    thread,
};

use balancing_tests::process::{Agent, Host, web};
use testkit::{Backend, Family, Kind, Namespace};

/// A machine with a pod in it, and an agent that serves `web` (VIP 10) from backend 1.
pub(super) fn start(name: &str, arguments: &[&str]) -> (Host, Resident, Agent) {
    let host = Host::new(name).unwrap();
    let pod = Resident::of(host.namespace());
    host.write("web.yaml", web::manifest("web", 10, &[1])).unwrap();
    let agent = host.agent(arguments).unwrap();
    (host, pod, agent)
}

/// A thread that keeps a namespace in sight, as the first process of a pod does.
pub(super) struct Resident {
    _stop: Sender<()>,
}

impl Resident {
    pub(super) fn of(namespace: &Arc<Namespace>) -> Self {
        let (stop, stopped) = channel::<()>();
        let (ready, entered) = channel();
        let namespace = Arc::clone(namespace);
        thread::spawn(move || {
            namespace.enter_thread().unwrap();
            ready.send(()).unwrap();
            drop(namespace);
            let _ = stopped.recv();
        });
        entered.recv().unwrap();
        Self { _stop: stop }
    }
}

/// A namespace like that of the host's.
pub(super) fn another_pod(name: &str) -> Arc<Namespace> {
    let namespace = Arc::new(Namespace::create(name).unwrap());
    namespace.ip("route add local 10.1.0.0/16 dev lo").unwrap();
    namespace.ip("-6 route add local fd00:1::/64 dev lo").unwrap();
    namespace.add_address("fd00:1::ffff".parse().unwrap()).unwrap();
    namespace
}

/// Servers at the addresses of backends that answer with their address; TCP connections last.
pub(super) fn serve(host: &Host, backends: &[u8]) -> Vec<Backend> {
    let mut servers = Vec::new();
    for low in backends {
        for family in [Family::V4, Family::V6] {
            let udp = pod_address(family, *low);
            let tcp = SocketAddr::new(udp.ip(), 8080);
            servers.push(Backend::udp(host.namespace(), &udp.to_string(), udp).unwrap());
            servers.push(Backend::tcp_lasting(host.namespace(), &tcp.to_string(), tcp).unwrap());
        }
    }
    servers
}

/// Where UDP clients ask a service.
pub(super) fn vip(family: Family, low: u8) -> SocketAddr {
    web::vip(Kind::ConnectedUdp, family, low)
}

/// Where backend `low` answers datagrams.
pub(super) fn pod_address(family: Family, low: u8) -> SocketAddr {
    let ip = match family {
        Family::V6 => IpAddr::from([0xfd00, 1, 0, 0, 0, 0, 0, u16::from(low)]),
        Family::V4 | Family::Mapped => IpAddr::from([10, 1, 0, low]),
    };
    SocketAddr::new(ip, 5353)
}
