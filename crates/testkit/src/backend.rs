//! Backends that answer with their own name, so that a client knows who served it.
//!
//! TCP: on accept `NAME CLIENT` and a new line, then the connection is closed. With [`Backend::tcp_lasting`]
//! the connection stays, and each line received is answered by another `NAME CLIENT`.
//! UDP: each datagram is answered by `NAME CLIENT DATAGRAM`.

use std::{
    io::{self, BufRead, BufReader, ErrorKind, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
};

use anyhow::{Context, Result};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};

use crate::Namespace;

/// A server on one address, on a thread of its own; closed when dropped.
#[derive(Debug)]
pub struct Backend {
    name: String,
    address: SocketAddr,
    stop: Arc<Stop>,
    served: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

/// Wakes the server up for the last time.
#[derive(Debug)]
struct Stop {
    requested: AtomicBool,
    wake: OwnedFd,
    /// Connections that last, to be reset when the backend closes.
    lasting: Mutex<Vec<TcpStream>>,
}

impl Backend {
    /// A TCP server that greets and closes. Port 0 = any free port.
    pub fn tcp(namespace: &Namespace, name: &str, address: SocketAddr) -> Result<Self> {
        Self::listen(namespace, name, address, greet)
    }

    /// A TCP server whose connections last until either side closes.
    pub fn tcp_lasting(namespace: &Namespace, name: &str, address: SocketAddr) -> Result<Self> {
        Self::listen(namespace, name, address, converse)
    }

    fn listen(
        namespace: &Namespace,
        name: &str,
        address: SocketAddr,
        serve: fn(&str, &Arc<Stop>, &Arc<AtomicU64>, TcpStream) -> io::Result<()>,
    ) -> Result<Self> {
        let listener = namespace
            .run(|| TcpListener::bind(address))
            .with_context(|| format!("backend {name}: bind TCP {address} in {}", namespace.name()))?;
        let bound = listener.local_addr().context("getsockname")?;
        // The thread waits in poll: a connection that went away in between must not block accept.
        listener.set_nonblocking(true).context("O_NONBLOCK")?;
        Self::start(name, bound, move |name, stop, served| {
            while stop.wait(&listener) {
                match listener.accept() {
                    // What becomes of one connection is its client's business.
                    Ok((connection, _)) => drop(serve(name, stop, served, connection)),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    // The connection was reset before it was accepted, or descriptors ran out for a moment.
                    Err(_) => thread::yield_now(),
                }
            }
        })
    }

    /// A UDP server. Port 0 = any free port.
    pub fn udp(namespace: &Namespace, name: &str, address: SocketAddr) -> Result<Self> {
        let socket = namespace
            .run(|| UdpSocket::bind(address))
            .with_context(|| format!("backend {name}: bind UDP {address} in {}", namespace.name()))?;
        let bound = socket.local_addr().context("getsockname")?;
        socket.set_nonblocking(true).context("O_NONBLOCK")?;
        Self::start(name, bound, move |name, stop, served| {
            let mut datagram = [0; 2048];
            while stop.wait(&socket) {
                // Errors are ICMP answers to earlier replies: the client is gone.
                let Ok((length, client)) = socket.recv_from(&mut datagram) else { continue };
                let mut reply = format!("{name} {} ", plain(client)).into_bytes();
                reply.extend_from_slice(datagram.get(..length).unwrap_or_default());
                // Counted before the client can know of it.
                served.fetch_add(1, Ordering::SeqCst);
                let _ = socket.send_to(&reply, client);
            }
        })
    }

    fn start(
        name: &str,
        address: SocketAddr,
        work: impl FnOnce(&str, &Arc<Stop>, &Arc<AtomicU64>) + Send + 'static,
    ) -> Result<Self> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC).context("eventfd")?;
        let stop = Arc::new(Stop { requested: AtomicBool::new(false), wake, lasting: Mutex::default() });
        let served = Arc::new(AtomicU64::new(0));
        let for_thread = (name.to_owned(), Arc::clone(&stop), Arc::clone(&served));
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || work(&for_thread.0, &for_thread.1, &for_thread.2))
            .with_context(|| format!("start a thread for backend {name}"))?;
        Ok(Self { name: name.to_owned(), address, stop, served, thread: Some(thread) })
    }

    /// The name it answers with.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections, lines of lasting connections, and datagrams it has answered.
    pub fn served(&self) -> u64 {
        self.served.load(Ordering::SeqCst)
    }

    /// Closes its sockets. When this returns, connects are refused and lasting connections are shut down.
    pub fn close(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        self.stop.request();
        // A panic on that thread has been printed already.
        let _ = thread.join();
        for connection in self.stop.lasting.lock().map(|mut all| all.split_off(0)).unwrap_or_default() {
            let _ = connection.shutdown(std::net::Shutdown::Both);
        }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.close();
    }
}

impl Stop {
    fn request(&self) {
        self.requested.store(true, Ordering::SeqCst);
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }

    /// Waits until `socket` has something to do; false once the backend shall close.
    fn wait(&self, socket: &impl AsFd) -> bool {
        let mut watched = [PollFd::new(socket, PollFlags::IN), PollFd::new(&self.wake, PollFlags::IN)];
        // Interrupted or not: the caller's socket is non-blocking, and comes back here.
        let _ = poll(&mut watched, None);
        !self.requested.load(Ordering::SeqCst)
    }
}

/// An IPv4 client of an IPv6 socket as what it is.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn greeting(name: &str, connection: &TcpStream) -> io::Result<String> {
    Ok(format!("{name} {}\n", plain(connection.peer_addr()?)))
}

fn greet(name: &str, _: &Arc<Stop>, served: &Arc<AtomicU64>, mut connection: TcpStream) -> io::Result<()> {
    let greeting = greeting(name, &connection)?;
    served.fetch_add(1, Ordering::SeqCst);
    connection.write_all(greeting.as_bytes())
}

fn converse(name: &str, stop: &Arc<Stop>, served: &Arc<AtomicU64>, connection: TcpStream) -> io::Result<()> {
    connection.set_nonblocking(false)?;
    connection.set_nodelay(true)?;
    let greeting = greeting(name, &connection)?;
    if let Ok(mut lasting) = stop.lasting.lock() {
        lasting.push(connection.try_clone()?);
    }
    let served = Arc::clone(served);
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        let mut writer = &connection;
        let mut lines = BufReader::new(&connection).lines();
        loop {
            served.fetch_add(1, Ordering::SeqCst);
            if writer.write_all(greeting.as_bytes()).is_err() || !matches!(lines.next(), Some(Ok(_))) {
                break;
            }
        }
        let _ = connection.shutdown(std::net::Shutdown::Both);
    })?;
    Ok(())
}

/// A backend of each protocol at the same address and port, under one name.
pub fn pair(namespace: &Namespace, name: &str, ip: IpAddr, port: u16) -> Result<[Backend; 2]> {
    let tcp = Backend::tcp(namespace, name, SocketAddr::new(ip, port))?;
    let udp = Backend::udp(namespace, name, SocketAddr::new(ip, tcp.address().port()))?;
    Ok([tcp, udp])
}
