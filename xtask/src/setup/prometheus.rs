//! Prometheus and promtool, for tests of the alerts and for the picture of the dashboard.
//!
//! Debian has both in its package `prometheus`. Installed, that would start a server: so they are taken out of the package, into
//! `target/tools`.

use std::{fs, time::Instant};

use anyhow::{Context, Result, ensure};

use super::which;
use crate::run::{command, output, succeed, workspace};

/// Programs of the package.
const PROGRAMS: [&str; 2] = ["promtool", "prometheus"];

/// Makes sure that `target/tools` has both.
pub(crate) fn prometheus() -> Result<()> {
    let tools = workspace().join("target/tools");
    if PROGRAMS.iter().all(|program| tools.join(program).is_file()) {
        return Ok(());
    }
    let begun = Instant::now();
    println!(
        "Going to put promtool and prometheus into target/tools, from Debian's package prometheus (19 MB)"
    );
    ensure!(
        which("apt-get").is_some() && which("dpkg-deb").is_some(),
        "no apt-get and dpkg-deb here: put promtool and prometheus, 2.42 or later, into {}",
        tools.display()
    );
    let work = tools.join("prometheus-package");
    let _ = fs::remove_dir_all(&work);
    fs::create_dir_all(&work).with_context(|| format!("cannot create {}", work.display()))?;
    let download = || succeed(command("apt-get").args(["-q", "download", "prometheus"]).current_dir(&work));
    if download().is_err() {
        super::refresh()?;
        download()?;
    }
    let package = fs::read_dir(&work).with_context(|| format!("cannot read {}", work.display()))?;
    let package = package
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|it| it == "deb"));
    succeed(command("dpkg-deb").arg("-x").arg(package.context("apt-get downloaded nothing")?).arg(&work))?;
    for name in PROGRAMS {
        let program = tools.join(name);
        fs::rename(work.join("usr/bin").join(name), &program)
            .with_context(|| format!("no {name} in the package"))?;
        ensure!(
            output(command(&program.to_string_lossy()).arg("--version")).is_some(),
            "{} does not run on this machine: put one there that does",
            program.display()
        );
    }
    fs::remove_dir_all(&work).with_context(|| format!("cannot remove {}", work.display()))?;
    println!("promtool and prometheus are there ({:.0} s)", begun.elapsed().as_secs_f32());
    Ok(())
}
