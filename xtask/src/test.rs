//! `cargo xtask test`: every test, level by level, with one table at the end.
//!
//! Tests are built once, as the user who asked; then each test binary is run by itself, as root where its
//! level needs that. So nothing in `target/` ever belongs to root, and counts come from the binaries.

mod report;

use std::{
    env, fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::Stdio,
    time::Instant,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use self::report::{Outcome, Report};
use crate::{
    run::{as_root, capture, cargo, command, is_root, output, which, workspace},
    setup,
};

/// What cargo is asked for; by all who want what it builds, since with other packages or features it is built again. What is not
/// compiled in by default is tested with the rest.
pub(crate) const BUILD: &[&str] =
    &["build", "--workspace", "--bins", "--tests", "--features", "balancing-cli/otel"];

/// Which tests to run.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only the levels that need no root and no eBPF: unit and property tests
    #[arg(long)]
    pure: bool,
}

/// Packages whose integration tests (`tests/*.rs`) work on the machine itself, and therefore need root.
const ROOT_PACKAGES: &[&str] = &[
    "balancing-tests",
    "balancing-testkit",
    "balancing-kernel",
    "balancing-host",
    "balancing-agent",
    "balancing-demo",
    "balancing-bench",
];

/// A built test binary.
struct TestBinary {
    package: String,
    /// Name of the target: the crate, or the file in its `tests/`.
    name: String,
    file: PathBuf,
    /// Where `cargo test` would run it.
    directory: PathBuf,
    needs_root: bool,
}

/// Paths of the two programs that process tests start.
struct Programs {
    current: PathBuf,
    next_layout: PathBuf,
}

/// Sets up, builds, runs, reports; fails when any test failed or the kernel back end ran no scenario.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    if !arguments.pure && !is_root() && which("sudo").is_none() {
        bail!("kernel, scenario and process tests need root: run this as root, install sudo, or give --pure");
    }
    setup::run()?;
    if !arguments.pure {
        setup::kubernetes()?;
        setup::prometheus()?;
        setup::programs(&[("systemd-analyze", "systemd"), ("nft", "nftables")]);
    }

    warn_of_little_room();
    println!("==> build");
    let begun = Instant::now();
    // The other layout first: what is built last is what remains as target/debug/balancing.
    let next_layout = if arguments.pure { None } else { Some(build_next_layout()?) };
    let (binaries, balancing) = build(arguments.pure)?;
    println!("==> build: {:.0} s", begun.elapsed().as_secs_f32());
    let programs = next_layout
        .map(|next_layout| -> Result<Programs> {
            let current = balancing.context("the build produced no program `balancing`")?;
            Ok(Programs { current, next_layout })
        })
        .transpose()?;

    let mut report = Report::default();
    for binary in binaries.iter().filter(|binary| !binary.needs_root) {
        report.add("unit, property", run_binary(binary, None)?);
    }
    if let Some(programs) = &programs {
        for binary in binaries.iter().filter(|binary| binary.needs_root) {
            report.add(&level(binary), run_binary(binary, Some(programs))?);
        }
    }
    report.print(!arguments.pure)
}

/// GiB that a first build takes below target/ (November 2026: 8.1 when lint has run and the tests are built, then the image).
const ROOM: u64 = 9;

/// A linker whose disk is full ends by SIGBUS, which says nothing to anybody.
fn warn_of_little_room() {
    let df = output(command("df").args(["--block-size=1G", "--output=avail"]).arg(workspace()));
    let free = df.and_then(|text| text.lines().last()?.trim().parse::<u64>().ok());
    if let Some(free) = free.filter(|free| *free < ROOM) {
        let target = workspace().join("target");
        println!("warning: {free} GiB are free for {}; a first build takes {ROOM}", target.display());
    }
}

/// What the table calls the level of a binary that needs root.
fn level(binary: &TestBinary) -> String {
    match binary.package.strip_prefix("balancing-") {
        Some("tests") | None => binary.name.clone(),
        Some(package) => format!("{package}: {}", binary.name),
    }
}

/// Builds the program with the layout of maps that "the next release" has, for upgrade tests, and keeps a copy.
fn build_next_layout() -> Result<PathBuf> {
    let feature = ["--package", "balancing-cli", "--features", "next-layout"];
    let printed = capture(cargo().args(["build", "--message-format=json-render-diagnostics"]).args(feature))
        .context("cannot build the program with another map layout, which upgrade tests need")?;
    let built = messages(&printed)
        .find_map(|message| balancing(&message))
        .context("building balancing-cli with the feature next-layout produced no program `balancing`")?;
    let copy = workspace().join("target/next-layout/balancing");
    fs::create_dir_all(copy.parent().unwrap_or(&copy)).context("cannot create target/next-layout")?;
    // A running copy cannot be overwritten, but it can be replaced.
    let _ = fs::remove_file(&copy);
    fs::copy(&built, &copy)
        .with_context(|| format!("cannot copy {} to {}", built.display(), copy.display()))?;
    Ok(copy)
}

/// Builds all programs and tests; returns the test binaries in a stable order, and the program `balancing`.
fn build(pure: bool) -> Result<(Vec<TestBinary>, Option<PathBuf>)> {
    let mut build = cargo();
    build.args(BUILD).arg("--message-format=json-render-diagnostics");
    if pure {
        build.args(["--exclude", "balancing-tests"]);
    }
    let printed = capture(&mut build).context("the tests do not build")?;
    let mut binaries = Vec::new();
    let mut program = None;
    for message in messages(&printed) {
        binaries.extend(test_binary(&message));
        program = program.or_else(|| balancing(&message));
    }
    binaries.sort_by(|a, b| (&a.package, &a.name).cmp(&(&b.package, &b.name)));
    Ok((binaries, program))
}

