//! A kube-apiserver and an etcd of their own, on loopback, for as long as the value lives.

use std::{
    fs::{self, File},
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::json;
use tempfile::TempDir;

use crate::target::{ADMINISTRATOR, LIMITED};

pub(crate) struct Real {
    processes: Vec<Child>,
    directory: TempDir,
    port: u16,
}

impl Real {
    pub(crate) fn start(assets: &Path) -> Self {
        let directory = TempDir::new().unwrap();
        let (store, peer, port) = (free_port(), free_port(), free_port());
        let path = |name: &str| directory.path().join(name).to_string_lossy().into_owned();
        let etcd = format!("http://127.0.0.1:{store}");
        // Keys of service accounts: any will do, nobody logs in with one.
        let key = rcgen::KeyPair::generate().unwrap();
        fs::write(path("accounts.key"), key.serialize_pem()).unwrap();
        fs::write(path("accounts.pub"), key.public_key_pem()).unwrap();
        let Certificates { ca, certificate, key } = certify();
        for (name, pem) in [("ca.crt", ca), ("tls.crt", certificate), ("tls.key", key)] {
            fs::write(path(name), pem).unwrap();
        }
        let tokens = format!("{ADMINISTRATOR},administrator,1,system:masters\n{LIMITED},limited,2\n");
        fs::write(path("tokens.csv"), tokens).unwrap();

        let run = |name: &str, arguments: &[String]| {
            let log = File::create(path(&format!("{name}.log"))).unwrap();
            let errors = log.try_clone().unwrap();
            Command::new(assets.join(name))
                .args(arguments)
                .stdin(Stdio::null())
                .stdout(log)
                .stderr(errors)
                .spawn()
                .unwrap_or_else(|error| panic!("cannot start {name} of {}: {error}", assets.display()))
        };
        let store = run(
            "etcd",
            &[
                format!("--data-dir={}", path("etcd")),
                format!("--listen-client-urls={etcd}"),
                format!("--advertise-client-urls={etcd}"),
                format!("--listen-peer-urls=http://127.0.0.1:{peer}"),
                "--unsafe-no-fsync".to_owned(),
            ],
        );
        let server = run(
            "kube-apiserver",
            &[
                format!("--etcd-servers={etcd}"),
                "--bind-address=127.0.0.1".to_owned(),
                "--advertise-address=127.0.0.1".to_owned(),
                "--endpoint-reconciler-type=none".to_owned(),
                format!("--secure-port={port}"),
                format!("--tls-cert-file={}", path("tls.crt")),
                format!("--tls-private-key-file={}", path("tls.key")),
                "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
                format!("--service-account-key-file={}", path("accounts.pub")),
                format!("--service-account-signing-key-file={}", path("accounts.key")),
                format!("--token-auth-file={}", path("tokens.csv")),
                "--authorization-mode=RBAC".to_owned(),
                "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
                // Nobody is there who would make the account of each namespace.
                "--disable-admission-plugins=ServiceAccount".to_owned(),
            ],
        );
        Self { processes: vec![server, store], directory, port }
    }

    pub(crate) fn kubeconfig(&self, token: &str) -> String {
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "real",
            "clusters": [{"name": "real", "cluster": {"server": format!("https://127.0.0.1:{}", self.port),
                "certificate-authority": self.directory.path().join("ca.crt")}}],
            "users": [{"name": "real", "user": {"token": token}}],
            "contexts": [{"name": "real", "context": {"cluster": "real", "user": "real"}}],
        })
        .to_string()
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
        if std::thread::panicking() {
            let log =
                fs::read_to_string(self.directory.path().join("kube-apiserver.log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("the end of its log:\n{}", lines[lines.len().saturating_sub(20)..].join("\n"));
        }
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A server certificate for loopback, and who signed it: PEM.
pub(crate) struct Certificates {
    pub(crate) ca: String,
    pub(crate) certificate: String,
    pub(crate) key: String,
}

pub(crate) fn certify() -> Certificates {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    let ca_key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&ca_key).unwrap();
    let issuer = Issuer::new(params, ca_key);
    let own = KeyPair::generate().unwrap();
    let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
    let signed = CertificateParams::new(names).unwrap().signed_by(&own, &issuer).unwrap();
    Certificates { ca: authority.pem(), certificate: signed.pem(), key: own.serialize_pem() }
}
