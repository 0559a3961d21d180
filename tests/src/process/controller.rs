//! The controller as a process.

use std::{
    fs::File,
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result};

use super::{Host, program, unconfigure};

/// A controller; killed when dropped.
pub struct Controller(Child);

impl Controller {
    /// Starts one, in a host's network namespace, of the cluster that a kubeconfig leads to.
    ///
    /// # Errors
    /// It can't be started.
    pub fn start(host: &Host, kubeconfig: &Path) -> Result<Self> {
        let mut command = Command::new(program());
        unconfigure(&mut command);
        command.args(["controller", "--namespace", "kube-system", "--kubeconfig"]).arg(kubeconfig);
        let log = kubeconfig.with_extension("controller.log");
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(File::create(log).context("make the controller's log")?);
        host.namespace().contain(&mut command)?;
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
