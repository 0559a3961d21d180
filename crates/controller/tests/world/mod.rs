//! A cluster, and controllers in it that have just the rights of deploy/controller.yaml.

// Each test file is a program of its own, and uses a part.
#![allow(dead_code)]

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU8, Ordering::Relaxed},
    },
    time::Duration,
};

use apidouble::{Access, Cluster, Login, Server, User};
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use controller::{Certificate, Clock, Config, Error};
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use jiff::{SignedDuration, Timestamp};
use kube::{Client, config::Kubeconfig};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use serde_json::{Value, json};
use source::kubernetes::Access as Reach;
use tempfile::TempDir;
use tokio::{
    net::TcpStream,
    sync::oneshot,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// How long anything may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
pub(crate) const NAME: &str = "balancing-controller.kube-system.svc";
const BALANCING: &str = "/apis/balancing.elf.io/v1beta1/balancingpolicies";

pub(crate) struct World {
    pub(crate) cluster: Cluster,
    /// Asked by tests, and the one that asks webhooks.
    server: Server,
    /// Asked by controllers.
    pub(crate) theirs: Server,
    client: Client,
    directory: TempDir,
    /// For how long controllers that are told to stop go on.
    pub(crate) linger: Duration,
}

pub(crate) struct Controller {
    pub(crate) webhook: SocketAddr,
    pub(crate) health: SocketAddr,
    /// By how many seconds its clock is wrong.
    pub(crate) skew: Arc<AtomicI64>,
    pub(crate) task: JoinHandle<Result<(), Error>>,
    pub(crate) stop: oneshot::Sender<()>,
}

/// The documents of deploy/controller.yaml.
pub(crate) fn deployed() -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/controller.yaml");
    serde_saphyr::from_multiple(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// An address that nobody else has, of this machine.
fn own_address() -> Ipv4Addr {
    static COUNT: AtomicU8 = AtomicU8::new(1);
    let [_, _, high, low] = process::id().to_be_bytes();
    Ipv4Addr::new(127, high.max(1), low, COUNT.fetch_add(1, Relaxed))
}

impl World {
    pub(crate) async fn new() -> Self {
        let cluster = Cluster::new();
        for crd in api::policy::crds() {
            cluster.put(serde_json::to_value(crd).unwrap()).unwrap();
        }
        let objects =
            deployed().into_iter().filter(|it| it["kind"] != "Deployment" && it["kind"] != "Service");
        cluster.put_all(objects).unwrap();
        cluster.accounts().allow_token("root", User::administrator());
        let account = User::service_account("kube-system", "balancing-controller");
        cluster.accounts().allow_token("controller", account);
        let (server, theirs) = (Server::tls(&cluster).unwrap(), Server::tls(&cluster).unwrap());
        server.set_access(Access::Rbac);
        theirs.set_access(Access::Rbac);
        let kubeconfig = server.kubeconfig(&Login::Token("root".into())).unwrap();
        let kubeconfig = Kubeconfig::from_yaml(&kubeconfig).unwrap();
        let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await.unwrap();
        config.default_retry = false;
        let client = Client::try_from(config).unwrap();
        let directory = TempDir::new().unwrap();
        let kubeconfig = theirs.kubeconfig(&Login::Token("controller".into())).unwrap();
        std::fs::write(directory.path().join("kubeconfig"), kubeconfig).unwrap();
        let linger = Duration::from_millis(50);
        Self { cluster, server, theirs, client, directory, linger }
    }

    pub(crate) fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn own_certificate() -> Certificate {
        Certificate::Own { secret: "balancing-webhook".into(), names: Vec::new() }
    }

    /// Starts one, whose clock is wrong by so many days. API servers find the last one that was started.
    pub(crate) fn start(&self, certificate: Certificate, days: i64) -> Controller {
        let address = own_address();
        let (webhook, health) = (SocketAddr::from((address, 5822)), SocketAddr::from((address, 5820)));
        let skew = Arc::new(AtomicI64::new(days * 86_400));
        let by = skew.clone();
        let config = Config {
            access: Reach { kubeconfig: Some(self.path("kubeconfig")), api_servers: Vec::new() },
            webhook,
            health: vec![health],
            namespace: "kube-system".into(),
            service: "balancing-controller".into(),
            configuration: "balancing".into(),
            lease: "balancing-controller".into(),
            times: Default::default(),
            certificate,
            linger: self.linger,
            clock: Clock::new(move || Timestamp::now() + SignedDuration::from_secs(by.load(Relaxed))),
            every: Duration::from_millis(50),
        };
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(controller::run(config, async { drop(stopped.await) }));
        self.cluster.route("kube-system", "balancing-controller", webhook);
        Controller { webhook, health, skew, task, stop }
    }

    /// The same, and waits until it is ready and API servers are told.
    pub(crate) async fn started(&self) -> Controller {
        let controller = self.start(Self::own_certificate(), 0);
        controller.is_ready().await;
        until("API servers to be told", async || self.trusted() == Some(1)).await;
        controller
    }

    /// What is in the webhook configurations, each once.
    pub(crate) fn bundles(&self) -> std::collections::BTreeSet<String> {
        let configurations = ["mutatingwebhookconfigurations", "validatingwebhookconfigurations"]
            .map(|resource| self.cluster.get(resource, None, "balancing").unwrap());
        let bundle = |it: &Value| {
            let text = it["webhooks"][0]["clientConfig"]["caBundle"].as_str().unwrap_or_default();
            String::from_utf8(BASE64_STANDARD.decode(text).unwrap()).unwrap()
        };
        configurations.iter().map(bundle).collect()
    }

    /// How many authorities API servers trust, if both configurations say the same.
    pub(crate) fn trusted(&self) -> Option<usize> {
        let bundles = self.bundles();
        (bundles.len() == 1).then(|| bundles.first().unwrap().matches("BEGIN CERTIFICATE").count())
    }

    pub(crate) fn secret(&self, key: &str) -> Option<String> {
        let secret = self.cluster.get("secrets", Some("kube-system"), "balancing-webhook")?;
        Some(String::from_utf8(BASE64_STANDARD.decode(secret["data"][key].as_str()?).unwrap()).unwrap())
    }

    pub(crate) async fn call(&self, method: &str, path: &str, body: Value) -> Result<Value, String> {
        let form = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let request = Request::builder().method(method).uri(path).header("Content-Type", form);
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let answer = self.client.request::<Value>(request.body(body).unwrap()).await;
        answer.map_err(|error| error.to_string())
    }

    pub(crate) async fn create(&self, policy: &Value) -> Result<Value, String> {
        self.call("POST", BALANCING, policy.clone()).await
    }

    pub(crate) async fn delete(&self, name: &str) -> Result<Value, String> {
        self.call("DELETE", &format!("{BALANCING}/{name}"), Value::Null).await
    }

    /// Through the webhooks, with a certificate that is trusted for it.
    pub(crate) async fn admits(&self, name: &str) {
        let outcome = self.create(&policy(name, "8080")).await;
        assert!(outcome.is_ok(), "{outcome:?}");
        self.delete(name).await.unwrap();
    }
}

/// A BalancingPolicy for a port of one address.
pub(crate) fn policy(name: &str, port: &str) -> Value {
    let ports = json!([{"port": port, "protocol": "TCP"}]);
    json!({
        "apiVersion": "balancing.elf.io/v1beta1", "kind": "BalancingPolicy", "metadata": {"name": name},
        "spec": {
            "frontend": {"addressMatcher": {"ip": "10.0.0.1", "toPorts": ports}},
            "backend": {"addressEndpoint": {"addresses": ["192.0.2.1"], "toPorts": ports}},
        },
    })
}

impl Controller {
    pub(crate) async fn stop(self) {
        self.stop.send(()).unwrap();
        timeout(PATIENCE, self.task).await.unwrap().unwrap().unwrap();
    }

    pub(crate) async fn health(&self, path: &str) -> (u16, String) {
        health(self.health, path).await
    }

    pub(crate) async fn is_ready(&self) {
        until("a controller to be ready", async || self.health("/readyz").await.0 == 200).await;
    }

    /// A connection of somebody who trusts nobody but `bundle`.
    pub(crate) async fn connect(&self, bundle: &str) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
            roots.add(certificate.unwrap()).unwrap();
        }
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TcpStream::connect(self.webhook).await?;
        TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(NAME).unwrap(), stream).await
    }

    /// The certificate that is served, DER.
    pub(crate) async fn serves(&self, bundle: &str) -> Vec<u8> {
        let stream = self.connect(bundle).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    }

    /// What is answered to a request over TLS.
    pub(crate) async fn ask(
        &self,
        bundle: &str,
        method: &str,
        path: &str,
        body: impl Into<Bytes>,
    ) -> (u16, String) {
        let stream = self.connect(bundle).await.unwrap();
        let request = Request::builder().method(method).uri(path).header("Host", NAME);
        text(exchange(stream, request.body(Full::new(body.into())).unwrap()).await.unwrap()).await
    }
}

/// Status and body; 0: nobody is there.
pub(crate) async fn health(address: SocketAddr, path: &str) -> (u16, String) {
    let Ok(stream) = TcpStream::connect(address).await else { return (0, String::new()) };
    let request = Request::get(path).body(Full::default()).unwrap();
    text(exchange(stream, request).await.unwrap()).await
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> hyper::Result<Response<Incoming>>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    sender.send_request(request).await
}

async fn text(answer: Response<Incoming>) -> (u16, String) {
    let code = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (code, String::from_utf8(body.to_vec()).unwrap())
}

/// A certificate in a PEM text, DER.
pub(crate) fn der(pem: &str) -> Vec<u8> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec()
}

pub(crate) async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let waiting = async {
        while !holds().await {
            sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(timeout(PATIENCE, waiting).await.is_ok(), "waited in vain for {what}");
}
