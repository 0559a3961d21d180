//! The format of `scenarios/*.yaml`. `scenarios/README.md` explains it to who writes one.

mod play;

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use model::{Change, Kind, ObjectId, ObjectName, Protocol};
use serde::{Deserialize, Deserializer};

pub use play::{Form, play};

/// One file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What it shows: begins with the number of the rule, and is the file's name.
    pub name: String,
    /// This node.
    #[serde(default = "node")]
    pub node: String,
    /// R1: the one proxy name whose services are ours.
    pub proxy_name: Option<String>,
    /// P11: set where this machine is no node.
    pub outside: Option<Outside>,
    /// R14: which addresses of this node serve node ports.
    #[serde(default = "primary")]
    pub node_ports: Vec<String>,
    /// Addresses of this node's interfaces.
    #[serde(default)]
    pub interfaces: Vec<IpAddr>,
    /// Addresses where somebody listens besides all endpoints: `10.1.0.1:80/TCP`.
    #[serde(default)]
    pub listen: Vec<Listen>,
    /// Whether the sources have synced before the first step.
    #[serde(default = "yes")]
    pub synced: bool,
    /// The objects at the start: a file of manifests.
    pub manifests: String,
    /// What happens.
    pub steps: Vec<Step>,
}

/// A machine that is no node.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Outside {
    /// What would be its Node's labels.
    pub labels: BTreeMap<String, String>,
    /// Whether it also serves what nodes do for the outside.
    pub external: bool,
}

/// An address where somebody listens.
#[derive(Clone, Copy, Debug)]
pub struct Listen(pub Protocol, pub SocketAddr);

/// One thing that happens.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Step {
    /// Fresh sockets of every kind that fits connect, or send.
    Connect(Connect),
    /// A UDP socket that has a name is used.
    Udp(Use),
    /// A TCP socket that has a name is used.
    Tcp(Use),
    /// Objects are there, or look different.
    Apply(String),
    /// Objects are gone: `Service default/a`.
    Delete(Vec<String>),
    /// Who uses the sockets from now on.
    Client(Client),
    /// So many seconds pass.
    Wait(u64),
    /// The sources have synced.
    Sync,
    /// The agent starts anew, without objects, not synced; programs are replaced.
    Restart,
}

/// See [`Step::Client`].
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Client {
    /// It is on the host's network.
    #[serde(default)]
    pub host: bool,
    /// It is in a cgroup that is left alone.
    #[serde(default)]
    pub excluded: bool,
    /// The addresses by which it is known; none: it is not known.
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
}

/// See [`Step::Connect`].
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Connect {
    /// Where to.
    pub to: SocketAddr,
    /// TCP or UDP.
    #[serde(deserialize_with = "protocol")]
    pub protocol: Protocol,
    /// What becomes of it; every backend is reached, and no other.
    pub expect: Expect,
    /// R23: all reach one and the same of the backends, the one that the last step with this word reached.
    pub kept: Option<String>,
    /// Not that one: one that is chosen now.
    #[serde(default)]
    pub anew: bool,
}

/// See [`Step::Udp`]. One of `connect`, `send`, `ask`, `hang_up` and `close` says what is done.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Use {
    /// Name of the socket; the first use opens it.
    pub socket: String,
    /// `connect()`, and an exchange.
    pub connect: Option<SocketAddr>,
    /// `sendto()`, and the answer.
    pub send: Option<SocketAddr>,
    /// `send()` over the connection, and the answer.
    #[serde(default)]
    pub ask: bool,
    /// `connect()` to AF_UNSPEC.
    #[serde(default)]
    pub hang_up: bool,
    /// `close()`.
    #[serde(default)]
    pub close: bool,
    /// How often in a row.
    pub times: Option<u32>,
    /// What becomes of it, each time.
    pub expect: Option<Expect>,
    /// Each backend of `expect` is reached at least once.
    #[serde(default)]
    pub all: bool,
    /// It is the backend that this socket reached last by this destination.
    #[serde(default)]
    pub same: bool,
    /// It is none of the backends that this socket reached last by these destinations.
    #[serde(default)]
    pub apart_from: Vec<SocketAddr>,
    /// Who seems to answer; where it is not said, the address that was used.
    pub shown: Option<SocketAddr>,
}

/// What becomes of a call.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Expect {
    /// It is answered by one of these, under the address that was used.
    Backends(Vec<SocketAddr>),
    /// ECONNREFUSED.
    Refused,
    /// EHOSTUNREACH.
    Unreachable,
    /// EACCES.
    Denied,
    /// It is left alone, and nobody is there.
    Passed,
}

fn node() -> String {
    "n1".into()
}

fn primary() -> Vec<String> {
    vec!["primary".into()]
}

