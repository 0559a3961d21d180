//! Who wins: a flag, the environment, the file, the default.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::{
    Config, SETTINGS, Setting,
    file::{self, FileError},
    value::{self, Kind},
};

/// A configuration that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file.
    #[error("configuration file {0}")]
    File(#[from] FileError),
    /// A flag.
    #[error("--{flag} {text:?}: {right}")]
    Flag {
        /// Its name.
        flag: String,
        /// What it says.
        text: String,
        /// What would be right.
        right: String,
    },
    /// A variable of the environment.
    #[error("environment variable {name}={text:?}: {right}")]
    Environment {
        /// Its name.
        name: String,
        /// What it says.
        text: String,
        /// What would be right.
        right: String,
    },
    /// Nothing says where objects come from.
    #[error(
        "give --manifests DIR, a directory of manifests, or --kubeconfig FILE, a cluster; in a pod neither is needed. Each may \
         also be set in the environment and in the configuration file"
    )]
    NoSource,
    /// Two things do.
    #[error("give either --manifests or --kubeconfig and --api-server, not both: an agent has one source")]
    TwoSources,
    /// What is only for machines outside of the cluster is set for a node.
    #[error(
        "outsideExternal and outsideLabel are for a machine that is no node of the cluster: give --outside-cluster too, or \
         neither"
    )]
    OnlyOutside,
    /// kube-proxy is to be replaced where there is none.
    #[error(
        "replaceKubeProxy is for nodes, and outsideCluster says that this machine is none; give one of the two"
    )]
    NoNode,
    /// OpenTelemetry is not compiled in.
    #[error(
        "eventOtlp is set, and this program was built without OpenTelemetry: build it with `cargo build --release --features otel`, \
         or remove that setting"
    )]
    NoOtel,
    /// A directory of manifests is needed.
    #[error(
        "manifests is not set; give --manifests DIR, or BALANCING_MANIFESTS, or `manifests: DIR` in the configuration file"
    )]
    NoManifests,
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Origin {
    /// The command line.
    Flag,
    /// The environment.
    Environment,
    /// The file.
    File {
        /// Which.
        path: PathBuf,
        /// Where in it, counted from 1.
        line: u64,
    },
    /// Nobody has set it.
    Default,
}

/// The configuration that holds, and where each value came from.
#[derive(Clone, Debug)]
pub struct Effective {
    /// The values.
    pub config: Config,
    origins: BTreeMap<&'static str, Origin>,
}

/// One setting, for people and machines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Shown {
    /// Its key.
    pub key: String,
    /// Its value; null = nothing.
    pub value: Json,
    /// Where that came from.
    pub from: Origin,
    /// The flag that sets it.
    pub flag: String,
    /// The variable that sets it.
    pub environment: String,
}

impl Shown {
    /// The value as people read it.
    pub fn value_text(&self) -> String {
        value::text(&self.value)
    }

    /// Where it came from, as people read it.
    pub fn origin_text(&self) -> String {
        match &self.from {
            Origin::Flag => format!("flag --{}", self.flag),
            Origin::Environment => format!("environment {}", self.environment),
            Origin::File { path, line } => format!("{}:{line}", path.display()),
            Origin::Default => match super::setting(&self.flag) {
                Some(Setting { words: Some(words), .. }) => format!("default: {words}"),
                _ => "default".into(),
            },
        }
    }
}

impl Effective {
    /// All settings.
    pub fn shown(&self) -> Vec<Shown> {
        let shown = |setting: &Setting| Shown {
            key: setting.key(),
            value: (setting.show)(&self.config),
            from: self.origins.get(setting.field).cloned().unwrap_or(Origin::Default),
            flag: setting.flag(),
            environment: setting.variable(),
        };
        SETTINGS.iter().map(shown).collect()
    }
}

/// Finds the configuration: `flags` by name, each with all its values; `environment` gives a variable; `file` is the
/// configuration file.
///
/// # Errors
/// The first that is wrong. All of the file is looked at, also what a flag overrides.
pub fn resolve(
    flags: &BTreeMap<String, Vec<String>>,
    environment: impl Fn(&str) -> Option<OsString>,
    file: Option<&Path>,
) -> Result<Effective, ConfigError> {
    let entries = file.map(file::read).transpose()?.unwrap_or_default();
    let mut effective = Effective { config: Config::default(), origins: BTreeMap::new() };
    for setting in SETTINGS {
        let (name, flag) = (setting.variable(), setting.flag());
        let variable = environment(&name).filter(|text| !text.is_empty());
        let of_variable = |text: &str, right| ConfigError::Environment { name, text: text.into(), right };
        let origin = if let Some(texts) = flags.get(&flag) {
            set(&mut effective.config, setting, texts).map_err(|right| ConfigError::Flag {
                flag,
                text: texts.join(","),
                right,
            })?;
            Origin::Flag
        } else if let Some(text) = variable {
            let Some(text) = text.to_str() else {
                return Err(of_variable(&text.to_string_lossy(), "give UTF-8".into()));
            };
            let texts: Vec<String> = match setting.kind {
                Kind::List => text.split(',').map(str::to_owned).collect(),
                _ => vec![text.to_owned()],
            };
            set(&mut effective.config, setting, &texts).map_err(|right| of_variable(text, right))?;
            Origin::Environment
        } else if let Some(entry) = entries.iter().find(|entry| std::ptr::eq(entry.setting, setting)) {
            // It was checked when it was read.
            let _ = set(&mut effective.config, setting, &entry.texts);
            Origin::File { path: file.unwrap_or(Path::new("")).to_owned(), line: entry.line }
        } else {
            continue;
        };
        effective.origins.insert(setting.field, origin);
    }
    Ok(effective)
}

fn set(config: &mut Config, setting: &Setting, texts: &[String]) -> Result<(), String> {
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    (setting.read)(config, &texts)
}
