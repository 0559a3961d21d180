//! `cargo xtask demo`: sets up, builds, and runs the demo as root; `--record` puts what it prints into README.md.

use std::{
    env, fs,
    io::{BufRead, BufReader, IsTerminal},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::{
    run::{as_root, build_programs, workspace},
    setup,
};

/// How to run it.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Also write what it prints into README.md, between `<!-- demo:begin -->` and `<!-- demo:end -->`
    #[arg(long)]
    record: bool,
    /// In about six seconds instead of twenty-five
    #[arg(long)]
    fast: bool,
}

const BEGIN: &str = "<!-- demo:begin -->";
const END: &str = "<!-- demo:end -->";

/// Runs it; fails when anything in it did.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let readme = workspace().join("README.md");
    if arguments.record {
        // Before anything that takes time.
        let text =
            fs::read_to_string(&readme).context("--record writes into README.md, which can't be read")?;
        spliced(&text, "")?;
    }
    setup::run()?;
    println!("==> build");
    let built = build_programs(&["balancing-demo", "balancing-cli"])?;
    let (demo, balancing) = (built("balancing-demo")?, built("balancing")?);
    let mut run = as_root("env", "the demo makes namespaces and attaches programs to a cgroup of its own:")?;
    // `env` carries what is set here through sudo, which drops it.
    for kept in ["PATH", "TERM", "NO_COLOR"] {
        if let Ok(value) = env::var(kept) {
            run.arg(format!("{kept}={value}"));
        }
    }
    run.arg(&demo).arg("--balancing").arg(&balancing);
    if arguments.fast {
        run.arg("--fast");
    }
    println!();
    if !arguments.record {
        let status = run.status().context("cannot run the demo")?;
        return if status.success() { Ok(()) } else { bail!("the demo failed: {status}") };
    }
    let printed = listen(&mut run)?;
    let text = fs::read_to_string(&readme).context("cannot read README.md")?;
    fs::write(&readme, spliced(&text, &printed)?).context("cannot write README.md")?;
    println!("\nrecorded in README.md");
    Ok(())
}

/// Runs the demo, shows what it prints, and returns it.
fn listen(run: &mut Command) -> Result<String> {
    let mut demo = run.stdout(Stdio::piped()).spawn().context("cannot run the demo")?;
    let mut text = String::new();
    for line in demo.stdout.take().into_iter().flat_map(|out| BufReader::new(out).lines()) {
        let line = line.context("cannot read what the demo prints")?;
        println!("{line}");
        text.push_str(&line);
        text.push('\n');
    }
    let status = demo.wait().context("cannot wait for the demo")?;
    if !status.success() {
        bail!("the demo failed ({status}); README.md is as it was");
    }
    if std::io::stdout().is_terminal() {
        println!("(On a terminal and not recorded, the tables move and there are colours.)");
    }
    Ok(text)
}

/// `text` with `recording` between its markers.
fn spliced(text: &str, recording: &str) -> Result<String> {
    let parts = text.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let Some((before, after)) = parts else {
        bail!("README.md has no lines {BEGIN} and {END}, in that order, to record between");
    };
    Ok(format!("{before}{BEGIN}\n```text\n{recording}```\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recording_replaces_the_one_before() {
        let empty = "# Title\n<!-- demo:begin -->\n<!-- demo:end -->\nrest\n";
        let first = spliced(empty, "one\n").unwrap();
        assert_eq!(first, "# Title\n<!-- demo:begin -->\n```text\none\n```\n<!-- demo:end -->\nrest\n");
        assert_eq!(spliced(&first, "one\n").unwrap(), first);
        assert!(spliced("# Title\n<!-- demo:end -->\n<!-- demo:begin -->\n", "one\n").is_err());
    }
}
