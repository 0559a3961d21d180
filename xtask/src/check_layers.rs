//! `cargo xtask check-layers`: which crate may use which (docs/adr/0001-layers.md).
//!
//! Read from `cargo metadata`, so that a dependency cannot be added by accident. Dev-dependencies are free.

use std::{fs, path::Path};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::run::{capture, cargo, workspace};

/// A crate and the crates of ours it may use. Data flows from the front of this list to its back.
const LAYERS: &[(&str, &[&str])] = &[
    ("abi", &[]),
    ("datapath", &["abi"]),
    ("ebpf", &["datapath", "abi"]),
    ("model", &[]),
    ("plan", &["model", "abi"]),
    ("api", &["model"]),
    ("source", &["api", "model"]),
    ("kernel", &["abi", "datapath"]),
    ("host", &[]),
    ("observe", &["abi", "model"]),
    ("agent", &["source", "plan", "kernel", "host", "observe", "datapath", "model", "abi", "api"]),
    ("controller", &["api", "model", "observe", "source"]),
    ("cli", &["agent", "controller", "api", "kernel", "observe", "abi"]),
    ("testkit", &[]),
    ("apidouble", &[]),
];

/// Crates that only compute: what they need to know about the world is an argument.
const PURE: &[&str] = &["abi", "datapath", "model", "plan", "api"];

/// What a pure crate has no use for: async, I/O, the clock, randomness.
const IMPURE: &[&str] = &[
    "tokio",
    "tokio-util",
    "rustix",
    "libc",
    "nix",
    "notify",
    "socket2",
    "mio",
    "procfs",
    "aya",
    "kube",
    "rand",
    "getrandom",
];

/// What of kube is types and schemas: a pure crate may use it with no more than these features.
const PURE_KUBE: &[&str] = &["derive", "cel", "admission"];

/// Crates that may say `unsafe`; all others say `forbid(unsafe_code)`.
const UNSAFE: &[&str] = &["ebpf", "kernel", "host", "abi", "testkit"];

const PREFIX: &str = "balancing-";

/// Checks this tree; every violation is a line that names the edge.
pub(crate) fn run() -> Result<()> {
    let mut violations = Vec::new();
    let mut manifests = vec![workspace().join("Cargo.toml")];
    // Built for another target, so outside of the workspace.
    let ebpf = workspace().join("crates/ebpf/Cargo.toml");
    if ebpf.is_file() {
        manifests.push(ebpf);
    }
    for manifest in manifests {
        let printed = capture(
            cargo()
                .args(["metadata", "--no-deps", "--format-version", "1", "--manifest-path"])
                .arg(&manifest),
        )?;
        let metadata: Value =
            serde_json::from_str(&printed).context("cannot read what `cargo metadata` printed")?;
        violations.extend(check_edges(&metadata));
        violations.extend(check_unsafe(&metadata, &|path| fs::read_to_string(path).unwrap_or_default()));
    }
    if violations.is_empty() {
        return Ok(());
    }
    for violation in &violations {
        eprintln!("{violation}");
    }
    bail!("{} violations of the layers (docs/adr/0001-layers.md says what may use what)", violations.len())
}

/// Packages outside of `crates/`, which may use anything, as xtask may.
const EXEMPT: &[&str] = &["tests", "demo", "bench"];

/// The packages that are crates of ours in `crates/`, by short name.
fn layered(metadata: &Value) -> impl Iterator<Item = (&str, &Value)> {
    metadata["packages"].as_array().into_iter().flatten().filter_map(|package| {
        let name = package["name"].as_str()?.strip_prefix(PREFIX)?;
        (!EXEMPT.contains(&name)).then_some((name, package))
    })
}

/// Edges between our crates that are not in [`LAYERS`], and impure dependencies of pure crates.
fn check_edges(metadata: &Value) -> Vec<String> {
    let mut violations = Vec::new();
    for (name, package) in layered(metadata) {
        let Some((_, allowed)) = LAYERS.iter().find(|(layer, _)| *layer == name) else {
            violations.push(format!(
                "{name}: this crate is in no layer: add it to LAYERS in xtask/src/check_layers.rs"
            ));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            if dependency["kind"].as_str() == Some("dev") {
                continue;
            }
            let target = dependency["name"].as_str().unwrap_or_default();
            if let Some(ours) = target.strip_prefix(PREFIX) {
                if !allowed.contains(&ours) {
                    let list =
                        if allowed.is_empty() { "nothing of ours".to_owned() } else { allowed.join(", ") };
                    violations.push(format!("{name} -> {ours}: not allowed; {name} may use {list}"));
                }
            } else if PURE.contains(&name) && IMPURE.contains(&target) && !is_pure_kube(dependency) {
                violations
                    .push(format!("{name} -> {target}: not allowed; {name} is pure (no async, I/O, clock)"));
            }
        }
    }
    violations
}

