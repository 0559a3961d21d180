//! Programs in the kernel, real sockets, real backends.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use abi::Key;
use agent::explain::Asker;
use anyhow::{Context, Result, bail, ensure};
use host::NetworkNamespace;
use kernel::{LiveTables, Maps};
use model::{Change, NodePortAddresses, Protocol, View};
use testkit::Family;

use super::{Candidates, Decisions, Outcome, SocketId, World, candidates, count, known};
use crate::{
    control::Control,
    machine::Machine,
    scenario::Client,
    socket::{Answer, Socket},
};

/// See the module.
pub struct KernelWorld {
    control: Control<Maps>,
    sockets: Vec<Option<Arc<Socket>>>,
    machine: Machine,
    asker: Asker,
}

impl KernelWorld {
    /// With the programs in force and empty tables.
    ///
    /// # Errors
    /// No root, or no kernel for it.
    pub fn new(name: &str, view: View) -> Result<Self> {
        let machine = Machine::new(name)?;
        let control = Control::new(machine.maps()?, view)?;
        let netns = machine.run(NetworkNamespace::own)?.cookie.unwrap_or_default();
        let asker = Asker { netns, ..Asker::default() };
        Ok(Self { control, sockets: Vec::new(), machine, asker })
    }

    /// The machine that it is on.
    pub fn machine(&mut self) -> &mut Machine {
        &mut self.machine
    }

    /// Begins as another node would: no objects, nothing in the tables. Servers stay.
    ///
    /// # Errors
    /// As for [`World::change`].
    pub fn reset(&mut self, view: View) -> Result<()> {
        self.sockets.clear();
        self.machine.maps()?.sweep_affinity(&BTreeMap::new(), 0)?;
        self.control = Control::new(self.machine.maps()?, view)?;
        self.control.sync()
    }

    fn socket(&self, socket: SocketId) -> Result<Arc<Socket>> {
        match self.sockets.get(socket) {
            Some(Some(socket)) => Ok(Arc::clone(socket)),
            _ => bail!("socket {socket} is closed"),
        }
    }

    fn listen_at_backends(&mut self) -> Result<()> {
        let ports = self.control.reconciler.desired().ports();
        let all: Vec<(Protocol, SocketAddr)> = ports
            .flat_map(|port| port.backends.keys().map(|address| (port.name.protocol, *address)))
            .collect();
        all.into_iter().try_for_each(|(protocol, address)| self.machine.listen(protocol, address))
    }
}

/// An errno that applications are meant to see.
fn outcome(call: &str, result: io::Result<Answer>) -> Result<Outcome> {
    let error = match result {
        Ok(Answer { backend, shown }) => return Ok(Outcome::Answered { backend, shown }),
        Err(error) => error,
    };
    match error.raw_os_error() {
        Some(libc::ECONNREFUSED) => Ok(Outcome::Refused),
        Some(libc::EHOSTUNREACH) => Ok(Outcome::Unreachable),
        Some(libc::EACCES) => Ok(Outcome::Denied),
        Some(libc::ENOBUFS) => Ok(Outcome::NoMemory),
        Some(libc::ENETUNREACH) => Ok(Outcome::Nobody),
        _ => Err(error).with_context(|| call.to_owned()),
    }
}

impl World for KernelWorld {
    fn change(&mut self, changes: Vec<Change>) -> Result<()> {
        self.control.change(changes)?;
        self.listen_at_backends()
    }

    fn own_addresses(&mut self, node_ports: &[NodePortAddresses], interfaces: &[IpAddr]) -> Result<()> {
        self.control.own_addresses(node_ports, interfaces)
    }

    fn client(&mut self, client: &Client) -> Result<()> {
        let netns = self.asker.netns;
        let maps = self.machine.maps()?;
        maps.change_settings(|settings| settings.host_netns = if client.host { netns } else { 0 })?;
        let known = (!client.addresses.is_empty()).then(|| (netns, known(netns, &client.addresses)));
        maps.set_clients(&known.into_iter().collect())?;
        let excluded = client.excluded.then(|| self.machine.cgroup_id()).transpose()?;
        maps.set_excluded(&excluded.into_iter().collect())?;
        self.asker.excluded = client.excluded;
        Ok(())
    }

    fn wait(&mut self, seconds: u64) -> Result<()> {
        // Affinity has no finer unit, and is looked at with the kernel's clock.
        std::thread::sleep(Duration::from_secs(seconds));
        Ok(())
    }

    fn sync(&mut self) -> Result<()> {
        self.control.sync()?;
        self.control.grace();
        Ok(())
    }

    fn restart(&mut self) -> Result<()> {
        let view = self.control.reconciler.cluster().view().clone();
        // As a new agent does: the programs are replaced, the maps adopted.
        self.machine.install()?;
        self.control = Control::new(self.machine.maps()?, view)?;
        Ok(())
    }

    fn listen(&mut self, protocol: Protocol, address: SocketAddr) -> Result<()> {
        self.machine.listen(protocol, address)
    }

    fn open(&mut self, protocol: Protocol, family: Family) -> Result<SocketId> {
        let socket = self.machine.run(move || Socket::open(protocol, family))?;
        self.sockets.push(Some(Arc::new(socket)));
        Ok(self.sockets.len() - 1)
    }

    fn close(&mut self, socket: SocketId) {
        if let Some(socket) = self.sockets.get_mut(socket) {
            *socket = None;
        }
    }

    fn connect(&mut self, socket: SocketId, to: SocketAddr) -> Result<Outcome> {
        let socket = self.socket(socket)?;
        let answer = self.machine.run(move || {
            socket.connect(to)?;
            match socket.protocol() {
                Protocol::Tcp => socket.greeting(),
                Protocol::Udp => exchange(&socket),
            }
        });
        outcome("connect", answer)
    }

    fn ask(&mut self, socket: SocketId, to: Option<SocketAddr>) -> Result<Outcome> {
        let socket = self.socket(socket)?;
        let ask = move || if to.is_some() { socket.ask(to) } else { exchange(&socket) };
        outcome("ask", self.machine.run(ask))
    }

    fn hang_up(&mut self, socket: SocketId) -> Result<()> {
        Ok(self.socket(socket)?.hang_up()?)
    }

    fn decisions(&self) -> Result<Decisions> {
        let mut decisions = Decisions::new();
        for (hook, v6, reason, times) in self.machine.maps()?.decisions()? {
            count(&mut decisions, (hook, v6, reason), times);
        }
        Ok(decisions)
    }

    fn candidates(&self, key: &Key) -> Result<Candidates> {
        let maps = self.machine.maps()?;
        let live = LiveTables::new(&maps);
        let candidates = candidates(&live, &self.asker, key);
        ensure!(live.error().is_none(), "the maps can't be read");
        Ok(candidates)
    }
}

/// Over a connection: both ways to ask for the peer must agree.
fn exchange(socket: &Socket) -> io::Result<Answer> {
    let answer = socket.ask(None)?;
    let peer = socket.peer()?;
    if peer != answer.shown {
        return Err(io::Error::other(format!("recvfrom says {}, getpeername says {peer}", answer.shown)));
    }
    Ok(answer)
}
