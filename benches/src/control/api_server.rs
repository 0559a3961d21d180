//! An API server with a cluster that looks like one: nodes, pods, services, their slices, leases.
//!
//! It runs in this process, on a thread of its own; the agent is another process, and only that one's CPU time counts.

use std::{
    ffi::OsString,
    fs,
    net::Ipv4Addr,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use anyhow::{Context, Result};
use apidouble::{Cluster, Login, Server};
use serde_json::Value;
use tempfile::TempDir;

use super::{
    feed::{APART, ASKED, Feed, addresses, endpoint, name},
    objects::{self, Endpoint},
};
use crate::tables::{ENDPOINTS, vip4};

/// Pods on the node of the agent.
const PODS: u32 = 50;

/// See the module.
pub(super) struct ApiServer {
    server: Server,
    directory: TempDir,
    nodes: u32,
    prepared: Mutex<Value>,
}

impl ApiServer {
    /// `nodes`, `services` of one port, and the one that is asked at `vip`, with the endpoints from `first` on.
    pub(super) fn fill(nodes: u32, services: u32, vip: Ipv4Addr, first: Ipv4Addr) -> Result<Self> {
        let cluster = Cluster::new();
        // As many as its watches may be behind by.
        cluster.keep(100_000);
        cluster.put_all((0..nodes).map(objects::node))?;
        cluster.put_all((0..nodes).map(objects::lease))?;
        cluster.put_all((0..PODS).map(objects::pod))?;
        cluster.put(objects::service_cidr())?;
        let at = |index| objects::service(&name(index), vip4(index), &["TCP"]);
        cluster.put_all((0..services).map(at))?;
        let api = Self {
            server: Server::tls(&cluster)?,
            directory: tempfile::tempdir().context("make a directory")?,
            nodes,
            prepared: Mutex::new(Value::Null),
        };
        for index in 0..services {
            api.put_slice(index, (0..ENDPOINTS).map(|slot| Endpoint::ready(endpoint(index, slot, 0))))?;
        }
        cluster.put(objects::service(ASKED, vip, &["TCP", "UDP"]))?;
        api.prepare(first)?;
        api.change()?;
        fs::write(api.kubeconfig(), api.server.kubeconfig(&Login::Anonymous)?)
            .context("write a kubeconfig")?;
        Ok(api)
    }

    fn kubeconfig(&self) -> PathBuf {
        self.directory.path().join("kubeconfig")
    }

    pub(super) fn cluster(&self) -> &Cluster {
        self.server.cluster()
    }

    /// How many nodes there are.
    pub(super) fn nodes(&self) -> u32 {
        self.nodes
    }

    /// Bytes that the server has sent so far, as they were on the wire.
    pub(super) fn bytes_sent(&self) -> u64 {
        self.server.bytes_sent()
    }

    /// Requests that it has answered so far, or begun to.
    pub(super) fn requests(&self) -> usize {
        self.server.record().requests().len()
    }

    /// Gives service `index` these endpoints.
    pub(super) fn put_slice(&self, index: u32, endpoints: impl Iterator<Item = Endpoint>) -> Result<()> {
        self.cluster().put(objects::slice(&name(index), endpoints, &["TCP"])).map(drop)
    }
}

impl Feed for ApiServer {
    fn arguments(&self) -> Vec<OsString> {
        vec!["--kubeconfig".into(), self.kubeconfig().into()]
    }

    fn prepare(&self, first: Ipv4Addr) -> Result<()> {
        let slice = objects::slice(ASKED, addresses(first).map(Endpoint::ready), &["TCP", "UDP"]);
        *self.prepared.lock().unwrap_or_else(PoisonError::into_inner) = slice;
        Ok(())
    }

    fn change(&self) -> Result<()> {
        let slice = std::mem::take(&mut *self.prepared.lock().unwrap_or_else(PoisonError::into_inner));
        self.cluster().put(slice).map(drop)
    }

    fn change_hundred(&self, turn: u32) -> Result<()> {
        (0..APART).try_for_each(|index| {
            self.put_slice(index, (0..ENDPOINTS).map(|slot| Endpoint::ready(endpoint(index, slot, turn))))
        })
    }
}
