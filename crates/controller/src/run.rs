//! The tasks of a controller.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use rustix::io::Errno;
use tokio::{
    net::TcpListener,
    sync::{oneshot, watch},
    task::JoinSet,
    time::sleep,
};

use crate::{
    Certificate, Config, Error, Shared,
    certificate::{files, secret, trust},
    health, oversight, policies,
    server::{self, serve},
    webhook,
};

/// Runs until `stop` comes to its end. Answers for a little longer then, so that nobody is turned away.
///
/// # Errors
/// [`Error`]: what it needs can't be had, or a task has ended that should not.
pub async fn run(config: Config, stop: impl Future<Output = ()>) -> Result<(), Error> {
    let client = config.access.client().await?;
    let shared = Shared::new(client, config.clock.clone());
    let stopping = watch::Sender::new(false);
    let mut tasks: Tasks = JoinSet::new();

    // Who can't listen is told so before anything else is done.
    let listener = listen("webhooks", config.webhook).await?;
    let tls = server::tls(shared.served.clone())?;
    tasks.spawn(serve(listener, Some(tls), webhook::answers(&shared), stopping.subscribe()));
    for address in &config.health {
        let listener = listen("health and metrics", *address).await?;
        tasks.spawn(serve(listener, None, health::answers(&shared, &stopping), stopping.subscribe()));
    }
    for kind in policies::KINDS {
        tasks.spawn(policies::follow(shared.clone(), kind));
    }
    tasks.spawn(trust::tell(shared.clone(), config.configuration.clone()));
    match config.certificate.clone() {
        Certificate::Own { secret, names } => {
            let place = secret::Place {
                name: secret,
                names: names_of(&config.service, &config.namespace, &names),
                namespace: config.namespace.clone(),
                every: config.every,
            };
            tasks.spawn(secret::keep(shared.clone(), place));
        }
        Certificate::Given(files) => drop(tasks.spawn(files::follow(shared.clone(), files))),
    }
    let (end, ended) = oneshot::channel();
    let overseen = oversight::Config {
        access: config.access.clone(),
        namespace: config.namespace.clone(),
        lease: config.lease.clone(),
        times: config.times,
    };
    let mut overseer = tokio::spawn(oversight::run(overseen, shared.metrics.oversight.clone(), ended));
    tracing::info!("webhooks are answered at {}", config.webhook);

    tokio::select! {
        error = first_end(&mut tasks) => return Err(error),
        outcome = &mut overseer => {
            outcome.map_err(|_| Error::Ended("oversight"))??;
            return Err(Error::Ended("oversight"));
        }
        () = stop => {}
    }
    // Another one is to write at once.
    drop(end);
    // Who asks whether we are ready hears that we are not, and API servers are soon told of it.
    stopping.send_replace(true);
    tokio::select! {
        error = first_end(&mut tasks) => return Err(error),
        () = sleep(config.linger) => {}
    }
    Ok(overseer.await.map_err(|_| Error::Ended("oversight"))??)
}

/// Tasks without end.
type Tasks = JoinSet<Result<(), Error>>;

/// Of one of many the absence would not be noticed: the first that ends ends all.
async fn first_end(tasks: &mut Tasks) -> Error {
    match tasks.join_next().await {
        Some(Ok(Err(error))) => error,
        Some(Err(error)) => {
            tracing::error!("{error}");
            Error::Ended("a task")
        }
        Some(Ok(Ok(()))) | None => Error::Ended("a task"),
    }
}

/// How API servers call the Service (kubernetes 1.36 staging/src/k8s.io/apiserver/pkg/util/webhook/client.go), and how others may.
fn names_of(service: &str, namespace: &str, more: &[String]) -> Vec<String> {
    let service = format!("{service}.{namespace}.svc");
    // As certificates have them.
    let written = |name: &String| match name.parse::<IpAddr>() {
        Ok(ip) => ip.to_string(),
        Err(_) => name.to_lowercase(),
    };
    let mut names = vec![service.clone(), format!("{service}.cluster.local")];
    for name in more.iter().map(written) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// Of both families, at the unspecified address of IPv6, unless this machine does without that.
async fn listen(what: &'static str, address: SocketAddr) -> Result<TcpListener, Error> {
    let bound = match TcpListener::bind(address).await {
        Err(error) if is_without_ipv6(&error) && address.ip().is_unspecified() => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await
        }
        bound => bound,
    };
    bound.map_err(|source| Error::Listen { what, address, source })
}

fn is_without_ipv6(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_certificates_have_them_each_once() {
        let more = ["FD00:0::1", "Webhook.Example", "fd00::1", "web.kube-system.svc"].map(str::to_owned);
        assert_eq!(
            names_of("web", "kube-system", &more),
            ["web.kube-system.svc", "web.kube-system.svc.cluster.local", "fd00::1", "webhook.example"]
        );
    }
}
