//! `balancing report`: everything that helps to understand a node from afar, and no secrets.
//!
//! What is taken are our own tables, settings, log and events, and facts of the kernel. Left out on purpose: contents of
//! manifests, environment variables' values, and command lines of processes.
//!
//! Each part stands alone: one that can't be gathered says why, and the others are there all the same.

mod facts;

use std::{collections::HashMap, fs, time::UNIX_EPOCH};

use abi::Backend;
use kernel::{Contents, Maps, TableStore};
use plan::Phase;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;

use crate::{
    config::{Config, Effective, EventLevel, FILE_VARIABLE, SETTINGS, Setting},
    doctor,
    local::{self, AskError, Request},
};

/// Lines of one table at most.
const LINES: usize = 100_000;

/// A file of the bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub about: &'static str,
    /// What is in it, or why there is nothing.
    pub content: Result<String, String>,
}

/// Gathers everything. It takes seconds where the agent does not answer.
pub fn gather(effective: &Effective) -> Vec<Part> {
    let config = &effective.config;
    let mut agent = Asked { config, gone: None };
    let maps = Maps::open_read_only(&config.bpffs).map_err(text_of);
    let contents = maps.as_ref().map_err(Clone::clone).and_then(|maps| maps.read().map_err(text_of));
    let part = |name, about, content| Part { name, about, content };
    let mut parts = vec![
        part("versions.json", "versions: of this command, of map layouts, of the kernel", facts::versions()),
        part(
            "status.json",
            "the agent's own account of itself (`balancing status`)",
            agent.one(&Request::Status),
        ),
        part(
            "configuration.json",
            "the configuration that the agent was started with, and where each value came from",
            agent.one(&Request::Configuration),
        ),
        part(
            "configuration-here.json",
            "the configuration as this command sees it; that of the agent may be another",
            pretty(&effective.shown()),
        ),
        part(
            "environment.txt",
            "names of our environment variables that are set for this command; values are left out",
            Ok(environment()),
        ),
        part("log.txt", "the last lines of the agent's log", agent.log()),
        part("events.jsonl", "the last events that the agent remembers (docs/events.md)", agent.events()),
        part(
            "endpoints.json",
            "endpoints as the agent knows them, and why each is used or not",
            agent.one(&Request::Endpoints { service: None, traffic: local::Traffic::Internal }),
        ),
        part("nodes.json", "nodes as the agent knows them", agent.one(&Request::Nodes)),
        part(
            "manifests.txt",
            "files of the manifests directory: size and age; contents are left out",
            manifests(config),
        ),
        part("maps.json", "the pinned maps", maps.as_ref().map_err(Clone::clone).and_then(maps_of)),
        part(
            "settings.json",
            "what the programs are told",
            maps.as_ref().map_err(Clone::clone).and_then(settings_of),
        ),
        part(
            "counters.json",
            "decisions so far, by hook, family and reason",
            maps.as_ref().map_err(Clone::clone).and_then(counters_of),
        ),
    ];
    parts.push(part("tables.txt", "contents of the tables, in words", contents.map(tables_of)));
    parts.extend([
        part(
            "programs.json",
            "our programs, and those of others on the same cgroup",
            facts::programs(config),
        ),
        part("kernel.json", "what the kernel can do, and what this command may do", facts::kernel()),
        part("mounts.txt", "mounts of cgroups and of bpffs", facts::mounts()),
        part(
            "doctor.json",
            "what `balancing doctor` finds",
            doctor::findings(config).map_err(text_of).and_then(|all| pretty(&all)),
        ),
    ]);
    parts
}

fn text_of(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn pretty<T: Serialize + ?Sized>(value: &T) -> Result<String, String> {
    serde_json::to_string_pretty(value).map(|text| text + "\n").map_err(text_of)
}

/// The agent, which is asked no more once it did not answer: each question would take seconds.
struct Asked<'a> {
    config: &'a Config,
    gone: Option<String>,
}

