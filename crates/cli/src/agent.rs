//! `balancing agent`.

use std::{path::PathBuf, process::ExitCode};

use agent::{Config, EventLevel};
use anyhow::Context;
use clap::Args;
use kernel::Sizes;

use crate::place::Place;

/// Run the node agent: follow the manifests, keep the kernel's tables and programs right
///
/// Stopping it stops nothing else: programs and tables stay in force, and the next agent takes them over.
#[derive(Args)]
#[command(after_help = "Example:\n  balancing agent --manifests /etc/balancing/manifests\n\n\
                        BALANCING_LOG=debug makes the log say more.")]
pub(crate) struct Options {
    /// Directory of Kubernetes manifests (YAML or JSON), followed live
    #[arg(long, value_name = "DIR", env = "BALANCING_MANIFESTS")]
    manifests: PathBuf,
    /// Name of this node, as in Node objects and endpoints [default: the host name]
    #[arg(long, value_name = "NAME", env = "BALANCING_NODE_NAME")]
    node_name: Option<String>,
    /// The cgroup whose processes are served [default: the root of the cgroup2 mount, that is all]
    #[arg(long, value_name = "DIR", env = "BALANCING_CGROUP_ROOT")]
    cgroup_root: Option<PathBuf>,
    /// Serve only services whose label service.kubernetes.io/service-proxy-name has this value
    #[arg(long, value_name = "NAME", env = "BALANCING_SERVICE_PROXY_NAME")]
    service_proxy_name: Option<String>,
    /// Which decisions become events: off, failures, sampled=N (one in N) or all
    #[arg(long, value_name = "LEVEL", env = "BALANCING_EVENTS", default_value_t = EventLevel::Failures)]
    events: EventLevel,
    /// Service ports that the tables have room for; fixed when the maps are made
    #[arg(
        long, value_name = "N", env = "BALANCING_MAX_SERVICES",
        default_value_t = Sizes::default().services, value_parser = clap::value_parser!(u32).range(1..=4_194_304)
    )]
    max_services: u32,
    /// Endpoints of service ports that the tables have room for; fixed when the maps are made
    #[arg(
        long, value_name = "N", env = "BALANCING_MAX_BACKENDS",
        default_value_t = Sizes::default().backends, value_parser = clap::value_parser!(u32).range(1..=16_777_216)
    )]
    max_backends: u32,
    #[command(flatten)]
    place: Place,
}

impl Options {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        observe::log::start();
        let config = Config {
            node: self.node_name.unwrap_or_else(agent::config::node_name),
            manifests: self.manifests,
            cgroup: self.cgroup_root,
            pins: self.place.pins(),
            socket: self.place.socket,
            sizes: Sizes { services: self.max_services, backends: self.max_backends },
            events: self.events,
            proxy_name: self.service_proxy_name,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("starting the runtime")?;
        runtime.block_on(async {
            let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
            let stop = async {
                tokio::select! {
                    _ = tokio::signal::ctrl_c() => {}
                    _ = terminate.recv() => {}
                }
            };
            agent::run(config, stop).await?;
            Ok(ExitCode::SUCCESS)
        })
    }
}