/// What cargo says of the programs that it has built.
pub(crate) fn messages(printed: &str) -> impl Iterator<Item = Value> {
    printed
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["reason"] == "compiler-artifact" && message["executable"].is_string())
}

/// The program `balancing`, if that is what cargo reports here.
pub(crate) fn balancing(message: &Value) -> Option<PathBuf> {
    let is_program = message["target"]["name"] == "balancing" && message["profile"]["test"] == false;
    is_program.then(|| message["executable"].as_str().map(PathBuf::from))?
}

/// The test binary that cargo reports here, if it is one.
fn test_binary(message: &Value) -> Option<TestBinary> {
    if message["profile"]["test"] != true {
        return None;
    }
    let manifest = Path::new(message["manifest_path"].as_str()?);
    let package = package_name(message["package_id"].as_str()?)?.to_owned();
    let integration = message["target"]["kind"].as_array()?.iter().any(|kind| kind == "test");
    let needs_root = integration && ROOT_PACKAGES.contains(&package.as_str());
    Some(TestBinary {
        package,
        name: message["target"]["name"].as_str()?.to_owned(),
        file: message["executable"].as_str()?.into(),
        directory: manifest.parent()?.to_path_buf(),
        needs_root,
    })
}

/// `balancing-tests` from `path+file:///work/tests#balancing-tests@0.1.0`; cargo leaves the name out where
/// the directory has it already: `path+file:///work/xtask#0.1.0`.
fn package_name(id: &str) -> Option<&str> {
    let (path, fragment) = id.rsplit_once('#')?;
    match fragment.split_once('@') {
        Some((name, _)) => Some(name),
        None => path.rsplit('/').next(),
    }
}

/// Runs one binary, as root and told about the programs where its level needs that.
fn run_binary(binary: &TestBinary, programs: Option<&Programs>) -> Result<Outcome> {
    let mut test = match programs {
        None => command(&binary.file.to_string_lossy()),
        Some(programs) => {
            // `env` carries the variables through sudo, which drops them.
            let mut test = as_root("env", "this level of tests")?;
            test.arg(assignment("BALANCING_BIN", &programs.current));
            test.arg(assignment("BALANCING_NEXT_BIN", &programs.next_layout));
            test.arg(assignment("CARGO_MANIFEST_DIR", &binary.directory));
            for kept in ["PATH", "RUST_BACKTRACE", "PROPTEST_CASES", "CI"] {
                if let Some(value) = env::var_os(kept) {
                    test.arg(assignment(kept, Path::new(&value)));
                }
            }
            test.arg(&binary.file);
            test
        }
    };
    // Passing tests say on their standard output what they ran; without this libtest swallows it.
    test.arg("--show-output");
    test.current_dir(&binary.directory).env("CARGO_MANIFEST_DIR", &binary.directory);
    println!("==> {} ({})", binary.name, binary.package);
    let begun = Instant::now();
    // One pipe for both, so that what a test's children print stays in its place.
    let (reader, writer) = std::io::pipe().context("cannot make a pipe")?;
    test.stdin(Stdio::null()).stdout(writer.try_clone().context("cannot share a pipe")?).stderr(writer);
    let mut child = test.spawn().with_context(|| format!("cannot run {}", binary.file.display()))?;
    // The command holds the writing end: while it lives the pipe never ends.
    drop(test);
    let mut output = String::new();
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).context("cannot read what a test prints")? > 0 {
        let text = String::from_utf8_lossy(&line);
        // Slow levels show that they move; the hundreds of quick tests need no line each.
        if programs.is_some() && text.starts_with("test ") && !text.starts_with("test result") {
            print!("    {text}");
        }
        output.push_str(&text);
        line.clear();
    }
    let status = child.wait().with_context(|| format!("cannot wait for {}", binary.file.display()))?;
    let outcome = Outcome::of(&output, status.success(), begun.elapsed());
    println!("    {outcome}");
    if !outcome.succeeded() {
        println!("{}", report::interesting(&output));
        println!("    {} failed ({status}); run it alone: {}", binary.name, binary.file.display());
    }
    Ok(outcome)
}

fn assignment(name: &str, value: &Path) -> String {
    format!("{name}={}", value.display())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_of_packages() {
        assert_eq!(package_name("path+file:///work/tests#balancing-tests@0.1.0"), Some("balancing-tests"));
        assert_eq!(package_name("path+file:///work/xtask#0.1.0"), Some("xtask"));
    }

    #[test]
    fn integration_tests_of_some_packages_need_root() {
        let message = |package: &str, kind: &str| {
            json!({"reason": "compiler-artifact", "executable": "/t/x", "profile": {"test": true},
                   "package_id": format!("path+file:///w/x#{package}@0.1.0"), "manifest_path": "/w/x/Cargo.toml",
                   "target": {"name": "sockets", "kind": [kind]}})
        };
        let needs_root = |package, kind| test_binary(&message(package, kind)).unwrap().needs_root;
        assert!(needs_root("balancing-tests", "test"));
        assert!(needs_root("balancing-kernel", "test"));
        assert!(!needs_root("balancing-kernel", "lib"));
        assert!(!needs_root("balancing-plan", "test"));
    }

    #[test]
    fn the_program_is_not_its_unit_tests() {
        let message = |test: bool| json!({"executable": "/t/balancing", "profile": {"test": test}, "target": {"name": "balancing"}});
        assert_eq!(balancing(&message(false)), Some("/t/balancing".into()));
        assert_eq!(balancing(&message(true)), None);
    }
}
