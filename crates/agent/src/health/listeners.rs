//! Sockets that are listened on: those that are wanted come and go with services, and what can't be had is tried again.

use std::{
    collections::{BTreeMap, VecDeque},
    convert::Infallible,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    header::{CONTENT_TYPE, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::io::Errno;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    task::{AbortHandle, JoinHandle, JoinSet},
    time::{sleep, timeout},
};

use super::{
    Health,
    answer::{Answer, Face},
    lock,
    trouble::Trouble,
};

/// How often a socket that can't be had is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How long a request may take from its connection to the last byte of its answer.
const REQUEST: Duration = Duration::from_secs(5);
/// Connections of one listener at once: each is an open file.
const CONNECTIONS: usize = 16;
const BACKLOG: u32 = 128;
const WEIGHT: HeaderName = HeaderName::from_static("x-load-balancing-endpoint-weight");

/// What is to be listened on, and as whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    faces: BTreeMap<SocketAddr, Face>,
    clashes: Vec<Trouble>,
}

impl Wanted {
    /// Adds an address; the first to want it has it.
    pub(crate) fn add(&mut self, address: SocketAddr, face: Face) {
        match self.faces.get(&address) {
            Some(other) => {
                let message = format!("{address} is wanted for {} already; choose another port", name(other));
                self.clashes.push(trouble(&face, address, &message));
            }
            None => drop(self.faces.insert(address, face)),
        }
    }

    /// Addresses that are wanted twice.
    pub(super) fn clashes(&self) -> &[Trouble] {
        &self.clashes
    }
}

/// What a face is for, in words.
fn name(face: &Face) -> String {
    match face {
        Face::Agent => "the agent's health".into(),
        Face::Metrics => "metrics".into(),
        Face::ProxyHealth => "kube-proxy's health".into(),
        Face::ProxyMetrics => "kube-proxy's metrics".into(),
        Face::Service(name, _) => format!("the health check of {name}"),
    }
}

fn trouble(face: &Face, address: SocketAddr, problem: &str) -> Trouble {
    let advice = match face {
        Face::Agent => "; --health-port chooses another, or 0 for none",
        Face::Metrics => "; --metrics-port chooses another, or 0 for none",
        Face::ProxyHealth | Face::ProxyMetrics => "; kube-proxy must not run where it is replaced",
        Face::Service(..) => "",
    };
    let message = format!("nobody can ask for {} at {address}: {problem}{advice}", name(face));
    match face {
        // The word is kube-proxy's.
        Face::Service(name, _) => Trouble::of_service(name, "FailedToStartServiceHealthcheck", message),
        _ => Trouble { object: None, reason: "FailedToListen", message },
    }
}

/// Somebody who listens.
struct Listener {
    face: Face,
    task: JoinHandle<()>,
}

impl Listener {
    /// Returns when the port is free; those who were just asking are cut off.
    async fn close(self) {
        self.task.abort();
        // It was told to end.
        let _ = self.task.await;
    }
}

/// Listens on what is wanted, for ever.
pub(super) async fn serve(health: &Arc<Health>, mut wanted: watch::Receiver<Wanted>) {
    let mut open: BTreeMap<SocketAddr, Listener> = BTreeMap::new();
    loop {
        let mut faces = wanted.borrow_and_update().faces.clone();
        // First: another may get the port.
        let gone = open.extract_if(.., |address, listener| faces.get(address) != Some(&listener.face));
        for (_, listener) in gone.collect::<Vec<_>>() {
            listener.close().await;
        }
        faces.retain(|address, _| !open.contains_key(address));
        let mut troubles = BTreeMap::new();
        for (address, face) in faces {
            match listen(address) {
                Ok(Some(listener)) => {
                    let task = tokio::spawn(accept(listener, face.clone(), health.clone()));
                    open.insert(address, Listener { face, task });
                }
                Ok(None) => {}
                Err(error) => drop(troubles.insert(address, trouble(&face, address, &error.to_string()))),
            }
        }
        let has_troubles = !troubles.is_empty();
        tell(health, troubles);
        tokio::select! {
            changed = wanted.changed() => if changed.is_err() { return },
            () = sleep(RETRY), if has_troubles => {}
        }
    }
}

/// Remembers what is wrong, and logs what is news.
fn tell(health: &Health, troubles: BTreeMap<SocketAddr, Trouble>) {
    let before = std::mem::replace(&mut *lock(&health.troubles), troubles.clone());
    for trouble in troubles.iter().filter(|(address, it)| before.get(address) != Some(it)).map(|(_, it)| it) {
        tracing::warn!(reason = trouble.reason, "{trouble}");
    }
    for trouble in before.iter().filter(|(address, _)| !troubles.contains_key(address)).map(|(_, it)| it) {
        tracing::info!("no longer: {trouble}");
    }
}

/// `None`: it is of IPv6, which this machine does without.
fn listen(address: SocketAddr) -> io::Result<Option<TcpListener>> {
    match bind(address) {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if is_without_ipv6(&error) && address.ip() == IpAddr::from(Ipv6Addr::UNSPECIFIED) => {
            bind(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port())).map(Some)
        }
        Err(error) if is_without_ipv6(&error) && address.ip() == IpAddr::from(Ipv6Addr::LOCALHOST) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn is_without_ipv6(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL))
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // Connections of a listener before may still be closing.
    socket.set_reuseaddr(true)?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        // Both families, whatever this machine's default is.
        rustix::net::sockopt::set_ipv6_v6only(&socket, false)?;
    }
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Answers whoever connects. When it is dropped, so are its connections.
async fn accept(listener: TcpListener, face: Face, health: Arc<Health>) {
    let mut connections = JoinSet::new();
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                while connections.try_join_next().is_some() {}
                open.retain(|connection| !connection.is_finished());
                // Who asks is answered at once: the oldest is one who connects and says nothing.
                if open.len() == CONNECTIONS
                    && let Some(oldest) = open.pop_front()
                {
                    oldest.abort();
                }
                let (face, health) = (face.clone(), health.clone());
                open.push_back(connections.spawn(async move {
                    // Who asks too slowly, or goes away, is no error of ours.
                    let _ = timeout(REQUEST, converse(stream, &face, &health)).await;
                }));
            }
            Err(error) => {
                tracing::warn!("accepting questions for {}: {error}", name(&face));
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// One request; who has more connects again, so that nobody holds on to a port that is to be closed.
async fn converse(stream: TcpStream, face: &Face, health: &Health) -> hyper::Result<()> {
    let service = service_fn(|request: Request<Incoming>| {
        let answer = health.answer(face, request.uri().path());
        async { Ok::<_, Infallible>(response(answer)) }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .keep_alive(false)
        // As people and their scripts know them.
        .title_case_headers(true)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

fn response(answer: Answer) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(answer.body.into()));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Some(weight) = answer.weight {
        headers.insert(WEIGHT, weight.into());
    }
    response
}
