//! Connections, with TLS or without, and requests over them.

use std::{collections::VecDeque, convert::Infallible, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    header::{CONNECTION, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::{ServerConfig, crypto::ring::default_provider};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{AbortHandle, JoinSet},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use crate::{Error, certificate::Served};

/// How long a client may take to say who it is, and to send the head of its next request. Clients in Go let a connection go that is
/// idle for 90 s: they are to be the first.
const HANDSHAKE: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_secs(120);
/// Connections at once: API servers have a few. The oldest is one of somebody who connects and says nothing.
const CONNECTIONS: usize = 256;

/// What is answered to a request.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) content_type: &'static str,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(status: StatusCode, body: impl Into<String>) -> Self {
        Self { status, content_type: "text/plain; charset=utf-8", body: body.into().into_bytes() }
    }
}

/// Who answers.
pub(crate) type Answers =
    Arc<dyn Fn(Request<Incoming>) -> Pin<Box<dyn Future<Output = Answer> + Send>> + Send + Sync>;

/// TLS with the certificate that is in force when somebody connects.
pub(crate) fn tls(served: Arc<Served>) -> Result<TlsAcceptor, Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(served);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Answers whoever connects, for ever. When it is told to stop, each connection ends with its next answer.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    answers: Answers,
    stopping: watch::Receiver<bool>,
) -> Result<(), Error> {
    let mut connections = JoinSet::new();
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                while connections.try_join_next().is_some() {}
                open.retain(|connection| !connection.is_finished());
                if open.len() == CONNECTIONS
                    && let Some(oldest) = open.pop_front()
                {
                    oldest.abort();
                }
                let (tls, answers, stopping) = (tls.clone(), answers.clone(), stopping.clone());
                open.push_back(connections.spawn(async move {
                    let outcome = begin(stream, tls, answers, stopping).await;
                    // Who goes away, or does not trust us, is not our error; it may be worth knowing.
                    if let Err(error) = outcome {
                        tracing::debug!("a connection: {error}");
                    }
                }));
            }
            Err(error) => {
                tracing::warn!("accepting connections: {error}");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

type Outcome = Result<(), Box<dyn std::error::Error + Send + Sync>>;

async fn begin(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    answers: Answers,
    stopping: watch::Receiver<bool>,
) -> Outcome {
    stream.set_nodelay(true)?;
    match tls {
        Some(tls) => {
            let stream = timeout(HANDSHAKE, tls.accept(stream)).await??;
            converse(stream, answers, stopping).await
        }
        None => converse(stream, answers, stopping).await,
    }
}

async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send,
    answers: Answers,
    stopping: watch::Receiver<bool>,
) -> Outcome {
    let service = service_fn(move |request| {
        let (answer, stopping) = (answers(request), stopping.clone());
        async move {
            let mut response = response(answer.await);
            if *stopping.borrow() {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .serve_connection(TokioIo::new(stream), service);
    Ok(connection.await?)
}

fn response(answer: Answer) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(answer.body.into()));
    *response.status_mut() = answer.status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    response
}
