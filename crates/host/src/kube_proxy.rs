//! Is kube-proxy at work on this machine?

use std::{collections::BTreeSet, fmt};

use crate::{
    conflict::{KUBE_PROXY, conflicts},
    error::Result,
    sock_diag::{SockDiag, Transport, state},
};

/// Port of its health, on all addresses.
pub const HEALTH_PORT: u16 = 10_256;
/// Port of its metrics, on loopback.
pub const METRICS_PORT: u16 = 10_249;

/// What can be seen of it from here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KubeProxy {
    /// Its process; in a pod without `hostPID` it can't be seen.
    pub pid: Option<u32>,
    /// Its ports that somebody listens on, in this network namespace.
    pub ports: BTreeSet<u16>,
}

impl KubeProxy {
    /// Looks for it.
    pub fn look() -> Result<Self> {
        let pid = conflicts()?.into_iter().find(|it| it.program == KUBE_PROXY).map(|it| it.pid);
        let mut ports = BTreeSet::new();
        SockDiag::open()?.list(Transport::Tcp, 1 << state::LISTEN, |socket| {
            let port = socket.local.port();
            if [HEALTH_PORT, METRICS_PORT].contains(&port) {
                ports.insert(port);
            }
        })?;
        Ok(Self { pid, ports })
    }

    /// Is there any sign of it?
    pub fn is_there(&self) -> bool {
        self.pid.is_some() || !self.ports.is_empty()
    }
}

impl fmt::Display for KubeProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pid = self.pid.iter().map(|pid| format!("pid {pid}"));
        let ports = self.ports.iter().map(|port| format!("port {port} is listened on"));
        let signs: Vec<String> = pid.chain(ports).collect();
        match signs.as_slice() {
            [] => write!(f, "no {KUBE_PROXY}"),
            signs if self.pid.is_some() => write!(f, "{KUBE_PROXY} ({})", signs.join(", ")),
            // Its process can't be seen, or is not its own.
            signs => write!(f, "{KUBE_PROXY}, or who replaces it ({})", signs.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_with_what_gave_it_away() {
        let nothing = KubeProxy::default();
        assert!(!nothing.is_there());
        assert_eq!(nothing.to_string(), "no kube-proxy");
        let seen = KubeProxy { pid: Some(812), ports: [HEALTH_PORT].into() };
        assert!(seen.is_there());
        assert_eq!(seen.to_string(), "kube-proxy (pid 812, port 10256 is listened on)");
        let hidden = KubeProxy { pid: None, ..seen };
        assert!(hidden.is_there());
        assert_eq!(hidden.to_string(), "kube-proxy, or who replaces it (port 10256 is listened on)");
    }
}
