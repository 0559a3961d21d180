//! `cargo xtask image`: the program as one file that needs no other, and an image of that and nothing else.
//!
//! deploy/Containerfile says what is in the image, and buildah makes it, without a daemon and without a network. What came
//! out is unpacked again and run in an empty root.

use std::{
    env::consts::ARCH,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::{
    run::{as_root, capture, cargo, command, output, succeed, workspace},
    setup,
    test::{balancing, messages},
};

/// Where everything that this makes is, below the workspace.
const DIRECTORY: &str = "target/image";

/// Builds, and checks what was built.
pub(crate) fn run() -> Result<()> {
    setup::run()?;
    setup::programs(&[("musl-gcc", "musl-tools"), ("buildah", "buildah")]);
    let directory = workspace().join(DIRECTORY);
    // The image's own file belongs to root.
    succeed(as_root("rm", "building an image")?.arg("-rf").arg(&directory))?;
    fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;

    let program = directory.join("balancing");
    let built = build(&target())?;
    fs::copy(&built, &program)
        .with_context(|| format!("cannot copy {} to {}", built.display(), program.display()))?;
    let archive = directory.join("balancing.tar");
    pack(&directory, &archive)?;
    let version = check(&directory, &archive)?;
    println!(
        "{version}: {DIRECTORY}/balancing ({} MiB), and an image of it: {DIRECTORY}/balancing.tar",
        fs::metadata(&program).with_context(|| format!("cannot look at {}", program.display()))?.len() >> 20
    );
    Ok(())
}

/// What to build for: musl, which looks names up by itself. Where rustup cannot provide that, glibc does: it is the same
/// in an image, but on hosts that ask other services for names than files and DNS it would want libraries of its own version.
fn target() -> String {
    let musl = format!("{ARCH}-unknown-linux-musl");
    let is_there = || {
        let directory = output(command("rustc").args(["--print", "target-libdir", "--target", &musl]));
        directory.is_some_and(|directory| Path::new(directory.trim()).is_dir())
    };
    if is_there() {
        return musl;
    }
    println!("Going to install a target of the toolchain: rustup target add {musl}");
    let added = command("rustup").args(["target", "add", &musl]).env("RUSTUP_MAX_RETRIES", "0").status();
    if added.is_ok_and(|status| status.success()) && is_there() {
        return musl;
    }
    println!(
        "rustup cannot provide it here: the program is linked with this machine's glibc instead, statically too."
    );
    format!("{ARCH}-unknown-linux-gnu")
}

/// The program, linked statically.
fn build(target: &str) -> Result<PathBuf> {
    println!("==> build for {target}");
    let mut build = cargo();
    build.args([
        "build",
        "--release",
        "--package",
        "balancing-cli",
        "--bin",
        "balancing",
        "--target",
        target,
    ]);
    build.arg("--message-format=json-render-diagnostics");
    // musl is linked statically anyway. RUSTFLAGS would reach the eBPF programs too.
    if target.ends_with("gnu") {
        build.arg(format!("--config=target.{target}.rustflags=['-Ctarget-feature=+crt-static']"));
    }
    let printed = capture(&mut build).context("the program does not build")?;
    messages(&printed).find_map(|message| balancing(&message)).context("cargo built no program `balancing`")
}

/// An image of `directory` as deploy/Containerfile has it.
fn pack(directory: &Path, archive: &Path) -> Result<()> {
    println!("==> image");
    let purpose = "building an image";
    let storage = directory.join("storage");
    let mut buildah = as_root("buildah", purpose)?;
    buildah.args(["--storage-driver", "vfs", "--root"]).arg(storage.join("root"));
    buildah.arg("--runroot").arg(storage.join("run"));
    // The same program is the same image, whenever it is built.
    buildah.args(["build", "--quiet", "--isolation", "chroot", "--timestamp", "0"]);
    buildah.args(["--file", "deploy/Containerfile", "--tag"]);
    buildah.arg(format!("oci-archive:{}:balancing:{}", archive.display(), env!("CARGO_PKG_VERSION")));
    succeed(buildah.arg(directory))?;
    // Nothing in target/ is to belong to root.
    succeed(as_root("chown", purpose)?.arg(format!("--reference={}", directory.display())).arg(archive))?;
    succeed(as_root("rm", purpose)?.arg("-rf").arg(&storage))
}

/// Unpacks the image and runs it where nothing else is; what it says its version is.
fn check(directory: &Path, archive: &Path) -> Result<String> {
    let layout = directory.join("layout");
    unpack(archive, &layout)?;
    let index = json(&layout.join("index.json"))?;
    let manifest = json(&blob(&layout, &index["manifests"][0]["digest"])?)?;
    let config = json(&blob(&layout, &manifest["config"]["digest"])?)?;
    let [layer] = manifest["layers"].as_array().map_or(&[][..], Vec::as_slice) else {
        bail!("the image is to have one layer: {manifest}");
    };
    let root = directory.join("root");
    unpack(&blob(&layout, &layer["digest"])?, &root)?;
    let files = capture(command("find").args([".", "-type", "f"]).current_dir(&root))?;
    ensure!(files == "./usr/bin/balancing\n", "the image is to have one file, and has:\n{files}");
    let entry = config["config"]["Entrypoint"][0].as_str().context("the image has no entry point")?;
    let mut inside = as_root("chroot", "running the image's program in an empty root")?;
    let version = capture(inside.arg(&root).args([entry, "--version"])).context("the image does not run")?;
    succeed(command("rm").arg("-rf").args([layout, root]))?;
    Ok(version.trim().to_owned())
}

fn unpack(archive: &Path, directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    succeed(command("tar").arg("-xf").arg(archive).arg("-C").arg(directory))
}

/// A file of an image layout, by its digest.
fn blob(layout: &Path, digest: &Value) -> Result<PathBuf> {
    let digest = digest.as_str().and_then(|digest| digest.strip_prefix("sha256:"));
    Ok(layout.join("blobs/sha256").join(digest.context("the image lacks a digest")?))
}

fn json(file: &Path) -> Result<Value> {
    let text = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is no JSON", file.display()))
}
