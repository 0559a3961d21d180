//! `balancing crd`.

use std::process::ExitCode;

use clap::Args;

use crate::output::print;

/// Print the CustomResourceDefinitions of LocalRedirectPolicy and BalancingPolicy, for kubectl apply
///
/// With them a cluster takes policies, and checks them by the rules that they carry. Agents take them up within a minute.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  balancing crd | kubectl apply --server-side --force-conflicts -f -\n  balancing crd -o json | jq .items[].metadata.name\n\n\
                        Exit codes: 0 done, 2 wrong usage."
)]
pub(crate) struct Options {
    /// Form of the definitions
    #[arg(short, long, value_enum, default_value_t)]
    output: Form,
}

#[derive(Clone, Copy, Default, clap::ValueEnum)]
enum Form {
    /// Two documents.
    #[default]
    Yaml,
    /// One list.
    Json,
}

impl Options {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let crds = api::policy::crds();
        match self.output {
            Form::Yaml => {
                for crd in &crds {
                    print(&format!("---\n{}", serde_saphyr::to_string(crd)?.trim_end()))?;
                }
            }
            Form::Json => {
                let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": crds});
                print(&serde_json::to_string_pretty(&list)?)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
