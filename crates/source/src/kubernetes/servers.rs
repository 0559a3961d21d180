//! Several servers of one cluster: the next one if one fails.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use hyper_util::{
    client::legacy::{Client as HttpClient, connect::HttpConnector},
    rt::TokioExecutor,
};
use kube::{
    Client, Config,
    client::{Body, ConfigExt},
};
use tower::{BoxError, ServiceBuilder};

use super::access::chain;
use crate::Error;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(3);
/// A server that has vanished without a word is noticed after this and three probes.
const KEEPALIVE: Duration = Duration::from_secs(4);
const PROBES: (Duration, u32) = (Duration::from_secs(2), 3);
/// The same, where something was sent.
const UNANSWERED: Duration = Duration::from_secs(10);

/// One server.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) url: Arc<str>,
    pub(super) client: Client,
    index: usize,
}

/// All of them.
pub(super) struct Servers {
    servers: Vec<Server>,
    current: AtomicUsize,
}

impl std::fmt::Debug for Servers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Servers").field(&self.urls()).finish()
    }
}

impl Servers {
    pub(super) fn new(configs: Vec<Config>) -> Result<Self, Error> {
        let server = |(index, config): (usize, Config)| {
            let url: Arc<str> = config.cluster_url.to_string().trim_end_matches('/').into();
            let client = client(config).map_err(|error| Error::Access {
                what: format!("API server {url}"),
                reason: chain(&error),
            })?;
            Ok(Server { url, client, index })
        };
        let servers = configs.into_iter().enumerate().map(server).collect::<Result<_, Error>>()?;
        Ok(Self { servers, current: AtomicUsize::new(0) })
    }

    pub(super) fn urls(&self) -> Vec<String> {
        self.servers.iter().map(|server| server.url.to_string()).collect()
    }

    /// Whom to ask now.
    pub(super) fn current(&self) -> Option<Server> {
        self.servers.get(self.current.load(Relaxed)).cloned()
    }

    /// It has failed: the next one, unless somebody has gone on to that already.
    pub(super) fn failed(&self, server: &Server) {
        let next = (server.index + 1) % self.servers.len().max(1);
        // Whoever comes second finds that it is another one already.
        let _ = self.current.compare_exchange(server.index, next, Relaxed, Relaxed);
    }
}

/// Like kube's own client, but notices when a server is no longer there.
fn client(config: Config) -> Result<Client, kube::Error> {
    if config.proxy_url.is_some() {
        return Client::try_from(config);
    }
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(CONNECT));
    connector.set_keepalive(Some(KEEPALIVE));
    connector.set_keepalive_interval(Some(PROBES.0));
    connector.set_keepalive_retries(Some(PROBES.1));
    connector.set_tcp_user_timeout(Some(UNANSWERED));
    let connector = config.rustls_https_connector_with_connector(connector)?;
    let http: HttpClient<_, Body> = HttpClient::builder(TokioExecutor::new()).build(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(http);
    Ok(Client::new(service, config.default_namespace))
}
