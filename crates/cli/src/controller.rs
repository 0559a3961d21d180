//! `balancing controller`.

use std::{
    net::{Ipv6Addr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::Context;
use clap::Args;
use controller::{Access, Certificate, Clock, Config, Files, oversight::Times};

use crate::stop::stop;

/// After it was told to stop: for how long it goes on answering.
const LINGER: Duration = Duration::from_secs(5);
/// How often the clock is looked at for what is due.
const EVERY: Duration = Duration::from_secs(60);
/// Where a pod is told its namespace.
const NAMESPACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// Run the controller of a cluster: admission of policies, the pods that they select, what is said of them
///
/// Any number may run at once: all admit policies, one of them writes slices and statuses. While none runs, policies stay as they
/// are, and can be deleted.
#[derive(Args)]
#[command(after_help = "Examples:\n  balancing controller\n  \
                        balancing controller --kubeconfig ~/.kube/config --namespace balancing\n  \
                        balancing controller --tls-certificate /tls/tls.crt --tls-key /tls/tls.key --tls-authority /tls/ca.crt\n\n\
                        BALANCING_LOG=debug makes the log say more.\n\n\
                        Exit codes: 0 stopped, 1 failed, 2 wrong usage.")]
pub(crate) struct Options {
    /// The kubeconfig that says which cluster it is, and who the controller is there [default: in a pod, its service account]
    #[arg(long, env = "BALANCING_KUBECONFIG", value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The URL of an API server, instead of the kubeconfig's
    #[arg(long, env = "BALANCING_API_SERVER", value_name = "URL")]
    api_server: Option<String>,
    /// The namespace of its Service and its Secret [default: its pod's own, or kube-system]
    #[arg(long, env = "BALANCING_NAMESPACE", value_name = "NAME")]
    namespace: Option<String>,
    /// The Service by which API servers find it
    #[arg(long, env = "BALANCING_SERVICE", value_name = "NAME", default_value = "balancing-controller")]
    service: String,
    /// The name of the MutatingWebhookConfiguration and of the ValidatingWebhookConfiguration
    #[arg(long, env = "BALANCING_WEBHOOKS", value_name = "NAME", default_value = "balancing")]
    webhooks: String,
    /// The Lease that says which controller writes slices and statuses
    #[arg(long, env = "BALANCING_LEASE", value_name = "NAME", default_value = "balancing-controller")]
    lease: String,
    /// Where API servers ask
    #[arg(long, env = "BALANCING_WEBHOOK_PORT", value_name = "PORT", default_value_t = 5822)]
    webhook_port: u16,
    /// Where /livez, /readyz and /healthz are answered; 0 = nowhere
    #[arg(long, env = "BALANCING_HEALTH_PORT", value_name = "PORT", default_value_t = 5820)]
    health_port: u16,
    /// Where /metrics is answered; 0 = nowhere
    #[arg(long, env = "BALANCING_METRICS_PORT", value_name = "PORT", default_value_t = 5821)]
    metrics_port: u16,
    /// The Secret with the certificates that controllers make
    #[arg(
        long,
        env = "BALANCING_CERTIFICATE_SECRET",
        value_name = "NAME",
        default_value = "balancing-webhook"
    )]
    certificate_secret: String,
    /// A name or address of the webhooks beside those of the Service, for such certificates; may be given again
    #[arg(
        long,
        env = "BALANCING_CERTIFICATE_NAME",
        value_name = "NAME",
        value_delimiter = ',',
        conflicts_with = "tls_certificate"
    )]
    certificate_name: Vec<String>,
    /// A given certificate, PEM, instead of its own; read again when it changes
    #[arg(long, env = "BALANCING_TLS_CERTIFICATE", value_name = "FILE", requires = "tls_key")]
    tls_certificate: Option<PathBuf>,
    /// The key of that
    #[arg(long, env = "BALANCING_TLS_KEY", value_name = "FILE", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
    /// Whom API servers are to trust for that [default: somebody else tells them, as cert-manager does]
    #[arg(long, env = "BALANCING_TLS_AUTHORITY", value_name = "FILE", requires = "tls_certificate")]
    tls_authority: Option<PathBuf>,
}

impl Options {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        observe::log::start();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("starting the runtime")?;
        runtime.block_on(async {
            controller::run(self.config(), stop()?).await?;
            Ok(ExitCode::SUCCESS)
        })
    }

    fn config(self) -> Config {
        let at = |port| SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        let mut health = vec![self.health_port, self.metrics_port];
        health.retain(|port| *port != 0);
        health.dedup();
        let certificate = match self.tls_certificate.zip(self.tls_key) {
            Some((certificate, key)) => {
                Certificate::Given(Files { certificate, key, authority: self.tls_authority })
            }
            None => Certificate::Own { secret: self.certificate_secret, names: self.certificate_name },
        };
        Config {
            access: Access {
                kubeconfig: self.kubeconfig,
                api_servers: self.api_server.into_iter().collect(),
            },
            webhook: at(self.webhook_port),
            health: health.into_iter().map(at).collect(),
            namespace: self.namespace.unwrap_or_else(own_namespace),
            service: self.service,
            configuration: self.webhooks,
            lease: self.lease,
            times: Times::default(),
            certificate,
            linger: LINGER,
            clock: Clock::default(),
            every: EVERY,
        }
    }
}

fn own_namespace() -> String {
    let told = std::fs::read_to_string(NAMESPACE).unwrap_or_default();
    let told = told.trim();
    if told.is_empty() { "kube-system".to_owned() } else { told.to_owned() }
}
