//! The event log: one JSON object a line, one for each decision.

use std::net::{IpAddr, SocketAddr};

use abi::{
    Endpoint, Event, Hook, Name, Reason, feature,
    frontend::{backend_flag, mode},
    name::owner_kind,
    reason,
};
use jiff::{Timestamp, Unit};
use model::ObjectName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Destroyed, Pause, Refused, Suppressed};

/// Version of the lines' schema.
pub const SCHEMA: u32 = 1;

/// A line of the event log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Line {
    /// A decision.
    Decision(Box<Decision>),
    /// Decisions that are missing from here on.
    Lost(Lost),
    /// Decisions that were too many to be told of one by one.
    Suppressed(Suppressed),
    /// A socket whose connection was ended.
    Destroyed(Box<Destroyed>),
    /// `balancing pause` is in force, or is no longer.
    Pause(Pause),
    /// There are no lines for this reader.
    Refused(Refused),
}

impl Line {
    /// When.
    pub fn time(&self) -> Timestamp {
        match self {
            Self::Decision(decision) => decision.time,
            Self::Lost(lost) => lost.time,
            Self::Suppressed(suppressed) => suppressed.time,
            Self::Destroyed(socket) => socket.time,
            Self::Pause(pause) => pause.time,
            Self::Refused(refused) => refused.time,
        }
    }
}

/// One decision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Decision {
    /// Version of the schema.
    pub schema: u32,
    /// When.
    pub time: Timestamp,
    /// On which node.
    pub node: String,
    /// `connect` or `sendmsg`.
    pub hook: String,
    /// What became of it.
    pub verdict: String,
    /// Why.
    pub reason: String,
    /// `TCP` or `UDP`.
    pub protocol: String,
    /// Who asked.
    pub client: Client,
    /// What it asked for.
    pub original: Address,
    /// Where it went; null where it went nowhere else.
    pub backend: Option<Backend>,
    /// The service that it asked for; null where it was none, or a policy decided.
    pub service: Option<Service>,
    /// The policy that decided; null where none did.
    #[serde(default)]
    pub policy: Option<Policy>,
    /// Kind of frontend.
    pub mode: Option<String>,
    /// What else is to be said of the choice.
    pub flags: Vec<String>,
}

/// Decisions that are missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Lost {
    /// Version of the schema.
    pub schema: u32,
    /// When it was noticed.
    pub time: Timestamp,
    /// On which node.
    pub node: String,
    /// How many, exactly.
    pub lost: u64,
    /// Where: `ring` (the kernel's buffer was full), `reader` (this reader was too slow), or the sink that was, as `--event-log`
    /// names it.
    pub at: String,
}

/// An address and a port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Address {
    /// Address.
    #[schemars(schema_with = "crate::schema::ip")]
    pub ip: IpAddr,
    /// Port.
    pub port: u16,
}

impl From<Endpoint> for Address {
    fn from(endpoint: Endpoint) -> Self {
        let addr = endpoint.socket_addr();
        Self { ip: addr.ip(), port: addr.port() }
    }
}

impl Address {
    /// As the standard library has it.
    pub fn socket_addr(&self) -> SocketAddr {
        SocketAddr::new(self.ip, self.port)
    }
}

/// Whose process it is. What is not known is null.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Who {
    /// Namespace of its pod.
    #[serde(default)]
    pub namespace: Option<String>,
    /// Its pod.
    #[serde(default)]
    pub pod: Option<String>,
    /// Its container's name in the pod.
    #[serde(default)]
    pub container: Option<String>,
    /// Its container, as the runtime calls it.
    #[serde(default)]
    pub container_id: Option<String>,
    /// Where it is in no container: its systemd unit, or else the last name of its cgroup.
    #[serde(default)]
    pub host: Option<String>,
}

/// Who asked. What the kernel can't give is null.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Client {
    /// Whose process it is.
    #[serde(flatten)]
    pub who: Who,
    /// Process id.
    pub pid: Option<u32>,
    /// Thread id.
    pub tid: Option<u32>,
    /// Name of the thread.
    pub comm: Option<String>,
    /// User id.
    pub uid: Option<u32>,
    /// Path below the cgroup2 mount; null once the cgroup is gone.
    pub cgroup: Option<String>,
    /// Id of the cgroup.
    #[serde(rename = "cgroupId")]
    pub cgroup_id: Option<u64>,
    /// Cookie of the network namespace.
    #[serde(rename = "netnsCookie")]
    pub netns: u64,
}

