//! A listening server: its thread, its port, what a test does to it.

use std::{
    net::{SocketAddr, TcpListener as StdListener},
    sync::{Arc, atomic::Ordering::Relaxed},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tokio::{net::TcpListener, runtime, time::sleep};
use tokio_rustls::TlsAcceptor;

use crate::{
    auth::Access,
    cluster::Cluster,
    connection,
    control::{Control, Ending},
    fault::Faults,
    record::Record,
    tls::Identity,
};

/// How long opening or closing the port may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What all connections of a server share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) cluster: Cluster,
    pub(crate) control: Arc<Control>,
    pub(crate) faults: Faults,
    pub(crate) record: Record,
    pub(crate) access: std::sync::Mutex<Access>,
}

/// An API server that listens. It ends when dropped.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    address: SocketAddr,
    has_tls: bool,
    thread: Option<JoinHandle<()>>,
}

/// How somebody logs in, for [`Server::kubeconfig`].
#[derive(Clone, Debug)]
pub enum Login {
    /// Not at all.
    Anonymous,
    /// By a token.
    Token(String),
    /// By a token that is read from this file again and again.
    TokenFile(String),
    /// By a client certificate.
    Certificate(Identity),
}

impl Server {
    /// Serves `cluster` by plain HTTP at a free port of 127.0.0.1, in the network namespace of the calling thread.
    pub fn plain(cluster: &Cluster) -> Result<Self> {
        Self::at(cluster, SocketAddr::from(([127, 0, 0, 1], 0)), false)
    }

    /// The same by TLS, with a certificate of the cluster's own CA.
    pub fn tls(cluster: &Cluster) -> Result<Self> {
        Self::at(cluster, SocketAddr::from(([127, 0, 0, 1], 0)), true)
    }

    /// Serves `cluster` at `address`.
    pub fn at(cluster: &Cluster, address: SocketAddr, has_tls: bool) -> Result<Self> {
        let listener = StdListener::bind(address).with_context(|| format!("cannot listen at {address}"))?;
        let address = listener.local_addr().context("the address of a listener")?;
        let tls = match has_tls {
            true => Some(TlsAcceptor::from(cluster.authority()?.accept_at(address.ip())?)),
            false => None,
        };
        let shared = Arc::new(Shared {
            cluster: cluster.clone(),
            control: Arc::new(Control::default()),
            faults: Faults::default(),
            record: Record::default(),
            access: Default::default(),
        });
        shared.control.listening.send_replace(true);
        shared.control.ports.store(1, Relaxed);
        let inside = shared.clone();
        let thread = thread::Builder::new()
            .name(format!("api {address}"))
            .spawn(move || {
                let runtime = runtime::Builder::new_current_thread().enable_all().build();
                let runtime = runtime.unwrap_or_else(|error| panic!("cannot start a runtime: {error}"));
                runtime.block_on(serve(inside, listener, address, tls));
            })
            .context("cannot start the thread of a server")?;
        Ok(Self { shared, address, has_tls, thread: Some(thread) })
    }

    /// `https://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("{}://{}", if self.has_tls { "https" } else { "http" }, self.address)
    }

    /// Where it listens, now or later.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it serves.
    pub fn cluster(&self) -> &Cluster {
        &self.shared.cluster
    }

    /// A kubeconfig file (JSON is YAML) for this server.
    pub fn kubeconfig(&self, login: &Login) -> Result<String> {
        let base64 = |text: &str| base64::Engine::encode(&base64::prelude::BASE64_STANDARD, text);
        let mut cluster = json!({"server": self.url()});
        if self.has_tls {
            cluster["certificate-authority-data"] = base64(&self.shared.cluster.ca()?).into();
        }
        let user = match login {
            Login::Anonymous => json!({}),
            Login::Token(token) => json!({"token": token}),
            Login::TokenFile(path) => json!({"tokenFile": path}),
            Login::Certificate(identity) => json!({
                "client-certificate-data": base64(&identity.certificate), "client-key-data": base64(&identity.key)}),
        };
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "test", "user": user}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        });
        Ok(config.to_string())
    }

    /// What goes wrong.
    pub fn faults(&self) -> &Faults {
        &self.shared.faults
    }

    /// What was asked.
    pub fn record(&self) -> &Record {
        &self.shared.record
    }

    /// Who may do what from now on.
    pub fn set_access(&self, access: Access) {
        *self.shared.access.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = access;
    }

    /// Ends all watches: cleanly, or by resetting all connections.
    pub fn end_watches(&self, how: Ending) {
        match how {
            Ending::Clean => self.shared.control.end_watches(),
            Ending::Reset => self.shared.control.end_connections(how),
        }
    }

    /// Closes the port: connections are refused, those that are open end in this way.
    pub fn close(&self, how: Ending) -> Result<()> {
        let control = &self.shared.control;
        control.listening.send_replace(false);
        // Nobody listens any more when the thread has dropped its side; whoever came until then is counted.
        eventually(|| control.ports.load(Relaxed) == 0)
            .and_then(|()| {
                control.end_connections(how);
                eventually(|| control.open_connections.load(Relaxed) == 0)
            })
            .with_context(|| format!("closing {}", self.address))
    }

    /// Opens the port again.
    pub fn open(&self) -> Result<()> {
        self.shared.control.listening.send_replace(true);
        let control = &self.shared.control;
        eventually(|| control.ports.load(Relaxed) == 1)
            .with_context(|| format!("opening {} again", self.address))
    }

    /// Bytes sent to all clients so far, TLS and headers included.
    pub fn bytes_sent(&self) -> u64 {
        self.shared.control.bytes_sent.load(Relaxed)
    }

    /// Watches that are open now.
    pub fn open_watches(&self) -> usize {
        self.shared.control.open_watches.load(Relaxed)
    }

    /// Connections that are open now.
    pub fn open_connections(&self) -> usize {
        self.shared.control.open_connections.load(Relaxed)
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> u64 {
        self.shared.control.accepted.load(Relaxed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.control.stopped.send_replace(true);
        self.shared.control.end_connections(Ending::Clean);
        if let Some(thread) = self.thread.take() {
            // It says itself why it panicked, if it did.
            let _ = thread.join();
        }
    }
}

fn eventually(mut is_so: impl FnMut() -> bool) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        ensure!(Instant::now() < end, "not done after {PATIENCE:?}");
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Accepts until stopped, with the port open and closed as ordered.
async fn serve(shared: Arc<Shared>, first: StdListener, address: SocketAddr, tls: Option<TlsAcceptor>) {
    let control = &shared.control;
    let (mut listening, mut stopped) = (control.listening.subscribe(), control.stopped.subscribe());
    let mut next = Some(first);
    loop {
        let listener = match next.take().map_or_else(|| StdListener::bind(address), Ok) {
            Ok(listener) => listener,
            // The port is still somebody's: of a connection that is just going away.
            Err(_) => {
                sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        let prepared = listener.set_nonblocking(true).and_then(|()| TcpListener::from_std(listener));
        let Ok(listener) = prepared else { return };
        control.ports.store(1, Relaxed);
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    if let Ok((tcp, _)) = accepted {
                        tokio::spawn(connection::serve(shared.clone(), tcp, tls.clone()));
                    }
                }
                _ = listening.wait_for(|listening| !listening) => break,
                _ = stopped.wait_for(|stopped| *stopped) => return,
            }
        }
        drop(listener);
        control.ports.store(0, Relaxed);
        tokio::select! {
            _ = listening.wait_for(|listening| *listening) => {}
            _ = stopped.wait_for(|stopped| *stopped) => return,
        }
    }
}