fn yes() -> bool {
    true
}

fn protocol<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Protocol, D::Error> {
    protocol_of(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

fn protocol_of(text: &str) -> Result<Protocol> {
    match text {
        "TCP" => Ok(Protocol::Tcp),
        "UDP" => Ok(Protocol::Udp),
        _ => bail!("{text:?} is not TCP or UDP"),
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let parsed = (|| {
            let (address, protocol) = text.rsplit_once('/').context("want ADDRESS:PORT/PROTOCOL")?;
            Ok::<_, anyhow::Error>(Self(protocol_of(protocol)?, address.parse()?))
        })();
        parsed.map_err(|error| serde::de::Error::custom(format!("{text:?}: {error}")))
    }
}

impl Scenario {
    /// Reads a scenario; what it does not know is an error.
    ///
    /// # Errors
    /// It is not well formed.
    pub fn parse(text: &str) -> Result<Self> {
        let value: serde_json::Value = serde_saphyr::from_str(text).map_err(|error| anyhow!("{error}"))?;
        let scenario: Self = serde_path_to_error::deserialize(value)?;
        for (number, step) in scenario.steps.iter().enumerate() {
            if let Step::Udp(usage) | Step::Tcp(usage) = step {
                usage.check().with_context(|| format!("step {}", number + 1))?;
            }
        }
        Ok(scenario)
    }

    /// Every file of a directory, by name.
    ///
    /// # Errors
    /// One is not well formed, or its name is not that of its file.
    pub fn read_all(directory: &Path) -> Result<Vec<Self>> {
        let entries = fs::read_dir(directory).with_context(|| directory.display().to_string())?;
        let mut files: Vec<PathBuf> = Vec::new();
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "yaml") {
                files.push(path);
            }
        }
        files.sort();
        ensure!(!files.is_empty(), "{}: no scenarios", directory.display());
        let read = |file: &PathBuf| {
            let scenario = Self::parse(&fs::read_to_string(file)?)?;
            ensure!(file.file_stem() == Some(scenario.name.as_ref()), "it is named {}", scenario.name);
            Ok(scenario)
        };
        files.iter().map(|file| read(file).with_context(|| file.display().to_string())).collect()
    }

    /// The directory that is part of this package.
    ///
    /// # Errors
    /// As for [`Self::read_all`].
    pub fn all() -> Result<Vec<Self>> {
        Self::read_all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios"))
    }
}

impl Use {
    fn check(&self) -> Result<()> {
        let actions = [self.connect.is_some(), self.send.is_some(), self.ask, self.hang_up, self.close];
        let count = actions.into_iter().filter(|is| *is).count();
        ensure!(count == 1, "want one of connect, send, ask, hang_up, close");
        let silent = self.hang_up || self.close;
        ensure!(silent == self.expect.is_none(), "`expect` belongs to connect, send and ask");
        let backends = matches!(self.expect, Some(Expect::Backends(_)));
        let details = self.all || self.same || !self.apart_from.is_empty() || self.shown.is_some();
        ensure!(backends || !details, "all, same, apart_from, shown belong to `backends`");
        Ok(())
    }
}

/// The objects of a file of manifests, as changes.
///
/// # Errors
/// It is not well formed, or something in it has no effect.
pub fn upserts(manifests: &str) -> Result<Vec<Change>> {
    let content = source::manifests::parse(manifests)
        .map_err(|fault| anyhow!("manifests, line {:?}: {:?}: {}", fault.line, fault.object, fault.reason))?;
    ensure!(content.notices.is_empty(), "manifests: {:?}", content.notices);
    let mut objects: Vec<_> = content.objects.into_iter().collect();
    // As the text has them, so that a failure can be repeated.
    objects.sort_by_key(|(id, _)| (content.lines.get(id).copied(), id.clone()));
    Ok(objects.into_iter().map(|(_, object)| Change::Upsert(object)).collect())
}

/// `Service default/a`, `Node n1`.
///
/// # Errors
/// It is no such name.
pub fn deletion(text: &str) -> Result<Change> {
    let (kind, name) = text.split_once(' ').context("want KIND NAMESPACE/NAME")?;
    let kinds = [
        Kind::Service,
        Kind::EndpointSlice,
        Kind::Node,
        Kind::Pod,
        Kind::Namespace,
        Kind::ServiceCidr,
        Kind::LocalRedirectPolicy,
        Kind::BalancingPolicy,
    ];
    let kind = kinds.into_iter().find(|it| it.to_string() == kind).context("no such kind")?;
    let (namespace, name) = name.split_once('/').unwrap_or(("", name));
    Ok(Change::Delete(ObjectId { kind, name: ObjectName::new(namespace, name) }))
}

#[cfg(test)]
mod tests;
