//! `balancing plan`.

use std::process::ExitCode;

use agent::{
    config::ConfigError,
    dry_run::{DryRun, Frontend, Outcome, ServiceChange, dry_run},
};
use clap::Args;

use crate::{
    output::{Format, columns_of, prose_of, show, wrong_usage},
    settings::{Settings, Subset},
    width::width,
};

/// Something would change.
const CHANGES: u8 = 3;

/// Show what an agent would change in the kernel's tables, given these manifests, and change nothing
///
/// The manifests are read as the agent reads them, compared with the pinned tables, which are opened for reading only,
/// and the writes are planned by the agent's own code. Where no agent ever ran, everything is new.
#[derive(Args)]
#[command(after_help = "Examples:\n  balancing plan --manifests /etc/balancing/manifests\n  \
                        balancing plan --manifests ./new -v\n  \
                        balancing plan --manifests ./new -o json | jq '.services[].name'\n\n\
                        Exit codes: 0 nothing would change, 3 something would, 1 failed or a manifest is wrong \
                        (what is said of the others holds), 2 wrong usage.")]
pub(crate) struct Options {
    #[command(flatten)]
    settings: Settings<Needed>,
    /// Also show each write, in the order in which they are made
    #[arg(short, long)]
    verbose: bool,
    /// Form of the answer; json and yaml have all writes
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

struct Needed;

impl Subset for Needed {
    fn has(flag: &str) -> bool {
        matches!(
            flag,
            "manifests" | "node-name" | "service-proxy-name" | "max-services" | "max-backends" | "bpffs"
        )
    }
}

impl Options {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let config = &self.settings.effective.config;
        let Some(manifests) = &config.manifests else {
            return Ok(wrong_usage(&ConfigError::NoManifests.to_string()));
        };
        let run = dry_run(config, manifests)?;
        let verbose = self.verbose;
        show(&run, self.output, |format| text(&run, format, verbose))?;
        if !run.problems.is_empty() {
            let count = match run.problems.len() {
                1 => "there is a problem".into(),
                count => format!("there are {count} problems"),
            };
            anyhow::bail!("{count} with these manifests; an agent would do what is shown");
        }
        Ok(if run.changes { ExitCode::from(CHANGES) } else { ExitCode::SUCCESS })
    }
}

fn text(run: &DryRun, format: Format, verbose: bool) -> String {
    let objects: Vec<String> = run.objects.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    let tables = if run.tables.found {
        format!(
            "{} frontends, {} backends, in {}",
            run.tables.frontends, run.tables.backends, run.tables.pins
        )
    } else {
        format!("none in {}: everything would be new", run.tables.pins)
    };
    let mut rows = vec![("tables", tables), ("objects", objects.join(", "))];
    rows.extend(run.tables.notices.iter().map(|notice| ("notice", notice.clone())));
    rows.extend(run.problems.iter().map(|problem| ("problem", problem.clone())));
    rows.extend(run.notices.iter().map(|notice| ("notice", notice.clone())));
    rows.push(("writes", run.summary.clone()));
    let rows = rows.into_iter().map(|(what, text)| vec![what.to_owned(), text]);
    let mut text = prose_of(std::iter::empty::<&str>(), rows);
    if !run.services.is_empty() {
        let frontends = run.services.iter().flat_map(|service| {
            service.frontends.iter().map(|frontend| cells(service, frontend, format == Format::Wide))
        });
        text += "\n\n";
        text += &columns_of(
            ["", "SERVICE", "FRONTEND", "PROTOCOL", "BACKENDS"].iter(),
            frontends,
            width().filter(|_| format != Format::Wide),
        );
    }
    if verbose {
        for (number, phase) in run.phases.iter().enumerate() {
            text += &format!("\n\nphase {}: {} {}", number + 1, phase.count, phase.phase);
            text.extend(phase.lines.iter().map(|line| format!("\n  {line}")));
        }
    }
    if !run.changes {
        text += "\n\nNothing would change.";
    }
    text
}

fn cells(service: &ServiceChange, frontend: &Frontend, wide: bool) -> Vec<String> {
    let sign = match frontend.outcome {
        Outcome::New => "+",
        Outcome::Changed => "~",
        Outcome::Gone => "-",
    };
    let Frontend { backends_before: before, backends_after: after, added, removed, .. } = frontend;
    let mut backends = match frontend.outcome {
        Outcome::New => after.to_string(),
        Outcome::Gone => before.to_string(),
        Outcome::Changed if before == after && added.is_empty() => format!("{after} (other policy)"),
        Outcome::Changed => format!("{before} -> {after}"),
    };
    // A new one has them all, and one that goes loses them all.
    let is_changed = frontend.outcome == Outcome::Changed;
    if is_changed && !wide && added.len() + removed.len() > 1 {
        backends += &format!(" (+{} -{})", added.len(), removed.len());
    } else if wide || is_changed {
        backends.extend(added.iter().map(|address| format!(" +{address}")));
        backends.extend(removed.iter().map(|address| format!(" -{address}")));
    }
    vec![
        sign.into(),
        match service.namespace.as_str() {
            "" => format!("{} {}", service.kind, service.name),
            namespace => format!("{namespace}/{}", service.name),
        },
        crate::get::frontend(frontend.address),
        frontend.protocol.into(),
        backends,
    ]
}
