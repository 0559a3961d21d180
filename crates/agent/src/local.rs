//! The agent's answers on its unix socket: one JSON request line, then one JSON answer line, or a stream of
//! them. Who may open the socket is root only.

use std::{
    io::{BufRead, BufReader, ErrorKind, Write},
    net::{IpAddr, SocketAddr},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub use model::SOCKET_LB;

use crate::status::Status;

/// How long a single answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Request {
    /// How the agent is: [`Status`].
    Status,
    /// Endpoints with their standing: a list of [`PortEndpoints`].
    Endpoints {
        /// Namespace and name of the only service that is asked about, or an empty one and [`policy_name`]; all if none.
        service: Option<(String, String)>,
        /// Which traffic the standing is for.
        #[serde(default)]
        traffic: Traffic,
    },
    /// Whose an address is: a [`Holder`].
    Address {
        /// The address.
        ip: IpAddr,
    },
    /// What tells a pod from other clients: a [`Pod`], or null if there is none of that name.
    Pod {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// Why the cgroup of a pod is left alone: an [`OptedOut`], or null if no annotation says so.
    OptedOut {
        /// The pod's UID.
        uid: String,
    },
    /// The nodes it knows: a list of [`Node`].
    Nodes,
    /// The configuration that it was started with: a list of [`Shown`](crate::config::Shown).
    Configuration,
    /// The last lines of its log: a list of texts.
    Log,
    /// Who uses what: an [`observe::Usage`].
    Usage,
    /// Remembered events, then, with `follow`, new ones: a stream of event lines.
    Events {
        /// Go on with new ones.
        follow: bool,
        /// Say first, as [`Remembered`], how far back that goes.
        #[serde(default)]
        how_far: bool,
    },
}

/// How far back the events go that are remembered. Event lines have other fields too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remembered {
    /// All after this.
    pub since: Timestamp,
}

/// How a policy is called among services: as kubectl would take it, without a namespace.
pub fn policy_name(kind: &str, name: &str) -> String {
    let short = if kind == "LocalRedirectPolicy" { "lr" } else { "bl" };
    format!("{short}/{name}")
}

/// Which traffic of this node an endpoint is chosen for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Traffic {
    /// To cluster IPs.
    #[default]
    Internal,
    /// To node ports, load balancer VIPs and external IPs (R14, R15).
    ShortCircuit,
}

/// Whose an address is, as the agent knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The service whose cluster IP it is.
    pub service: Option<HolderService>,
    /// The node that has it.
    pub node: Option<String>,
}

/// A service that has a cluster IP, ours or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HolderService {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Value of its label `service.kubernetes.io/service-proxy-name`.
    pub proxy: Option<String>,
}

/// A pod that the agent knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pod {
    /// The UID by which the kubelet names its cgroup.
    pub uid: String,
    /// Its addresses.
    pub ips: Vec<IpAddr>,
    /// It is on the host's network.
    pub host_network: bool,
    /// Its node, if that is another one; empty before it has one.
    pub elsewhere: Option<String>,
}

/// A pod that is left alone because an annotation says so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OptedOut {
    /// The pod, as `namespace/name`.
    pub pod: String,
    /// Whose annotation it is: `Pod shop/web-1` or `Namespace shop`.
    pub by: String,
}

/// Endpoints of one service port in one family, as the agent knows them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortEndpoints {
    /// Namespace of the service; empty for a policy.
    pub namespace: String,
    /// Name of the service, or [`policy_name`].
    pub service: String,
    /// Name of the port.
    pub port: String,
    /// `TCP` or `UDP`.
    pub protocol: String,
    /// 4 or 6.
    pub family: u8,
    /// All endpoints, selected or not.
    pub endpoints: Vec<Endpoint>,
}

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Where it listens.
    pub address: SocketAddr,
    /// Does it get traffic that begins on this node?
    pub selected: bool,
    /// Why, or why not.
    pub standing: String,
    /// Its pod, `namespace/name`.
    pub pod: Option<String>,
    /// Its node.
    pub node: Option<String>,
    /// Its zone.
    pub zone: Option<String>,
}

