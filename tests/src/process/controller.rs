//! The controller as a process.

use std::{
    fs::File,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result};

use super::{Host, program, unconfigure};

/// A controller; killed when dropped.
pub struct Controller(Child);

impl Controller {
    /// Starts one, of the cluster that a kubeconfig leads to; nobody asks it anything.
    ///
    /// # Errors
    /// It can't be started.
    pub fn start(kubeconfig: &Path) -> Result<Self> {
        Self::start_by(kubeconfig, None)
    }

    /// One in the network namespace of `host`, whose metrics are answered there at port 5821.
    ///
    /// # Errors
    /// It can't be started.
    pub fn start_inside(kubeconfig: &Path, host: &Host) -> Result<Self> {
        Self::start_by(kubeconfig, Some(host))
    }

    fn start_by(kubeconfig: &Path, host: Option<&Host>) -> Result<Self> {
        let mut command = Command::new(program());
        unconfigure(&mut command);
        // Of all ports that are free some time later somebody else may have this one: then it says so in its log.
        let port =
            TcpListener::bind("[::]:0").context("find a port")?.local_addr().context("getsockname")?.port();
        command.args(["controller", "--health-port=0", "--namespace=kube-system"]);
        command.args(["--webhook-port", &port.to_string(), "--kubeconfig"]).arg(kubeconfig);
        match host {
            None => drop(command.arg("--metrics-port=0")),
            Some(host) => host.namespace().contain(command.arg("--metrics-port=5821"))?,
        }
        let log = kubeconfig.with_extension("controller.log");
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(File::create(log).context("make the controller's log")?);
        Ok(Self(command.spawn().context("start a controller")?))
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