fn is_pure_kube(dependency: &Value) -> bool {
    let features = dependency["features"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is_pure = |feature: &Value| feature.as_str().is_some_and(|feature| PURE_KUBE.contains(&feature));
    dependency["name"] == "kube"
        && dependency["uses_default_features"] == false
        && features.iter().all(is_pure)
}

/// Crates that must forbid unsafe code and do not.
fn check_unsafe(metadata: &Value, read: &dyn Fn(&Path) -> String) -> Vec<String> {
    let mut violations = Vec::new();
    for (name, package) in layered(metadata).filter(|(name, _)| !UNSAFE.contains(name)) {
        for target in package["targets"].as_array().into_iter().flatten() {
            let is = |kind| target["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|k| k == kind));
            if !is("lib") && !is("bin") {
                continue;
            }
            let root = target["src_path"].as_str().unwrap_or_default();
            if !read(Path::new(root)).lines().any(|line| line.trim() == "#![forbid(unsafe_code)]") {
                violations.push(format!(
                    "{name}: {root} lacks #![forbid(unsafe_code)]; unsafe is for {}",
                    UNSAFE.join(", ")
                ));
            }
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn package(name: &str, dependencies: &[(&str, Option<&str>)]) -> Value {
        let dependencies: Vec<Value> =
            dependencies.iter().map(|(name, kind)| json!({"name": name, "kind": kind})).collect();
        json!({"name": name, "dependencies": dependencies,
               "targets": [{"kind": ["lib"], "src_path": format!("/{name}/lib.rs")},
                           {"kind": ["test"], "src_path": format!("/{name}/tests/a.rs")}]})
    }

    #[test]
    fn allowed_edges_pass() {
        let metadata = json!({"packages": [
            package("balancing-plan", &[("balancing-abi", None), ("balancing-model", None), ("thiserror", None)]),
            package("balancing-agent", &[("balancing-plan", None), ("tokio", None)]),
            package("balancing-tests", &[("balancing-agent", None)]),
            package("xtask", &[("libc", None)]),
        ]});
        assert_eq!(check_edges(&metadata), Vec::<String>::new());
    }

    #[test]
    fn broken_edges_are_named() {
        let metadata = json!({"packages": [
            package("balancing-model", &[("balancing-api", None)]),
            package("balancing-plan", &[("balancing-kernel", Some("build")), ("balancing-testkit", None)]),
            package("balancing-api", &[("tokio", None), ("proptest", Some("dev"))]),
            package("balancing-utils", &[]),
        ]});
        assert_eq!(
            check_edges(&metadata),
            [
                "model -> api: not allowed; model may use nothing of ours",
                "plan -> kernel: not allowed; plan may use model, abi",
                "plan -> testkit: not allowed; plan may use model, abi",
                "api -> tokio: not allowed; api is pure (no async, I/O, clock)",
                "utils: this crate is in no layer: add it to LAYERS in xtask/src/check_layers.rs",
            ]
        );
    }

    #[test]
    fn kubes_types_are_pure_and_its_clients_are_not() {
        let violations = |features: &[&str], defaults: bool| {
            let kube = json!({"name": "kube", "features": features, "uses_default_features": defaults});
            check_edges(
                &json!({"packages": [{"name": "balancing-api", "dependencies": [kube], "targets": []}]}),
            )
        };
        assert_eq!(violations(&["derive", "cel"], false), Vec::<String>::new());
        for (features, defaults) in [(vec!["derive", "client"], false), (vec!["derive"], true)] {
            assert_eq!(violations(&features, defaults).len(), 1, "{features:?}");
        }
    }

    #[test]
    fn dev_dependencies_are_free() {
        let metadata = json!({"packages": [
            package("balancing-model", &[("balancing-testkit", Some("dev")), ("tokio", Some("dev"))]),
        ]});
        assert_eq!(check_edges(&metadata), Vec::<String>::new());
    }

    #[test]
    fn unsafe_is_forbidden_outside_of_the_few() {
        let metadata = json!({"packages": [
            package("balancing-plan", &[]), package("balancing-model", &[]), package("balancing-kernel", &[]),
        ]});
        let read = |path: &Path| match path.to_str() {
            Some("/balancing-plan/lib.rs") => "//! Plan.\n#![forbid(unsafe_code)]\n".to_owned(),
            _ => "//! Nothing.\n// #![forbid(unsafe_code)] would be nice\n".to_owned(),
        };
        let violations = check_unsafe(&metadata, &read);
        assert_eq!(violations.len(), 1, "{violations:?}");
        assert!(violations[0].starts_with("model: /balancing-model/lib.rs lacks"), "{violations:?}");
    }
}
