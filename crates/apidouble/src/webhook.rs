//! One call to a webhook.

use std::{net::SocketAddr, sync::Arc};

use base64::{Engine, prelude::BASE64_STANDARD};
use http_body_util::{BodyExt, Full};
use hyper::{Request, Uri, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::cluster::Cluster;

/// Where a webhook is, and how to know that it is the right one.
pub(crate) struct Endpoint {
    address: String,
    /// The name that its certificate must have.
    name: String,
    path: String,
    roots: RootCertStore,
}

impl Endpoint {
    /// Of a `clientConfig`. Services are where [`Cluster::route`] says.
    pub(crate) fn of(cluster: &Cluster, config: &Value) -> Result<Self, String> {
        let roots = roots(config["caBundle"].as_str().unwrap_or_default())?;
        if let Some(url) = config["url"].as_str() {
            let uri: Uri = url.parse().map_err(|error| format!("{url}: {error}"))?;
            let host = uri.host().unwrap_or_default();
            let address = format!("{host}:{}", uri.port_u16().unwrap_or(443));
            let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
            let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
            return Ok(Self { address, name, path, roots });
        }
        let service = &config["service"];
        let text = |field: &str| service[field].as_str().unwrap_or_default();
        let (namespace, name) = (text("namespace"), text("name"));
        let port = service["port"].as_u64().unwrap_or(443);
        let address: SocketAddr = cluster
            .routed(namespace, name)
            .ok_or_else(|| format!("no endpoints available for service {name:?} (port {port})"))?;
        let path = if text("path").is_empty() { "/" } else { text("path") };
        Ok(Self {
            address: address.to_string(),
            name: format!("{name}.{namespace}.svc"),
            path: path.to_owned(),
            roots,
        })
    }
}

fn roots(bundle: &str) -> Result<RootCertStore, String> {
    let pem = BASE64_STANDARD.decode(bundle).map_err(|error| format!("caBundle: {error}"))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| format!("caBundle: {error}"))?;
        roots.add(certificate).map_err(|error| format!("caBundle: {error}"))?;
    }
    Ok(roots)
}

/// Posts `review` and gives the answer.
pub(crate) async fn call(endpoint: &Endpoint, review: Value) -> Result<Value, String> {
    let post = format!("failed to call webhook: Post \"https://{}{}\"", endpoint.name, endpoint.path);
    exchange(endpoint, review).await.map_err(|error| format!("{post}: {error}"))
}

async fn exchange(endpoint: &Endpoint, review: Value) -> Result<Value, String> {
    let tcp = TcpStream::connect(&endpoint.address).await.map_err(|error| error.to_string())?;
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(endpoint.roots.clone())
        .with_no_client_auth();
    let name = ServerName::try_from(endpoint.name.clone()).map_err(|error| error.to_string())?;
    let tls =
        TlsConnector::from(Arc::new(config)).connect(name, tcp).await.map_err(|error| error.to_string())?;
    post(endpoint, tls, review).await
}

async fn post(
    endpoint: &Endpoint,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    review: Value,
) -> Result<Value, String> {
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    let connection = tokio::spawn(connection);
    let request = Request::post(&endpoint.path)
        .header(header::HOST, &endpoint.name)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(bytes::Bytes::from(review.to_string())))
        .map_err(|error| error.to_string())?;
    let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
    let code = answer.status();
    let body = answer.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
    connection.abort();
    if !code.is_success() {
        return Err(format!("the server answered {code}: {}", String::from_utf8_lossy(&body)));
    }
    serde_json::from_slice(&body).map_err(|error| format!("its answer is no JSON: {error}"))
}
