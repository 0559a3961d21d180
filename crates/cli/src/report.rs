//! `balancing report`.

use std::{
    collections::BTreeMap,
    fs::OpenOptions,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

use agent::bundle::{Part, gather};
use anyhow::Context;
use clap::Args;
use flate2::{Compression, write::GzEncoder};
use tar::{Builder, Header};

use crate::settings::{Settings, Subset};

/// Put what helps to understand this node into one file, without secrets
///
/// Status, configuration, log, events, tables, programs, and facts of the kernel. It has no contents of manifests, no
/// values of environment variables and no command lines. It works without the agent; what can't be had is said in the
/// README of the bundle.
#[derive(Args)]
#[command(after_help = "Examples:\n  balancing report\n  balancing report -o /tmp/node-7.tar.gz\n  \
                        balancing report -o - | ssh elsewhere 'cat > report.tar.gz'\n\n\
                        Exit codes: 0 written, also if something in it is missing, 1 not written, 2 wrong usage.")]
pub(crate) struct Options {
    /// The file; - is standard output [default: balancing-report-NODE-SECONDS.tar.gz, here]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings<Needed>,
}

struct Needed;

impl Subset for Needed {
    fn has(flag: &str) -> bool {
        matches!(flag, "bpffs" | "socket" | "cgroup-root" | "manifests")
    }
}

impl Options {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let effective = &self.settings.effective;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let name = format!("balancing-report-{}-{now}", effective.config.node_name);
        let parts = gather(effective);
        let path = self.output.unwrap_or_else(|| PathBuf::from(format!("{name}.tar.gz")));
        if path == Path::new("-") {
            write(io::stdout().lock(), &name, now, &parts).context("write the report")?;
        } else {
            // What a node's administrator sees is not for everybody.
            let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
            let context = || format!("write {}; choose another place with -o", path.display());
            let file = file.with_context(context)?;
            write(io::BufWriter::new(file), &name, now, &parts).with_context(context)?;
        }
        let missing = missing(&parts);
        for (reason, names) in &missing {
            eprintln!("not in it: {}: {reason}", names.join(", "));
        }
        if path != Path::new("-") {
            let count = parts.iter().filter(|part| part.content.is_ok()).count();
            crate::output::print(&format!("wrote {} ({count} files, and a README)", path.display()))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn write(out: impl Write, name: &str, now: u64, parts: &[Part]) -> io::Result<()> {
    let mut archive = Builder::new(GzEncoder::new(out, Compression::default()));
    let mut add = |file: &str, text: &str| {
        let mut header = Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(now);
        archive.append_data(&mut header, format!("{name}/{file}"), text.as_bytes())
    };
    add("README.md", &readme(name, parts))?;
    for part in parts {
        if let Ok(text) = &part.content {
            add(part.name, text)?;
        }
    }
    archive.into_inner()?.finish()?.flush()
}

fn readme(name: &str, parts: &[Part]) -> String {
    let mut text = format!(
        "# {name}\n\nMade by `balancing report`, version {}. Left out on purpose: contents of manifests, values of \
         environment variables, command lines of processes.\n\n",
        env!("CARGO_PKG_VERSION")
    );
    text += "| file | what |\n|---|---|\n";
    for part in parts.iter().filter(|part| part.content.is_ok()) {
        text += &format!("| {} | {} |\n", part.name, part.about);
    }
    let missing = missing(parts);
    if !missing.is_empty() {
        text += "\n## What could not be had\n\n";
        for (reason, names) in missing {
            text += &format!("- {}: {reason}\n", names.join(", "));
        }
    }
    text
}

/// What is missing, by the reason for it.
fn missing(parts: &[Part]) -> BTreeMap<&str, Vec<&str>> {
    let mut missing: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for part in parts {
        if let Err(reason) = &part.content {
            missing.entry(reason).or_default().push(part.name);
        }
    }
    missing
}
