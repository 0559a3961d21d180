//! How the agent is.

use serde::{Deserialize, Serialize};

/// Everything that `balancing status` shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Version of the agent.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// Seconds since it started.
    pub uptime_seconds: u64,
    /// Name of this node.
    pub node: String,
    /// This machine is no node of the cluster.
    #[serde(default)]
    pub outside: bool,
    /// What the annotation `balancing.elf.io/nodeId` of this node says, if it is an id. (The agent that is asked may be an
    /// older one.)
    #[serde(default)]
    pub node_id: Option<u32>,
    /// Zone of this node.
    pub zone: Option<String>,
    /// Where the programs are attached.
    pub cgroup: String,
    /// The hooks.
    pub hooks: Vec<Hook>,
    /// The sources.
    pub sources: Vec<Source>,
    /// Objects known, by kind.
    pub objects: Vec<(String, usize)>,
    /// Frontends in force.
    pub frontends: usize,
    /// Backends in force.
    pub backends: usize,
    /// Use of the maps.
    pub maps: Vec<MapUse>,
    /// Decisions so far, by reason; those that never occurred are left out.
    pub decisions: Vec<(String, u64)>,
    /// `balancing pause` is in force.
    pub paused: bool,
    /// Level of events.
    pub events: String,
    /// Pods that are to be left alone. (The agent that is asked may be an older one.)
    #[serde(default)]
    pub opted_out: OptedOut,
    /// Addresses of policies that are asked whether they are well. (The agent that is asked may be an older one.)
    #[serde(default)]
    pub health_checks: HealthChecks,
    /// What has been written to the cluster; null where nothing is published.
    #[serde(default)]
    pub published: Option<Published>,
    /// Events that the ring buffer had no room for.
    pub events_lost: u64,
    /// Decisions since the agent started that were too many to be told of one by one. (The agent that is asked may be an older
    /// one.)
    #[serde(default)]
    pub events_suppressed: u64,
    /// Who reads them on the agent's socket, now.
    #[serde(default)]
    pub event_followers: usize,
    /// Where events are written.
    #[serde(default)]
    pub event_sinks: Vec<EventSink>,
    /// Rounds that wrote something.
    pub rounds: u64,
    /// Differences that audits have found; 0 unless somebody else writes our maps.
    pub audit_differences: u64,
    /// Sockets whose connection was ended because their backend had gone (R8), since the agent started. (The agent that
    /// is asked may be an older one.)
    #[serde(default)]
    pub sockets_destroyed: u64,
    /// Slots freed because their socket had gone without a word, since the agent started.
    #[serde(default)]
    pub slots_freed: u64,
    /// Who serves what on this node. (The agent that is asked may be an older one.)
    #[serde(default)]
    pub owners: Vec<Owner>,
    /// What is wrong now; empty = healthy.
    pub problems: Vec<String>,
    /// What has no effect here, though it is valid.
    pub notices: Vec<String>,
}

/// Pods of this node that are left alone because the annotation `balancing.elf.io/socket-lb`, theirs or their namespace's,
/// says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OptedOut {
    /// All of them.
    pub pods: usize,
    /// Those whose cgroup is known: the others have none yet, or are balanced like all others, which is a problem.
    pub found: usize,
}

/// Addresses of policies that this agent asks whether they are well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthChecks {
    /// All of them.
    pub addresses: usize,
    /// Those that are not.
    pub unhealthy: usize,
}

/// A place where events are written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventSink {
    /// As `--event-log` has it.
    pub name: String,
    /// Lines that were written there since the agent started; of a socket, to all who read it.
    pub written: u64,
    /// Lines that are missing there.
    pub lost: u64,
    /// Why nothing can be written now.
    pub problem: Option<String>,
    /// Who reads a socket now; null of what is none. (The agent that is asked may be an older one.)
    #[serde(default)]
    pub readers: Option<usize>,
    /// Readers of it that were sent away since they took nothing.
    #[serde(default)]
    pub sent_away: u64,
    /// Readers that were turned away since there were too many.
    #[serde(default)]
    pub turned_away: u64,
}

/// What an agent has written to the cluster since it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// Kubernetes Events, and changes of their counts.
    pub events: u64,
    /// What would have become one, and there was no room or no time for it.
    pub dropped: u64,
}

/// One hook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hook {
    /// Its name.
    pub name: String,
    /// The kernel's id of the program; null = not attached.
    pub program: Option<u32>,
}

/// Who serves something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// What.
    pub what: String,
    /// Who, in words.
    pub who: String,
    /// Somebody is known to.
    pub served: bool,
}

/// One source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// What it is.
    pub name: String,
    /// Has given everything once.
    pub synced: bool,
}

/// Use of one map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapUse {
    /// Name.
    pub name: String,
    /// Entries in use.
    pub used: u64,
    /// Entries that there is room for.
    pub capacity: u64,
    /// Entries that it may be made larger for.
    pub most: u64,
}

impl MapUse {
    /// At which share, in percent, a map is reported as filling up (R30).
    pub const WARN_PERCENT: u64 = 80;

    /// Use in percent of what there may be.
    pub fn percent(&self) -> u64 {
        (self.used * 100).checked_div(self.most).unwrap_or_default()
    }
}
