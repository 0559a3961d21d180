//! `cargo xtask setup`: what building the eBPF programs and running the tests need.
//!
//! The programs need rustc's library source (for `-Z build-std=core`) and a bpf-linker of the same LLVM
//! as the rustc that compiles them. Two compilers can provide that, and the first that works is taken:
//! rustup's, when the component `rust-src` can be had, or Debian's own `rustc-web` with `rust-web-src`.
//! The build script of `crates/kernel` finds either by looking, so nothing is recorded here.

mod kubernetes;
mod prometheus;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context, Result, bail};

use crate::run::{as_root, cargo, cargo_bin, command, output, succeed, which};

pub(crate) use kubernetes::kubernetes;
pub(crate) use prometheus::prometheus;

const LINKER_VERSION: &str = "0.13.0";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// A compiler that can build the programs.
struct Compiler {
    name: String,
    llvm: u32,
}

/// Prepares the machine. Instant when everything is there already.
pub(crate) fn run() -> Result<()> {
    let begun = Instant::now();
    let changed = prepare()?;
    let took = begun.elapsed().as_secs_f32();
    if changed {
        println!("set-up done in {took:.0} s");
    } else {
        println!("set-up: everything is there ({took:.1} s)");
    }
    Ok(())
}

/// True when something had to be installed.
fn prepare() -> Result<bool> {
    let (compiler, source_installed) = choose_compiler()?;
    let linker = linker_state(compiler.llvm);
    let packages = needed_packages(&compiler, &linker);
    if packages.is_empty() && linker == Linker::Fits {
        return Ok(source_installed);
    }

    println!("The eBPF programs are built by {} (LLVM {}). Going to install:", compiler.name, compiler.llvm);
    if !packages.is_empty() {
        println!("  - Debian packages, as root: {}", packages.join(" "));
    }
    match &linker {
        Linker::Fits => {}
        Linker::Missing => println!("  - {}", linker_line(compiler.llvm)),
        Linker::Unfit(why) => println!("  - {}, since the present one {why}", linker_line(compiler.llvm)),
    }
    if !packages.is_empty() {
        install_packages(&packages)?;
    }
    if linker != Linker::Fits {
        install_linker(compiler.llvm)?;
    }
    Ok(true)
}

fn linker_line(llvm: u32) -> String {
    format!(
        "bpf-linker {LINKER_VERSION} for LLVM {llvm} into {}, built from source (1 to 3 minutes)",
        cargo_bin().display()
    )
}

/// The compiler for the programs, with its library source present; true when the source was installed now.
fn choose_compiler() -> Result<(Compiler, bool)> {
    let pinned = compiler_at("rustc").context("cannot run `rustc -vV`: install Rust with rustup first")?;
    if has_library_source("rustc") {
        return Ok((pinned, false));
    }
    // An earlier run settled on Debian's pair: do not ask the network again.
    if let Some(debian) = debian_compiler() {
        return Ok((debian, false));
    }
    if which("rustup").is_some() {
        println!("Going to install rustc's library source: rustup component add rust-src");
        // Where its server cannot be reached rustup retries for minutes; one attempt tells enough.
        let added =
            command("rustup").args(["component", "add", "rust-src"]).env("RUSTUP_MAX_RETRIES", "0").status();
        if added.is_ok_and(|status| status.success()) && has_library_source("rustc") {
            return Ok((pinned, true));
        }
        println!("rustup cannot provide rust-src here: Debian's compiler and source will do instead.");
    }
    let packages = missing_packages(&["rustc-web".to_owned(), "rust-web-src".to_owned()]);
    println!("Going to install Debian packages, as root: {}", packages.join(" "));
    install_packages(&packages)?;
    let debian = debian_compiler().context(
        "packages rustc-web and rust-web-src are installed, but /usr/bin/rustc has no library source",
    )?;
    Ok((debian, true))
}

fn debian_compiler() -> Option<Compiler> {
    if !Path::new(DEBIAN_RUSTC).exists() || !has_library_source(DEBIAN_RUSTC) {
        return None;
    }
    compiler_at(DEBIAN_RUSTC)
}

fn compiler_at(rustc: &str) -> Option<Compiler> {
    let version = output(command(rustc).arg("-vV"))?;
    let name = version.lines().next()?.split(" (").next()?.to_owned();
    Some(Compiler { name, llvm: llvm_major(&version)? })
}