/// A chosen backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Backend {
    /// Address.
    #[schemars(schema_with = "crate::schema::ip")]
    pub ip: IpAddr,
    /// Port.
    pub port: u16,
    /// Namespace of its pod.
    pub namespace: Option<String>,
    /// Its pod.
    pub pod: Option<String>,
    /// Its node.
    pub node: Option<String>,
}

/// A service port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Service {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Name of the port, empty where unset.
    pub port: String,
}

/// A policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Policy {
    /// `LocalRedirectPolicy` or `BalancingPolicy`.
    pub kind: String,
    /// Name.
    pub name: String,
}

/// Turns the programs' clock into that of the world.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// A moment of CLOCK_MONOTONIC, nanoseconds.
    pub monotonic: u64,
    /// The same moment.
    pub world: Timestamp,
}

/// Two readings of a clock's difference that are no further apart are one: nothing but the time that reading took.
const STEADY: u128 = 1_000_000;

impl Clock {
    /// This one, or `earlier` if both say the same: so that of two events the later has no earlier time, only because the two
    /// clocks are not read at the same moment.
    pub fn steady(self, earlier: Self) -> Self {
        let offset = |it: Self| it.world.as_nanosecond() - i128::from(it.monotonic);
        if offset(self).abs_diff(offset(earlier)) <= STEADY { earlier } else { self }
    }

    /// When `monotonic` nanoseconds of CLOCK_MONOTONIC were; to the microsecond.
    pub fn at(&self, monotonic: u64) -> Timestamp {
        let ago = i128::from(self.monotonic) - i128::from(monotonic);
        let moment = Timestamp::from_nanosecond(self.world.as_nanosecond() - ago).unwrap_or(self.world);
        moment.round(Unit::Microsecond).unwrap_or(moment)
    }
}

/// What an event's numbers mean.
#[derive(Clone, Debug)]
pub struct Names<'a> {
    /// This node.
    pub node: &'a str,
    /// The programs' clock.
    pub clock: Clock,
    /// The service port, if its id is known.
    pub service: Option<&'a Name>,
    /// The cgroup's path below the mount, if it is known.
    pub cgroup: Option<&'a str>,
    /// Whose process it is.
    pub who: Who,
    /// The chosen backend's pod and node.
    pub backend: (Option<&'a ObjectName>, Option<&'a str>),
}

impl Decision {
    /// Puts names to an event's numbers.
    pub fn new(event: &Event, names: &Names<'_>) -> Self {
        let (verdict, reason) = match Reason::from_u8(event.reason) {
            Some(reason) => (reason.verdict().name(), reason.name()),
            None => ("unknown", "unknown"),
        };
        let original = Endpoint { address: event.original, port_be: event.original_port_be };
        let backend = Endpoint { address: event.backend, port_be: event.backend_port_be };
        let known = |bit| event.known & bit != 0;
        let (pod, node) = names.backend;
        let terminating = event.backend_flags & u32::from(backend_flag::TERMINATING) != 0;
        let kept = event.reason == Reason::Affinity as u8;
        let fallen = u8::try_from(event.fallen).map_or("unknown", reason::fallen::name);
        Self {
            schema: SCHEMA,
            time: names.clock.at(event.time),
            node: names.node.into(),
            hook: Hook::from_u8(event.hook).map_or("unknown", Hook::name).into(),
            verdict: verdict.into(),
            reason: reason.into(),
            protocol: protocol(event.protocol).into(),
            client: Client {
                who: names.who.clone(),
                pid: known(feature::PID).then_some(event.pid),
                tid: known(feature::PID).then_some(event.tid),
                comm: known(feature::COMM).then(|| Name::text(&event.comm).into()),
                uid: known(feature::UID).then_some(event.uid),
                cgroup: names.cgroup.map(Into::into),
                cgroup_id: known(feature::CGROUP).then_some(event.cgroup),
                netns: event.netns,
            },
            original: original.into(),
            backend: (event.backend_port_be != 0).then(|| {
                let Address { ip, port } = backend.into();
                Backend {
                    ip,
                    port,
                    namespace: pod.map(|pod| pod.namespace.to_string()),
                    pod: pod.map(|pod| pod.name.clone()),
                    node: node.map(Into::into),
                }
            }),
            service: names.service.filter(|name| name.kind == owner_kind::SERVICE).map(|name| Service {
                namespace: Name::text(&name.namespace).into(),
                name: Name::text(&name.service).into(),
                port: Name::text(&name.port).into(),
            }),
            policy: names.service.filter(|name| name.kind != owner_kind::SERVICE).map(|name| Policy {
                kind: owner_kind::name(name.kind).into(),
                name: Name::text(&name.service).into(),
            }),
            mode: (event.mode != 0).then(|| mode::name(event.mode).into()),
            flags: [
                (event.fallen != 0, "fallback"),
                (event.fallen != 0, fallen),
                (kept, "affinity"),
                (terminating, "terminating"),
            ]
            .into_iter()
            .filter(|(is, _)| *is)
            .map(|(_, flag)| flag.into())
            .collect(),
        }
    }
}

