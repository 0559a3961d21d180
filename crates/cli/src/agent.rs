//! `balancing agent`.

use std::process::ExitCode;

use agent::config::Shown;
use anyhow::Context;
use clap::Args;

use crate::{
    output::{Format, Row, list, wrong_usage},
    settings::{All, Settings},
    stop::stop,
};

/// Run the node agent: follow a cluster or a directory of manifests, keep the kernel's tables and programs right
///
/// Stopping it stops nothing else: programs and tables stay in force, and the next agent takes them over.
///
/// A flag wins over its environment variable, that over the configuration file, that over the default.
#[derive(Args)]
#[command(after_help = "Examples:\n  balancing agent --manifests /etc/balancing/manifests\n  \
                        balancing agent --kubeconfig /etc/kubernetes/balancing.conf --api-server https://10.0.0.1:6443\n  \
                        balancing agent --config /etc/balancing/agent.yaml --print-config\n\n\
                        BALANCING_LOG=debug makes the log say more.\n\n\
                        Exit codes: 0 stopped, 1 failed, 2 wrong usage or configuration.")]
pub(crate) struct Options {
    #[command(flatten)]
    settings: Settings<All>,
    /// Show the effective configuration, and where each value came from, and exit
    #[arg(long)]
    print_config: bool,
    /// Form of that
    #[arg(short, long, value_enum, default_value_t, requires = "print_config")]
    output: Format,
}

impl Row for Shown {
    const HEADS: &'static [&'static str] = &["KEY", "VALUE", "FROM", "ENVIRONMENT"];
    const NARROW: usize = 3;
    const PROSE: bool = true;

    fn cells(&self) -> Vec<String> {
        vec![self.key.clone(), self.value_text(), self.origin_text(), self.environment.clone()]
    }
}

impl Options {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        if self.print_config {
            list(&self.settings.effective.shown(), self.output, "")?;
            return Ok(ExitCode::SUCCESS);
        }
        let effective = self.settings.effective;
        let choice = match effective.config.choice() {
            Ok(choice) => choice,
            Err(error) => return Ok(wrong_usage(&error.to_string())),
        };
        let log = observe::log::start();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("starting the runtime")?;
        let outcome = runtime.block_on(async {
            agent::run(effective, &choice, log, stop()?).await?;
            Ok(ExitCode::SUCCESS)
        });
        // Nobody wants what a search or a look into a directory would still find: on a busy machine either takes seconds.
        runtime.shutdown_background();
        outcome
    }
}
