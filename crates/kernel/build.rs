//! Builds the bpf programs (crate `ebpf`) and leaves the object where `object.rs` embeds it.
//!
//! They need rustc's library source (`core` is built for the bpf target) and a bpf-linker of the same LLVM:
//! `cargo xtask setup` provides both. `BALANCING_BPF_OBJECT=file` uses a prebuilt object.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

const TARGET: &str = "bpfel-unknown-none";

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("error: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<(), String> {
    let variable = |name: &str| env::var(name).map_err(|e| format!("{name}: {e}"));
    let output = PathBuf::from(variable("OUT_DIR")?).join("balancing.bpf.o");
    println!("cargo::rerun-if-env-changed=BALANCING_BPF_OBJECT");
    if let Some(object) = env::var_os("BALANCING_BPF_OBJECT").map(PathBuf::from) {
        println!("cargo::rerun-if-changed={}", object.display());
        return copy(&object, &output);
    }
    let crates = PathBuf::from(variable("CARGO_MANIFEST_DIR")?).join("..");
    for name in ["abi", "datapath", "ebpf"] {
        for part in ["src", "Cargo.toml", "Cargo.lock"] {
            let path = crates.join(name).join(part);
            if path.exists() {
                println!("cargo::rerun-if-changed={}", path.display());
            }
        }
    }
    let next_layout = env::var_os("CARGO_FEATURE_NEXT_LAYOUT").is_some();
    // Not below OUT_DIR: `core` would be built anew for each profile. One directory a feature set, since the
    // object's name is the same.
    let target_dir = crates.join("../target").join(if next_layout { "ebpf-next-layout" } else { "ebpf" });
    let toolchain = Toolchain::find()?;
    let mut cargo = Command::new(variable("CARGO")?);
    cargo
        .current_dir(crates.join("ebpf"))
        .args(["build", "--release", "--locked", "-Zbuild-std=core", "--target", TARGET, "--target-dir"])
        .arg(&target_dir)
        .env("RUSTC", &toolchain.rustc)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("PATH", &toolchain.path)
        // v3: compare-and-swap, kernel 5.12.
        .env(
            "CARGO_ENCODED_RUSTFLAGS",
            format!(
                "--cfg=bpf_target_arch=\"{}\"\x1f-Ctarget-cpu=v3\x1f-Cdebuginfo=2\x1f-Clink-arg=--btf",
                variable("CARGO_CFG_TARGET_ARCH")?
            ),
        )
        // Clippy's wrapper is not for another toolchain's target.
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("RUSTC_WRAPPER")
        .env_remove("CARGO_BUILD_TARGET");
    if next_layout {
        cargo.args(["--features", "next-layout"]);
    }
    let built = cargo.status().map_err(|e| format!("cargo for the bpf programs: {e}"))?;
    if !built.success() {
        return Err("the bpf programs do not build; if it is the toolchain, run `cargo xtask setup`".into());
    }
    copy(&target_dir.join(TARGET).join("release/balancing-ebpf"), &output)
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    fs::copy(from, to).map(drop).map_err(|e| format!("{}: {e}", from.display()))
}

/// A rustc with its library source, and the search path on which bpf-linker is.
struct Toolchain {
    rustc: PathBuf,
    path: std::ffi::OsString,
}

impl Toolchain {
    fn find() -> Result<Self, String> {
        let missing = || "the bpf toolchain is missing: run `cargo xtask setup`".to_owned();
        let home = env::var_os("CARGO_HOME")
            .map(PathBuf::from)
            .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")));
        let mut directories: Vec<PathBuf> =
            env::split_paths(&env::var_os("PATH").unwrap_or_default()).collect();
        directories.extend(home.map(|home| home.join("bin")));
        if !directories.iter().any(|directory| directory.join("bpf-linker").is_file()) {
            return Err(missing());
        }
        let path = env::join_paths(directories).map_err(|e| format!("PATH: {e}"))?;
        let own = env::var_os("RUSTC").map(PathBuf::from).unwrap_or_else(|| "rustc".into());
        [own, "/usr/bin/rustc".into()]
            .into_iter()
            .find(|rustc| has_library_source(rustc))
            .map(|rustc| Self { rustc, path })
            .ok_or_else(missing)
    }
}

fn has_library_source(rustc: &Path) -> bool {
    Command::new(rustc)
        .args(["--print", "sysroot"])
        .output()
        .ok()
        .and_then(|output| String::from_utf8(output.stdout).ok())
        .is_some_and(|root| Path::new(root.trim()).join("lib/rustlib/src/rust/library/core").is_dir())
}
