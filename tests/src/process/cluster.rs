//! A cluster's API server, and agents that follow it.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};
use apidouble::{Cluster, Login, Server};
use serde_json::Value;

use super::{Agent, Host, program};

/// Puts every object of a text of manifests into the cluster.
///
/// # Errors
/// It is no manifest, or the API server refuses.
pub fn put(cluster: &Cluster, manifests: &str) -> Result<()> {
    let objects: Vec<Value> = serde_saphyr::from_multiple(manifests).context("read manifests")?;
    cluster.put_all(objects)
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