/// `22` from the line `LLVM version: 22.1.2` of `rustc -vV`.
fn llvm_major(version: &str) -> Option<u32> {
    let version = version.lines().find_map(|line| line.strip_prefix("LLVM version: "))?;
    version.split('.').next()?.trim().parse().ok()
}

fn has_library_source(rustc: &str) -> bool {
    let Some(sysroot) = output(command(rustc).args(["--print", "sysroot"])) else { return false };
    // Cargo's build-std also wants the lock file beside the sources.
    let source = PathBuf::from(sysroot.trim()).join("lib/rustlib/src/rust/library");
    source.join("core/src/lib.rs").is_file() && source.join("Cargo.lock").is_file()
}

/// The Debian packages to install. A bpf-linker that works needs no packages to build it, and a program
/// that is there need not have come from a package: so this also serves machines that are not Debian.
fn needed_packages(compiler: &Compiler, linker: &Linker) -> Vec<String> {
    let mut packages = Vec::new();
    if *linker != Linker::Fits {
        // g++ brings the libstdc++.so that LLVM's libraries ask for.
        let llvm = format!("llvm-{}-dev", compiler.llvm);
        let names = ["g++", &llvm, "libzstd-dev", "zlib1g-dev", "libxml2-dev"];
        packages = missing_packages(&names.map(str::to_owned));
    }
    // `ip` makes the namespaces of the tests and of the demo.
    for (program, needs) in [("cc", &["gcc", "libc6-dev"][..]), ("ip", &["iproute2"])] {
        if which(program).is_none() {
            packages.extend(needs.iter().map(|&package| package.to_owned()));
        }
    }
    packages
}

/// Which of `packages` dpkg does not have. All of them where there is no dpkg, so that the error names them.
fn missing_packages(packages: &[String]) -> Vec<String> {
    // dpkg-query fails when any package is unknown but still prints the others.
    let printed = command("dpkg-query")
        .args(["--show", "--showformat=${Package} ${db:Status-Status}\n"])
        .args(packages)
        .output()
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .unwrap_or_default();
    let installed: Vec<&str> = printed.lines().filter_map(|line| line.strip_suffix(" installed")).collect();
    packages.iter().filter(|package| !installed.contains(&package.as_str())).cloned().collect()
}

fn install_packages(packages: &[String]) -> Result<()> {
    if which("apt-get").is_none() {
        bail!(
            "no apt-get here: install the equivalents of these Debian packages and try again: {}",
            packages.join(" ")
        );
    }
    refresh()?;
    step("install packages", apt(&["install", "--yes", "--no-install-recommends"])?.args(packages))
}

/// Learns what packages there are.
fn refresh() -> Result<()> {
    step("refresh the package lists", &mut apt(&["update"])?)
}

fn apt(arguments: &[&str]) -> Result<Command> {
    let mut apt = as_root("env", "installing packages")?;
    apt.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-o", "DPkg::Lock::Timeout=120"]);
    apt.args(arguments);
    Ok(apt)
}

#[derive(Debug, PartialEq, Eq)]
enum Linker {
    Fits,
    Missing,
    Unfit(String),
}

/// Whether the bpf-linker that builds would find works and was built with LLVM `llvm`.
fn linker_state(llvm: u32) -> Linker {
    let Some(linker) = which("bpf-linker") else { return Linker::Missing };
    let Some(version) = output(Command::new(&linker).arg("--version")) else {
        return Linker::Unfit("does not run".to_owned());
    };
    let version = version.trim().trim_start_matches("bpf-linker ");
    if version != LINKER_VERSION {
        return Linker::Unfit(format!("is version {version}"));
    }
    match linker_llvm(&linker) {
        Some(found) if found == llvm => Linker::Fits,
        Some(found) => Linker::Unfit(format!("uses LLVM {found}")),
        None => Linker::Unfit("does not say which LLVM it uses".to_owned()),
    }
}

/// The LLVM of a bpf-linker: from the library it is linked with, or else from cargo's record of its features.
fn linker_llvm(linker: &Path) -> Option<u32> {
    let linked = output(Command::new("ldd").arg(linker)).and_then(|libraries| linked_llvm(&libraries));
    linked.or_else(|| {
        let home = cargo_bin();
        let record = fs::read_to_string(home.parent()?.join(".crates2.json")).ok()?;
        recorded_llvm(&record)
    })
}

