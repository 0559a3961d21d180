//! One connection: counted, cut when ordered.

use std::{
    io,
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll},
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::Shutdown;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::{Notify, watch},
};
use tokio_rustls::TlsAcceptor;

use crate::{
    control::{Control, Ending},
    respond::respond,
    server::Shared,
};

/// What a request knows of the connection it came over.
pub(crate) struct Connection {
    /// Asks for a reset.
    pub(crate) reset: Arc<Notify>,
    /// DER, if the client has shown one.
    pub(crate) certificate: Option<Vec<u8>>,
}

/// Serves one connection until either side, or a test, ends it. It counts from now on, not from when it is first polled.
pub(crate) fn serve(
    shared: Arc<Shared>,
    tcp: TcpStream,
    tls: Option<TlsAcceptor>,
) -> impl Future<Output = ()> {
    let control = &shared.control;
    control.accepted.fetch_add(1, Relaxed);
    control.open_connections.fetch_add(1, Relaxed);
    let ended = control.connections();
    until_ended(shared, tcp, tls, ended)
}

async fn until_ended(
    shared: Arc<Shared>,
    tcp: TcpStream,
    tls: Option<TlsAcceptor>,
    mut ended: watch::Receiver<(u64, Ending)>,
) {
    let control = shared.control.clone();
    // A second handle, to say how the connection is to end while the first is in use.
    let handle = rustix::io::dup(&tcp);
    let _ = tcp.set_nodelay(true);
    let counted = Counted { tcp, control: control.clone() };
    let reset_wanted = Arc::new(Notify::new());
    {
        let exchange = exchange(shared, counted, tls, reset_wanted.clone());
        tokio::pin!(exchange);
        let how = tokio::select! {
            () = &mut exchange => Ending::Clean,
            changed = ended.changed() => changed.map_or(Ending::Clean, |()| ended.borrow().1),
            () = reset_wanted.notified() => Ending::Reset,
        };
        // Not by closing it: somebody else in this process may be starting a program, which has all sockets for a moment, and
        // on a busy machine for seconds. The client may have ended it before.
        if let Ok(handle) = &handle {
            let _ = match how {
                // To be connected to nobody sends RST.
                Ending::Reset => rustix::net::connect_unspec(handle),
                Ending::Clean => rustix::net::shutdown(handle, Shutdown::Both),
            };
        }
    }
    drop(handle);
    control.open_connections.fetch_sub(1, Relaxed);
}

async fn exchange(shared: Arc<Shared>, counted: Counted, tls: Option<TlsAcceptor>, reset: Arc<Notify>) {
    match tls {
        None => http(shared, counted, None, reset).await,
        Some(acceptor) => {
            // A client that does not like the certificate goes away: that is its answer.
            let Ok(stream) = acceptor.accept(counted).await else { return };
            let chain = stream.get_ref().1.peer_certificates();
            let certificate = chain.and_then(|chain| chain.first()).map(|first| first.to_vec());
            http(shared, stream, certificate, reset).await;
        }
    }
}

async fn http(
    shared: Arc<Shared>,
    stream: impl AsyncRead + AsyncWrite + Unpin,
    certificate: Option<Vec<u8>>,
    reset: Arc<Notify>,
) {
    let connection = Arc::new(Connection { reset, certificate });
    let service = service_fn(move |request| respond(shared.clone(), connection.clone(), request));
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new());
    // Errors are how clients go away.
    let _ = server.serve_connection(TokioIo::new(stream), service).await;
}

/// A socket whose bytes are counted.
struct Counted {
    tcp: TcpStream,
    control: Arc<Control>,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(context, to)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let sent = Pin::new(&mut self.tcp).poll_write(context, data);
        self.count(&sent);
        sent
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let sent = Pin::new(&mut self.tcp).poll_write_vectored(context, data);
        self.count(&sent);
        sent
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(context)
    }
}

impl Counted {
    fn count(&self, sent: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(sent)) = sent {
            self.control.bytes_sent.fetch_add(*sent as u64, Relaxed);
        }
    }
}
