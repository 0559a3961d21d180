//! Tables and sockets in memory, and of the kernel what matters here: which hook runs when.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::atomic::Ordering,
};

use abi::{Hook, Key, Reason, Verdict, frontend::backend_flag};
use agent::explain::Asker;
use anyhow::{Result, bail, ensure};
use datapath::{
    Decision,
    memory::{MemorySocket, Slots, Tables},
};
use kernel::TableStore;
use model::{Change, NodePortAddresses, Protocol, View};
use testkit::Family;

use super::{Candidates, Decisions, Outcome, SocketId, World, candidates, count, key, known};
use crate::{control::Control, machine::is_local, scenario::Client};

/// See the module.
pub struct MemoryWorld {
    control: Control<Tables>,
    slots: &'static Slots,
    sockets: Vec<Option<Held>>,
    listening: BTreeSet<(Protocol, SocketAddr)>,
    decisions: Decisions,
    asker: Asker,
}

struct Held {
    socket: MemorySocket<'static>,
    protocol: Protocol,
    family: Family,
    /// What the kernel thinks that it is connected to.
    peer: Option<SocketAddr>,
}

impl MemoryWorld {
    /// An empty one, with so many slots; `seed` makes its choices.
    ///
    /// # Errors
    /// Never in fact.
    pub fn new(view: View, slots: usize, seed: u32) -> Result<Self> {
        let tables = Tables { seed: seed.into(), ..Tables::default() };
        Ok(Self {
            control: Control::new(tables, view)?,
            // Sockets refer to them; a test process has few worlds.
            slots: Box::leak(Box::new(Slots::new(slots))),
            sockets: Vec::new(),
            listening: BTreeSet::new(),
            decisions: Decisions::new(),
            asker: Asker { netns: 1, ..Asker::default() },
        })
    }

    /// May a socket that has this backend keep it (R4)?
    pub fn is_usable(&self, key: &Key, backend: SocketAddr) -> bool {
        let tables = self.tables();
        let (record, _) = datapath::resolve(tables, &self.asker, key, |_| datapath::policy::NOTHING_HELD);
        record.is_some_and(|record| {
            let usable = backend_flag::LIVE | backend_flag::USABLE;
            let same =
                |it: &abi::Backend| it.service == record.service && it.endpoint().socket_addr() == backend;
            tables.backends.values().any(|it| same(it) && it.flags & usable == usable)
        })
    }

    fn tables(&self) -> &Tables {
        self.control.reconciler.store()
    }

    fn held(&self, socket: SocketId) -> Result<&Held> {
        match self.sockets.get(socket) {
            Some(Some(held)) => Ok(held),
            _ => bail!("socket {socket} is closed"),
        }
    }

    /// Where a decision leads, or how the call fails.
    fn obey(&mut self, hook: Hook, key: &Key, decision: &Decision) -> Result<SocketAddr, Outcome> {
        let v6 = key.endpoint.address.as_v4().is_none();
        count(&mut self.decisions, (hook, v6, decision.reason), 1);
        let real = match decision.reason.verdict() {
            Verdict::Translated => decision.backend.socket_addr(),
            Verdict::Passed => key.endpoint.socket_addr(),
            Verdict::Refused if decision.reason == Reason::NoMemory => return Err(Outcome::NoMemory),
            Verdict::Refused => return Err(Outcome::Refused),
            Verdict::Unreachable => return Err(Outcome::Unreachable),
            Verdict::Denied => return Err(Outcome::Denied),
        };
        if is_local(real.ip()) { Ok(real) } else { Err(Outcome::Nobody) }
    }

    fn listen_at_backends(&mut self) {
        let ports = self.control.reconciler.desired().ports();
        let all = ports.flat_map(|port| {
            port.backends.keys().map(|address| (port.name.protocol, *address)).collect::<Vec<_>>()
        });
        self.listening.extend(all.collect::<Vec<_>>());
    }
}

impl World for MemoryWorld {
    fn change(&mut self, changes: Vec<Change>) -> Result<()> {
        self.control.change(changes)?;
        self.listen_at_backends();
        self.control.grace();
        Ok(())
    }

    fn own_addresses(&mut self, node_ports: &[NodePortAddresses], interfaces: &[IpAddr]) -> Result<()> {
        self.control.own_addresses(node_ports, interfaces)
    }

    fn client(&mut self, client: &Client) -> Result<()> {
        self.asker.excluded = client.excluded;
        let netns = self.asker.netns;
        let tables = self.control.reconciler.store_mut();
        tables.settings.host_netns = if client.host { netns } else { 0 };
        tables.settings.excluded = 1;
        tables.clients.clear();
        if !client.addresses.is_empty() {
            tables.clients.insert(netns, known(netns, &client.addresses));
        }
        Ok(())
    }

    fn wait(&mut self, seconds: u64) -> Result<()> {
        self.tables().now.fetch_add(seconds * 1_000_000_000, Ordering::SeqCst);
        Ok(())
    }

    fn sync(&mut self) -> Result<()> {
        self.control.sync()?;
        self.control.grace();
        Ok(())
    }

