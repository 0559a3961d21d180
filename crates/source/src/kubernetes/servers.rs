//! Several servers of one cluster: the next one if one fails.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use http::Uri;
use hyper::rt::{Read, Write};
use hyper_util::{
    client::{
        legacy::{
            Client as HttpClient,
            connect::{Connection, HttpConnector, proxy::Tunnel},
        },
        proxy::matcher::{Intercept, Matcher},
    },
    rt::TokioExecutor,
};
use kube::{
    Client, Config,
    client::{Body, ConfigExt},
};
use tower::{BoxError, ServiceBuilder};

use super::access::{Access, chain};
use crate::Error;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(3);
/// A server that has vanished without a word is noticed after this and three probes.
const KEEPALIVE: Duration = Duration::from_secs(4);
const PROBES: (Duration, u32) = (Duration::from_secs(2), 3);
/// The same, where something was sent.
const UNANSWERED: Duration = Duration::from_secs(10);

/// Where servers are and who we are is looked up again no more often than this: a plugin may ask others.
const RENEWAL: Duration = Duration::from_secs(5);

/// One server.
#[derive(Clone)]
pub(crate) struct Server {
    pub(super) url: Arc<str>,
    pub(crate) client: Client,
    index: usize,
}

/// All of them.
pub(crate) struct Servers {
    access: Access,
    known: Mutex<Known>,
    /// Held by who looks it up again.
    renewal: tokio::sync::Mutex<()>,
}

/// What is known of them now.
struct Known {
    servers: Vec<Server>,
    current: usize,
    /// When it was looked up.
    since: Instant,
}

impl std::fmt::Debug for Servers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Servers").field(&self.urls()).finish()
    }
}

impl Servers {
    /// Looks up where they are and who we are.
    pub(crate) async fn open(access: Access) -> Result<Self, Error> {
        let known = Known { servers: look_up(&access).await?, current: 0, since: Instant::now() };
        Ok(Self { access, known: Mutex::new(known), renewal: Default::default() })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn urls(&self) -> Vec<String> {
        self.known().servers.iter().map(|server| server.url.to_string()).collect()
    }

    /// Whom to ask now.
    pub(crate) fn current(&self) -> Option<Server> {
        let known = self.known();
        known.servers.get(known.current).cloned()
    }

    /// It has failed: the next one, unless somebody has gone on to that already.
    pub(super) fn failed(&self, server: &Server) {
        let mut known = self.known();
        if known.current == server.index {
            known.current = (server.index + 1) % known.servers.len().max(1);
        }
    }

    /// It does not know us, or we don't trust it: tokens, certificates and those who sign them are replaced from time to time.
    /// What was known stays if nothing can be looked up.
    ///
    /// # Errors
    ///
    /// [`Error::Access`].
    pub(super) async fn renew(&self) -> Result<(), Error> {
        let _renewal = self.renewal.lock().await;
        if self.known().since.elapsed() < RENEWAL {
            return Ok(());
        }
        let outcome = look_up(&self.access).await;
        let mut known = self.known();
        known.since = Instant::now();
        known.servers = outcome?;
        known.current = known.current.min(known.servers.len().saturating_sub(1));
        Ok(())
    }
}

async fn look_up(access: &Access) -> Result<Vec<Server>, Error> {
    let server = |(index, config): (usize, Config)| {
        let url: Arc<str> = config.cluster_url.to_string().trim_end_matches('/').into();
        let client = client(config)
            .map_err(|error| Error::Access { what: format!("API server {url}"), reason: chain(&error) })?;
        Ok(Server { url, client, index })
    };
    access.configs().await?.into_iter().enumerate().map(server).collect()
}

/// Like kube's own client, but notices when a server is no longer there.
fn client(config: Config) -> Result<Client, kube::Error> {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(CONNECT));
    connector.set_keepalive(Some(KEEPALIVE));
    connector.set_keepalive_interval(Some(PROBES.0));
    connector.set_keepalive_retries(Some(PROBES.1));
    connector.set_tcp_user_timeout(Some(UNANSWERED));
    match proxy(&config)? {
        Some(proxy) => {
            let tunnel = Tunnel::new(proxy.uri().clone(), connector);
            let tunnel = match proxy.basic_auth() {
                Some(authorization) => tunnel.with_auth(authorization.clone()),
                None => tunnel,
            };
            over(tunnel, config)
        }
        None => over(connector, config),
    }
}

/// The proxy to use: of the kubeconfig, or of `HTTPS_PROXY`, which kube has looked at; not for what `NO_PROXY` names.
fn proxy(config: &Config) -> Result<Option<Intercept>, kube::Error> {
    let Some(url) = &config.proxy_url else { return Ok(None) };
    if url.scheme_str() != Some("http") {
        return Err(kube::Error::ProxyProtocolUnsupported { proxy_url: Box::new(url.clone()) });
    }
    let exceptions = ["NO_PROXY", "no_proxy"].into_iter().find_map(|name| std::env::var(name).ok());
    let matcher = Matcher::builder().all(url.to_string()).no(exceptions.unwrap_or_default()).build();
    Ok(matcher.intercept(&config.cluster_url))
}

fn over<C>(connector: C, config: Config) -> Result<Client, kube::Error>
where
    C: tower::Service<Uri, Error: Into<BoxError>, Future: Send> + Clone + Send + Sync + 'static,
    C::Response: Connection + Read + Write + Send + Unpin,
{
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