/// A node that the agent knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    /// Its name.
    pub name: String,
    /// It is the one that the agent runs on.
    pub here: bool,
    /// What its annotation `balancing.elf.io/nodeId` says, if it is an id. (The agent that is asked may be an older one.)
    #[serde(default)]
    pub node_id: Option<u32>,
    /// Its zone.
    pub zone: Option<String>,
    /// Its addresses of type InternalIP.
    pub internal_ips: Vec<IpAddr>,
    /// Its addresses of type ExternalIP.
    pub external_ips: Vec<IpAddr>,
}

/// Why the agent could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody answers on the socket.
    #[error("the agent is not running (nobody answers on {0}); start it with `balancing agent`")]
    NotRunning(String),
    /// Only root may ask.
    #[error("the agent's socket {0} is for root only; run this as root")]
    Denied(String),
    /// It has the socket open and says nothing.
    #[error("the agent on {0} does not answer; it may be stopped or stuck, see its log")]
    Silent(String),
    /// It has too many to answer to.
    #[error("the agent on {socket} does not answer this one: {why}")]
    Refused {
        /// The socket.
        socket: String,
        /// Why, and what to do.
        why: String,
    },
    /// It answered, and then not.
    #[error("the agent on {socket} broke off: {source}; see its log")]
    BrokeOff {
        /// The socket.
        socket: String,
        /// What happened.
        source: std::io::Error,
    },
}

/// Asks the agent and gives its answer lines, one by one.
///
/// # Errors
/// No agent there, or it went away.
pub fn ask(socket: &Path, request: &Request) -> Result<Answers, AskError> {
    let name = socket.display().to_string();
    let mut stream = UnixStream::connect(socket).map_err(|error| match error.kind() {
        ErrorKind::PermissionDenied => AskError::Denied(name.clone()),
        _ => AskError::NotRunning(name.clone()),
    })?;
    let broke_off = |source| AskError::BrokeOff { socket: name.clone(), source };
    let mut line = serde_json::to_vec(request).map_err(|e| broke_off(e.into()))?;
    line.push(b'\n');
    match stream.write_all(&line) {
        // Who turns us away at once has said why, and that can be read.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
        written => written.map_err(broke_off)?,
    }
    Ok(Answers { socket: name, lines: BufReader::new(stream) })
}

/// Asks for a single answer, and waits a few seconds for it.
///
/// # Errors
/// No agent there, it went away, or it does not answer.
pub fn ask_one<T: DeserializeOwned>(socket: &Path, request: &Request) -> Result<T, AskError> {
    let mut answers = ask(socket, request)?;
    answers.lines.get_ref().set_read_timeout(Some(PATIENCE)).map_err(|e| answers.broke_off(e))?;
    let line = answers.next().unwrap_or_else(|| Err(answers.broke_off(ErrorKind::UnexpectedEof.into())))?;
    serde_json::from_str(&line).map_err(|e| answers.broke_off(e.into()))
}

/// Asks for an answer of many lines that ends, and waits a few seconds for each.
///
/// # Errors
/// As [`ask_one`].
pub fn ask_all(socket: &Path, request: &Request) -> Result<Vec<String>, AskError> {
    let answers = ask(socket, request)?;
    answers.lines.get_ref().set_read_timeout(Some(PATIENCE)).map_err(|e| answers.broke_off(e))?;
    answers.collect()
}

/// Asks how the agent is.
///
/// # Errors
/// No agent there, or it went away.
pub fn status(socket: &Path) -> Result<Status, AskError> {
    ask_one(socket, &Request::Status)
}

/// Lines of an answer.
#[derive(Debug)]
pub struct Answers {
    socket: String,
    lines: BufReader<UnixStream>,
}

impl Answers {
    fn broke_off(&self, source: std::io::Error) -> AskError {
        if matches!(source.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) {
            return AskError::Silent(self.socket.clone());
        }
        AskError::BrokeOff { socket: self.socket.clone(), source }
    }
}

impl Iterator for Answers {
    type Item = Result<String, AskError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut line = String::new();
        match self.lines.read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => match serde_json::from_str::<observe::Refused>(&line) {
                Ok(it) => Some(Err(AskError::Refused { socket: self.socket.clone(), why: it.refused })),
                Err(_) => Some(Ok(line.trim_end().to_owned())),
            },
            Err(source) => Some(Err(self.broke_off(source))),
        }
    }
}