/// `22` from `libLLVM.so.22.1 => …` or `libLLVM-22.so.1 => …`.
fn linked_llvm(libraries: &str) -> Option<u32> {
    let library = libraries.lines().map(str::trim).find_map(|line| line.strip_prefix("libLLVM"))?;
    let digits = library.trim_start_matches(['-', '.', 's', 'o']);
    digits.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// `22` from the feature `llvm-22` that cargo recorded when it installed bpf-linker.
fn recorded_llvm(record: &str) -> Option<u32> {
    let record: serde_json::Value = serde_json::from_str(record).ok()?;
    let (_, linker) = record["installs"].as_object()?.iter().find(|(id, _)| id.starts_with("bpf-linker "))?;
    linker["features"]
        .as_array()?
        .iter()
        .find_map(|feature| feature.as_str()?.strip_prefix("llvm-")?.parse().ok())
}

fn install_linker(llvm: u32) -> Result<()> {
    let prefix = format!("/usr/lib/llvm-{llvm}");
    let path = std::env::var("PATH").unwrap_or_default();
    let features = format!("llvm-{llvm}");
    let mut install = cargo();
    install
        .args(["install", "--locked", "--force", &format!("bpf-linker@{LINKER_VERSION}")])
        .args(["--no-default-features", "--features", &features])
        .env("PATH", format!("{prefix}/bin:{path}"))
        .env("LLVM_PREFIX", &prefix);
    step("build bpf-linker", &mut install)?;
    match linker_state(llvm) {
        Linker::Fits => Ok(()),
        Linker::Missing => bail!("bpf-linker was installed but is not in {}", cargo_bin().display()),
        Linker::Unfit(why) => bail!(
            "the bpf-linker that is found first on PATH ({}) {why}: remove it, {} has the right one",
            which("bpf-linker").unwrap_or_default().display(),
            cargo_bin().display()
        ),
    }
}

/// Runs one step of the set-up with its output shown, then says how long it took.
fn step(name: &str, command: &mut Command) -> Result<()> {
    println!("==> {name}");
    let begun = Instant::now();
    succeed(command).with_context(|| format!("set-up could not {name}"))?;
    println!("==> {name}: {:.0} s", begun.elapsed().as_secs_f32());
    Ok(())
}

/// Makes sure that `cargo NAME` exists, installing `package` from source with `arguments` where it does not.
pub(crate) fn cargo_tool(name: &str, package: &str, arguments: &[&str], duration: &str) -> Result<()> {
    if which(&format!("cargo-{name}")).is_some() {
        return Ok(());
    }
    println!("Going to install {package} into {}, built from source ({duration})", cargo_bin().display());
    step(&format!("build {package}"), cargo().args(["install", "--locked", package]).args(arguments))
}

/// Installs the Debian package of each program that is missing; where that is not possible says so, and goes on.
pub(crate) fn programs(wanted: &[(&str, &str)]) {
    let missing = wanted.iter().filter(|(program, _)| which(program).is_none());
    let packages: Vec<String> = missing.map(|&(_, package)| package.to_owned()).collect();
    if packages.is_empty() {
        return;
    }
    println!("Going to install Debian packages, as root: {}", packages.join(" "));
    if let Err(error) = install_packages(&packages) {
        println!("{error:#}");
    }
}

/// Makes sure that a rustup component such as clippy is there.
pub(crate) fn component(name: &str, probe: &str) -> Result<()> {
    if output(cargo().args([probe, "--version"])).is_some() {
        return Ok(());
    }
    println!("Going to install a component of the toolchain: rustup component add {name}");
    step(&format!("install {name}"), command("rustup").args(["component", "add", name]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llvm_of_rustc() {
        assert_eq!(llvm_major("rustc 1.95.0\nhost: x86_64\nLLVM version: 22.1.2\n"), Some(22));
        assert_eq!(llvm_major("rustc 1.95.0\n"), None);
    }

    #[test]
    fn llvm_of_the_linked_library() {
        assert_eq!(linked_llvm("\tlinux-vdso.so.1 (0x7)\n\tlibLLVM.so.22.1 => /usr/lib/x (0x7)\n"), Some(22));
        assert_eq!(linked_llvm("\tlibLLVM-14.so.1 => /usr/lib/x (0x7)\n"), Some(14));
        assert_eq!(linked_llvm("\tlibc.so.6 => /lib/libc.so.6\n"), None);
    }

    #[test]
    fn llvm_of_the_recorded_feature() {
        let record = r#"{"installs":{"ripgrep 1.0 (x)":{"features":[]},"bpf-linker 0.13.0 (x)":{"features":["llvm-22"]}}}"#;
        assert_eq!(recorded_llvm(record), Some(22));
        assert_eq!(recorded_llvm("{}"), None);
    }
}
