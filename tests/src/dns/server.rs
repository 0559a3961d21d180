//! Hickory's name server with a zone of its own.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use hickory_proto::rr::{
    Name, RData, Record,
    rdata::{A, SOA},
};
use hickory_server::{
    Server,
    store::in_memory::InMemoryZoneHandler,
    zone_handler::{AxfrPolicy, Catalog, ZoneType},
};
use testkit::Namespace;
use tokio::sync::oneshot;

use super::NAME;

const ZONE: &str = "dns.test.";
/// Longer than a test.
const IDLE: Duration = Duration::from_secs(120);
/// Answers that a connection may be behind with.
const BEHIND: usize = 64;

/// A name server over UDP and TCP, for which [`NAME`] is its own address; dead when dropped, as by SIGKILL.
pub struct NameServer {
    kill: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl NameServer {
    /// At port 53 of an address of the namespace.
    ///
    /// # Errors
    /// The address is taken, or not the namespace's.
    pub fn start(namespace: &Namespace, ip: Ipv4Addr) -> Result<Self> {
        let at = SocketAddr::new(ip.into(), 53);
        let about = || format!("name server at {at} in {}", namespace.name());
        let sockets = || anyhow::Ok((UdpSocket::bind(at)?, TcpListener::bind(at)?));
        let (udp, tcp) = namespace.run(sockets).with_context(about)?;
        udp.set_nonblocking(true).with_context(about)?;
        tcp.set_nonblocking(true).with_context(about)?;
        let zone = zone(ip)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (kill, killed) = oneshot::channel();
        let serve = move || {
            let served = runtime.block_on(async {
                let mut server = Server::new(zone);
                server.register_socket(tokio::net::UdpSocket::from_std(udp)?);
                server.register_listener(tokio::net::TcpListener::from_std(tcp)?, IDLE, BEHIND);
                // Nobody is told, nothing is finished: the sockets are closed as they are.
                let _ = killed.await;
                anyhow::Ok(())
            });
            if let Err(error) = served {
                panic!("name server at {at}: {error:#}");
            }
        };
        let thread = thread::Builder::new().name(format!("dns {ip}")).spawn(serve)?;
        Ok(Self { kill: Some(kill), thread: Some(thread) })
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        drop(self.kill.take());
        // A panic on that thread has been printed already.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn zone(ip: Ipv4Addr) -> Result<Catalog> {
    let (origin, name) = (Name::from_ascii(ZONE)?, Name::from_ascii(NAME)?);
    let mut zone: InMemoryZoneHandler =
        InMemoryZoneHandler::empty(origin.clone(), ZoneType::Primary, AxfrPolicy::Deny);
    let start = SOA::new(name.clone(), origin.clone(), 1, 3600, 600, 86400, 5);
    for record in [
        Record::from_rdata(origin.clone(), 5, RData::SOA(start)),
        Record::from_rdata(name, 5, RData::A(A(ip))),
    ] {
        if !zone.upsert_mut(record, 1) {
            return Err(anyhow!("the zone refuses a record"));
        }
    }
    let mut catalog = Catalog::new();
    catalog.upsert(origin.into(), vec![Arc::new(zone)]);
    Ok(catalog)
}