impl Asked<'_> {
    fn ask<T>(&mut self, ask: impl FnOnce(&std::path::Path) -> Result<T, AskError>) -> Result<T, String> {
        if let Some(gone) = &self.gone {
            return Err(gone.clone());
        }
        ask(&self.config.socket).map_err(|error| {
            let text = error.to_string();
            if !matches!(error, AskError::BrokeOff { .. }) {
                self.gone = Some(text.clone());
            }
            text
        })
    }

    fn typed<T: DeserializeOwned>(&mut self, request: &Request) -> Result<T, String> {
        self.ask(|socket| local::ask_one(socket, request))
    }

    /// An answer as it is: an agent of another version may know other fields.
    fn one(&mut self, request: &Request) -> Result<String, String> {
        self.typed::<serde_json::Value>(request).and_then(|value| pretty(&value))
    }

    fn log(&mut self) -> Result<String, String> {
        self.typed::<Vec<String>>(&Request::Log).map(joined)
    }

    fn events(&mut self) -> Result<String, String> {
        self.ask(|socket| local::ask_all(socket, &Request::Events { follow: false, how_far: false }))
            .map(joined)
    }
}

fn joined(lines: Vec<String>) -> String {
    lines.into_iter().map(|line| line + "\n").collect()
}

fn environment() -> String {
    let ours = SETTINGS.iter().map(Setting::variable).chain([FILE_VARIABLE.into(), "BALANCING_LOG".into()]);
    joined(ours.filter(|name| std::env::var_os(name).is_some()).collect())
}

fn manifests(config: &Config) -> Result<String, String> {
    let Some(directory) = &config.manifests else {
        return Err("this command was not told where they are (--config, or BALANCING_MANIFESTS)".into());
    };
    let at = |error| format!("{}: {error}", directory.display());
    let mut lines = Vec::new();
    for entry in fs::read_dir(directory).map_err(at)? {
        let entry = entry.map_err(at)?;
        let facts = entry.metadata().map_err(at)?;
        let changed = facts.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let changed = changed.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or_default());
        let changed = jiff::Timestamp::from_second(changed).unwrap_or_default();
        lines.push(format!("{}  {} bytes  {changed}", entry.file_name().to_string_lossy(), facts.len()));
    }
    lines.sort();
    Ok(joined(lines))
}

fn maps_of(maps: &Maps) -> Result<String, String> {
    let maps = maps.all().map(|map| json!({"name": map.name(), "id": map.id(), "capacity": map.capacity()}));
    pretty(&maps)
}

fn settings_of(maps: &Maps) -> Result<String, String> {
    let settings = maps.settings().map_err(text_of)?;
    pretty(&json!({
        "paused": settings.paused != 0,
        "events": EventLevel::from_settings(&settings).to_string(),
        "reportedLost": settings.reported_lost,
        "excludedCgroups": maps.excluded().map_err(text_of)?,
        "hostNetnsCookie": settings.host_netns,
    }))
}

fn counters_of(maps: &Maps) -> Result<String, String> {
    let decisions = maps.decisions().map_err(text_of)?;
    let lost = maps.events_lost().map_err(text_of)?;
    let decision = |(hook, v6, reason, count): &(abi::Hook, bool, abi::Reason, u64)| json!({"hook": hook.name(), "family": if *v6 { 6 } else { 4 }, "reason": reason.name(), "count": count});
    pretty(&json!({"decisions": decisions.iter().map(decision).collect::<Vec<_>>(), "eventsLost": lost}))
}

/// In the words of plans.
fn tables_of(contents: Contents) -> String {
    let Contents { frontends, records, lists, backends, names, addresses, sources, space } = contents;
    let known: HashMap<u32, Backend> = backends.iter().copied().collect();
    let element = |index: u32| known.get(&index).copied().unwrap_or_default().listed(index);
    let lists = (0u32..).zip(lists.into_iter().map(element)).collect();
    let tables = [
        Phase::Names(names),
        Phase::Backends(backends),
        Phase::Lists(lists),
        Phase::Records(records),
        Phase::Frontends(frontends),
        Phase::Addresses(addresses),
        Phase::Sources(sources),
        Phase::Space(Box::new(space)),
    ];
    let mut text = String::new();
    for table in tables {
        text += &format!("{}: {}\n", table.name(), table.len());
        for line in table.lines().iter().take(LINES) {
            text += &format!("  {line}\n");
        }
        if table.len() > LINES {
            text += &format!("  and {} more\n", table.len() - LINES);
        }
    }
    text
}
