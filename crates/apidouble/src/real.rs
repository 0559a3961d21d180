//! A real kube-apiserver with an etcd of its own, on loopback, for as long as the value lives.

use std::{
    env,
    fs::{self, File},
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{auth::User, tls::Authority};

/// How long both may take to be ready, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A kube-apiserver that asks for tokens and enforces RBAC. Nothing else of a control plane is there: no controllers, no
/// scheduler, no service accounts made by themselves.
#[derive(Debug)]
pub struct Real {
    /// In the order in which they are ended.
    processes: Vec<Child>,
    directory: TempDir,
    ca: String,
    port: u16,
}

impl Real {
    /// The directory with `etcd` and `kube-apiserver`, where `KUBEBUILDER_ASSETS` names one.
    pub fn assets() -> Option<PathBuf> {
        env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from)
    }

    /// Starts both of `assets` and waits until they are ready; each token is a user.
    pub fn start(assets: &Path, tokens: &[(&str, User)]) -> Result<Self> {
        let directory = TempDir::new().context("a directory for the API server")?;
        let ports = [free_port()?, free_port()?, free_port()?];
        let authority = Authority::create()?;
        let mut real = Self { processes: Vec::new(), directory, ca: authority.pem.clone(), port: ports[2] };
        real.configure(&authority, tokens)?;
        let etcd = real.run(assets, "etcd", &real.etcd(ports))?;
        real.processes.push(etcd);
        let server = real.run(assets, "kube-apiserver", &real.server(ports))?;
        real.processes.insert(0, server);
        let end = Instant::now() + PATIENCE;
        while let Err(error) = real.ready() {
            let exited = real.processes[0].try_wait().context("looking at kube-apiserver")?;
            if exited.is_some() || Instant::now() > end {
                return Err(error
                    .context(format!("kube-apiserver is not ready; the end of its log:\n{}", real.log())));
            }
            thread::sleep(Duration::from_millis(100));
        }
        Ok(real)
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).to_string_lossy().into_owned()
    }

    fn configure(&self, authority: &Authority, tokens: &[(&str, User)]) -> Result<()> {
        let identity = authority.server(&["127.0.0.1", "localhost"])?;
        // For tokens of service accounts: any will do.
        let key = rcgen::KeyPair::generate().context("making the key of service accounts")?;
        let tokens: String = tokens
            .iter()
            .map(|(token, user)| {
                format!("{token},{name},{name},\"{}\"\n", user.groups.join(","), name = user.name)
            })
            .collect();
        let files = [
            ("tls.crt", identity.certificate),
            ("tls.key", identity.key),
            ("accounts.key", key.serialize_pem()),
            ("accounts.pub", key.public_key_pem()),
            ("tokens.csv", tokens),
        ];
        for (name, text) in files {
            fs::write(self.path(name), text).with_context(|| format!("writing {name}"))?;
        }
        Ok(())
    }

    fn etcd(&self, [client, peer, _]: [u16; 3]) -> Vec<String> {
        vec![
            format!("--data-dir={}", self.path("etcd")),
            format!("--listen-client-urls=http://127.0.0.1:{client}"),
            format!("--advertise-client-urls=http://127.0.0.1:{client}"),
            format!("--listen-peer-urls=http://127.0.0.1:{peer}"),
            "--unsafe-no-fsync".to_owned(),
        ]
    }

    fn server(&self, [client, _, port]: [u16; 3]) -> Vec<String> {
        vec![
            format!("--etcd-servers=http://127.0.0.1:{client}"),
            "--bind-address=127.0.0.1".to_owned(),
            "--advertise-address=127.0.0.1".to_owned(),
            "--endpoint-reconciler-type=none".to_owned(),
            format!("--secure-port={port}"),
            format!("--tls-cert-file={}", self.path("tls.crt")),
            format!("--tls-private-key-file={}", self.path("tls.key")),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!("--service-account-key-file={}", self.path("accounts.pub")),
            format!("--service-account-signing-key-file={}", self.path("accounts.key")),
            format!("--token-auth-file={}", self.path("tokens.csv")),
            "--authorization-mode=RBAC".to_owned(),
            "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
            // Nobody is there who would make the account of each namespace.
            "--disable-admission-plugins=ServiceAccount".to_owned(),
        ]
    }

    fn run(&self, assets: &Path, name: &str, arguments: &[String]) -> Result<Child> {
        let log =
            File::create(self.path(&format!("{name}.log"))).with_context(|| format!("the log of {name}"))?;
        let errors = log.try_clone().with_context(|| format!("the log of {name}"))?;
        Command::new(assets.join(name))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .with_context(|| {
                format!(
                    "cannot start {}: KUBEBUILDER_ASSETS must name its directory",
                    assets.join(name).display()
                )
            })
    }

    /// Asks `/readyz`.
    fn ready(&self) -> Result<()> {
        self.ask("GET /readyz HTTP/1.0\r\n", "").map(drop)
    }

    /// One request of whoever has this token, which the server must grant; a `PATCH` is a merge patch. What it answers.
    pub fn call(&self, token: &str, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let form = if method == "PATCH" { "merge-patch+json" } else { "json" };
        let head = format!("{method} {path} HTTP/1.0\r\nAuthorization: Bearer {token}\r\n");
        let content = format!("Content-Type: application/{form}\r\nContent-Length: {}\r\n", body.len());
        let answer = self.ask(&(head + &content), &body)?;
        serde_json::from_str(&answer).with_context(|| format!("the answer to {method} {path}: {answer}"))
    }

    /// The body of the answer. Fails unless that says 2xx. `head` is of HTTP/1.0, whose answers come in one piece, without `Host`
    /// and the empty line.
    fn ask(&self, head: &str, body: &str) -> Result<String> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.ca.as_bytes()).context("the CA")?).context("the CA")?;
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .context("TLS versions")?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").context("a name")?;
        let tcp = TcpStream::connect(("127.0.0.1", self.port)).context("connecting to kube-apiserver")?;
        tcp.set_read_timeout(Some(PATIENCE)).context("a time-out")?;
        let mut stream = StreamOwned::new(ClientConnection::new(Arc::new(config), name)?, tcp);
        write!(stream, "{head}Host: localhost\r\nConnection: close\r\n\r\n{body}")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).context("the answer of kube-apiserver")?;
        ensure!(
            answer.starts_with("HTTP/1.") && answer.get(8..10) == Some(" 2"),
            "{} says {answer}",
            head.lines().next().unwrap_or_default()
        );
        Ok(answer.split_once("\r\n\r\n").map_or("", |(_, body)| body).to_owned())
    }

    /// The end of what the API server has logged.
    pub fn log(&self) -> String {
        let log = fs::read_to_string(self.path("kube-apiserver.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// A kubeconfig file (JSON is YAML) for whoever has this token.
    pub fn kubeconfig(&self, token: &str) -> String {
        let ca = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, &self.ca);
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "real",
            "clusters": [{"name": "real", "cluster": {
                "server": format!("https://127.0.0.1:{}", self.port), "certificate-authority-data": ca}}],
            "users": [{"name": "real", "user": {"token": token}}],
            "contexts": [{"name": "real", "context": {"cluster": "real", "user": "real"}}],
        })
        .to_string()
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        for process in &mut self.processes {
            // Either it ends now or it has ended before.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("looking for a free port")?;
    match listener.local_addr().context("looking for a free port")?.port() {
        0 => bail!("the system gave port 0"),
        port => Ok(port),
    }
}
