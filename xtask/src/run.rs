//! Running other programs: from the root of the workspace, with errors that name the command.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// The root of the workspace.
pub(crate) fn workspace() -> PathBuf {
    // Compiled in: the alias always runs an xtask that was built in this very tree.
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask).to_path_buf()
}

/// A command that runs in the root of the workspace.
pub(crate) fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.current_dir(workspace());
    // `cargo run` describes xtask to its children; a nested cargo must not take that for its own package.
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("CARGO_PKG_")
            || name.to_string_lossy().starts_with("CARGO_MANIFEST_")
        {
            command.env_remove(name);
        }
    }
    command
}

/// The cargo that runs this xtask, so that `cargo +toolchain xtask` stays with its toolchain.
pub(crate) fn cargo() -> Command {
    command(&env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()))
}

/// `name` found on PATH, in cargo's bin directory, or where Debian keeps what only root has on PATH.
pub(crate) fn which(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain([cargo_bin(), "/usr/sbin".into(), "/sbin".into()])
        .map(|directory| directory.join(name))
        .find(|file| file.is_file())
}

/// Where `cargo install` puts programs.
pub(crate) fn cargo_bin() -> PathBuf {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    home.or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")))
        .unwrap_or_else(|| "/root/.cargo".into())
        .join("bin")
}

/// Whether this process is root.
pub(crate) fn is_root() -> bool {
    // The owner of /proc/self is the effective user; no libc needed for one number.
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|status| status.uid() == 0)
}

/// `program` as root: itself when we are, through sudo otherwise.
pub(crate) fn as_root(program: &str, purpose: &str) -> Result<Command> {
    if is_root() {
        return Ok(command(program));
    }
    if which("sudo").is_none() {
        bail!("{purpose} needs root: run this as root, or install sudo");
    }
    let mut sudo = command("sudo");
    sudo.arg(program);
    Ok(sudo)
}

/// Runs `command` with its output shown; fails when it does.
pub(crate) fn succeed(command: &mut Command) -> Result<()> {
    let shown = shown(command);
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("cannot run `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed: {status}");
    }
    Ok(())
}

/// What `command` prints, `None` when it cannot be run or fails: for questions like "is it installed".
pub(crate) fn output(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What `command` prints; its standard error is shown; fails when it does.
pub(crate) fn capture(command: &mut Command) -> Result<String> {
    let shown = shown(command);
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run `{shown}`"))?;
    if !output.status.success() {
        bail!("`{shown}` failed: {}", output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Builds the programs of these packages; says where each is.
pub(crate) fn build_programs(packages: &[&str]) -> Result<impl Fn(&str) -> Result<PathBuf>> {
    let mut build = cargo();
    build.args(["build", "--bins"]).args(packages.iter().flat_map(|package| ["--package", package]));
    let printed = capture(build.arg("--message-format=json-render-diagnostics"))?;
    Ok(move |name: &str| {
        let messages = printed.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut executables = messages.filter(|message| message["target"]["name"] == name);
        let file = executables.find_map(|message| message["executable"].as_str().map(PathBuf::from));
        file.with_context(|| format!("the build produced no program `{name}`"))
    })
}

fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let mut shown = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned();
    for argument in command.get_args() {
        shown.push(' ');
        shown.push_str(&argument.to_string_lossy());
    }
    shown
}
