//! What a policy has that no other policy of its kind may have.

use std::{collections::BTreeSet, fmt, net::IpAddr};

use serde_json::Value;

use super::check::text;

/// The annotation that numbers policies.
pub(super) const SERVICE_ID: &str = "balancing.elf.io/serviceId";
/// Where that is, for [`Value::pointer`].
pub(super) const SERVICE_ID_AT: &str = "/metadata/annotations/balancing.elf.io~1serviceId";

/// What a policy claims. What can't be understood claims nothing: nobody is to suffer from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) id: Option<u32>,
    asked: Option<Asked>,
}

/// A frontend, compared by value.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Asked {
    at: At,
    ports: Ports,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum At {
    Address(IpAddr),
    Service { namespace: String, name: String },
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Ports {
    All,
    These(BTreeSet<(u16, String)>),
}

impl Claim {
    /// Of any document; none, if it is not of a kind and name.
    pub fn of(policy: &Value) -> Option<Self> {
        let kind = text(policy, "/kind")?.to_owned();
        let name = text(policy, "/metadata/name")?.to_owned();
        let id = text(policy, SERVICE_ID_AT).and_then(service_id);
        Some(Self { kind, name, id, asked: policy.pointer("/spec/frontend").and_then(asked) })
    }

    /// Its kind.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Is it of the same object?
    pub(super) fn is_same(&self, other: &Self) -> bool {
        (&self.kind, &self.name) == (&other.kind, &other.name)
    }

    /// Only what it did not claim before.
    pub(super) fn beyond(mut self, former: Option<&Self>) -> Self {
        if let Some(former) = former {
            self.id = self.id.filter(|id| former.id != Some(*id));
            self.asked = self.asked.filter(|asked| former.asked.as_ref() != Some(asked));
        }
        self
    }

    /// What two policies of one kind both ask for, in words.
    pub(super) fn contested(&self, other: &Self) -> Option<String> {
        let (ours, theirs) = (self.asked.as_ref()?, other.asked.as_ref()?);
        if self.kind != other.kind || ours.at != theirs.at {
            return None;
        }
        let port = match (&ours.ports, &theirs.ports) {
            (Ports::All, Ports::All) => None,
            (Ports::All, Ports::These(ports)) | (Ports::These(ports), Ports::All) => Some(ports.first()?),
            (Ports::These(ours), Ports::These(theirs)) => Some(ours.intersection(theirs).next()?),
        };
        Some(match port {
            Some((port, protocol)) => format!("{} port {port}/{protocol}", ours.at),
            None => format!("{}, all ports,", ours.at),
        })
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(ip) => write!(f, "{ip}"),
            Self::Service { namespace, name } => write!(f, "service {namespace}/{name}"),
        }
    }
}

/// Decimal, of 32 bits.
pub(super) fn service_id(text: &str) -> Option<u32> {
    text.bytes().all(|c| c.is_ascii_digit()).then(|| text.parse().ok())?
}

fn asked(frontend: &Value) -> Option<Asked> {
    if let Some(matcher) = frontend.get("addressMatcher").filter(|it| it.is_object()) {
        let ip: IpAddr = text(matcher, "/ip")?.parse().ok()?;
        let ports = Ports::These(ports(matcher));
        return Some(Asked { at: At::Address(ip.to_canonical()), ports });
    }
    let matcher = frontend.get("serviceMatcher").filter(|it| it.is_object())?;
    let (namespace, name) =
        (text(matcher, "/namespace")?.to_owned(), text(matcher, "/serviceName")?.to_owned());
    let has_ports = matcher["toPorts"].as_array().is_some_and(|ports| !ports.is_empty());
    let ports = if has_ports { Ports::These(ports(matcher)) } else { Ports::All };
    Some(Asked { at: At::Service { namespace, name }, ports })
}

fn ports(matcher: &Value) -> BTreeSet<(u16, String)> {
    let ports = matcher["toPorts"].as_array().into_iter().flatten();
    let port = |it: &Value| Some((it["port"].as_str()?.parse().ok()?, it["protocol"].as_str()?.to_owned()));
    ports.filter_map(port).collect()
}
