//! Who we are, and where the servers are.

use std::{
    io,
    iter::successors,
    path::{Path, PathBuf},
};

use kube::{
    Client, Config,
    client::AuthError,
    config::{KubeConfigOptions, Kubeconfig},
};

use super::servers::Servers;
use crate::Error;

/// How an API server is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// A kubeconfig; none = the service account of the pod that this runs in.
    pub kubeconfig: Option<PathBuf>,
    /// URLs of API servers, instead of the one that the kubeconfig names, or that of the service `kubernetes`: the agent must
    /// reach one without services. The next is asked if one fails.
    pub api_servers: Vec<String>,
}

impl Access {
    /// Does this process run in a pod, with a service account?
    pub fn is_in_pod() -> bool {
        std::env::var_os("KUBERNETES_SERVICE_HOST").is_some()
    }

    /// A client for whoever does more than to follow: of the first server alone.
    ///
    /// # Errors
    /// [`Error::Access`].
    pub async fn client(&self) -> Result<Client, Error> {
        let servers = Servers::open(self.clone()).await?;
        let server = servers.current().ok_or_else(|| Error::Access {
            what: "API servers".into(),
            reason: "there is none; give --kubeconfig".into(),
        })?;
        Ok(server.client)
    }

    /// One for each server.
    pub(crate) async fn configs(&self) -> Result<Vec<Config>, Error> {
        let mut config = match &self.kubeconfig {
            Some(path) => from_file(path).await?,
            None => Config::incluster().map_err(|error| Error::Access {
                what: "service account of the pod".into(),
                reason: format!("{}; outside of a pod give --kubeconfig", chain(&error)),
            })?,
        };
        // Failures are handled by those who follow.
        config.default_retry = false;
        if self.api_servers.is_empty() {
            return Ok(vec![config]);
        }
        let server = |url: &String| {
            let uri = url.parse().ok().filter(|uri: &http::Uri| {
                matches!(uri.scheme_str(), Some("http" | "https")) && uri.authority().is_some()
            });
            let cluster_url = uri.ok_or_else(|| Error::Access {
                what: format!("--api-server {url}"),
                reason: "give a URL as https://10.0.0.1:6443".into(),
            })?;
            let mut config = config.clone();
            config.cluster_url = cluster_url;
            Ok(config)
        };
        self.api_servers.iter().map(server).collect()
    }
}

async fn from_file(path: &Path) -> Result<Config, Error> {
    let bad = |error: &dyn std::error::Error| Error::Access {
        what: format!("kubeconfig {}", path.display()),
        reason: chain(error),
    };
    let kubeconfig = Kubeconfig::read_from(path).map_err(|error| bad(&error))?;
    Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .map_err(|error| bad(&error))
}

/// Is it about who one is, and not about whether one is there?
pub(super) fn is_of_trust(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut causes = successors(Some(error), |error| error.source());
    causes.any(|error| {
        // What such an error wraps is not its source.
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        error.is::<AuthError>()
            || error.is::<rustls::Error>()
            || wrapped.is_some_and(|it| it.is::<rustls::Error>())
    })
}

/// An error with all that caused it, each said once.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}
