//! `balancing doctor`.

use std::process::ExitCode;

use agent::doctor::{Finding, Outcome, findings};
use clap::Args;

use crate::{
    output::{Format, Row, list, print},
    settings::{Settings, Subset},
};

/// Look whether this machine has what Balancing needs, and say what to do where it has not
#[derive(Args)]
#[command(
    after_help = "Example:\n  balancing doctor\n\nExit codes: 0 all there, 1 something is missing, 2 wrong usage."
)]
pub(crate) struct Options {
    #[command(flatten)]
    settings: Settings<Needed>,
    /// Form of the listing
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

struct Needed;

impl Subset for Needed {
    fn has(flag: &str) -> bool {
        matches!(flag, "cgroup-root" | "outside-cluster" | "replace-kube-proxy")
    }
}

impl Row for Finding {
    const HEADS: &'static [&'static str] = &["CHECK", "RESULT", "DETAIL"];
    const NARROW: usize = 3;
    const PROSE: bool = true;

    fn cells(&self) -> Vec<String> {
        let result = match self.result {
            Outcome::Ok => "ok",
            Outcome::Warning => "warning",
            Outcome::Missing => "MISSING",
        };
        vec![self.check.clone(), result.into(), self.detail.clone()]
    }
}

impl Options {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let findings = findings(&self.settings.effective.config)?;
        list(&findings, self.output, "")?;
        let missing = findings.iter().filter(|finding| finding.result == Outcome::Missing).count();
        if matches!(self.output, Format::Table | Format::Wide) {
            print(&match missing {
                0 => "\nThis machine has what Balancing needs.".to_owned(),
                count => format!(
                    "\n{count} things are missing; Balancing will not work here until they are there."
                ),
            })?;
        }
        Ok(if missing == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
