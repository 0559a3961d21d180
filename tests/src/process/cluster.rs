//! A cluster's API server, and agents that follow it.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::PathBuf,
};

use anyhow::{Context, Result, ensure};
use apidouble::{Cluster, Login, Server};
use serde_json::{Value, json};
use testkit::Backend;

use super::{Agent, Host, program, traffic::Traffic, web};
use crate::chart::definitions;

/// Puts every object of a text of manifests into the cluster.
///
/// # Errors
/// It is no manifest, or the API server refuses.
pub fn put(cluster: &Cluster, manifests: &str) -> Result<()> {
    let objects: Vec<Value> = serde_saphyr::from_multiple(manifests).context("read manifests")?;
    cluster.put_all(objects)
}

/// A host, a cluster's API server in its network namespace, and web servers.
pub struct World {
    /// The host.
    pub host: Host,
    /// What is in the cluster.
    pub cluster: Cluster,
    /// Its API server.
    pub server: Server,
    /// For that.
    pub kubeconfig: PathBuf,
    _servers: Vec<Backend>,
}

impl World {
    /// A cluster with services `a` and `b` (web), whose backends are 1 and 2, the node, and definitions of policies.
    ///
    /// # Errors
    /// It can't be made.
    pub fn new(name: &str) -> Result<Self> {
        let host = Host::new(name)?;
        let cluster = Cluster::new();
        let server = Server::tls(&cluster)?;
        let kubeconfig = host.kubeconfig(&server, &Login::Anonymous)?;
        let servers = web::serve(&host, &[1, 2, 3])?;
        cluster.put_all(definitions()?)?;
        cluster.put(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}}))?;
        let world = Self { host, cluster, server, kubeconfig, _servers: servers };
        world.set("a", 10, &[1])?;
        world.set("b", 11, &[2])?;
        Ok(world)
    }

    /// An agent that follows it, with everything in force.
    ///
    /// # Errors
    /// It does not come up.
    pub fn agent(&self) -> Result<Agent> {
        self.host.following(&self.kubeconfig, &[])
    }

    /// A service, as [`web::manifest`] has it.
    ///
    /// # Errors
    /// The API server refuses.
    pub fn set(&self, name: &str, low: u8, backends: &[u8]) -> Result<()> {
        put(&self.cluster, &web::manifest(name, low, backends))
    }

    /// Removes it, and its slices.
    ///
    /// # Errors
    /// There is none.
    pub fn remove(&self, name: &str) -> Result<()> {
        self.cluster.remove("services", Some("default"), name)?;
        for family in ["v4", "v6"] {
            self.cluster.remove("endpointslices", Some("default"), &format!("{name}-{family}"))?;
        }
        Ok(())
    }

    /// Asks `a` and `b` all the time.
    ///
    /// # Errors
    /// It can't be started.
    pub fn traffic(&self) -> Result<Traffic> {
        Ok(Traffic::start(&self.host, &[(10, &[1]), (11, &[2])])?)
    }

    /// Does this backend answer there?
    pub fn answers(&self, low: u8, backend: u8) -> bool {
        web::ask(&self.host, low).is_ok_and(|exchange| exchange.backend == format!("b{backend}"))
    }

    /// Does nobody?
    pub fn is_refused(&self, low: u8) -> bool {
        web::ask(&self.host, low).is_err()
    }
}

/// Changes an object as somebody with kubectl does, by a merge patch; `server` is a plain one.
///
/// # Errors
/// The API server refuses.
pub fn change(server: &Server, path: &str, patch: &Value) -> Result<()> {
    let (address, body) = (server.url(), patch.to_string());
    let address = address.strip_prefix("http://").context("a plain server")?;
    let mut stream = TcpStream::connect(address).context("connect to the API server")?;
    write!(
        stream,
        "PATCH {path}?fieldManager=kubectl-annotate HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Content-Type: application/merge-patch+json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("the answer of the API server")?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    Ok(())
}

impl Host {
    /// A kubeconfig for a server, as a file.
    ///
    /// # Errors
    /// It can't be written.
    pub fn kubeconfig(&self, server: &Server, login: &Login) -> Result<PathBuf> {
        let path = self.socket().with_file_name("kubeconfig");
        fs::write(&path, server.kubeconfig(login)?).context("write a kubeconfig")?;
        Ok(path)
    }

    /// Starts an agent that follows the cluster of a kubeconfig, of which it need not reach the server.
    ///
    /// # Errors
    /// It can't be started.
    pub fn start_following(&self, kubeconfig: &std::path::Path, arguments: &[&str]) -> Result<Agent> {
        self.start_command(&mut self.agent_of("--kubeconfig", kubeconfig, &program(), arguments))
    }

    /// The same, and waits until it has everything in force.
    ///
    /// # Errors
    /// It does not come up; with its log.
    pub fn following(&self, kubeconfig: &std::path::Path, arguments: &[&str]) -> Result<Agent> {
        let mut agent = self.start_following(kubeconfig, arguments)?;
        agent.wait_ready()?;
        Ok(agent)
    }
}
