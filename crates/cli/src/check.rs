//! `balancing check`.

use std::{io::stdin, path::PathBuf, process::ExitCode};

use agent::check::{Report, check};
use clap::Args;

use crate::output::{Format, show};

/// Say what is wrong with manifests, without a cluster and without an agent
///
/// Policies are judged as the controller's webhook judges them, by the same code: each by itself and beside the others of these
/// files. Services and whatever else counts are read as the agent reads them.
#[derive(Args)]
#[command(after_help = "Examples:\n  balancing check policies.yaml\n  \
                        balancing check deploy/ more.yaml\n  \
                        helm template . | balancing check -\n  \
                        balancing check -o json deploy/ | jq -r '.problems[].file'\n\n\
                        Exit codes: 0 nothing is wrong, 1 something is, 2 wrong usage.")]
pub(crate) struct Options {
    /// Files, or directories of which .yaml, .yml and .json files are read; - is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Form of the answer
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

impl Options {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let report = check(&self.files, stdin().lock());
        show(&report, self.output, |_| text(&report))?;
        Ok(if report.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn text(report: &Report) -> String {
    let mut lines: Vec<String> = report.problems.iter().map(ToString::to_string).collect();
    lines.extend(report.notices.iter().map(|notice| format!("notice: {notice}")));
    let count = |count: usize, what: &str| match count {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    };
    let mut sum = format!("{}, {}", count(report.objects, "object"), count(report.problems.len(), "problem"));
    if report.ignored > 0 {
        sum += &format!("; {} of other kinds not looked at", report.ignored);
    }
    lines.push(sum);
    lines.join("\n")
}
