//! A pod in small: a network namespace with an address.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        mpsc::{Sender, channel},
    },
    thread,
};

use anyhow::{Context, Result};
use model::Protocol;
use testkit::{Cgroup, Family, Namespace};

use crate::socket::Socket;

/// A network namespace with an address of its own, in which backends may be, kept in sight as by a pod's first process.
pub struct Pod {
    namespace: Arc<Namespace>,
    thread: u32,
    _stop: Sender<()>,
}

impl Pod {
    /// One that has `address`, and to which all of 10.1.0.0/24 are its own.
    ///
    /// # Errors
    /// No root, or no iproute2.
    pub fn new(name: &str, address: &str) -> Result<Self> {
        let namespace = Arc::new(Namespace::create(name)?);
        namespace.ip("route add local 10.1.0.0/24 dev lo")?;
        namespace.add_address(address.parse()?)?;
        let ((stop, stopped), (ready, entered)) = (channel::<()>(), channel());
        let inside = Arc::clone(&namespace);
        thread::spawn(move || {
            let outcome = inside.enter_thread();
            let _ = ready.send(outcome.map(|()| rustix::thread::gettid().as_raw_nonzero().get()));
            drop(inside);
            let _ = stopped.recv();
        });
        let thread = entered.recv().context("the pod's thread has ended")??;
        Ok(Self { namespace, thread: thread.unsigned_abs(), _stop: stop })
    }

    /// Where it is.
    pub fn namespace(&self) -> &Arc<Namespace> {
        &self.namespace
    }

    /// The thread that is in it.
    pub fn thread(&self) -> u32 {
        self.thread
    }

    /// A new UDP socket inside, connected; in this cgroup.
    ///
    /// # Errors
    /// What `connect()` says.
    pub fn dial(&self, cgroup: &Cgroup, to: &str) -> io::Result<Socket> {
        let to: SocketAddr = to.parse().map_err(io::Error::other)?;
        self.namespace.run(|| {
            cgroup.run(|| {
                let socket = Socket::open(Protocol::Udp, Family::V4)?;
                socket.connect(to)?;
                assert_eq!(socket.peer()?, to);
                Ok(socket)
            })
        })
    }
}