/// Name of an IP protocol number.
pub fn protocol(number: u8) -> &'static str {
    match number {
        abi::TCP => "TCP",
        abi::UDP => "UDP",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use abi::{TCP, reason};

    #[test]
    fn a_decision_line_is_the_documented_json() {
        let vip: Endpoint = "10.96.0.1:80".parse::<SocketAddr>().unwrap().into();
        let to: Endpoint = "10.1.0.7:8080".parse::<SocketAddr>().unwrap().into();
        let mut comm = [0; 16];
        comm[..4].copy_from_slice(b"curl");
        let event = Event {
            time: 1_000,
            cgroup: 7,
            netns: 3,
            pid: 42,
            tid: 43,
            uid: 1000,
            service: 1,
            original: vip.address,
            original_port_be: vip.port_be,
            backend: to.address,
            backend_port_be: to.port_be,
            protocol: TCP,
            hook: Hook::Connect as u8,
            reason: reason::Reason::Balanced as u8,
            mode: mode::CLUSTER_IP,
            comm,
            known: feature::PID | feature::COMM | feature::UID | feature::CGROUP,
            ..Event::default()
        };
        let name = Name {
            namespace: Name::bytes("shop").unwrap(),
            service: Name::bytes("cart").unwrap(),
            port: Name::bytes("http").unwrap(),
            uid: Name::bytes("").unwrap(),
            port_be: vip.port_be,
            protocol: TCP,
            family: 4,
            kind: 0,
            pad: [0; 3],
        };
        let pod = ObjectName::new("shop", "cart-1");
        let line = Decision::new(
            &event,
            &Names {
                node: "n1",
                clock: Clock { monotonic: 2_001_000, world: "2026-11-22T10:00:00.002Z".parse().unwrap() },
                service: Some(&name),
                cgroup: Some("/kubepods/pod1"),
                who: Who {
                    namespace: Some("shop".into()),
                    pod: Some("web-1".into()),
                    container: Some("web".into()),
                    container_id: Some("0123".into()),
                    host: None,
                },
                backend: (Some(&pod), Some("n2")),
            },
        );
        let expected = r#"{"schema":1,"time":"2026-11-22T10:00:00Z","node":"n1","hook":"connect","verdict":"translated","reason":"balanced","protocol":"TCP","client":{"namespace":"shop","pod":"web-1","container":"web","containerId":"0123","host":null,"pid":42,"tid":43,"comm":"curl","uid":1000,"cgroup":"/kubepods/pod1","cgroupId":7,"netnsCookie":3},"original":{"ip":"10.96.0.1","port":80},"backend":{"ip":"10.1.0.7","port":8080,"namespace":"shop","pod":"cart-1","node":"n2"},"service":{"namespace":"shop","name":"cart","port":"http"},"policy":null,"mode":"ClusterIP","flags":[]}"#;
        assert_eq!(serde_json::to_string(&Line::Decision(Box::new(line.clone()))).unwrap(), expected);
        let back: Line = serde_json::from_str(expected).unwrap();
        assert_eq!(back, Line::Decision(Box::new(line)));
    }

    #[test]
    fn times_do_not_go_backwards_because_clocks_are_read_anew() {
        let world = |nanos: i128| Timestamp::from_nanosecond(1_700_000_000_000_000_000 + nanos).unwrap();
        let first = Clock { monotonic: 5_000_000, world: world(5_000_000) };
        // Read 3 microseconds less apart.
        let second = Clock { monotonic: 25_000_000, world: world(24_997_000) };
        let (event, later) = (20_000_000, 20_000_500);
        assert!(second.at(later) < first.at(event), "as it was");
        assert_eq!(second.steady(first).at(later), first.at(later));
        // Somebody has set the clock.
        let set = Clock { monotonic: 25_000_000, world: world(-1_000_000_000) };
        assert_eq!(set.steady(first).at(25_000_000), set.world);
    }

    #[test]
    fn flags_tell_how_a_backend_was_chosen() {
        let names = Names {
            node: "n1",
            clock: Clock { monotonic: 0, world: Timestamp::UNIX_EPOCH },
            service: None,
            cgroup: None,
            who: Who::default(),
            backend: (None, None),
        };
        let flags = |reason: Reason, backend_flags: u16| {
            let event =
                Event { reason: reason as u8, backend_flags: u32::from(backend_flags), ..Event::default() };
            Decision::new(&event, &names).flags
        };
        assert_eq!(flags(Reason::Balanced, 0), Vec::<String>::new());
        assert_eq!(flags(Reason::Affinity, 0), ["affinity"]);
        assert_eq!(flags(Reason::Affinity, backend_flag::TERMINATING), ["affinity", "terminating"]);
        assert_eq!(flags(Reason::AffinityFull, backend_flag::TERMINATING), ["terminating"]);
    }

    #[test]
    fn p5_a_decision_tells_of_the_policy_that_made_it_or_stood_back() {
        let mut event = Event { service: 1, mode: mode::LOCAL_REDIRECT, ..bytemuck::Zeroable::zeroed() };
        let mut name: Name = bytemuck::Zeroable::zeroed();
        name.service = Name::bytes("dns").unwrap();
        name.kind = owner_kind::LOCAL_REDIRECT;
        let clock = Clock { monotonic: 0, world: Timestamp::UNIX_EPOCH };
        let told = |event: &Event, name: &Name| {
            let names = Names {
                node: "n1",
                clock,
                service: Some(name),
                cgroup: None,
                who: Who::default(),
                backend: (None, None),
            };
            Decision::new(event, &names)
        };
        let decision = told(&event, &name);
        let policy = Policy { kind: "LocalRedirectPolicy".into(), name: "dns".into() };
        assert_eq!((decision.policy, decision.service), (Some(policy), None));
        assert_eq!((decision.mode.as_deref(), decision.flags.len()), (Some("LocalRedirect"), 0));

        (event.mode, event.reason) = (mode::CLUSTER_IP, Reason::Spilled as u8);
        event.fallen = reason::fallen::LIMIT.into();
        name.kind = owner_kind::SERVICE;
        let decision = told(&event, &name);
        assert_eq!((decision.policy, decision.reason.as_str()), (None, "spilled"));
        assert_eq!(decision.flags, ["fallback", "limit"]);
    }

    #[test]
    fn every_reason_and_verdict_is_documented() {
        let text = include_str!("../../../docs/events.md");
        for reason in Reason::ALL {
            let told = if reason.is_notable() { " *" } else { "" };
            let row = format!("| `{}` | {}{told} |", reason.name(), reason.verdict().name());
            assert!(text.contains(&row), "docs/events.md has no {row:?}");
            let verdict = format!("`{}`", reason.verdict().name());
            assert!(text.contains(&verdict), "docs/events.md has no {verdict}");
        }
    }

    #[test]
    fn what_the_kernel_cannot_give_is_null() {
        let names = Names {
            node: "n1",
            clock: Clock { monotonic: 0, world: Timestamp::UNIX_EPOCH },
            service: None,
            cgroup: None,
            who: Who::default(),
            backend: (None, None),
        };
        let client = Decision::new(&Event::default(), &names).client;
        let text = serde_json::to_string(&client).unwrap();
        let nothing = r#"{"namespace":null,"pod":null,"container":null,"containerId":null,"host":null,"pid":null,"tid":null,"comm":null,"uid":null,"cgroup":null,"cgroupId":null,"netnsCookie":0}"#;
        assert_eq!(text, nothing);
    }

    #[test]
    fn a_loss_line_can_be_told_from_a_decision() {
        let text = r#"{"schema":1,"time":"2026-11-22T10:00:00Z","node":"n1","lost":12,"at":"ring"}"#;
        let line: Line = serde_json::from_str(text).unwrap();
        assert!(matches!(&line, Line::Lost(lost) if lost.lost == 12));
        assert_eq!(serde_json::to_string(&line).unwrap(), text);
    }
}