    fn restart(&mut self) -> Result<()> {
        let view = self.control.reconciler.cluster().view().clone();
        let store = self.control.reconciler.store_mut();
        let policies = std::mem::take(&mut store.policies);
        let limits = std::mem::take(&mut store.limits);
        let exempt = std::mem::take(&mut store.exempt);
        let old = self.tables();
        let contents = old.read()?;
        let tables = Tables {
            settings: old.settings,
            frontends: contents.frontends.into_iter().collect(),
            records: contents.records.into_iter().collect(),
            lists: (0..).zip(contents.lists).collect(),
            backends: contents.backends.into_iter().collect(),
            names: contents.names.into_iter().collect(),
            addresses: contents.addresses.into_iter().map(|(ip, uses)| (ip.into(), uses)).collect(),
            sources: contents.sources.into_iter().collect(),
            space: contents.space,
            clients: old.clients.clone(),
            affinity: std::mem::take(&mut *old.affinities()).into(),
            affinity_room: old.affinity_room,
            policies,
            limits,
            exempt,
            now: old.now.load(Ordering::SeqCst).into(),
            seed: datapath::Env::random(old).into(),
        };
        self.control = Control::new(tables, view)?;
        Ok(())
    }

    fn listen(&mut self, protocol: Protocol, address: SocketAddr) -> Result<()> {
        self.listening.insert((protocol, address));
        Ok(())
    }

    fn open(&mut self, protocol: Protocol, family: Family) -> Result<SocketId> {
        let cookie = self.sockets.len() as u64 + 1;
        let mut socket = MemorySocket::new(cookie, self.slots);
        (socket.netns, socket.excluded) = (self.asker.netns, self.asker.excluded);
        self.sockets.push(Some(Held { socket, protocol, family, peer: None }));
        Ok(self.sockets.len() - 1)
    }

    fn close(&mut self, socket: SocketId) {
        if let Some(Some(held)) = self.sockets.get_mut(socket).map(Option::take) {
            held.socket.release();
        }
    }

    fn connect(&mut self, socket: SocketId, to: SocketAddr) -> Result<Outcome> {
        let held = self.held(socket)?;
        let protocol = held.protocol;
        ensure!(protocol == Protocol::Udp || held.peer.is_none(), "EISCONN");
        let key = key(protocol, to);
        let decision = datapath::connect(self.tables(), &held.socket, &key);
        // A failure leaves the kernel's own association as it is.
        let real = match self.obey(Hook::Connect, &key, &decision) {
            Ok(real) => real,
            Err(outcome) => return Ok(outcome),
        };
        if protocol == Protocol::Tcp && !self.listening.contains(&(protocol, real)) {
            return Ok(Outcome::Refused);
        }
        if let Some(Some(held)) = self.sockets.get_mut(socket) {
            held.peer = Some(real);
            held.socket.peer.set(Some(real.into()));
        }
        let held = self.held(socket)?;
        let peer = datapath::peer(&held.socket, &real.into()).map_or(real, |vip| vip.socket_addr());
        match protocol {
            Protocol::Tcp => Ok(Outcome::Answered { backend: real, shown: peer }),
            Protocol::Udp => self.ask(socket, None),
        }
    }

    fn ask(&mut self, socket: SocketId, to: Option<SocketAddr>) -> Result<Outcome> {
        let held = self.held(socket)?;
        let connected = held.peer;
        // The kernel runs no hook for what is sent over a connection, except on mapped sockets (R9).
        let asked = match (to, connected) {
            (Some(to), _) => Some(to),
            (None, None) => bail!("EDESTADDRREQ"),
            (None, peer) if held.family == Family::Mapped => peer.filter(SocketAddr::is_ipv4),
            (None, Some(_)) => None,
        };
        let real = match (asked, connected) {
            (Some(to), _) => {
                let key = key(held.protocol, to);
                let decision = datapath::sendmsg(self.tables(), &held.socket, &key);
                match self.obey(Hook::Sendmsg, &key, &decision) {
                    Ok(real) => real,
                    Err(outcome) => return Ok(outcome),
                }
            }
            (None, Some(peer)) => peer,
            (None, None) => bail!("EDESTADDRREQ"),
        };
        ensure!(connected.is_none_or(|peer| peer == real), "a connected socket hears only its peer");
        ensure!(self.listening.contains(&(Protocol::Udp, real)), "nobody listens at {real}");
        let held = self.held(socket)?;
        let shown = datapath::source(&held.socket, &real.into()).map_or(real, |vip| vip.socket_addr());
        if connected.is_some() {
            let peer = datapath::peer(&held.socket, &real.into()).map_or(real, |vip| vip.socket_addr());
            ensure!(peer == shown, "recvfrom says {shown}, getpeername says {peer}");
        }
        Ok(Outcome::Answered { backend: real, shown })
    }

    fn hang_up(&mut self, socket: SocketId) -> Result<()> {
        if let Some(Some(held)) = self.sockets.get_mut(socket) {
            held.peer = None;
            held.socket.peer.set(None);
        }
        Ok(())
    }

    fn decisions(&self) -> Result<Decisions> {
        Ok(self.decisions.clone())
    }

    fn candidates(&self, key: &Key) -> Result<Candidates> {
        Ok(candidates(self.tables(), &self.asker, key))
    }
}
