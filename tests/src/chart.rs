//! The Helm chart, rendered by Helm.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Where the image would be: the one thing that has to be said.
pub const IMAGE: &str = "image.repository=registry.example/balancing";

/// A file of the repository.
pub fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// A program that `cargo xtask setup` installs.
#[track_caller]
pub fn tool(name: &str) -> PathBuf {
    let path = file("target/tools").join(name);
    assert!(path.is_file(), "{} is not there: run `cargo xtask setup`", path.display());
    path
}

/// What `helm template` prints with these values (`key=value`, the value as JSON), of a release in kube-system.
///
/// # Errors
/// Helm refuses: what it says.
pub fn template(values: &[&str]) -> Result<String> {
    let mut helm = Command::new(tool("helm"));
    helm.args(["template", "balancing"]).arg(file("charts/balancing")).args(["--namespace", "kube-system"]);
    for value in values {
        let (key, text) = value.split_once('=').context("give key=value")?;
        // Words need no quotes here, either.
        let is_json = serde_json::from_str::<Value>(text).is_ok();
        helm.arg(if is_json { "--set-json" } else { "--set-string" }).arg(format!("{key}={text}"));
    }
    let output = helm.output().context("start helm")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).context("what helm prints")
}

/// The objects of that.
///
/// # Errors
/// As [`template`].
pub fn render(values: &[&str]) -> Result<Vec<Value>> {
    objects(&template(values)?)
}

/// The objects of a text of manifests.
///
/// # Errors
/// It is no YAML.
pub fn objects(manifests: &str) -> Result<Vec<Value>> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(manifests).context("read manifests")?;
    Ok(documents.into_iter().filter(|document| !document.is_null()).collect())
}

/// The object of that kind, of which there is one.
#[track_caller]
pub fn one<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let mut found = objects.iter().filter(|object| object["kind"] == kind);
    let object = found.next().unwrap_or_else(|| panic!("no {kind}"));
    assert!(found.next().is_none(), "more than one {kind}");
    object
}

/// The definitions of policies that the chart brings along.
///
/// # Errors
/// They can't be read.
pub fn definitions() -> Result<Vec<Value>> {
    let directory = file("charts/balancing/crds");
    let mut all = Vec::new();
    for entry in fs::read_dir(&directory).with_context(|| directory.display().to_string())? {
        all.extend(objects(&fs::read_to_string(entry?.path())?)?);
    }
    Ok(all)
}
